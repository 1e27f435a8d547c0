"""Tasks of one's own: a YAML file that says what is asked of which rows, or lines of JSON with questions.

    task: sentiment
    version: "1"              # change it whenever the prompt changes
    kind: choice              # choice, exact, keywords, answer, bleu or perplexity
    data: reviews.tsv         # beside this file: JSONL, JSON, CSV, TSV, Parquet
    prompt: "문장: {text} 긍부정:"
    choices: ["부정", "긍정"]  # or the name of a column that holds a list
    label: label              # column: the number of the right choice, or its text
    first_label: 0            # what the first choice's number is

Other kinds have ``answer`` (a column) in place of choices and label, and may have ``max_tokens``, ``stop`` and
``form: raw``. All but perplexity may have ``shots``, the number of first rows that are shown solved, and
``description``, which stands before them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from madang.core import Message, Request
from madang.core.errors import InvalidRequest, UnknownOption
from madang.evaluation.questions import Question, read_questions
from madang.evaluation.tasks.answers import GREEDY, Questions
from madang.evaluation.tasks.choices import ChoiceTask
from madang.evaluation.tasks.normal import is_same_answer, overlap_f1
from madang.evaluation.tasks.perplexity import Perplexity
from madang.evaluation.tasks.rows import field_of, index_of, read_rows, take_shots, text_of
from madang.evaluation.tasks.task import (
    Figure,
    Graded,
    Item,
    Prompt,
    Response,
    Row,
    Rows,
    RowTask,
    Shots,
    Task,
    mean_figure,
)
from madang.evaluation.tasks.translation import Translation

KINDS: Final = ("choice", "exact", "keywords", "answer", "bleu", "perplexity")
_COMMON: Final = {"task", "version", "kind", "data", "shots", "description"}
_OF_ANSWERS: Final = {"prompt", "answer", "max_tokens", "stop", "form"}
_KEYS: Final[Mapping[str, set[str]]] = {
    "choice": {"prompt", "choices", "label", "first_label"},
    "exact": _OF_ANSWERS,
    "keywords": _OF_ANSWERS,
    "answer": _OF_ANSWERS,
    "bleu": {"tokenize"},
    "perplexity": {"prompt"},
}
_MOST_YAML_BYTES: Final = 1 << 20
_MOST_TOKENS: Final = 65_536
_COLUMN: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a YAML file says. ``fields`` has what belongs to its kind."""

    name: str
    version: str
    kind: str
    data: Path
    fields: Mapping[str, Any]
    n_shots: int = 0
    description: str = ""


def custom_task(path: Path) -> Task:
    """The task of a file. Raises InvalidRequest."""
    if path.suffix.lower() in (".jsonl", ".json"):
        try:
            lines = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{path} cannot be read as text: {error}.", param="task") from error
        return Questions(path.stem, read_questions(lines))
    recipe = read_recipe(path)
    rows = read_rows(recipe.data)
    solved, asked = take_shots(rows, recipe.n_shots)
    shots = Shots(solved, recipe.description)
    return _MAKERS[recipe.kind](recipe, lambda: asked, shots)


def read_recipe(path: Path) -> Recipe:
    """A YAML file. Raises InvalidRequest."""
    import yaml

    try:
        with path.open("rb") as file:
            text = file.read(_MOST_YAML_BYTES)
        found = yaml.safe_load(text)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}.", param="task") from error
    if not isinstance(found, dict):
        raise InvalidRequest(f"{path} is not a task: it has no keys.", param="task")
    kind = found.get("kind")
    if kind not in KINDS:
        raise UnknownOption("kind of task", str(kind), KINDS)
    known = sorted(_COMMON | _KEYS[kind])
    for key in found:
        if key not in known:
            raise UnknownOption(f"key of a task of kind '{kind}'", str(key), known)
    for key in ("task", "data"):
        if not isinstance(found.get(key), str) or not found[key].strip():
            raise InvalidRequest(f"{path} has no '{key}'.", param="task")
    return Recipe(
        name=found["task"],
        version=str(found.get("version", "1")),
        kind=kind,
        data=path.parent / found["data"],
        fields={key: value for key, value in found.items() if key in _KEYS[kind]},
        n_shots=_number(found, "shots", 0, 1000),
        description=str(found.get("description", "")),
    )


def _number(found: Mapping[str, Any], key: str, default: int, most: int) -> int:
    value = found.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise InvalidRequest(f"'{key}' is {value!r}, but must be a whole number from 0 to {most}.", param=key)
    return value


