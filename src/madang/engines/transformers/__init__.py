"""transformers: safetensors folders on the CPU, CUDA or MPS: what native does not run, and cards that it does not use.

Main path: :func:`load` -> placement with reasons -> TorchModel -> SteppingEngine (stepping.py), or TorchEmbedder.
Invariants: nothing is downloaded and no code of a model's folder runs; weights come from safetensors only.
"""

from madang.engines.transformers.loading import load

__all__ = ["load"]
