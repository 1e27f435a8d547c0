"""runtime: name -> files -> plan -> loaded engine.

Main path: :func:`open_model`; its file is the one to read first.
Invariants: everything is chosen here, with a reason, and nothing below chooses again; nothing is downloaded unless the
caller passes the function that does it.
"""

from madang.runtime.open import find_files, open_embedder, open_model, plan_for

__all__ = ["find_files", "open_embedder", "open_model", "plan_for"]
