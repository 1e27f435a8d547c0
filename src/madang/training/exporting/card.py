"""A model card: what a run recorded and what the gate measured, in words and tables. It claims nothing else.

Of ``result.json`` it reads any shape: what has a ``before`` and an ``after`` becomes a row of the comparison, what is a
single value becomes a line. Texts of files are shown as code, so that none of them becomes markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from madang import __version__
from madang.core.units import format_bytes
from madang.training.exporting.parity import ParityReport
from madang.training.exporting.trained import Trained

MAX_TEXT_CHARACTERS: Final = 200
MAX_CONFIG_CHARACTERS: Final = 8_000
MAX_FACTS: Final = 60
_CONFIG_FILE: Final = "config.toml"
_PLACE: Final = re.compile(r'"(?:file:)?(?:[A-Za-z]:)?[/\\~][^"\n]*[/\\](?P<name>[^"\n/\\]+)"')  # in TOML
_HUB_ID: Final = re.compile(r"(?:hf:)?(?P<repository>[\w.-]+/[\w.-]+)")
_MIDDLES: Final = ("value", "mean", "score")
_OF_COMPARISONS: Final = ("before", "after", "difference", "config", "plan")  # the settings follow as they were written


def model_card(trained: Trained, rows: Sequence[tuple[str, int, ParityReport | None]]) -> str:
    """The text of a README.md. ``rows`` are the exported files: path beside the card, bytes, what the gate measured."""
    on_hub = _HUB_ID.fullmatch(trained.base or "")  # the hub refuses cards that name another kind of base
    head = ["---", *([f"base_model: {json.dumps(on_hub['repository'])}"] if on_hub else [])]
    head += ["library_name: transformers", "pipeline_tag: text-generation", "tags:", "- madang"]
    head += ["- lora"] if trained.adapter is not None else []
    parts = ["\n".join([*head, "---"]), f"# {_plain(trained.name)}", _origin(trained)]
    parts += _before_and_after(trained.result)
    parts += _files(rows)
    parts += _settings(trained.run)
    parts.append(
        f"Written by `madang export` {__version__} from what the run recorded. What is not measured above, nobody "
        "measured: licence, intended use and limits are for the person who trained it to add.\n"
    )
    return "\n\n".join(parts)


def _origin(trained: Trained) -> str:
    how = "A LoRA adapter of" if trained.adapter is not None else "Trained from"
    return f"{how} {_code(trained.base or 'a base that its run does not name')}."


def _before_and_after(result: Mapping[str, Any]) -> list[str]:
    rows = list(_compared(result))
    facts = [(name, value) for name, value in _facts(result) if value is not None][:MAX_FACTS]
    parts: list[str] = []
    if rows:
        parts += ["## Before and after", _table(("measure", "before", "after"), rows)]
    if facts:
        parts += ["## The run", _table(("", ""), [(_plain(name), _code(_said(value))) for name, value in facts])]
    return parts


def _compared(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """A row for each figure that is known before and after, wherever the two stand."""
    if {"before", "after"} <= value.keys():
        yield from _pairs(path, value["before"], value["after"])
        return
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _compared(inner, _joined(path, key))


def _pairs(path: str, before: object, after: object) -> Iterator[tuple[str, str, str]]:
    if isinstance(before, dict) and isinstance(after, dict) and not _is_estimate(before):
        for key in before:
            if key in after:
                yield from _pairs(_joined(path, key), before[key], after[key])
    elif before is not None and after is not None and not isinstance(before, list):
        yield _plain(path), _figure(before), _figure(after)


def _joined(path: str, key: str) -> str:
    return f"{path} {key}".strip().replace("_", " ")


def _is_estimate(value: Mapping[str, Any]) -> bool:
    return not value.keys().isdisjoint(_MIDDLES)


def _facts(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every single value that is no part of a comparison, by its path."""
    for key, inner in value.items():
        if key in _OF_COMPARISONS and {"before", "after"} <= value.keys():
            continue
        if isinstance(inner, dict):
            yield from _facts(inner, f"{prefix}{key}.")
        elif not isinstance(inner, list):
            yield f"{prefix}{key}", inner


def _figure(value: object) -> str:
    """A number, with its interval where it has one."""
    if isinstance(value, dict):
        middle = next((value[key] for key in _MIDDLES if key in value), None)
        bounds = [value.get(key) for key in ("low", "high")]
        if middle is not None and None not in bounds:
            return f"{_number(middle)} ({_number(bounds[0])} to {_number(bounds[1])})"
        return _number(middle) if middle is not None else _code(json.dumps(value, ensure_ascii=False))
    return _number(value)


def _number(value: object) -> str:
    return _plain(_said(value))


def _said(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _files(rows: Sequence[tuple[str, int, ParityReport | None]]) -> list[str]:
    if not rows:
        return []
    shown = []
    for name, size_bytes, report in rows:
        measured = ("", "", "")
        if report is not None:
            measured = (f"{report.mean_kl:.2g}", f"{report.agreement:.1%}", f"{report.perplexity:.4g}")
        shown.append((_code(name), format_bytes(size_bytes), *measured))
    reports = [report for _, _, report in rows if report is not None]
    words = "Each file was compared with the trained model before it was kept: same tokens, prompts and end of turn."
    if reports:
        one = reports[0]
        words += (
            f" KL and perplexity are of {one.kl_tokens} tokens of held-out Korean and English text, on which the "
            f"trained model has a perplexity of {one.trained_perplexity:.4g}; greedy is the share of "
            f"{one.greedy_tokens} answer tokens that are the same."
        )
    return ["## Files", words, _table(("file", "size", "KL (nats)", "greedy", "perplexity"), shown)]


def _settings(run: Path | None) -> list[str]:
    if run is None or not (run / _CONFIG_FILE).is_file():
        return []
    text = (run / _CONFIG_FILE).read_text(encoding="utf-8", errors="replace")[:MAX_CONFIG_CHARACTERS]
    text = _PLACE.sub(r'"\g<name>"', text)
    return ["## Settings", "\n".join(f"    {line}" for line in text.splitlines())]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _plain(text: str) -> str:
    """On one line, with nothing in it that Markdown or HTML reads."""
    short = " ".join(text.split())[:MAX_TEXT_CHARACTERS]
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!" else letter for letter in short)


def _code(text: str) -> str:
    """As code, on one line. Where a folder lies says nothing to others, and at times who made it."""
    if text.startswith("file:"):
        text = Path(text).name
    return f"`{' '.join(text.split())[:MAX_TEXT_CHARACTERS].replace('`', chr(39)).replace('|', '/')}`"