def _filled(template: object, row: Row) -> str:
    """The template with columns in place of their names in braces; other braces stay."""
    if not isinstance(template, str):
        raise InvalidRequest("A task has no 'prompt'.", param="prompt", hint='For example: prompt: "{question}"')
    return _COLUMN.sub(lambda match: text_of(row, match[1]), template)


class _Choices(ChoiceTask):
    tells_by_length = True

    def __init__(self, recipe: Recipe, rows: Rows, shots: Shots) -> None:
        super().__init__(recipe.name, rows, shots)
        self.version = recipe.version
        self._fields = recipe.fields

    def context(self, row: Row) -> str:
        return _filled(self._fields.get("prompt"), row)

    def choices(self, row: Row) -> Sequence[str]:
        named = self._fields.get("choices")
        found = field_of(row, named) if isinstance(named, str) else named
        if not isinstance(found, list) or len(found) < 2 or not all(str(choice).strip() for choice in found):
            raise InvalidRequest("'choices' is neither a list nor the name of a column with one.", param="choices")
        return [str(choice) for choice in found]

    def label(self, row: Row) -> int:
        choices, column = self.choices(row), str(self._fields.get("label", "label"))
        value = text_of(row, column)
        if value in choices:
            return choices.index(value)
        return index_of(row, column, n=len(choices), first=_number(self._fields, "first_label", 0, 1))


class _Answers(RowTask):
    """Right when it is the answer (exact), has the keywords, or is the answer but for spelling (answer)."""

    metric = "exact_match"

    def __init__(self, recipe: Recipe, rows: Rows, shots: Shots) -> None:
        super().__init__(recipe.name, rows, shots)
        self.version = recipe.version
        self._recipe = recipe
        self._column = str(recipe.fields.get("answer", "answer"))
        self._max_tokens = _number(recipe.fields, "max_tokens", 64, _MOST_TOKENS)
        stop = recipe.fields.get("stop", [])
        self._stop = tuple(map(str, stop if isinstance(stop, list) else [stop]))
        self._form = recipe.fields.get("form", "chat")
        if self._form not in ("chat", "raw"):
            raise UnknownOption("form", str(self._form), ("chat", "raw"))
        if recipe.kind == "keywords":
            self.metric = "score"

    def prompt(self, item: Item) -> Prompt:
        template, shots = self._recipe.fields.get("prompt"), self._shots
        solved = "".join(f"{_filled(template, row)} {self._right(row)[0]}{shots.separator}" for row in shots.rows)
        text = shots.description + solved + _filled(template, item.row)
        if self._form == "raw":
            return Prompt(Request(prompt=text, sampling=GREEDY, max_tokens=self._max_tokens, stop=self._stop))
        message = (Message("user", text),)
        return Prompt(
            Request(messages=message, sampling=GREEDY, max_tokens=self._max_tokens, stop=self._stop, reasoning=False)
        )

    def score(self, item: Item, response: Response) -> float:
        right = self._right(item.row)
        if self._recipe.kind == "keywords":
            return Question("", keywords=tuple(right)).score(response.text)
        if self._recipe.kind == "exact":
            return float(any(Question("", answer=own).score(response.text) for own in right))
        return float(any(is_same_answer(self.said(item, response), own) for own in right))

    def said(self, item: Item, response: Response) -> str:
        return response.text.strip()

    def also(self, graded: Sequence[Graded]) -> Mapping[str, Figure]:
        if self._recipe.kind != "answer":
            return {}
        return {
            "f1": mean_figure(
                [max(overlap_f1(self.said(o.item, o.response), own) for own in self._right(o.item.row)) for o in graded]
            )
        }

    def _right(self, row: Row) -> list[str]:
        value = field_of(row, self._column)
        found = [str(own) for own in (value if isinstance(value, list) else [value]) if str(own).strip()]
        if not found:
            raise InvalidRequest(f"A row has nothing in '{self._column}'.", param="data")
        return found


def _texts(recipe: Recipe, rows: Rows, shots: Shots) -> Task:
    template = recipe.fields.get("prompt", "{text}")
    return Perplexity(recipe.name, lambda: [_filled(template, row) for row in rows()])


def _translation(recipe: Recipe, rows: Rows, shots: Shots) -> Task:
    return Translation(recipe.name, rows, shots, tokenize=str(recipe.fields.get("tokenize", "13a")))


_MAKERS: Final[Mapping[str, Callable[[Recipe, Rows, Shots], Task]]] = {
    "choice": _Choices,
    "exact": _Answers,
    "keywords": _Answers,
    "answer": _Answers,
    "bleu": _translation,
    "perplexity": _texts,
}
