"""mlx: safetensors folders with mlx-lm, on Apple's GPUs, and on Linux with the CPU; also those that MLX quantized.

Main path: :func:`load` -> MlxModel -> SteppingEngine (stepping.py).
Invariants: nothing is downloaded and no code of a model's folder runs.
"""

from madang.engines.mlx.loading import load

__all__ = ["load"]
