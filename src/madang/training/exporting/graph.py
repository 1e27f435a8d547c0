"""ONNX: the model as one graph, input_ids and attention_mask -> logits, without a cache.

Made by torch's own exporter. optimum-onnx 0.1 cannot do it here: it asks for transformers below 4.58.
"""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

from madang.core.errors import CannotConvert
from madang.training.exporting.sides import ONNX_FILE, torch_model

OPSET: Final = 20


def write_onnx(folder: Path, target: Path) -> None:
    """Write the weights of ``folder`` as ``target``/model.onnx, with its data beside it, in float32.

    Any batch and any length. Raises CannotConvert for what torch cannot export, OSError.
    """
    import torch

    model = _logits_alone(folder)
    ids = torch.ones(2, 8, dtype=torch.int64)
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        # What it says meanwhile is for its own developers, and stdout is for data.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (ids, torch.ones_like(ids)),
                dynamo=True,
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_shapes=(shape, shape),
                opset_version=OPSET,
            )
            program.save(target / ONNX_FILE, external_data=True)
    except OSError:
        raise  # of the disk, not of the model
    except Exception as error:  # of torch.onnx.errors, torch._dynamo.exc and whatever a model's code raises
        first_line = str(error).strip().partition("\n")[0][:300]
        raise CannotConvert(f"torch cannot write it as a graph ({type(error).__name__}: {first_line})") from error


def _logits_alone(folder: Path) -> Any:
    """The model as a module of nothing but the tensors that the graph has."""
    import torch

    class Logits(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits

    return Logits(torch_model(folder))
