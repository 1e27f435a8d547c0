"""Which models of the catalog serve a wish on this machine, the best first, and why.

The order follows one rule that can be said in a sentence (RULE); nothing in it is a measured quality. In which type a
model comes is chosen before: the most bits that fit into memory and are fast enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2, sqrt
from typing import Final, get_args

from madang.core.errors import UnknownOption
from madang.core.units import format_bytes, format_count
from madang.formats.families import supported_model_types
from madang.hardware import Reason
from madang.models import CatalogEntry
from madang.models.entry import Task
from madang.quantization.presets import find_preset
from madang.runtime.sizing import Size, Sized, Speed, size_of

RULE: Final = (
    "Models whose memory can be counted come first. Then each doubling of a model's size counts a point, each year of "
    "its release one, being made for the task or for Korean one more, and fewer than 4 bits a weight one less; a "
    "mixture's size is the mean of all its weights and of those that a token uses."
)
# What people write, in two languages.
TASK_WORDS: Final[Mapping[str, Task]] = {
    **{task: task for task in get_args(Task)},
    **dict.fromkeys(("chat", "일반", "대화", "범용"), "general"),
    **dict.fromkeys(("code", "코딩", "코드", "프로그래밍"), "coding"),
    **dict.fromkeys(("수학", "추론", "reasoning"), "math"),
    **dict.fromkeys(("한국어", "한글"), "korean"),
    **dict.fromkeys(("문서", "문서검색", "검색증강"), "rag"),
    **dict.fromkeys(("summary", "summarization", "요약"), "summarize"),
    **dict.fromkeys(("embeddings", "임베딩", "벡터"), "embedding"),
    **dict.fromkeys(("reranking", "재정렬", "재순위"), "rerank"),
}
LICENSE_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "any": ("yes", "conditions", "no", "unknown"),
    "commercial": ("yes", "conditions"),
    "unconditional": ("yes",),
    "상업": ("yes", "conditions"),
    "상업용": ("yes", "conditions"),
}
LANGUAGE_WORDS: Final = {
    **dict.fromkeys(("한국어", "korean"), "ko"),
    **dict.fromkeys(("영어", "english"), "en"),
    **dict.fromkeys(("일본어", "japanese"), "ja"),
    **dict.fromkeys(("중국어", "chinese"), "zh"),
}
# Room for a question and its answer, for passages beside it, for a text to be shortened.
CONTEXT_TOKENS: Final[Mapping[Task, int]] = {
    "coding": 8192,
    "rag": 8192,
    "summarize": 16_384,
    "embedding": 512,
    "rerank": 512,
}
USUAL_CONTEXT_TOKENS: Final = 4096
DEPTH_TOKENS: Final = 512  # of context, when speed is told
READING_TOKENS_PER_S: Final = 10.0  # a little more than people read
# Of folders: what they hold at most, and what they may be brought to on this machine.
AS_PUBLISHED: Final = {"chat": "F16", "embedding": "F32", "rerank": "F32"}
MADE_HERE: Final = {"chat": ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"), "embedding": ("Q8_0",), "rerank": ()}
LEAST_BITS, FEW_BITS = 3.0, 4.0
ENGINES: Final = ("native", "llamacpp", "transformers")


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants; None asks for nothing.

    memory_bytes       for weights, cache and working memory together
    commercial         which of the answers to "may it be sold?" will do
    license_name       one licence only
    tokens_per_s       the least
    context_tokens     that must fit; a model that was made for less need not have more
    type_name          a preset; only with it are types of fewer than 3 bits looked at
    """

    task: Task = "general"
    memory_bytes: int | None = None
    commercial: tuple[str, ...] = LICENSE_WORDS["any"]
    license_name: str | None = None
    language: str | None = None
    tokens_per_s: float | None = None
    engine: str | None = None
    context_tokens: int | None = None
    type_name: str | None = None

    @property
    def room_tokens(self) -> int:
        """The context that is asked for, or that the task needs."""
        return self.context_tokens or CONTEXT_TOKENS.get(self.task, USUAL_CONTEXT_TOKENS)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A model that does. None is unknown; with ``is_exact`` false, sizes are estimates.

    memory_bytes     with ``context_tokens`` of context; the least of it where the cache is unknown
    most_tokens      of context that fit
    made_here        no file of this type is published: it is converted and quantized on this machine
    pull             what to hand to ``madang pull``
    """

    entry: CatalogEntry
    type_name: str
    engine: str
    memory_bytes: int
    context_tokens: int
    most_tokens: int | None
    tokens_per_s: float | None
    score: float
    is_exact: bool
    made_here: bool
    pull: str
    reasons: tuple[str, ...]

    @property
    def steps(self) -> tuple[str, ...]:
        """The commands after which it is here, in its type; of a model that writes, the last one runs it."""
        last = "run" if self.entry.task == "chat" else "pull"
        if not self.made_here:
            return (f"madang {last} {self.pull}",)
        stem = f"{self.entry.reference.name}-{self.entry.reference.tag}"
        file = f"{stem}-{self.type_name}.gguf"
        made = (
            f"madang pull {self.pull}",
            f"madang convert {self.pull} {stem}.gguf",
            f"madang quantize {stem}.gguf {file} --type {self.type_name}",
        )
        return (*made, f"madang run file:{file}") if last == "run" else made


@dataclass(frozen=True, slots=True)
class Answer:
    """The best first; and how many models each condition left out, in the order in which conditions are looked at."""

    found: tuple[Recommendation, ...]
    left_out: Mapping[str, int]


def find_task(word: str) -> Task:
    """Raises UnknownOption."""
    task = TASK_WORDS.get(word.strip().lower())
    if task is None:
        raise UnknownOption("task", word, list(get_args(Task)))
    return task


def find_language(word: str) -> str:
    """An ISO 639-1 code, as itself or as one of the words for it."""
    return LANGUAGE_WORDS.get(word.strip().lower(), word.strip().lower())


def matches(entry: CatalogEntry, words: Iterable[str]) -> bool:
    """Whether each word is in a name of the model, or is one of its tasks, its languages or its licence."""
    license = entry.license
    names = [str(entry.reference), str(entry.source), entry.repository or "", entry.family or "", entry.note or ""]
    facts = {*entry.tasks, *entry.languages, entry.task, str(entry.year)}
    facts |= set() if license is None else {license.name.lower()}
    if license is not None and license.commercial in LICENSE_WORDS["commercial"]:
        facts |= {word for word, commercial in LICENSE_WORDS.items() if license.commercial in commercial} - {"any"}
    text = " ".join(names).lower()

    def has(word: str) -> bool:
        return word in text or word in facts or TASK_WORDS.get(word) in facts or find_language(word) in facts

    return all(has(word.lower()) for word in words)


def with_license(wish: Wish, word: str, known: Iterable[str]) -> Wish:
    """``commercial``, ``unconditional``, ``any`` or the name of a licence. Raises UnknownOption."""
    commercial = LICENSE_WORDS.get(word.lower())
    if commercial is not None:
        return replace(wish, commercial=commercial)
    names = {name.lower(): name for name in known}
    if word.lower() not in names:
        raise UnknownOption("licence", word, ["commercial", "unconditional", "any", *sorted(names.values())])
    return replace(wish, license_name=names[word.lower()])


def checked(wish: Wish) -> Wish:
    """The same. Raises UnknownOption for a type or an engine that does not exist."""
    if wish.engine is not None and wish.engine not in ENGINES:
        raise UnknownOption("engine of catalog models", wish.engine, ENGINES)
    if wish.type_name is not None:
        find_preset(wish.type_name)
    return wish


def recommend(entries: Iterable[CatalogEntry], wish: Wish, speed: Speed, *, size: Size = size_of) -> Answer:
    """What serves the wish. ``size`` is for those who keep sizes. Raises what ``checked`` raises."""
    checked(wish)
    found: list[Recommendation] = []
    left_out: Counter[str] = Counter()
    for entry in entries:
        result = _judge(entry, wish, speed, size)
        if isinstance(result, Recommendation):
            found.append(result)
        else:
            left_out[result] += 1
    found.sort(key=lambda one: (not one.is_exact, -one.score, one.memory_bytes, str(one.entry.reference)))
    return Answer(tuple(found), left_out)


def _judge(entry: CatalogEntry, wish: Wish, speed: Speed, size: Size) -> Recommendation | str:
    """What may be recommended, or the condition that speaks against it."""
    if not _does(entry, wish.task):
        return "another task"
    license = entry.license
    if license is None or license.commercial not in wish.commercial or wish.license_name not in (None, license.name):
        return "licence"
    if wish.language is not None and wish.language not in entry.languages:
        return "language unknown" if not entry.languages else "another language"
    engine = _engine(entry, wish.engine)
    if engine is None:
        return "engine"
    sizes = [found for found in (size(entry, name) for name in _types(entry, wish, engine)) if found is not None]
    if not sizes:
        return "size unknown"
    context_tokens = _context(entry, wish)
    memory_bytes = wish.memory_bytes
    fitting = [one for one in sizes if memory_bytes is None or one.memory_bytes(context_tokens) <= memory_bytes]
    if not fitting:
        return "memory"
    rates = {one.type_name: _rate(entry, one, speed) for one in fitting}
    chosen = _chosen(fitting, rates, wish.tokens_per_s)
    if chosen is None:
        return "speed" if any(rate is not None for rate in rates.values()) else "speed unknown"
    return _recommendation(entry, wish, chosen, engine, rates[chosen.type_name])


def _rate(entry: CatalogEntry, size: Sized, speed: Speed) -> float | None:
    """Of text that is written; a vector or a score has none."""
    if size.description is None or entry.task != "chat":
        return None
    return speed(size.description, DEPTH_TOKENS)


def _does(entry: CatalogEntry, task: Task) -> bool:
    return task in entry.tasks or (task == "korean" and "general" in entry.tasks and "ko" in entry.languages)


def _is_ours(entry: CatalogEntry) -> bool:
    """Whether the native engine runs it; a family alone says so of models that write only."""
    return entry.task != "rerank" and (
        entry.shape is not None or (entry.task == "chat" and entry.family in supported_model_types())
    )


def _engine(entry: CatalogEntry, wanted: str | None) -> str | None:
    """The first engine that runs it, or the one that is wanted if that does."""
    able = [name for name in ENGINES if name != "native" or _is_ours(entry)]
    able.remove("transformers" if entry.format == "gguf" else "llamacpp")
    return next((name for name in able if wanted in (None, name)), None)


def _types(entry: CatalogEntry, wish: Wish, engine: str) -> Sequence[str]:
    """The types that it comes in or can be brought to, those of the most bits first."""
    names = entry.types if entry.format == "gguf" else (AS_PUBLISHED[entry.task],)
    if entry.format == "huggingface" and engine == "native":
        names += MADE_HERE[entry.task]
    if wish.type_name is not None:
        return [name for name in names if name == wish.type_name.upper()]
    return sorted((name for name in names if _bits(name) >= LEAST_BITS), key=_bits, reverse=True)


def _bits(type_name: str) -> float:
    return find_preset(type_name).base.bits_per_element


def _context(entry: CatalogEntry, wish: Wish) -> int:
    return min(wish.room_tokens, entry.context_tokens or wish.room_tokens)


def _chosen(fitting: Sequence[Sized], rates: Mapping[str, float | None], least: float | None) -> Sized | None:
    """The most bits that are fast enough; where nothing was asked and nothing is, the fastest of at least 4 bits."""

    def fast_enough(wanted: float) -> Sized | None:
        return next((size for size in fitting if (rates[size.type_name] or 0) >= wanted), None)

    if least is not None:
        return fast_enough(least)
    whole = [size for size in fitting if _bits(size.type_name) >= FEW_BITS]
    unknown = all(rate is None for rate in rates.values())
    return fitting[0] if unknown else fast_enough(READING_TOKENS_PER_S) or (whole or fitting)[-1]


def _recommendation(entry: CatalogEntry, wish: Wish, size: Sized, engine: str, rate: float | None) -> Recommendation:
    context_tokens = _context(entry, wish)
    made_here = entry.format == "huggingface" and size.type_name in MADE_HERE[entry.task]
    most = None if wish.memory_bytes is None else size.context_within(wish.memory_bytes)
    most = most if most is None or entry.context_tokens is None else min(most, entry.context_tokens)
    return Recommendation(
        entry=entry,
        type_name=size.type_name,
        engine=engine,
        memory_bytes=size.memory_bytes(context_tokens),
        context_tokens=context_tokens,
        most_tokens=most,
        tokens_per_s=rate,
        score=_score(entry, wish, size),
        is_exact=size.description is not None,
        made_here=made_here,
        pull=str(entry.reference if made_here else entry.reference_for(size.type_name)),
        reasons=tuple(_reasons(entry, wish, size, made_here)),
    )


def _score(entry: CatalogEntry, wish: Wish, size: Sized) -> float:
    points = log2(_effective_parameters(entry, size) / 1e9) + (entry.year or 2020) - 2020
    points += _made_for(entry, wish.task) + (
        wish.language == "ko" and wish.task != "korean" and "korean" in entry.tasks
    )
    return round(points - (_bits(size.type_name) < FEW_BITS), 2)


def _made_for(entry: CatalogEntry, task: Task) -> bool:
    """Made for it before all else, which being made for everything is not."""
    return task == entry.tasks[0] != "general"


def _effective_parameters(entry: CatalogEntry, size: Sized) -> float:
    """Of a mixture, the geometric mean of all weights and those that a token uses: its worth lies between the two."""
    n = entry.parameters or 1
    experts = None if size.description is None else size.description.spec.experts
    if experts is None or size.description is None:
        return n
    tensors = size.description.tensors.items()
    in_experts = sum(tensor.shape[0] * tensor.shape[1] for name, tensor in tensors if ".expert." in name)
    return sqrt(n * (n - in_experts * (1 - experts.n_used / experts.n_experts)))


def _reasons(entry: CatalogEntry, wish: Wish, size: Sized, made_here: bool) -> Iterable[str]:
    if entry.parameters is not None:
        count = format_count(entry.parameters)
        if entry.year is None:
            yield Reason("{count} parameters", count=count)
        else:
            yield Reason("{count} parameters of {year}", count=count, year=entry.year)
    if _made_for(entry, wish.task):
        yield Reason("made for {task}", task=wish.task)
    elif wish.language == "ko" and "korean" in entry.tasks:
        yield Reason("made for {task}", task="korean")
    if entry.license is not None and entry.license.commercial != "yes":
        yield Reason("{license}: {terms}", license=entry.license.name, terms=entry.license.reason)
    if size.description is None:
        yield Reason("about {size} of weights; its cache and speed are unknown", size=format_bytes(size.weights_bytes))
    if _bits(size.type_name) < FEW_BITS:
        yield Reason("{type} loses much", type=size.type_name)
    if made_here:
        yield Reason("no file of {type} is known: convert and quantize it here", type=size.type_name)
