"""The page holds everything, asks for nothing, and can be read without seeing it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from madang.core.settings import Settings
from madang.evaluation.comparing import ComparisonPlan, Row
from madang.evaluation.contestants import Contestant, Entrant
from madang.evaluation.measures import Reading
from madang.evaluation.page import comparison_page
from madang.evaluation.plots import Axis, Point, scatter
from madang.evaluation.questions import Question
from madang.evaluation.reporting import comparison_document
from madang.evaluation.speed import SpeedRun
from madang.evaluation.texts import text_of
from madang.evaluation.words import WORDS

HOSTILE = '<script>alert("&amp;")</script>'
TEXT = text_of("own", " ".join(f"Sentence {number} of a text." for number in range(200)))
PLAN = ComparisonPlan(text=TEXT, prompts=(HOSTILE,), tasks=(Question("?", answer="yes"),), n_runs=2)


def row(label: str, size_bytes: int | None, *, kl: float | None, n_tokens: int = 100) -> Row:
    own = Row(Entrant(Contestant(label), label, "0" * 64, size_bytes))
    own.facts = {"engine": "native", "threads": 1, "context_tokens": 4096, "load_s": 0.1, "resident_bytes": 10**8}
    own.runs = [SpeedRun(16, 0.1, 8, seconds, 0.11) for seconds in (0.1, 0.12)]
    own.answers, own.task_answers, own.peak_bytes = [HOSTILE], ["Yes."], 2 * 10**8
    own.readings = [
        Reading("own", passage.n_bytes, len(passage.text), n_tokens, 200.0 + 10 * number, kl and (kl, 2 * kl), 1)
        for number, passage in enumerate(TEXT.passages)
    ]
    return own


def document(settings: Settings, rows: list[Row]) -> dict[str, Any]:
    return comparison_document(rows, PLAN, settings, 0)


@pytest.fixture
def full(settings: Settings) -> dict[str, Any]:
    lost = Row(Entrant(Contestant("lost"), "lost", "1" * 64, 10**8), lost="There was <no> memory.")
    lost.answers, lost.task_answers = [None], [None]
    rows = [row("whole", 2 * 10**8, kl=None), row(HOSTILE, 10**8, kl=0.1), row("small", 5 * 10**7, kl=0.3), lost]
    return document(settings, rows)


class Collector(HTMLParser):
    """Tags with their attributes, in order; complains about what is closed in the wrong place."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(page: str) -> Collector:
    collector = Collector()
    collector.feed(page)
    collector.close()
    return collector


def test_nothing_is_asked_of_a_network_and_nothing_runs(full: dict[str, Any]) -> None:
    page = comparison_page(full, ("en", "ko"))
    tags = read(page).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "form", "a"}
    for _, attributes in tags:
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes)
    assert "url(" not in page and "@import" not in page
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in tags)


def test_what_models_and_people_wrote_is_text(full: dict[str, Any]) -> None:
    texts = "".join(read(comparison_page(full)).texts)
    assert texts.count(HOSTILE) >= 5
    assert "There was <no> memory." in texts


def test_plots_have_titles_descriptions_and_tables(full: dict[str, Any]) -> None:
    tags = read(comparison_page(full, ("en", "ko"))).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids)) == 8  # two plots in two languages, a title and a description each
    plots = [attributes for tag, attributes in tags if tag == "svg"]
    for plot in plots:
        assert plot["role"] == "img"
        assert set((plot["aria-labelledby"] or "").split()) <= set(ids)
    assert sum(tag == "caption" for tag, _ in tags) == len(plots) == 4


def test_light_and_dark_follow_the_reader(full: dict[str, Any]) -> None:
    page = comparison_page(full)
    assert "prefers-color-scheme: dark" in page
    assert "color-scheme: light dark" in page


def test_both_languages_say_the_same(full: dict[str, Any]) -> None:
    assert WORDS["en"].keys() == WORDS["ko"].keys()
    for key, words in WORDS["en"].items():
        assert set(re.findall(r"{\w+}", words)) == set(re.findall(r"{\w+}", WORDS["ko"][key]))
    page = comparison_page(full, ("ko",))
    assert '<html lang="ko">' in page
    assert "모델 4개 비교" in page


def test_what_is_noise_is_marked(full: dict[str, Any]) -> None:
    assert full["models"][1]["against_reference"]["within_noise"] == {
        "text": {"own": True},
        "tasks": None,
        "prompt": True,
        "decode": True,
    }
    assert "≈ " in comparison_page(full)


def test_models_of_different_tokenizers_are_compared_by_bytes(settings: Settings) -> None:
    own = document(settings, [row("one", 10**8, kl=None), row("other", 5 * 10**7, kl=None, n_tokens=50)])
    assert not own["one_tokenizer"]
    page = comparison_page(own)
    assert "Bits per byte, own" in page
    assert "Perplexity" not in page.replace("perplexity and KL", "")
    assert "different tokenizers" in page


def test_a_comparison_of_nothing_but_failures_has_a_page(settings: Settings) -> None:
    lost = Row(Entrant(Contestant("lost"), "lost", "1" * 64, None), lost="Gone.")
    page = comparison_page(document(settings, [lost, lost]))
    assert "Gone." in page
    assert "<svg" not in page


def test_a_plot_is_well_formed_and_keeps_its_points_inside() -> None:
    points = [Point(f"a & <b> {number}", 100.0 * number, 0.01 * number, 0.0, 0.02 * number) for number in range(9)]
    axes = (Axis("x", str), Axis("y", str))
    root = ElementTree.fromstring(scatter("p", "A & B", "what it is", axes, points))
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    for circle in root.iter("circle"):
        assert 0 < float(circle.attrib["cx"]) < width and 0 < float(circle.attrib["cy"]) < height
    labels = [own for own in root.iter("text") if own.attrib.get("class") == "label"]
    assert len(labels) == len(points)
    assert ElementTree.fromstring(scatter("p", "", "", axes, [Point("zero", 0, 0)])) is not None
