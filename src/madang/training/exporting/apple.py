"""MLX: a folder as mlx-lm loads it, in the dtype of its weights or in groups of few bits."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from madang.core.errors import CannotConvert
from madang.formats.folder import CONFIG_FILE

GROUP_SIZE: Final = 64


def write_mlx(folder: Path, target: Path, bits: int | None) -> None:
    """Write the weights of ``folder`` and a config.json into the existing folder ``target``.

    bits   4 or 8 of a weight, in groups of GROUP_SIZE with a scale and an offset; None keeps the dtype

    Raises CannotConvert for a family that mlx-lm does not have.
    """
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    try:
        model, config = load_model(folder, lazy=bits is None)
        if bits is not None:
            model, config = quantize_model(model, config, GROUP_SIZE, bits)
        save_model(target, model)
        save_config(config, target / CONFIG_FILE)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        said = " ".join(str(error).split())[:300]
        raise CannotConvert(f"mlx-lm refuses it ({type(error).__name__}: {said})") from error
