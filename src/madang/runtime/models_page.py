"""Writes ``docs/reference/models.md`` from the catalog: ``python -m madang.runtime.models_page [--check] [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Final, get_args

from madang.core.units import format_bytes, format_count
from madang.hardware import kv_cache_bytes
from madang.models import CatalogEntry, License, load_catalog
from madang.models.entry import Task
from madang.runtime.recommending import RULE
from madang.runtime.sizing import Sized, size_of

DEFAULT_PATH: Final = Path("docs/reference/models.md")
HEAD: Final = (
    "<!-- Written by `python -m madang.runtime.models_page`. Change src/madang/models/catalog.toml, not this file. -->"
)
CACHE_TOKENS: Final = 4096
UNKNOWN: Final = "unknown"

INTRODUCTION: Final = (
    "`madang run NAME` fetches and runs one; [how to choose](../how-to/choose.md) says how to find it. The size is "
    "that of a file of type Q4_K_M, counted tensor by tensor from the model's shape; the cache is that of "
    f"{CACHE_TOKENS} tokens in float16, or of the whole context where that is shorter. Where a shape is not certain, "
    "or no family here computes it, the size is an estimate, marked ~, and the cache is unknown."
)


def page() -> str:
    """The whole page."""
    catalog = load_catalog()
    kinds = {
        "Models that write": "chat",
        "Models that make vectors of texts": "embedding",
        "Models that judge how well a text answers": "rerank",
    }
    parts = [HEAD, "# Models that madang knows by name", fill(INTRODUCTION, 120)]
    parts += ["## How recommendations are ordered", fill(RULE, 120)]
    for title, kind in kinds.items():
        rows = [_row(entry) for entry in catalog.entries.values() if entry.task == kind]
        header = [
            "Name",
            "Parameters",
            "Context",
            "Q4_K_M",
            "Cache",
            "Made for",
            "Languages",
            "Licence",
            "Year",
            "From",
        ]
        parts += [f"## {title}", _table(header, rows)]
    prefixed = [entry for entry in catalog.entries.values() if entry.prefixes.query or entry.prefixes.document]
    parts += ["## What stands before a text", _table(["Name", "Query", "Document"], map(_prefixes, prefixed))]
    licenses = {entry.license.name: entry.license for entry in catalog.entries.values() if entry.license is not None}
    parts += [
        "## Licences",
        "Whether what is made with a model may be sold. This is a hint, not advice: read the licence.",
        _table(
            ["Licence", "Sell", "Because"], map(_license, sorted(licenses.values(), key=lambda one: one.name.lower()))
        ),
        "## Names without a tag",
        _table(["Name", "Means"], ([f"`{name}`", f"`{meant}`"] for name, meant in sorted(catalog.aliases.items()))),
        "A backend's prefix before a repository means the model from there: "
        + ", ".join(f"`{backend}:{owner}/…`" for backend, owner in catalog.backends.items())
        + f". Tasks are {', '.join(get_args(Task))}.",
    ]
    return "\n\n".join(parts) + "\n"


def main(args: Sequence[str]) -> int:
    """Write the page; with ``--check``, only say whether the file is what would be written."""
    names = [arg for arg in args if arg != "--check"]
    path = Path(names[0]) if names else DEFAULT_PATH
    text = page()
    if "--check" not in args:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{path} is out of date; write it with: python -m madang.runtime.models_page", file=sys.stderr)
    return 1


def _row(entry: CatalogEntry) -> list[str]:
    size = size_of(entry, "Q4_K_M")
    return [
        f"`{entry.reference}`",
        UNKNOWN if entry.parameters is None else format_count(entry.parameters),
        UNKNOWN if entry.context_tokens is None else f"{entry.context_tokens:,}",
        UNKNOWN if size is None else ("" if size.description else "~ ") + format_bytes(size.file_bytes),
        _cache(entry, size),
        ", ".join(entry.tasks),
        " ".join(entry.languages) or UNKNOWN,
        UNKNOWN if entry.license is None else entry.license.name,
        UNKNOWN if entry.year is None else str(entry.year),
        f"[{entry.repository}](https://huggingface.co/{entry.repository})",
    ]


def _cache(entry: CatalogEntry, size: Sized | None) -> str:
    if size is None or size.description is None:
        return UNKNOWN
    tokens = min(CACHE_TOKENS, entry.context_tokens or CACHE_TOKENS)
    return format_bytes(kv_cache_bytes(size.description.spec, tokens))


def _prefixes(entry: CatalogEntry) -> list[str]:
    texts = (entry.prefixes.query, entry.prefixes.document)
    return [f"`{entry.reference}`", *(f"`{text!r}`".replace("|", "\\|") if text else "none" for text in texts)]


def _license(license: License) -> list[str]:
    return [license.name, license.commercial, license.reason]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
