"""The torch model of a run: loaded in the plan's dtype, and given what the method trains."""

from __future__ import annotations

import time
import warnings
from copy import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from madang.core.errors import AdapterMismatch, EngineUnavailable, ModelError
from madang.engines.library_errors import loading_errors
from madang.engines.transformers.quantizing import bitsandbytes_config, import_bitsandbytes, keep_dtype
from madang.formats.adapters import read_adapter
from madang.training.checkpoints import write_weights
from madang.training.config import TuneConfig
from madang.training.folders import copy_companions
from madang.training.models import FolderModel
from madang.training.planning import RunPlan

_PACKAGES: Final = ("torch", "transformers", "peft", "accelerate")
_TIMED: Final = 8


def require_packages(config: TuneConfig) -> None:
    """Raises EngineUnavailable with the command that installs what a run needs."""
    wanted = (*_PACKAGES, "bitsandbytes") if config.method == "qlora" else _PACKAGES
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        raise EngineUnavailable(
            f"Fine-tuning needs {', '.join(missing)}, which cannot be imported here.",
            hint="Install what training needs with: pip install 'madang[train]'",
        )


def gpu_free_bytes() -> int | None:
    """Free memory of the card that torch would use; None where it sees none."""
    import torch

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None


def measure_flops(dtype: str, device: str, threads: int, width: int, inner: int) -> float:
    """Operations per second of a product of this form; takes about a tenth of a second on a processor."""
    import torch

    if device == "cpu":
        torch.set_num_threads(threads)
    one = torch.ones((512, width), dtype=getattr(torch, dtype), device=device)
    other = torch.ones((width, inner), dtype=getattr(torch, dtype), device=device)
    best = float("inf")
    for _ in range(_TIMED):
        started = time.perf_counter()
        (one @ other).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * 512 * width * inner / best


def build(config: TuneConfig, plan: RunPlan, model: FolderModel, device: str) -> Any:
    """Load the base and make what is trained. Weights of adapters, and all of a full run, are float32.

    Raises AdapterMismatch for an adapter of another base, before anything is loaded.
    """
    import torch

    if config.adapter is not None:
        check_adapter(Path(config.adapter), model)
    if device == "cpu":
        torch.set_num_threads(plan.threads.value)
    torch.manual_seed(config.seed)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of names, for developers
    with loading_errors(model.files, "training", out_of_memory=(torch.cuda.OutOfMemoryError, MemoryError)):
        base = _load(config, plan, model, device)
    if plan.gradient_checkpointing.value:
        _keep_less(base)
    if config.method == "full":
        return base.train()
    return _with_adapter(config, base, model).train()


def _keep_less(base: Any) -> None:
    """Have activations computed again on the way back; transformers is renaming how that is asked for."""
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def check_adapter(path: Path, model: FolderModel) -> None:
    """Raises AdapterMismatch where an adapter's matrices are not the model's."""
    read_adapter(path, model.description)


def _load(config: TuneConfig, plan: RunPlan, model: FolderModel, device: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    dtype = torch.float32 if config.method == "full" else getattr(torch, plan.dtype.value)
    options: dict[str, Any] = {
        "dtype": dtype,
        "local_files_only": True,
        "trust_remote_code": False,
        "use_safetensors": True,
    }
    if config.method == "qlora":
        import_bitsandbytes()
        options["quantization_config"] = bitsandbytes_config("nf4", dtype)
        options["device_map"] = {"": device}
    base = AutoModelForCausalLM.from_pretrained(model.path, **options)
    if config.method == "qlora":
        keep_dtype(base, dtype)
        _stay_differentiable(base)
    else:
        base = base.to(device)
    return base


def _stay_differentiable(base: Any) -> None:
    """Keep 4-bit weights as they are when the model is scored.

    bitsandbytes repacks them for the processor (AVX-512 BF16) the first time that they are read for inference, and for
    good; its product of repacked weights has no gradient, so what is trained after that would learn almost nothing.
    """
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _with_adapter(config: TuneConfig, base: Any, model: FolderModel) -> Any:
    import torch

    if find_spec("bitsandbytes") is not None:
        import_bitsandbytes()  # PEFT does otherwise, and what it tells is of no use
    from peft import LoraConfig, PeftModel, get_peft_model

    if config.adapter is not None:
        try:
            tuned = PeftModel.from_pretrained(base, config.adapter, is_trainable=True)
        except (ValueError, RuntimeError, KeyError) as error:
            raise AdapterMismatch(config.adapter, "adapter_config.json", " ".join(str(error).split())[:200]) from error
    else:
        lora = LoraConfig(
            r=config.rank,
            lora_alpha=config.scale_alpha,
            lora_dropout=config.dropout,
            target_modules="all-linear",
            use_rslora=config.rslora,
            use_dora=config.dora,
            task_type="CAUSAL_LM",
        )
        tuned = get_peft_model(base, lora)
    for one in tuned.peft_config.values():
        one.base_model_name_or_path = model.files.name
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return tuned


def save_adapter(tuned: Any, folder: Path) -> None:
    """The PEFT folder of what was trained. Raises OSError."""
    from peft import get_peft_model_state_dict

    for name in tuned.active_adapters:
        settings = copy(tuned.peft_config[name])
        settings.inference_mode = True
        settings.save_pretrained(folder)
        # PEFT would ask the hub otherwise whether the embeddings are the base's.
        write_weights(
            folder / "adapter_model.safetensors",
            get_peft_model_state_dict(tuned, adapter_name=name, save_embedding_layers=False),
        )


def save_model(tuned: Any, base: Path, folder: Path) -> None:
    """All weights in transformers' form, with the base's tokenizer and template. Raises OSError, ModelError."""
    from safetensors import SafetensorError

    try:
        tuned.save_pretrained(folder)
    except SafetensorError as error:  # of the system's reason it keeps nothing but the text
        raise ModelError(f"{folder.parent} cannot be written to: {error}.", hint="The checkpoints have all.") from error
    copy_companions(base, folder)
