"""Tasks by name: ``kobest:boolq``, ``mmlu:anatomy``, ``gsm8k=FILE``, or a file of one's own; and where data comes from.

Data is never a part of the package: it is the file that was named, one found in a folder, or the hub's copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from madang.core.errors import InvalidRequest, NetworkUnavailable, UnknownOption
from madang.evaluation.tasks import kobest
from madang.evaluation.tasks.answers import GSM8K, QuestionAnswering
from madang.evaluation.tasks.benchmarks import ARC, KMMLU, MMLU, HaeRae, HellaSwag
from madang.evaluation.tasks.custom import custom_task
from madang.evaluation.tasks.humaneval import HumanEval
from madang.evaluation.tasks.perplexity import Perplexity, articles_of
from madang.evaluation.tasks.rows import read_rows, take_shots
from madang.evaluation.tasks.task import Row, Rows, Shots, Task
from madang.evaluation.tasks.translation import Translation
from madang.models import dataset_files, fetch_dataset_file

_CUSTOM: Final = (".yaml", ".yml", ".jsonl", ".json")
_CONVERTED: Final = "refs/convert/parquet"  # where the hub has every data set in one form
_MOST_FILES: Final = 20_000  # that are looked through in a folder
_MMLU_COLUMNS: Final = ("question", "A", "B", "C", "D", "answer")


@dataclass(frozen=True, slots=True)
class HubData:
    """A data set on the hub: repository, configuration and split."""

    repository: str
    configuration: str
    split: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A known task.

    files       names under which its data is published or kept, as patterns; ``{part}`` is what follows the colon
    takes_part  whether something may follow the colon: a subject, say
    has_shots   whether solved examples may stand before its prompts
    """

    about: str
    make: Callable[[str, Rows, Shots], Task]
    files: tuple[str, ...]
    hub: HubData | None = None
    columns: tuple[str, ...] = ()
    takes_part: bool = False
    has_shots: bool = True
    runs_code: bool = False
    is_text: bool = False
    description: str = ""


def _kobest(own: type[Task], part: str, about: str) -> Entry:
    name = own.__name__
    files = (
        f"kobest_{name}_test.tsv",
        f"{name}_test.tsv",
        f"{name}/test.tsv",
        f"{part}/test.jsonl",
        f"{part}/test*.parquet",
    )
    return Entry(about, own, files, HubData("skt/kobest_v1", part, "test"))


def _arc(level: str) -> Entry:
    files = (f"ARC-{level}-Test.jsonl", f"ARC-{level}*test*.parquet", f"ARC-{level}/test*.parquet")
    return Entry(f"science questions, {level.lower()}", ARC, files, HubData("allenai/ai2_arc", f"ARC-{level}", "test"))


def _perplexity(name: str, rows: Rows, shots: Shots) -> Task:
    return Perplexity(name, lambda: [str(row["text"]) for row in rows()])


ENTRIES: Final[Mapping[str, Entry]] = {
    "kobest:boolq": _kobest(kobest.BoolQ, "boolq", "Korean: does the text say so?"),
    "kobest:copa": _kobest(kobest.COPA, "copa", "Korean: cause or effect"),
    "kobest:hellaswag": _kobest(kobest.HellaSwag, "hellaswag", "Korean: which sentence follows"),
    "kobest:sentineg": _kobest(kobest.SentiNeg, "sentineg", "Korean: good or bad review"),
    "kobest:wic": _kobest(kobest.WiC, "wic", "Korean: the same meaning of a word"),
    "kmmlu": Entry(
        "Korean exams, a subject after the colon",
        KMMLU,
        ("{part}-test.csv", "kmmlu_{part}*.csv", "{part}/test*.parquet"),
        HubData("HAERAE-HUB/KMMLU", "{part}", "test"),
        takes_part=True,
    ),
    "haerae": Entry(
        "knowledge of Korea, a part after the colon",
        HaeRae,
        ("{part}*test*.csv", "{part}/test*.parquet"),
        HubData("HAERAE-HUB/HAE_RAE_BENCH", "{part}", "test"),
        takes_part=True,
    ),
    "mmlu": Entry(
        "57 subjects, one after the colon",
        MMLU,
        ("{part}_test.csv", "{part}/test*.parquet", "mmlu_{part}*.jsonl"),
        HubData("cais/mmlu", "{part}", "test"),
        columns=_MMLU_COLUMNS,
        takes_part=True,
        description="The following are multiple choice questions (with answers) about {part}.\n\n",
    ),
    "arc:easy": _arc("Easy"),
    "arc:challenge": _arc("Challenge"),
    "hellaswag": Entry(
        "which end follows",
        HellaSwag,
        ("hellaswag_val.jsonl", "*hellaswag*validation*.parquet"),
        HubData("Rowan/hellaswag", "default", "validation"),
    ),
    "gsm8k": Entry(
        "word problems", GSM8K, ("gsm8k_test.jsonl", "*gsm8k*test*.parquet"), HubData("openai/gsm8k", "main", "test")
    ),
    "humaneval": Entry(
        "Python functions, run in a sandbox",
        lambda name, rows, shots: HumanEval(name, rows),
        ("HumanEval.jsonl.gz", "HumanEval.jsonl", "*humaneval*test*.parquet"),
        HubData("openai/openai_humaneval", "openai_humaneval", "test"),
        runs_code=True,
        has_shots=False,
    ),
    "triviaqa": Entry(
        "short answers without a text",
        QuestionAnswering,
        ("*web-dev.json", "*wikipedia-dev.json", "rc.nocontext/validation*.parquet", "*trivia*validation*.parquet"),
        HubData("mandarjoshi/trivia_qa", "rc.nocontext", "validation"),
    ),
    "korquad": Entry(
        "Korean: short answers from a text",
        QuestionAnswering,
        ("KorQuAD_v1.0_dev.json", "*korquad*dev*.json", "*squad_kor*validation*.parquet"),
        HubData("KorQuAD/squad_kor_v1", "squad_kor_v1", "validation"),
    ),
    "bleu": Entry("translation of source and target, which a file has", Translation, ()),
    "wikitext": Entry(
        "word perplexity, an article at a time",
        _perplexity,
        ("wikitext2_test.txt", "wiki.test.raw", "wiki.test.tokens"),
        is_text=True,
        has_shots=False,
    ),
    "perplexity": Entry(
        "word perplexity of a text file",
        _perplexity,
        (),
        is_text=True,
        has_shots=False,
    ),
}


