"""What Korean costs in each model's tokens, and what the same says in English: the 1,000 sentences of PUD.

    python benchmarks/token_costs.py MODEL …

MODEL is anything whose tokenizer `madang tokens` can open; no weights are read, so files with a vocabulary alone (as
llama.cpp keeps them in models/ggml-vocab-*.gguf, for its tests) do as well. Sentences are cut one by one, without the
tokens that models want around a text. REFERENCES are those of ../shared/data/README.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from typing import Any, Final

from machine import describe_checkout, describe_machine
from madang.core.settings import load_settings
from madang.runtime.tokens import OpenedTokenizer, cut, open_tokenizer
from measurement import REPOSITORY
from own_engine import DATA
from peers import free_result_path, recorded_command, save

# Tokens per Korean character, by what is in the name of a file with that tokenizer.
REFERENCES: Final = {"gpt-2": 2.12, "llama-spm": 1.52, "mistral": 1.13, "qwen": 0.72, "llama-bpe": 0.64}


def read_sentences(language: str) -> list[str]:
    """All of them, in their order."""
    lines = (DATA / "parallel" / f"{language}_pud.conllu").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]


def costs_of(model: OpenedTokenizer, korean: list[str], english: list[str]) -> dict[str, Any]:
    """Tokens per character of each, blanks included, and of Korean for each token of English."""
    n_korean, n_english = (sum(len(cut(model, text).tokens) for text in texts) for texts in (korean, english))
    known = [value for name, value in REFERENCES.items() if name in model.name.lower()]
    return {
        "model": model.name.rpartition("/")[2],
        "vocabulary_size": model.tokenizer.vocab_size,
        "korean_tokens": n_korean,
        "english_tokens": n_english,
        "korean_tokens_per_character": n_korean / sum(map(len, korean)),
        "english_tokens_per_character": n_english / sum(map(len, english)),
        "korean_per_english": n_korean / n_english,
        "reference": known[0] if known else None,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    options = parser.parse_args()
    korean, english = read_sentences("ko"), read_sentences("en")
    settings = load_settings({}, os.environ)
    rows = [costs_of(open_tokenizer(name, settings), korean, english) for name in options.models]
    rows.sort(key=lambda row: row["korean_tokens_per_character"])
    print(f"{'model':32}{'vocabulary':>12}{'ko/char':>9}{'reference':>11}{'en/char':>9}{'ko/en':>7}")
    for row in rows:
        reference = "-" if row["reference"] is None else f"{row['reference']:.2f}"
        print(
            f"{row['model']:32}{row['vocabulary_size']:>12}{row['korean_tokens_per_character']:>9.2f}{reference:>11}"
            f"{row['english_tokens_per_character']:>9.2f}{row['korean_per_english']:>7.2f}"
        )
    result = {
        "command": recorded_command(sys.argv[1:]).replace("peers.py", "token_costs.py"),
        "date": datetime.date.today().isoformat(),
        "checkout": describe_checkout(REPOSITORY),
        "machine": describe_machine(),
        "sentences": len(korean),
        "korean_characters": sum(map(len, korean)),
        "english_characters": sum(map(len, english)),
        "rows": rows,
    }
    path = free_result_path("token-costs")
    save(result, path)
    print(f"wrote benchmarks/results/{path.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
