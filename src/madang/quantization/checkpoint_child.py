"""The process that makes a checkpoint in fewer bits: its memory, and what libraries print and patch, end with it.

On stdin comes one line of JSON: source, target, method, type, bits, group_size, n_threads, chunks (lists of tokens).
On stdout go lines: ``{"done": n, "total": n}`` now and then, at last ``{"packages": {...}}`` or ``{"error": text}``.
The target is a folder with config.json and safetensors. The end of stdin is the end of this process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Told = dict[str, Any]
Tell = Callable[[Told], None]


def main() -> None:
    """Do what the line says."""
    told: Told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries write there, too

    def tell(answer: Told) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        quantize = _with_bitsandbytes if told["method"] == "bitsandbytes" else _with_gptqmodel
        tell({"packages": quantize(told, tell)})
    except MemoryError:
        tell({"error": "there was not enough memory"})
    except Exception as error:  # of three libraries; the parent makes a sentence of it
        tell({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
    sys.stdout.flush()
    os._exit(0)  # the libraries' threads would keep it for a while


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _with_bitsandbytes(told: Told, tell: Tell) -> dict[str, str]:
    """Quantized matrix by matrix while it loads, in the dtype of the source."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.set_num_threads(told["n_threads"])
    if told["type"] == "INT8":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=told["type"].lower(),
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    model = AutoModelForCausalLM.from_pretrained(
        told["source"],
        dtype="auto",
        quantization_config=config,
        device_map={"": "cpu"},
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    model.save_pretrained(told["target"])
    return _versions("torch", "transformers", "bitsandbytes")


def _with_gptqmodel(told: Told, tell: Tell) -> dict[str, str]:
    """Layer after layer, each fitted to what it reads once those before it are quantized."""
    import torch
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
    from gptqmodel.quantization import FORMAT, METHOD

    torch.set_num_threads(told["n_threads"])
    is_awq, on_card = told["method"] == "awq", torch.cuda.is_available()
    kind = {"quant_method": METHOD.AWQ, "format": FORMAT.GEMM, "sym": False} if is_awq else {}
    config = QuantizeConfig(
        bits=told["bits"],
        group_size=told["group_size"],
        device=None if on_card else "cpu",
        offload_to_disk=False,
        pack_impl="original",  # the others are compiled at run time
        **kind,
    )
    # AWQ's own products take 16 bits only, and CPUs are slow with float16; GPTQ inverts matrices.
    dtype = (torch.float16 if on_card else torch.bfloat16) if is_awq else torch.float32
    model = GPTQModel.load(told["source"], config, dtype=dtype, trust_remote_code=False)
    n_layers = model.model.config.get_text_config().num_hidden_layers
    model.layer_callback = _LayerCounter(tell, n_layers)
    backend = (BACKEND.AWQ_TORCH if is_awq else BACKEND.GPTQ_TORCH) if not on_card else BACKEND.AUTO
    calibration = [{"input_ids": chunk, "attention_mask": [1] * len(chunk)} for chunk in told["chunks"]]
    model.quantize(calibration, batch_size=1, backend=backend)
    _restore(model.model, Path(told["source"]))
    model.save(told["target"])
    return _versions("torch", "transformers", "gptqmodel")


class _LayerCounter:
    """What GPTQModel calls when a layer is done, in parts and as a whole."""

    def __init__(self, tell: Tell, n_layers: int) -> None:
        self._tell, self._n_layers, self._done = tell, n_layers, set[int]()

    def layer_complete(self, *, layer_idx: int, submodule_finalized: bool) -> None:
        """Count it once."""
        if layer_idx not in self._done:
            self._done.add(layer_idx)
            self._tell({"done": len(self._done), "total": self._n_layers})


def _restore(model: Any, source: Path) -> None:
    """Give what was only loaded its numbers back, of which another dtype has fewer or takes more bytes for the same."""
    from safetensors import safe_open

    parameters = dict(model.named_parameters())
    for path in source.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                own = parameters.get(name)
                if own is None:
                    continue
                values = file.get_tensor(name)
                is_unchanged = values.shape == own.shape and bool((values.to(own.dtype) == own).all())
                own.data = values if is_unchanged else own.data.to(values.dtype)


def _versions(*packages: str) -> dict[str, str]:
    return {package: version(package) for package in packages}


if __name__ == "__main__":
    main()
