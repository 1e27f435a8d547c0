"""Lines to tokenize: Korean, English, code, emoji, white space, and mixtures that nobody would write."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

# What tokenizers disagree on: joined emoji, decomposed letters, odd spaces, control characters, their own spellings.
FRAGMENTS = (
    *("😀", "👩\u200d👩\u200d👧\u200d👦", "🇰🇷", "🧑🏽", "❤️", "é", "e\u0301", "가", "\u1100\u1161"),
    *("ㅋ", "ㅋㅋㅋ", "한글", "문장입니다", "क्षि", "ไทย", "日本語", "中文", "العربية", "Ελληνικά", "русский"),
    *(" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\u2028", "\ufeff", "\x07", "\x7f"),
    *("a", "Z", "the", " the", "'s", "'LL", "ſ", "ß", "İ", "ﬁ", "camelCase", "\ufffd", "\u0301"),
    *("0", "12", "345", "½", "Ⅻ", "①", "x²", "٣", "!", "?", "...", "—", "「", "，", "==", "//", "#", "_", "{}"),
    *("▁", "▁▁", "<s>", "</s>", "<unk>", "<0x41>", "<tool>", "<|im_end|>", "<|im_start|>", "<|endoftext|>"),
)
REPEATED = (" ", "\t", "\n", "ㅋ", "=", "a", "ha", "aba", ".", "가나", "😀", "0", "▁", "12")


def lines(shared_data: Path) -> list[str]:
    """Some 2,500 lines, the same every time."""
    found = [*_korean(shared_data / "korean"), *_english(shared_data / "english"), *_code(shared_data / "english")]
    return [line for line in (*found, *_repeated(), *_mixed(600)) if line]


def _korean(folder: Path) -> list[str]:
    with (folder / "chatbot_data.csv").open(encoding="utf-8", newline="") as file:
        questions = [row[0] for row in csv.reader(file)][1::30]
    chapters = [path.read_text(encoding="utf-8").split("\n") for path in sorted((folder / "rust_book").glob("*.md"))]
    return questions + [line for chapter in chapters for line in chapter if line.strip()][::9]


def _english(folder: Path) -> list[str]:
    text = (folder / "wikitext2_valid.txt").read_text(encoding="utf-8")
    return [line for line in text.split("\n") if line.strip()][:300]


def _code(folder: Path) -> list[str]:
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        problems = [json.loads(line) for line in file]
    return [
        text for problem in problems for text in (problem["prompt"], *problem["canonical_solution"].split("\n")[:3])
    ]


def _repeated() -> list[str]:
    runs = [fragment * count for fragment in REPEATED for count in (1, 2, 3, 5, 8, 17, 64)]
    return runs + [f"x{run}y" for run in runs]


def _mixed(count: int) -> list[str]:
    rng = random.Random(20_240_601)
    return ["".join(rng.choices(FRAGMENTS, k=rng.randint(1, 24))) for _ in range(count)]
