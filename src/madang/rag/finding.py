"""What a question is answered from: passages that were found, or the document that was chosen.

A document that was chosen and fits is read whole, whatever is asked: the same text stands in front of every question
about it, so that it is read once. One that does not fit is searched; a question for all of it (a summary) is answered
from summaries of its parts (:mod:`~madang.rag.summarising`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from madang.core.errors import InvalidRequest, NotFound
from madang.rag.grounding import Passage, passage_of
from madang.rag.questions import Language, asks_for_whole, language_of, with_context

if TYPE_CHECKING:
    from madang.rag.collections import Collections, StoredDocument

HITS: Final = 6  # passages that are looked for: what a small model can still tell apart
MOST_COLLECTIONS: Final = 16  # of one question


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Where to look.

    collections   names, in the order of the question
    document      one of them only: its id, title or source
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
class Evidence:
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


def find(collections: Collections, owner: str, wanted: Wanted, question: str, earlier: str = "") -> Evidence:
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
        return Evidence(question, language, (), whole, text, wants_whole)
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
    return Evidence(question, language, passages, whole, text, False, found.is_relevant and bool(passages), warnings)


def find_document(
    collections: Collections, owner: str, names: Sequence[str], wanted: str
) -> tuple[str, StoredDocument]:
    """The collection and the document of this id, title or source. Raises NotFound."""
    for name in names:
        stored = collections.documents(owner, name)
        for called in (attrgetter("id"), attrgetter("title"), attrgetter("source")):
            match = next((one for one in stored if called(one) == wanted), None)
            if match is not None:
                return name, match
    raise NotFound("document", wanted, hint=f"See: madang rag list {names[0]}")


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
    spoken = [chunk for chunk in kept.chunks if speaker is None or chunk.speaker == speaker]
    if kept.chunks and not spoken:
        known = sorted({chunk.speaker for chunk in kept.chunks if chunk.speaker})
        raise NotFound("speaker", speaker or "", hint=f"In {stored.title} speak: {', '.join(known) or 'none'}.")
    return tuple(passage_of(chunk) for chunk in spoken), kept.text
