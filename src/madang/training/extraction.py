"""The examples of the recipe english-extraction, made from the questions of GSM8K by a rule and nothing else.

The answer is compact JSON: ``numbers`` are those written in digits, in order, thousands separators removed; ``asks`` is
the last "how many" with the word behind it, or "how much", in small letters. Questions without either, and those
longer than MOST_CHARACTERS, are left out. So ``"Tom has 3 cats and 1,200 mice. How many animals is that?"`` is
``{"numbers":[3,1200],"asks":"how many animals"}``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from madang.core.errors import InvalidRequest
from madang.core.messages import Message
from madang.training.examples import Example, Loaded, Problem

FORM: Final = "gsm8k-extraction"
MOST_CHARACTERS: Final = 240
INSTRUCTION: Final = "Extract the numbers and what is asked as JSON.\n\n"
_NUMBER: Final = re.compile(r"\d[\d,]*(?:\.\d+)?")
_ASKS: Final = re.compile(r"\bhow (?:many ([a-z]+)|much)\b", re.IGNORECASE)


def extraction_examples(path: Path) -> Loaded:
    """Of a JSONL file with the field ``question``. Raises InvalidRequest when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}.", param="data") from error
    examples: list[Example] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines, start=1):
        try:
            question = json.loads(line)["question"]
        except (ValueError, TypeError, KeyError):
            problems.append(Problem(number, "is not JSON with a question"))
            continue
        answer = extract(question)
        if answer is not None:
            said = (Message("user", INSTRUCTION + question), Message("assistant", answer))
            examples.append(Example(said, source=path.name, line=number))
    return Loaded(examples, problems, FORM)


def extract(question: str) -> str | None:
    """The answer; None for a question that the rule leaves out."""
    asked = list(_ASKS.finditer(question))
    numbers = [_plain(match[0]) for match in _NUMBER.finditer(question)]
    if not asked or not numbers or len(question) > MOST_CHARACTERS:
        return None
    return json.dumps({"numbers": numbers, "asks": asked[-1][0].lower()}, separators=(",", ":"))


def _plain(written: str) -> int | float:
    digits = written.replace(",", "")
    return float(digits) if "." in digits else int(digits)
