"""What a model writes counts only after checks, says where it came from, and is never made twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from madang.core.engine import EngineInfo
from madang.core.errors import EngineError, InvalidRequest
from madang.core.events import Event
from madang.core.request import Request
from madang.engines.echo import EchoEngine
from madang.training.curation.journal import Journal
from madang.training.curation.recipe import Recipe
from madang.training.curation.synthesis import Topic, synthesize
from madang.training.examples import load_examples

ANSWER = "Its lamp shows captains where rocks lie, and a known rhythm of flashes tells them which tower it is."
TOPICS = [Topic("lighthouses", "topics.txt", 1), Topic("등대의 역사", "topics.txt", 2)]
# The echo engine says what it was told, so the words of the instruction are what the model answers.
PREAMBLE = "Please be so kind and say the following things, word for word, with nothing before and nothing after them: "
ECHOED = PREAMBLE + json.dumps({"question": "What are {topic} good for?", "answer": f"About {{topic}}: {ANSWER}"})
FREE = Recipe(instruction=ECHOED, is_held=False, temperature=0.0, max_similarity=1.0)


class Saying:
    """Says one line after another, whatever it is asked; what it was asked is kept."""

    def __init__(self, *lines: str) -> None:
        self.info = EngineInfo("saying", "saying:1", 4096)
        self.asked: list[Request] = []
        self._lines = list(lines)
        self._echo = EchoEngine()

    def generate(self, request: Request) -> Iterator[Event]:
        self.asked.append(request)
        if not self._lines:
            raise EngineError("It has nothing more to say.")
        return self._echo.generate(Request(prompt=self._lines.pop(0), max_tokens=request.max_tokens))

    def close(self) -> None:
        """Nothing."""


def qa(question: str, answer: str) -> str:
    return json.dumps({"question": question, "answer": answer}, ensure_ascii=False)


def refusals(*lines: str, recipe: Recipe | None = None) -> list[str | None]:
    recipe = recipe or Recipe(is_held=False, tries=len(lines))
    made = list(synthesize(Saying(*lines), TOPICS[:1], recipe))
    return [attempt.refused for attempt in made]


def run(engine: Saying | EchoEngine, output: Path, recipe: Recipe = FREE, model: str = "m") -> dict[str, object]:
    journal = Journal(output, recipe, TOPICS, model)
    for attempt in synthesize(engine, TOPICS, recipe, journal.done):
        journal.add(attempt)
    return journal.finish()


def test_questions_and_answers_with_their_provenance(tmp_path: Path) -> None:
    report = run(EchoEngine("echo:1"), tmp_path / "made.jsonl")
    assert (report["made"], report["given_up"], report["attempts"]) == (2, 0, 2)
    first, second = load_examples(tmp_path / "made.jsonl").examples
    assert first.messages[0].content == "What are lighthouses good for?"
    assert second.messages[1].content == f"About 등대의 역사: {ANSWER}"
    assert (second.source, second.line) == ("topics.txt", 2)
    provenance = dict(second.provenance)
    assert provenance.pop("prompt").startswith("sha256:")
    assert provenance == {
        "made_by": "echo:1", "engine": "echo", "topic": "등대의 역사", "temperature": 0.0, "seed": 1,
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == [tmp_path / "made.jsonl"]


def test_texts(tmp_path: Path) -> None:
    told = PREAMBLE + json.dumps({"text": f"{{topic}}: {ANSWER}"})
    recipe = Recipe(kind="text", instruction=told, is_held=False, temperature=0)
    (attempt,) = synthesize(EchoEngine(), TOPICS[:1], recipe)
    assert attempt.example is not None and attempt.example.text == f"lighthouses: {ANSWER}"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Lighthouses are towers.", "no JSON of that form"),
        ('{"question": "What?"}', "no JSON of that form"),
        (qa("What are lighthouses?", " "), "empty"),
        (qa("What are lighthouses?", "Towers."), "7 characters"),
        (qa("What are lighthouses?", "Lighthouses shine and shine. " * 9), "repetition (0.8"),
        (qa("Why do lighthouses need a known rhythm?", "Why do lighthouses need a known rhythm?"), "repeats what it"),
        (qa("What is a sonnet?", "A poem of fourteen verses in a fixed pattern of rhymes."), "off the topic (0."),
        ("x" * 5000, "not finished"),
    ],
)
def test_what_is_no_example(said: str, reason: str) -> None:
    (refused,) = refusals(said)
    assert refused is not None and refused.startswith(reason)


def test_json_inside_of_other_words() -> None:
    assert refusals(f"Sure! Here it is {{as JSON}}:\n{qa('What are lighthouses?', ANSWER)}\nAnything else?") == [None]


def test_what_was_made_before_is_not_made_again() -> None:
    recipe = Recipe(is_held=False, tries=2, per_topic=2)
    said = qa("What are lighthouses good for?", ANSWER)
    other = qa("Who kept lighthouses running?", "Keepers lived there, trimmed wicks, wound clockworks and wrote logs.")
    made = list(synthesize(Saying(said, said, other), TOPICS[:1], recipe))
    assert [attempt.refused for attempt in made] == [None, "like an earlier one (1.00)", None]


def test_every_attempt_has_a_seed_and_words_of_its_own() -> None:
    engine = Saying(*["no"] * 12)
    list(synthesize(engine, TOPICS, Recipe(is_held=False, per_topic=2, tries=3, seed=100)))
    assert sorted(request.sampling.seed or 0 for request in engine.asked) == list(range(100, 112))
    assert len({request.messages[0].content for request in engine.asked[:3]}) == 3


def test_an_engine_is_held_to_the_form() -> None:
    engine = Saying(qa("What are lighthouses?", ANSWER))
    list(synthesize(engine, TOPICS[:1], Recipe()))
    assert engine.asked[0].constraint is not None
    with pytest.raises(InvalidRequest, match="constraint"):
        list(synthesize(EchoEngine(), TOPICS[:1], Recipe()))


def test_interrupted_work_goes_on(tmp_path: Path) -> None:
    output, recipe = tmp_path / "made.jsonl", Recipe(is_held=False, tries=2)
    first, second = (
        qa("What are lighthouses?", ANSWER),
        qa("등대의 역사는?", "알렉산드리아의 높은 탑에서 시작된 등대의 역사입니다."),
    )
    with pytest.raises(EngineError):
        run(Saying("no", first), output, recipe)
    part = output.with_name("made.jsonl.part")
    assert not output.exists() and len(part.read_text().splitlines()) == 3
    with part.open("a") as file:
        file.write('{"number": 1, "att')  # what a lost power supply leaves behind
    engine = Saying(second)
    report = run(engine, output, recipe)
    assert len(engine.asked) == 1 and report["refused"] == {"no JSON of that form": 1}
    assert len(load_examples(output).examples) == 2 and not part.exists()


def test_another_call_does_not_mix_into_the_journal(tmp_path: Path) -> None:
    output = tmp_path / "made.jsonl"
    with pytest.raises(EngineError):
        run(Saying("no"), output, FREE)
    before = output.with_name("made.jsonl.part").read_bytes()
    with pytest.raises(InvalidRequest, match="another model"):
        Journal(output, FREE, TOPICS, "other")
    assert output.with_name("made.jsonl.part").read_bytes() == before
    output.write_text("mine")
    with pytest.raises(InvalidRequest, match="exists already"):
        Journal(output, FREE, TOPICS, "m")


def test_a_damaged_journal_is_left_alone(tmp_path: Path) -> None:
    part = tmp_path / "made.jsonl.part"
    part.write_text("oh\n")
    with pytest.raises(InvalidRequest, match="damaged"):
        Journal(tmp_path / "made.jsonl", FREE, TOPICS, "m")
    assert part.read_text() == "oh\n"


@pytest.mark.parametrize("fields", [{"kind": "poem"}, {"language": "fr"}, {"instruction": "Write!"}])
def test_recipes_that_make_no_sense(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        Recipe(**fields)  # type: ignore[arg-type]


def test_attempts_are_given_up(tmp_path: Path) -> None:
    report = run(Saying(*["no"] * 4), tmp_path / "made.jsonl", Recipe(is_held=False, tries=2))
    assert (report["made"], report["given_up"]) == (0, 2)
