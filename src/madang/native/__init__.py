"""native: our own CPU engine. This half describes the model and schedules the work; ``madang._core`` computes.

Main path: :func:`load` -> NativeEngine; ``generate`` -> prompt to tokens, prefill, then a step and a draw per token.
Invariants: the core never sees a file that the formats room has not checked; a token's result does not depend on what
else is computed with it.
"""

from madang.native.engine import NativeEngine, load

__all__ = ["NativeEngine", "load"]
