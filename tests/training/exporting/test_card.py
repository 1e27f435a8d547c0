"""Model cards: what was recorded, and nothing that reads as markup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from madang.training.exporting import ParityReport, Trained
from madang.training.exporting.bounds import BOUNDS
from madang.training.exporting.card import model_card

RESULT = {
    "id": "ko-1",
    "base": {"model": "org/base", "sha256": "ab" * 32},
    "training": {"steps": 120, "final_loss": 1.25, "ended": "<script>`x`|y"},
    "before": {
        "held_out": {"n": 50, "exact_match": {"value": 0.0, "low": 0.0, "high": 0.02}},
        "texts": {"wikitext": {"perplexity": {"value": 30.5}}},
    },
    "after": {
        "held_out": {"n": 50, "exact_match": {"value": 0.8125, "low": 0.7, "high": 0.9}},
        "texts": {"wikitext": {"perplexity": {"value": 31.25}}},
    },
    "difference": {"held_out": {"exact_match": 0.8125}},
    "answers": [{"asked": "secret"}],
}


def test_a_card(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    (tmp_path / "config.toml").write_text('method = "lora"\nrank = 8\nmodel = "/home/somebody/base"\n')
    report = ParityReport(7, 168, 0.975, 1600, 0.0125, 0.5, 20.5, 20.25, BOUNDS["Q8_0"])
    trained = Trained("ko_1", tmp_path, tmp_path / "adapter", tmp_path, "org/base")
    card = model_card(trained, [("ko-Q8_0.gguf", 145_000_000, report), ("Modelfile", 300, None)])
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert head.splitlines()[0] == 'base_model: "org/base"'
    assert "- lora" in head
    assert "# ko\\_1" in body
    assert "| held out exact match | 0 (0 to 0.02) | 0.8125 (0.7 to 0.9) |" in body
    assert "| texts wikitext perplexity | 30.5 | 31.25 |" in body
    assert "| `ko-Q8_0.gguf` | 145 MB | 0.013 | 97.5% | 20.5 |" in body
    assert "`<script>'x'/y`" in body
    assert '    method = "lora"\n    rank = 8\n    model = "base"' in body
    assert "somebody" not in card
    assert "secret" not in body


@pytest.mark.parametrize(
    ("base", "said", "on_hub"),
    [
        ("hf:org/base", "`hf:org/base`", True),
        ("smollm2:135m", "`smollm2:135m`", False),
        ("file:/home/somebody/base", "`base`", False),
    ],
)
def test_the_base_of_a_card(tmp_path: Path, base: str, said: str, on_hub: bool) -> None:
    """The hub takes its own names for a base and refuses a card with another; nobody else needs a place on a disk."""
    card = model_card(Trained("tuned", tmp_path, base=base), [])
    assert f"Trained from {said}." in card
    assert ('base_model: "org/base"' in card) == on_hub
    assert ("base_model" in card) == on_hub
    assert "somebody" not in card


def test_a_card_without_a_run(tmp_path: Path) -> None:
    card = model_card(Trained("whole", tmp_path), [])
    assert "Before and after" not in card
    assert "a base that its run does not name" in card
