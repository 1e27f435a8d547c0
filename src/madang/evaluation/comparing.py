"""The run of a comparison: contestants one after the other, the reference first, each alone in memory."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from madang import __version__
from madang.core.settings import Settings
from madang.evaluation.contestants import Entrant
from madang.evaluation.examining import Examination, Result, settings_to_tell
from madang.evaluation.kept import KeptSteps, key_of
from madang.evaluation.measures import Reading
from madang.evaluation.questions import ANSWER_TOKENS, Question
from madang.evaluation.reporting import comparison_document
from madang.evaluation.speed import SpeedRun
from madang.evaluation.texts import EvaluationText, Passage

FOLDER: Final = "comparisons"  # below home
_ABANDONED_S: Final = 24 * 3600  # logits that a killed process left behind
_LOGITS: Final = "logits-"

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPlan:
    """What every contestant is asked to do; what is empty or 0 is left out.

    prompts         answered by all, to be read side by side; at most ``answer_tokens`` of each
    raw             prompts and tasks are continued as they are, without the chat template
    n_runs          of speed, after one that does not count
    """

    text: EvaluationText | None = None
    prompts: tuple[str, ...] = ()
    tasks: tuple[Question, ...] = ()
    answer_tokens: int = 48
    raw: bool = False
    prompt_tokens: int = 256
    decode_tokens: int = 64
    n_runs: int = 5

    @property
    def n_steps(self) -> int:
        """Of one contestant."""
        n_passages = 0 if self.text is None else len(self.text.passages)
        return self.n_runs + len(self.prompts) + len(self.tasks) + n_passages


@dataclass(slots=True)
class Row:
    """What came of a contestant; what is missing has its reason in ``problems`` or ``lost``."""

    entrant: Entrant
    facts: Result | None = None
    lost: str | None = None
    problems: Mapping[str, str] = field(default_factory=dict)
    runs: list[SpeedRun] = field(default_factory=list)
    answers: list[str | None] = field(default_factory=list)
    task_answers: list[str | None] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    peak_bytes: int | None = None
    n_found: int = 0
    n_done: int = 0


def compare(
    entrants: Sequence[Entrant],
    settings: Settings,
    plan: ComparisonPlan,
    *,
    reference: int = 0,
    keep: bool = True,
    fresh: bool = False,
    tell: Tell = lambda what, done, total: None,
) -> dict[str, Any]:
    """Do all steps that are not kept from before, and make the document of the figures.

    ``reference`` is the number of the one that the others are measured against. ``tell`` hears which contestant is at
    work, and how many steps are done, of all. An interrupted comparison goes on when it is called again, unless
    ``keep`` is false; ``fresh`` forgets what was kept of these contestants.
    """
    folder = settings.home / FOLDER
    files = [folder / f"{_key(entrant, settings)}.jsonl" if keep else None for entrant in entrants]
    examinations = [
        Examination(entrant, settings, KeptSteps(file, fresh=fresh))
        for entrant, file in zip(entrants, files, strict=True)
    ]
    order = [reference, *(number for number in range(len(entrants)) if number != reference)]
    progress = _Progress(tell, len(entrants) * plan.n_steps)
    rows: dict[int, Row] = {}
    with _logits_folder(folder) as logits:
        shelf = Shelf(logits, key_of([_key(entrants[reference], settings)]))
        shelf.want(plan, [examinations[number] for number in order[1:]])
        for number in order:
            with closing(examinations[number]) as examination:
                progress.begin(entrants[number].label)
                rows[number] = _examine(examination, plan, shelf, progress, is_reference=number == reference)
    return comparison_document([rows[number] for number in range(len(entrants))], plan, settings, reference)


def _key(entrant: Entrant, settings: Settings) -> str:
    """Who it is: the same files, engine, settings and version give the same results, but for the speed."""
    told = {name: value for name, value in settings_to_tell(settings, entrant).items() if name != "home"}
    return key_of([entrant.digest, entrant.contestant.engine, told, __version__])


class _Progress:
    """Counts steps for all contestants."""

    def __init__(self, tell: Tell, total: int) -> None:
        self._tell, self._total, self._done, self._what = tell, total, 0, ""

    def begin(self, what: str) -> None:
        self._what = what
        self._tell(what, self._done, self._total)

    def step(self) -> None:
        self._done += 1
        self._tell(self._what, self._done, self._total)


class Shelf:
    """The reference's logits of the passages that others still have to be compared on, in files."""

    def __init__(self, folder: Path, reference_key: str) -> None:
        self._folder, self._reference_key = folder, reference_key
        self._wanted: set[str] = set()
        self._digests: dict[str, str] = {}

    def step(self, passage: Passage, *, is_reference: bool) -> dict[str, Any]:
        """The step of reading a passage; whom it is compared with is a part of what it is known by."""
        step: dict[str, Any] = {"do": "read", "text": passage.text}
        return step if is_reference else {**step, "reference": self._reference_key}

    def want(self, plan: ComparisonPlan, others: Sequence[Examination]) -> None:
        """Note which passages have to be read by the reference again, even if its own result is known."""
        for passage in () if plan.text is None else plan.text.passages:
            step = self.step(passage, is_reference=False)
            if any(not examination.knows(step) for examination in others):
                self._wanted.add(passage.text)

    def read(self, examination: Examination, passage: Passage, *, is_reference: bool) -> Result | None:
        """Have it read, by the reference for the others, or by one of them against it."""
        step = self.step(passage, is_reference=is_reference)
        file = self._folder / f"{key_of(passage.text)}.npy"
        if not is_reference:
            digest = self._digests.get(passage.text)
            if digest is not None:
                return examination.take("text", step, {"against": {"file": str(file), "token_digest": digest}})
            is_alone = not examination.knows(step)  # there is nothing to compare with, this time
            return examination.take("text", self.step(passage, is_reference=is_alone))
        if passage.text not in self._wanted:
            return examination.take("text", step)
        if examination.knows(step):
            examination.take_again("text", {**step, "keep": str(file)})
        result = examination.take("text", step, {"keep": str(file)})
        if result is not None and result["token_digest"] is not None and file.exists():
            self._digests[passage.text] = result["token_digest"]
        return result


