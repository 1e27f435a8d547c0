"""``madang show``: what a model is, read from its file."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, facts
from madang.cli.pull import model_document
from madang.core.errors import MadangError, MalformedFile
from madang.core.units import format_bytes, format_count

if TYPE_CHECKING:
    from madang.core.settings import Settings
    from madang.formats.spec import ModelDescription
    from madang.formats.tensors import TensorInfo
    from madang.models import ModelFiles


def show(ctx: typer.Context, model: options.Model, as_json: options.Json = False) -> None:
    """Show what a model's file says: shape, tensors, tokenizer; and how the native engine would run it."""
    from madang.models import Store
    from madang.runtime import find_files

    settings = options.settings_of(ctx)
    files = find_files(model, Store(settings.home))
    document = model_document(files) | _inside(files) | {"native": _native(files, settings)}
    if as_json:
        data_json(document)
    else:
        _print(document)


def _inside(files: ModelFiles) -> dict[str, Any]:
    """What the file itself says; what it does not say is None."""
    return _gguf(files) if files.format == "gguf" else _checkpoint(files)


def _gguf(files: ModelFiles) -> dict[str, Any]:
    from madang.formats.gguf import read_gguf

    gguf = read_gguf(files.path)
    family = gguf.architecture
    template = gguf.get_str("tokenizer.chat_template", None)
    return {
        "title": gguf.get_str("general.name", None),
        "architecture": family,
        "license": gguf.get_str("general.license", None),
        "context_tokens": gguf.get_int(f"{family}.context_length", None),
        "layers": gguf.get_int(f"{family}.block_count", None),
        "embedding_length": gguf.get_int(f"{family}.embedding_length", None),
        "tokenizer": {
            "kind": gguf.get_str("tokenizer.ggml.model", None),
            "pre": gguf.get_str("tokenizer.ggml.pre", None),
            "vocabulary": len(gguf.get_strs("tokenizer.ggml.tokens", [])),
        },
        "chat_template_sha256": None if template is None else sha256(template.encode()).hexdigest(),
        **_weights(gguf.tensors.values()),
    }


def _checkpoint(files: ModelFiles) -> dict[str, Any]:
    import json

    from madang.formats.metadata import CheckedMetadata
    from madang.formats.safetensors import read_safetensors

    path = files.path / "config.json"
    config = CheckedMetadata(path, json.loads(path.read_text(encoding="utf-8")))
    return {
        "architecture": config.get_str("model_type", None),
        "context_tokens": config.get_int("max_position_embeddings", None),
        "layers": config.get_int("num_hidden_layers", None),
        "embedding_length": config.get_int("hidden_size", None),
        "tokenizer": {"vocabulary": config.get_int("vocab_size", None)},
        **_weights(read_safetensors(files.path).values()),
    }


def _native(files: ModelFiles, settings: Settings) -> dict[str, Any]:
    """Family and plan, each value with its reason; or why it does not run here."""
    from madang._core import available_isas
    from madang.formats.families import describe_model
    from madang.runtime import plan_for

    try:
        description = describe_model(files.path, files.format)
        plan = plan_for(files, settings)
    except MalformedFile:
        raise
    except MadangError as error:
        return {"runs": False, "because": error.message}
    isa = available_isas()[0] if plan.isa.value == "auto" else plan.isa.value
    values = {
        "family": description.spec.architecture,
        "makes": _made_by(description),
    }
    chosen = {"instructions": isa, "threads": plan.threads, "context": plan.context_tokens, "precision": plan.precision}
    memory = {} if plan.memory is None else {"memory_bytes": plan.memory.total_bytes}
    plain = {name: getattr(choice, "value", choice) for name, choice in chosen.items()}
    return {"runs": True, **values, **plain, **memory}


def _made_by(description: ModelDescription) -> str:
    if description.ranks_pairs:
        return "scores of texts for a query"
    return "answers" if description.embedding is None else "vectors"


def _weights(tensors: Iterable[TensorInfo]) -> dict[str, Any]:
    """How many weights there are, and what the tensors of each type take, largest first."""
    by_type: dict[str, dict[str, Any]] = {}
    parameters = 0
    for tensor in tensors:
        row = by_type.setdefault(tensor.type.name, {"type": tensor.type.name, "tensors": 0, "size_bytes": 0})
        row["tensors"] += 1
        row["size_bytes"] += tensor.size_bytes
        parameters += tensor.n_elements
    types = sorted(by_type.values(), key=lambda row: row["size_bytes"], reverse=True)
    return {"parameters": parameters, "tensor_types": types}


def _print(document: dict[str, Any]) -> None:
    simple = {name: value for name, value in document.items() if not isinstance(value, dict | list)}
    simple["parameters"] = f"{format_count(simple['parameters'])} ({simple['parameters']})"
    simple["size"] = format_bytes(simple.pop("size_bytes"))
    simple["tokenizer"] = ", ".join(
        f"{key} {value}" for key, value in document["tokenizer"].items() if value is not None
    )
    native = document["native"]
    simple["native engine"] = _native_line(native) if native["runs"] else f"does not run it: {native['because']}"
    facts({name.replace("_", " "): str(value) for name, value in simple.items() if value is not None})
    data("")
    rows = [[row["type"], str(row["tensors"]), format_bytes(row["size_bytes"])] for row in document["tensor_types"]]
    data_table([["TYPE", "TENSORS", "SIZE"], *rows], right=[1, 2])


def _native_line(native: dict[str, Any]) -> str:
    parts = [f"{native['family']}, makes {native['makes']}", f"{native['threads']} threads", native["instructions"]]
    parts += [f"context {native['context']}", f"precision {native['precision']}"]
    if "memory_bytes" in native:
        parts.append(f"{format_bytes(native['memory_bytes'])} of memory")
    return " · ".join(parts)
