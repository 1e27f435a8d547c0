"""Texts to measure on, by name; each as one string, in a fixed order."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from own_engine import DATA

ENGLISH, KOREAN = DATA / "english", DATA / "korean"


def read(path: Path) -> str:
    """A file of UTF-8."""
    return path.read_text(encoding="utf-8")


def rust_book() -> str:
    """Korean about programming."""
    return "\n".join(read(path) for path in sorted((KOREAN / "rust_book").glob("*.md")))


def code() -> str:
    """Python: HumanEval's problems with their solutions."""
    with gzip.open(ENGLISH / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        problems = [json.loads(line) for line in lines]
    return "\n".join(problem["prompt"] + problem["canonical_solution"] for problem in problems)


def meetings() -> str:
    """What was said in QMSum's meetings."""
    records = [json.loads(line) for line in read(ENGLISH / "qmsum_val.jsonl").splitlines()]
    said = [turn for record in records for turn in record["meeting_transcripts"]]
    return "\n".join(f"{turn['speaker']}: {turn['content']}" for turn in said)


def arithmetic() -> str:
    """GSM8K's questions with their solutions."""
    problems = [json.loads(line) for line in read(ENGLISH / "gsm8k_test.jsonl").splitlines()]
    return "\n\n".join(f"{problem['question']}\n{problem['answer']}" for problem in problems)


TEXTS: Mapping[str, Callable[[], str]] = {
    "wikitext-2 valid": lambda: read(ENGLISH / "wikitext2_valid.txt"),
    "wikitext-2 test": lambda: read(ENGLISH / "wikitext2_test.txt"),
    "shakespeare": lambda: read(ENGLISH / "tinyshakespeare.txt"),
    "rust book": rust_book,
    "boolq": lambda: read(KOREAN / "kobest_BoolQ_test.tsv"),
    "code": code,
    "meetings": meetings,
    "arithmetic": arithmetic,
}
