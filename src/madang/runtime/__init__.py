"""runtime: name -> files -> plan -> loaded engine.

Main path: :func:`open_model`; its file is the one to read first. A server asks its :class:`Pool` instead, which keeps
models between requests.
Invariants: everything is chosen here, with a reason, and nothing below chooses again; nothing is downloaded unless the
caller passes the function that does it.
"""

from madang.runtime.open import find_files, open_embedder, open_loaded, open_model, open_reranker, plan_for
from madang.runtime.pool import Pool, Resident

__all__ = ["Pool", "Resident", "find_files", "open_embedder", "open_loaded", "open_model", "open_reranker", "plan_for"]
