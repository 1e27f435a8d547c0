"""native: our own CPU engine. This half describes the model and schedules the work; ``madang._core`` computes.

Main path: :func:`load` -> NativeEngine; ``generate`` -> prompt to tokens, prefill, then a step and a draw per token. A
model that makes vectors is a NativeEmbedder instead, one that compares texts with a query a NativeReranker.
Invariants: the core never sees a file that the formats room has not checked; a token's result does not depend on what
else is computed with it.
"""

from madang.native.embedder import NativeEmbedder
from madang.native.engine import NativeEngine
from madang.native.mutable import Inputs, MutableModel
from madang.native.opening import load
from madang.native.reranker import NativeReranker

__all__ = ["Inputs", "MutableModel", "NativeEmbedder", "NativeEngine", "NativeReranker", "load"]
