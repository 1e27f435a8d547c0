"""Device, dtype, attention and quantization of a model, each with its reason; what cannot be had is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Final

from madang.core.errors import EngineUnavailable, InvalidRequest
from madang.hardware import Choice, Placement, Reason
from madang.hardware.placement import AUTO

# What a checkpoint that is quantized already needs, by the name of its method in config.json.
_PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "gptq": ("gptqmodel", "optimum", "accelerate"),
    "awq": ("gptqmodel", "accelerate"),
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "compressed-tensors": ("compressed_tensors", "accelerate"),
    "hqq": ("hqq", "accelerate"),
    "torchao": ("torchao", "accelerate"),
}
_MAX_METHOD: Final = 40


def settle(asked: Placement, config: Mapping[str, Any]) -> Placement:
    """Every "auto" decided for this machine and the model's config.json.

    Raises InvalidRequest for a device that is not here or choices that exclude each other, EngineUnavailable with the
    command for a package that is missing.
    """
    device = _device(asked.device)
    quantize = _quantize(asked.quantize, config)
    settled = replace(asked, device=device, quantize=quantize, attention=_attention(asked.attention, device.value))
    return replace(settled, dtype=_dtype(asked.dtype, device.value, config))


def method_of_files(config: Mapping[str, Any]) -> str | None:
    """What quantized the checkpoint, as its config.json says; None for one that is whole."""
    own = config.get("quantization_config")
    method = own.get("quant_method") if isinstance(own, dict) else None
    return None if method is None else str(method)[:_MAX_METHOD]


def _device(asked: Choice[str]) -> Choice[str]:
    import torch

    n_cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if asked.value == AUTO:
        if n_cards:
            return Choice("cuda", "PyTorch sees a card")
        return Choice("mps", "PyTorch sees Apple's GPU") if has_mps else Choice("cpu", "PyTorch sees no other device")
    kind, _, number = asked.value.partition(":")
    is_here = kind == "cpu" or (kind == "mps" and has_mps) or (kind == "cuda" and int(number or 0) < n_cards)
    if not is_here:
        raise InvalidRequest(
            f"The device {asked.value} was asked for, but PyTorch sees "
            + (f"{n_cards} of them." if kind == "cuda" else "none here."),
            param="device",
            hint="Leave --device out, or install a build of PyTorch for it: https://pytorch.org/get-started",
        )
    return asked


def _dtype(asked: Choice[str], device: str, config: Mapping[str, Any]) -> Choice[str]:
    import torch

    if asked.value != AUTO:
        return asked
    if device == "cpu":
        return Choice("float32", "exact, and most CPUs compute it faster than shorter ones")
    own = config.get("dtype") or config.get("torch_dtype")
    if own not in ("bfloat16", "float16", "float32"):
        return Choice("float16", "the files do not say what the model was trained in")
    if own == "bfloat16" and device.startswith("cuda") and not torch.cuda.is_bf16_supported(including_emulation=False):
        return Choice("float16", "the card has no bfloat16, which the model was trained in")
    return Choice(own, "what the model was trained in")


def _attention(asked: Choice[str], device: str) -> Choice[str]:
    if asked.value == AUTO:
        return Choice(AUTO, "what transformers finds best for the family")
    if asked.value == "flash_attention_2":
        if not device.startswith("cuda"):
            raise InvalidRequest(
                f"flash_attention_2 needs a CUDA card, but the model runs on {device}.",
                param="attention",
                hint="Use --attention sdpa.",
            )
        _require(("flash_attn",), "flash_attention_2", "pip install flash-attn --no-build-isolation")
    return asked


def _quantize(asked: Choice[str], config: Mapping[str, Any]) -> Choice[str]:
    method = method_of_files(config)
    if method is not None:
        if asked.value != "none":
            raise InvalidRequest(
                f"The model is quantized already, by {method}.",
                param="quantize",
                hint="Leave --quantize out, or take the model before it was quantized.",
            )
        packages = _PACKAGES.get(method, ())
        _require(packages, f"A checkpoint of {method}", f"pip install {' '.join(_pip(packages))}")
        return Choice("none", Reason("the files are quantized by {method}", method=method))
    if asked.value != "none":
        packages = _PACKAGES["bitsandbytes"]
        _require(packages, f"--quantize {asked.value}", f"pip install {' '.join(_pip(packages))}")
    return asked


def _pip(packages: tuple[str, ...]) -> list[str]:
    return [package.replace("_", "-") for package in packages]


def _require(modules: tuple[str, ...], what: str, command: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise EngineUnavailable(
            f"{what} needs {' and '.join(missing)}, which cannot be imported here.", hint=f"Install it with: {command}"
        )