@dataclass(frozen=True, slots=True)
class DataPlace:
    """Where data may come from: a folder to look in, and the hub.

    offline    of the hub, only what its library's cache has
    endpoint   the hub's address; None is the hub's own
    cache      the folder of that cache; None is the library's own
    """

    folder: Path | None = None
    offline: bool = False
    endpoint: str | None = None
    cache: Path | None = None


def find_task(text: str, place: DataPlace, *, n_shots: int = 0, runs_code: bool = False) -> Task:
    """The task that ``NAME``, ``NAME=FILE`` or a file's name means.

    ``n_shots`` first rows are shown solved, and not asked. Raises UnknownOption, InvalidRequest, NetworkUnavailable.
    """
    name, _, given = text.partition("=")
    if not given and Path(name).suffix.lower() in _CUSTOM:
        if n_shots:
            raise _no_shots(name, "In a YAML file, write: shots: N")
        return custom_task(Path(name))
    entry, part = _entry(name)
    if n_shots and not entry.has_shots:
        raise _no_shots(name, "Leave out --shots.")
    if entry.runs_code and not runs_code:
        raise InvalidRequest(
            f"{name} runs programs that the model writes, on this machine.",
            param="task",
            hint="Read what its sandbox covers in docs/how-to/evaluate.md, then add --run-code.",
        )
    path = Path(given) if given else _find_data(name, entry, part, place)
    if entry.is_text:
        rows: Sequence[Row] = [{"text": article} for article in articles_of(_read_text(path))]
    else:
        rows = read_rows(path, entry.columns)
    solved, asked = take_shots(rows, n_shots)
    shots = Shots(solved, entry.description.replace("{part}", part.replace("_", " ")))
    return entry.make(name, lambda: asked, shots)


def _no_shots(name: str, hint: str) -> InvalidRequest:
    return InvalidRequest(f"{name} takes no --shots.", param="shots", hint=hint)


def _entry(name: str) -> tuple[Entry, str]:
    if name in ENTRIES and not ENTRIES[name].takes_part:
        return ENTRIES[name], ""
    whole, _, part = name.partition(":")
    if whole in ENTRIES and ENTRIES[whole].takes_part:
        if not part:
            raise InvalidRequest(f"{whole} has parts: name one, as in {whole}:anatomy.", param="task")
        return ENTRIES[whole], part
    raise UnknownOption("task", name, [*ENTRIES])


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as text: {error}.", param="data") from error
    if not text.strip():
        raise InvalidRequest(f"{path} holds no text.", param="data")
    return text


def _find_data(name: str, entry: Entry, part: str, place: DataPlace) -> Path:
    patterns = [pattern.replace("{part}", part) for pattern in entry.files]
    if place.folder is not None:
        found = _look(place.folder, patterns)
        if found is not None:
            return found
    found = None if entry.hub is None else _from_hub(entry.hub, part, place)
    if found is not None:
        return found
    where = "" if place.folder is None else f" in {place.folder}"
    names = f"; it is known as {', '.join(patterns)}" if patterns else ""
    raise InvalidRequest(
        f"There is no data for {name}{where}{names}.",
        param="data",
        hint=f"Name the file: --task {name}=FILE, or its folder: --data FOLDER.",
    )


def _look(folder: Path, patterns: Sequence[str]) -> Path | None:
    """The first file, by patterns, then by path."""
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is not a folder.", param="data")
    files: list[Path] = []
    for path in folder.rglob("*"):
        files.append(path)
        if len(files) > _MOST_FILES:
            raise InvalidRequest(f"{folder} holds more than {_MOST_FILES} files.", param="data", hint="Name the file.")
    for pattern in patterns:
        matching = [
            path for path in files if fnmatch(f"/{path.relative_to(folder).as_posix()}".lower(), f"*/{pattern}".lower())
        ]
        if matching:
            return min(path for path in matching if path.is_file())
    return None


def _from_hub(data: HubData, part: str, place: DataPlace) -> Path | None:
    """The hub's Parquet copy; None where it is not here and nothing may be fetched. Raises SourceError."""
    file = f"{data.configuration.replace('{part}', part)}/{data.split}/0000.parquet"
    try:
        found = fetch_dataset_file(
            data.repository,
            file,
            revision=_CONVERTED,
            endpoint=place.endpoint,
            offline=place.offline,
            cache=place.cache,
        )
    except NetworkUnavailable:
        if place.offline:
            return None
        raise
    if found is not None:
        return found
    files = dataset_files(data.repository, revision=_CONVERTED, endpoint=place.endpoint)
    parts = sorted({path.split("/")[0] for path in files if path.endswith(f"/{data.split}/0000.parquet")})
    raise UnknownOption(f"part of {data.repository}", file.split("/")[0], parts)
