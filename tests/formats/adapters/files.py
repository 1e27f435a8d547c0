"""Random adapters, written as PEFT and as GGUF files by their public descriptions, and what they add to weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.parity.checkpoints import TinyModel, Weights, gguf_name, permuted

gguf = pytest.importorskip("gguf")
Pairs = Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class TinyAdapter:
    """Factors by the base weight's Hugging Face name; ``config`` has the last word on adapter_config.json."""

    pairs: Pairs
    alpha: float = 6.0
    rank: int = 3
    config: Mapping[str, Any] = field(default_factory=dict)

    def scale(self, name: str) -> float:
        """Factor of what this module adds."""
        module = name.removesuffix(".weight")
        own = self.config.get("alpha_pattern", {})
        alpha = next((value for key, value in own.items() if module.endswith(key)), self.alpha)
        rank = len(self.pairs[name][0])
        return float(alpha / np.sqrt(rank) if self.config.get("use_rslora") else alpha / rank)

    def merged(self, weights: Weights, factor: float = 1.0) -> Weights:
        """The weights with everything added."""
        added = {name: factor * self.scale(name) * (b @ a) for name, (a, b) in self.pairs.items()}
        return {name: (weight + added.get(name, 0)).astype(np.float32) for name, weight in weights.items()}


def random_adapter(weights: Weights, seed: int, modules: tuple[str, ...] = MODULES, **options: Any) -> TinyAdapter:
    """Strong enough to change every answer."""
    rng = np.random.default_rng(seed)
    default = options.get("rank", 3)
    ranks = options.get("config", {}).get("rank_pattern", {})
    pairs = {}
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        if weight.ndim == 2 and any(module.endswith(ending) for ending in modules):
            rank = next((value for key, value in ranks.items() if module.endswith(key)), default)
            a = rng.normal(0, 0.3, (rank, weight.shape[1]))
            b = rng.normal(0, 0.3, (weight.shape[0], rank))
            pairs[name] = (a.astype(np.float32), b.astype(np.float32))
    return TinyAdapter(pairs, **options)


def write_peft(adapter: TinyAdapter, folder: Path, **tensors: Any) -> Path:
    """A folder as PEFT saves it; ``tensors`` are added."""
    save = pytest.importorskip("safetensors.numpy").save_file
    folder.mkdir(parents=True)
    modules = sorted({name.split(".")[-2] for name in adapter.pairs})
    config = {
        "peft_type": "LORA",
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "target_modules": modules,
        "bias": "none",
        "use_dora": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        **adapter.config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    factors = dict(tensors)
    for name, (a, b) in adapter.pairs.items():
        module = "base_model.model." + name.removesuffix(".weight")
        factors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    save(factors, folder / "adapter_model.safetensors")
    return folder


def write_gguf(adapter: TinyAdapter, path: Path, model: TinyModel, **metadata: Any) -> Path:
    """A GGUF file as llama.cpp's converter writes it: rows of queries and keys permuted."""
    writer = gguf.GGUFWriter(path, metadata.get("architecture", "llama"))
    writer.add_string("general.type", metadata.get("general_type", "adapter"))
    writer.add_string("adapter.type", metadata.get("adapter_type", "lora"))
    writer.add_float32("adapter.lora.alpha", adapter.alpha)
    for name, (a, b) in adapter.pairs.items():
        writer.add_tensor(f"{gguf_name(name)}.lora_a", a)
        writer.add_tensor(f"{gguf_name(name)}.lora_b", permuted(name, b, model))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
