"""What a question is answered from: passages that were found, or the document that was chosen.

A document that was chosen and fits is read whole, whatever is asked: the same text stands in front of every question
about it, so that it is read once. One that does not fit is searched; a question for all of it (a summary) is answered
from summaries of its parts (:mod:`~madang.rag.summarising`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from madang.core.errors import InvalidRequest, NotFound
from madang.rag.grounding import Passage, passage_of
from madang.rag.parsing.markdown import lines_of
from madang.rag.pieces import speaker_of
from madang.rag.questions import Language, asks_for_whole, language_of, with_context

if TYPE_CHECKING:
    from madang.rag.collections import Collections
    from madang.rag.stored import StoredDocument

HITS: Final = 6  # passages that are looked for: what a small model can still tell apart
MOST_COLLECTIONS: Final = 16  # of one question


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Where to look.

    collections   names, in the order of the question
    document      one of them only: its id, title, source, or the name of its file
    speaker       only what this person said
    """

    collections: tuple[str, ...]
    document: str | None = None
    speaker: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.collections) <= MOST_COLLECTIONS:
            raise InvalidRequest(
                f"A question is about 1 to {MOST_COLLECTIONS} collections, not {len(self.collections)}.",
                param="collection",
            )


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to answer from.

    passages       that were found, the best first
    whole          all passages of the document that was chosen, in order; None where none was
    text           of that document
    wants_whole    whether the question is about all of it
    is_relevant    whether there is anything to answer from
    """

    question: str
    language: Language
    passages: tuple[Passage, ...]
    whole: tuple[Passage, ...] | None = None
    text: str = ""
    wants_whole: bool = False
    is_relevant: bool = True
    warnings: list[str] = field(default_factory=list)


def find(collections: Collections, owner: str, wanted: Wanted, question: str, earlier: str = "") -> Material:
    """What to answer a question from; ``earlier`` is the question before it, which a short one may lean on.

    Raises NotFound for a collection, document or speaker that is not there, StorageError, and what embedding raises.
    """
    language, wants_whole = language_of(question), asks_for_whole(question)
    chosen = _chosen(collections, owner, wanted, wants_whole)
    whole, text, document = None, "", None
    if chosen is not None:
        name, stored = chosen
        document = stored.id
        whole, text = _whole(collections, owner, name, stored, wanted.speaker)
    if wants_whole and whole:
        return Material(question, language, (), whole, text, wants_whole)
    names = wanted.collections if chosen is None else (chosen[0],)
    tries = [question] if earlier == "" else [question, with_context(question, earlier)]
    for query in filter(None, tries):
        found = collections.search(owner, names, query, limit=HITS, document=document, speaker=wanted.speaker)
        if found.is_relevant:
            break
    passages = tuple(passage_of(hit.chunk, hit.score) for hit in found.hits)
    warnings = []
    if wants_whole and found.is_relevant:
        warnings.append("This was answered from passages, not from a whole document; choose one to have it summarised.")
    return Material(question, language, passages, whole, text, False, found.is_relevant and bool(passages), warnings)


def find_document(
    collections: Collections, owner: str, names: Sequence[str], wanted: str
) -> tuple[str, StoredDocument]:
    """The collection and the document of this id, title, source or name of a file. Raises NotFound."""
    for name in names:
        stored = collections.documents(owner, name)
        for called in (attrgetter("id"), attrgetter("source"), attrgetter("title"), _file_name, _file_stem):
            match = next((one for one in stored if called(one) == wanted), None)
            if match is not None:
                return name, match
    raise NotFound("document", wanted, hint=f"See: madang rag list {names[0]}")


def _file_name(stored: StoredDocument) -> str:
    return PurePath(stored.source).name


def _file_stem(stored: StoredDocument) -> str:
    return PurePath(stored.source).stem


def _chosen(
    collections: Collections, owner: str, wanted: Wanted, wants_whole: bool
) -> tuple[str, StoredDocument] | None:
    """The document that the question is about: the one it names, or the only one there is when all of it is asked."""
    if wanted.document is not None:
        return find_document(collections, owner, wanted.collections, wanted.document)
    if not wants_whole:
        return None
    every = [(name, one) for name in wanted.collections for one in collections.documents(owner, name)]
    return every[0] if len(every) == 1 else None


def _whole(
    collections: Collections, owner: str, name: str, stored: StoredDocument, speaker: str | None
) -> tuple[tuple[Passage, ...], str]:
    """Its passages, or those of one speaker, and its text. Raises NotFound for somebody who does not speak in it."""
    kept = collections.document(owner, name, stored.id)
    passages = [passage_of(chunk) for chunk in kept.chunks]
    if speaker is None:
        return tuple(passages), kept.text
    known = frozenset(kept.document.facts.get("speakers", ()))
    if speaker not in known:
        who = f"In {stored.title} speak: {', '.join(sorted(known))}." if known else "Nobody is known to speak in it."
        raise NotFound("speaker", speaker, hint=who)
    said = _turns(kept.text, known, speaker)
    return tuple(_said(passage, kept.text, said) for passage in passages if _overlaps(passage, said)), kept.text


def _turns(text: str, known: frozenset[str], speaker: str) -> list[tuple[int, int]]:
    """Where somebody speaks: from the line that begins a turn to the next one that begins another's."""
    begins = [(offset, who) for offset, line in lines_of(text) if (who := speaker_of(line, known)) is not None]
    ends = [offset for offset, _ in begins[1:]] + [len(text)]
    return [(offset, end) for (offset, who), end in zip(begins, ends, strict=True) if who == speaker]


def _said(passage: Passage, text: str, said: Sequence[tuple[int, int]]) -> Passage:
    """With only those parts told that somebody said."""
    parts = (text[max(start, passage.start) : min(end, passage.end)].strip() for start, end in said)
    return replace(passage, excerpt="\n".join(part for part in parts if part))


def _overlaps(passage: Passage, spans: Sequence[tuple[int, int]]) -> bool:
    return any(max(start, passage.start) < min(end, passage.end) for start, end in spans)
