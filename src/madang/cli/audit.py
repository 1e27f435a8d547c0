"""``madang audit``: what is in a GGUF file, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, facts
from madang.cli.pull import watching
from madang.core.errors import InvalidRequest, UnsupportedModel
from madang.core.units import format_bytes, format_count

if TYPE_CHECKING:
    from madang.core.settings import Settings
    from madang.quantization.audit import Audit
    from madang.quantization.divergence import Divergence

Against = Annotated[
    str | None, typer.Option("--against", metavar="MODEL", help="Measure how far its answers are from this one's.")
]
Text = Annotated[Path | None, typer.Option("--text", metavar="FILE", help="With --against: the text that both read.")]
Chunks = Annotated[
    int, typer.Option("--chunks", metavar="N", help="With --against: most pieces of 512 tokens to read.")
]
Tensors = Annotated[bool, typer.Option("--tensors", help="List every tensor.")]


def audit(
    ctx: typer.Context,
    model: options.Model,
    *,
    against: Against = None,
    text: Text = None,
    chunks: Chunks = 20,
    tensors: Tensors = False,
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> int:
    """Look into a GGUF file: types and bytes, fallbacks, tokenizer, chat template, values, checksum.

    The exit status is 1 when something is wrong with it.
    """
    from madang.models import Store
    from madang.quantization.audit import audit_file
    from madang.runtime import find_files

    settings = options.settings_of(ctx, threads=threads)
    if (against is None) != (text is None):
        raise InvalidRequest(
            "--against and --text belong together.", param="against", hint="Give a reference and a text that both read."
        )
    files = find_files(model, Store(settings.home))
    if files.format != "gguf":
        raise UnsupportedModel("folders in 'madang audit'", hint="Convert it first: madang convert SRC DST.gguf")
    with watching(f"Reading {files.name}") as progress:
        found = audit_file(files.path, progress)
    measured = None if against is None or text is None else _measure(model, against, text, chunks, settings)
    if as_json:
        data_json(found.to_dict() | {"divergence": None if measured is None else measured.to_dict()})
    else:
        _print(found, measured, tensors)
    return int(any(finding.level == "error" for finding in found.findings))


def _measure(model: str, against: str, text: Path, n_chunks: int, settings: Settings) -> Divergence:
    from contextlib import ExitStack

    from madang.core.engine import LogitSource
    from madang.quantization.divergence import cut, measure
    from madang.runtime import open_loaded

    with ExitStack() as stack:
        sources: list[LogitSource] = []
        for name in (against, model):
            loaded = open_loaded(name, settings)
            stack.callback(loaded.close)
            if not isinstance(loaded, LogitSource):
                raise InvalidRequest(f"{name} does not tell its distribution over the next token.", param="against")
            sources.append(loaded)
        try:
            content = text.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest(f"{text} is not UTF-8 text.", param="text") from None
        tokens = sources[0].tokenize(content)
        return measure(sources[0], sources[1], cut(tokens, at_most=n_chunks))


def _print(found: Audit, measured: Divergence | None, with_tensors: bool) -> None:
    lines: dict[str, str] = {
        "file": str(found.path),
        "sha256": found.sha256,
        "size": format_bytes(found.size_bytes),
        "architecture": found.architecture,
        "preset": found.preset or "unknown",
        "parameters": f"{format_count(found.parameters)} ({found.parameters})",
        "bits per weight": f"{found.bits_per_weight:.3f}",
        "embedding and output": f"{found.embedding_share:.0%} of the bytes",
        "tokenizer": ", ".join(
            f"{key} {value}" for key, value in found.tokenizer.items() if isinstance(value, str | int)
        ),
    }
    facts(lines)
    data("")
    rows = [
        [row.type, str(row.tensors), format_count(row.parameters), format_bytes(row.size_bytes), f"{row.share:.1%}"]
        for row in found.types
    ]
    data_table([["TYPE", "TENSORS", "WEIGHTS", "SIZE", "SHARE"], *rows], right=[1, 2, 3, 4])
    if with_tensors:
        data("")
        listed = [
            [row.name, row.type, " x ".join(map(str, row.shape)), format_bytes(row.size_bytes), f"{row.share:.2%}"]
            for row in found.tensors
        ]
        data_table([["TENSOR", "TYPE", "SHAPE", "SIZE", "SHARE"], *listed], right=[3, 4])
    data("")
    for line in [*_fallback_lines(found), *(f"{finding.level}: {finding.what}" for finding in found.findings)]:
        data(line)
    if not found.findings:
        data("Nothing is wrong with it.")
    if measured is not None:
        data("")
        facts({name.replace("_", " "): f"{value:.6g}" for name, value in measured.to_dict().items()})


def _fallback_lines(found: Audit) -> list[str]:
    """One line for each kind of fallback, and one for what is nobody's preset."""
    kinds: dict[tuple[Any, ...], int] = {}
    for one in found.fallbacks:
        key = (one.wanted, one.found, one.n_columns)
        kinds[key] = kinds.get(key, 0) + 1
    lines = [
        f"fallback: {_tensors(count)} {actual} in place of {wanted}, whose blocks do not divide rows of {n_columns}."
        for (wanted, actual, n_columns), count in kinds.items()
    ]
    if found.others:
        lines.append(f"note: {_tensors(found.others)} other types than {found.preset} gives: a mix of its own.")
    return lines


def _tensors(count: int) -> str:
    return "1 tensor has" if count == 1 else f"{count} tensors have"