def _examine(
    examination: Examination, plan: ComparisonPlan, shelf: Shelf, progress: _Progress, *, is_reference: bool
) -> Row:
    row = Row(examination.entrant)
    _time(examination, plan, row, progress)
    for kind, prompts, limit, answers in (
        ("answers", plan.prompts, plan.answer_tokens, row.answers),
        ("tasks", [task.prompt for task in plan.tasks], ANSWER_TOKENS, row.task_answers),
    ):
        for prompt in prompts:
            result = examination.take(kind, {"do": "answer", "prompt": prompt, "max_tokens": limit, "raw": plan.raw})
            progress.step()
            answers.append(None if result is None else result["text"])
            if result is not None:
                _note_peak(row, result)
    for passage in () if plan.text is None else plan.text.passages:  # last: the logits of a whole passage take memory
        result = shelf.read(examination, passage, is_reference=is_reference)
        progress.step()
        if result is not None:
            row.readings.append(_reading(passage, result))
    row.facts, row.lost, row.problems = examination.facts, examination.lost, examination.problems
    row.n_found, row.n_done = examination.n_found, examination.n_done
    if row.facts is not None:
        _note_peak(row, row.facts)
    return row


def _time(examination: Examination, plan: ComparisonPlan, row: Row, progress: _Progress) -> None:
    """The runs of speed; the first after the process began does not count."""
    is_warm = False
    for number in range(1, plan.n_runs + 1):
        step = {
            "do": "speed",
            "prompt_tokens": plan.prompt_tokens,
            "decode_tokens": plan.decode_tokens,
            "number": number,
        }
        if not examination.knows(step) and not is_warm:
            is_warm = examination.take_again("speed", {**step, "number": 0}) is not None
        result = examination.take("speed", step)
        progress.step()
        if result is not None:
            row.runs.append(SpeedRun(*(result[name] for name in SpeedRun._fields)))
            _note_peak(row, result)


def _note_peak(row: Row, result: Result) -> None:
    known = [peak for peak in (row.peak_bytes, result["peak_bytes"]) if peak is not None]
    row.peak_bytes = max(known, default=None)


def _reading(passage: Passage, result: Result) -> Reading:
    kl = result.get("kl")
    return Reading(
        part=passage.part,
        n_bytes=passage.n_bytes,
        n_characters=len(passage.text),
        n_tokens=result["tokens"],
        nats=result["nats"],
        kl=None if kl is None else tuple(kl),
        n_agreed=result.get("agreed", 0),
    )


@contextmanager
def _logits_folder(folder: Path) -> Iterator[Path]:
    """A folder that goes with the block, as well as those that killed processes left."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{_LOGITS}*"):
        if time.time() - old.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_LOGITS, dir=folder) as found:
        yield Path(found)
