"""From a folder to an engine: config.json decides what is built, the plan where and how."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from madang.core.engine import EngineInfo
from madang.core.errors import MalformedFile, NotEnoughMemory
from madang.engines.library_errors import loading_errors
from madang.engines.stepping import SteppingEngine
from madang.engines.transformers.embedder import TorchEmbedder
from madang.engines.transformers.model import TorchModel
from madang.engines.transformers.placing import method_of_files, settle
from madang.engines.transformers.quantizing import BITSANDBYTES, bitsandbytes_config, import_bitsandbytes, keep_dtype
from madang.formats.families import stated_embedding
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.json_object import read_json_object
from madang.formats.tokenizers import Tokenizer, tokenizer_from_json
from madang.hardware import Placement, Plan, probe_machine
from madang.models import ModelFiles

NAME: Final = "transformers"
_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
_NO_LIMIT: Final = 2**31
_COUNTED_FROM_PADDING: Final = ("roberta", "xlm-roberta", "camembert", "mpnet")  # their first position is behind it


def load(files: ModelFiles, plan: Plan) -> SteppingEngine | TorchEmbedder:
    """Load a model; a folder that says how states become vectors is an embedder.

    Raises UnsupportedModel for what the library has no class for, EngineUnavailable for packages that the model needs,
    InvalidRequest for a device that is not here, MalformedFile, NotEnoughMemory.
    """
    import torch

    started = time.perf_counter()
    config = read_json_object(files.path / CONFIG_FILE, MAX_CONFIG_BYTES)
    placement = settle(plan.placement, config)
    _check_memory(files, placement, config)
    embedding = stated_embedding(files.path)
    tokenizer = tokenizer_from_json(files.path)
    method = method_of_files(config) if placement.quantize.value == "none" else BITSANDBYTES
    with loading_errors(files, NAME, out_of_memory=(torch.cuda.OutOfMemoryError, MemoryError)):
        model = _open(files.path, placement, plan.threads.value, method, is_embedder=embedding is not None)
    info = EngineInfo(
        engine=NAME,
        model=files.name,
        context_tokens=plan.context_tokens.value,
        load_s=time.perf_counter() - started,
    )
    if embedding is not None:
        info = replace(info, context_tokens=min(info.context_tokens, _longest_text(files.path, model.config)))
        return TorchEmbedder(info, model, tokenizer, embedding, placement)
    _check_words(files, tokenizer, model)
    return SteppingEngine(info, TorchModel(model, placement), tokenizer, files.sampling_defaults)


def _longest_text(folder: Path, config: Any) -> int:
    """In tokens, of an encoder."""
    stated = read_json_object(folder / "sentence_bert_config.json", MAX_CONFIG_BYTES).get("max_seq_length")
    positions: int = getattr(config, "max_position_embeddings", _NO_LIMIT)
    if config.model_type in _COUNTED_FROM_PADDING:
        positions -= config.pad_token_id + 1
    return min(positions, stated) if isinstance(stated, int) and stated > 0 else positions


def _open(path: Path, placement: Placement, n_threads: int, method: str | None, *, is_embedder: bool) -> Any:
    """``method`` is what quantized the weights or will, if anything does."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if placement.device.value == "cpu":
        torch.set_num_threads(n_threads)
    options = _options(placement)
    if method == BITSANDBYTES:
        import_bitsandbytes()
    if method is not None:  # such weights cannot move once they are there
        options["device_map"] = {"": placement.device.value}
    with redirect_stdout(sys.stderr):  # some packages tell there what they do, between the answers
        model = (AutoModel if is_embedder else AutoModelForCausalLM).from_pretrained(path, **options)
    if method is None:
        model = model.to(placement.device.value)
    if method == BITSANDBYTES:
        keep_dtype(model, options["dtype"])
    return model.eval()


def _options(placement: Placement) -> dict[str, Any]:
    """What ``from_pretrained`` is told: nothing is fetched, nothing of the folder is run, no pickle is read."""
    import torch

    dtype = getattr(torch, placement.dtype.value)
    options: dict[str, Any] = {
        "dtype": dtype,
        "local_files_only": True,
        "trust_remote_code": False,
        "use_safetensors": True,
    }
    if placement.attention.value != "auto":
        options["attn_implementation"] = placement.attention.value
    if placement.quantize.value != "none":
        options["quantization_config"] = bitsandbytes_config(placement.quantize.value, dtype)
    return options


def _check_memory(files: ModelFiles, placement: Placement, config: Mapping[str, Any]) -> None:
    """On the CPU, where the system would kill the process. Cards refuse by themselves."""
    available_bytes = probe_machine(gpus=False).ram_available_bytes
    if placement.device.value != "cpu" or available_bytes is None:
        return
    own_bytes = _BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 2)
    if "quantization_config" in config:
        needed_bytes = files.size_bytes
    else:
        needed_bytes = files.size_bytes * _BYTES[placement.dtype.value] // own_bytes
    if needed_bytes > available_bytes:
        hint = None if placement.dtype.value != "float32" else "Half of that is enough with --dtype bfloat16."
        raise NotEnoughMemory(f"{files.name} in {placement.dtype.value}", needed_bytes, available_bytes, hint=hint)


def _check_words(files: ModelFiles, tokenizer: Tokenizer, model: Any) -> None:
    n_words = model.get_output_embeddings().weight.shape[0]
    if tokenizer.vocab_size > n_words:
        raise MalformedFile(files.path, f"its tokenizer has {tokenizer.vocab_size} tokens, but its weights {n_words}")
