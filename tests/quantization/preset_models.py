"""Models of which only names and shapes matter, and what llama.cpp made of them.

    python -m tests.quantization.preset_models PYTHON

writes preset_types.json with the llama.cpp of PYTHON, an interpreter that has llama-cpp-python; recorded with
llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.formats.gguf_writing import TensorToWrite, write_gguf
from madang.formats.tensors import TensorInfo, TensorType
from madang.quantization.presets import PRESETS, ModelFacts

RECORD: Final = Path(__file__).with_name("preset_types.json")
_WORKER: Final = Path(__file__).parents[2] / "benchmarks" / "workers" / "preset_types_llama_cpp.py"
_ROWS = 2
VARIANTS: Final = ("", "importance", "pure")


@dataclass(frozen=True)
class Outline:
    """A model in outline; ``style`` is how its layers are named."""

    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    width: int = 256
    n_ff: int = 512
    tied: bool = True
    n_experts: int = 0
    style: str = "llama"

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts(self.architecture, self.n_layers, self.n_heads, self.n_kv_heads, self.n_experts)

    def tensors(self) -> list[TensorInfo]:
        """In the order of files that converters write, which is not the one that counts."""
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (_ROWS, self.width)}
        for layer in reversed(range(self.n_layers)):
            shapes |= {f"blk.{layer}.{name}": shape for name, shape in self._layer().items()}
        shapes["output_norm.weight"] = (self.width,)
        if not self.tied:
            shapes["output.weight"] = (_ROWS, self.width)
        if self.style == "bert":
            shapes |= {"position_embd.weight": (_ROWS, self.width), "token_types.weight": (_ROWS, self.width)}
        return [
            TensorInfo(name, TensorType.F32 if len(shape) == 1 else TensorType.F16, shape, Path(), 0)
            for name, shape in shapes.items()
        ]

    def _layer(self) -> dict[str, tuple[int, ...]]:
        wide, from_ff = (_ROWS, self.width), (_ROWS, self.n_ff)
        shapes: dict[str, tuple[int, ...]] = {"attn_norm.weight": (self.width,), "attn_output.weight": wide}
        if self.style == "fused":
            shapes |= {"attn_qkv.weight": wide, "attn_qkv.bias": (_ROWS,)}
        else:
            shapes |= {f"attn_{part}.weight": wide for part in "qkv"}
        if self.n_experts:
            shapes |= {f"ffn_{part}_exps.weight": (self.n_experts, *wide) for part in ("gate", "up")}
            shapes |= {
                "ffn_down_exps.weight": (self.n_experts, *from_ff),
                "ffn_gate_inp.weight": (self.n_experts, wide[1]),
            }
            if self.style == "shared":
                shapes |= {"ffn_down_shexp.weight": from_ff, "ffn_up_shexp.weight": wide, "ffn_gate_shexp.weight": wide}
        else:
            shapes |= {"ffn_up.weight": wide, "ffn_down.weight": from_ff, "ffn_down.bias": (_ROWS,)}
            if self.style == "llama":
                shapes["ffn_gate.weight"] = wide
        return shapes

    def metadata(self) -> dict[str, Any]:
        keys: dict[str, Any] = {
            "block_count": self.n_layers,
            "context_length": 512,
            "embedding_length": self.width,
            "feed_forward_length": self.n_ff,
            "attention.head_count": self.n_heads,
            "attention.head_count_kv": self.n_kv_heads,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "attention.layer_norm_epsilon": 1e-5,
            "attention.causal": self.style != "bert",
        }
        if self.n_experts:
            keys |= {"expert_count": self.n_experts, "expert_used_count": 2, "expert_feed_forward_length": self.n_ff}
        named = {f"{self.architecture}.{key}": value for key, value in keys.items()}
        return {"general.architecture": self.architecture, **named}


OUTLINES: Final = {
    "llama": Outline("llama", 32, 8, 8),
    "not aligned": Outline("llama", 30, 9, 3, width=576, n_ff=1536),
    "half aligned": Outline("llama", 9, 4, 4, width=256, n_ff=352, tied=False),
    "odd": Outline("llama", 4, 3, 3, width=48, n_ff=80, tied=False),
    "shared values": Outline("llama", 16, 8, 2, tied=False),
    "70B": Outline("llama", 80, 64, 8, tied=False),
    "eight experts": Outline("llama", 12, 8, 2, n_experts=8, tied=False),
    "shared experts": Outline("qwen2moe", 13, 8, 8, n_experts=4, style="shared", tied=False),
    "qwen2": Outline("qwen2", 24, 14, 2),
    "fused": Outline("gpt2", 12, 12, 12, style="fused"),
    "falcon": Outline("falcon", 32, 71, 1, style="fused", tied=False),
    "bert": Outline("bert", 6, 12, 12, width=384, n_ff=1536, style="bert"),
}


def main() -> int:
    """Have llama.cpp quantize every outline under every preset, and keep what came of it."""
    record: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, outline in OUTLINES.items():
            source = Path(folder, "source.gguf")
            write_gguf(source, outline.metadata(), [_with_data(tensor) for tensor in outline.tensors()])
            command = [sys.argv[1], str(_WORKER), str(source), *PRESETS]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            presets: dict[str, dict[str, dict[str, str]]] = json.loads(answer.stdout)
            record[name] = {preset: _told_apart(variants) for preset, variants in presets.items()}
            print(name)
    models = [
        f" {json.dumps(name)}: {{\n" + ",\n".join(f"  {_line(preset, of[preset])}" for preset in sorted(of)) + "\n }"
        for name, of in sorted(record.items())
    ]
    RECORD.write_text("{\n" + ",\n".join(models) + "\n}\n", encoding="utf-8")
    return 0


def _line(preset: str, variants: dict[str, dict[str, str]]) -> str:
    return f"{json.dumps(preset)}: {json.dumps(variants, sort_keys=True)}"


def _told_apart(variants: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Without the variants that changed nothing."""
    short = {variant: by_kind(types) for variant, types in variants.items()}
    return {variant: types for variant, types in short.items() if variant == "" or types != short[""]}


def by_kind(types: dict[str, str]) -> dict[str, str]:
    """The types of each kind of tensor in the order of layers: "Q6_K Q4_K*3 Q6_K"."""
    kinds: dict[str, dict[int, str]] = {}
    for name, type_name in types.items():
        layer, kind = (name.split(".")[1], name.split(".", 2)[2]) if name.startswith("blk.") else ("0", name)
        kinds.setdefault(kind, {})[int(layer)] = type_name
    return {kind: " ".join(_runs([layers[i] for i in sorted(layers)])) for kind, layers in kinds.items()}


def _runs(words: list[str]) -> list[str]:
    runs = [(word, len(list(same))) for word, same in groupby(words)]
    return [word if n == 1 else f"{word}*{n}" for word, n in runs]


def _with_data(tensor: TensorInfo) -> TensorToWrite:
    dtype = np.float32 if tensor.type is TensorType.F32 else np.float16
    values = np.resize(np.linspace(-1, 1, 97), prod(tensor.shape)).astype(dtype)
    return TensorToWrite(tensor.name, tensor.type, tensor.shape, lambda: values)


if __name__ == "__main__":
    sys.exit(main())
