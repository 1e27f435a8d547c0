"""``madang rag ask``: a question, answered from one's own documents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.answering import answer_document, explain_end, stats_line
from madang.cli.collecting import CollectionNames, Key, OneDocument, Speaker, chosen, collections_of
from madang.cli.console import data, data_json, dim_note, note
from madang.cli.doctor import STARTER
from madang.core import Done, Engine, Event, Message, Request, SamplingParams, TextDelta, collect, streaming
from madang.core.settings import Settings

if TYPE_CHECKING:
    from madang.rag.finding import Material
    from madang.rag.grounding import Grounded

_CLOSEST = 3
_SHOWN_CHARACTERS = 100
_DEFAULT_TOKENS = 512  # an answer from passages is short; small models do not always know where to end


@options.running()
def ask(  # noqa: PLR0913  (a command line's options are its parameters)
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to answer from the documents.")],
    *,
    settings: Settings,
    model: Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="Who answers.")] = STARTER,
    collection: CollectionNames = None,
    document: OneDocument = None,
    speaker: Speaker = None,
    max_tokens: options.MaxTokens = _DEFAULT_TOKENS,
    temperature: options.Temperature = 0.0,
    seed: options.Seed = None,
    key: Key = "",
    stats: options.Stats = False,
    as_json: options.Json = False,
) -> None:
    """Answer a question from documents, with the passages that it rests on, or say that they do not have the answer."""
    from madang.rag.finding import Wanted, find

    with collections_of(settings) as collections:
        names = tuple(chosen(collections, key, collection))
        wanted = Wanted(collections=names, document=document, speaker=speaker)
        material = find(collections, key, wanted, question)
    for warning in material.warnings:
        note(warning)
    if not material.is_relevant:
        _refuse(material, as_json)
        return
    _warn_of_language(model, material.language)
    from madang.cli.pull import fetcher
    from madang.runtime import open_model

    request = Request(
        messages=(Message("user", question),),
        sampling=SamplingParams(temperature=temperature, seed=seed),
        max_tokens=max_tokens,
    )
    with closing(open_model(model, settings, fetch=fetcher(settings))) as engine:
        _answer(engine, _grounded(engine, request, material), stats=stats, as_json=as_json)


def _warn_of_language(model: str, language: str) -> None:
    """Say so where the catalog knows that a model has not learnt the language of the question."""
    from madang.models import load_catalog, parse_reference

    entry = load_catalog().find(parse_reference(model))
    if entry is not None and entry.languages and language not in entry.languages:
        note(f"{model} has not learnt the language of this question ({language}).")
        note(f"See those that have: madang models recommend --task rag --language {language}")


def _grounded(engine: Engine, request: Request, material: Material) -> Grounded:
    """The request with its passages; a long document is read in parts first."""
    from madang.rag.summarising import grounding

    n_warnings = len(material.warnings)
    steps, answer, n_parts = grounding(engine, request, material), None, 0
    while True:
        try:
            wanted = next(steps) if answer is None else steps.send(answer)
        except StopIteration as stop:
            for warning in material.warnings[n_warnings:]:
                note(warning)
            grounded: Grounded = stop.value
            return grounded
        n_parts += 1
        dim_note(f"Reading part {n_parts}…")
        with streaming(engine, wanted) as events:
            answer = collect(events).text


def _answer(engine: Engine, grounded: Grounded, *, stats: bool, as_json: bool) -> None:
    from madang.rag.citations import Marks
    from madang.rag.grounding import is_refusal, source_documents

    marks, shown = Marks(grounded.texts), []
    with streaming(engine, grounded.request) as events:
        told: list[Event] = []
        for event in _without_false_marks(events, marks):
            told.append(event)
            if isinstance(event, TextDelta):
                shown.append(event.text)
                if not as_json:
                    data(event.text, end="")
    text = "".join(shown)
    is_grounded = not is_refusal(text)
    sources = source_documents(grounded, text, marks.cited) if is_grounded else []
    completion = collect(told)
    done = grounded.ended(completion.done)
    if as_json:
        answer = answer_document(engine, grounded.request, replace(completion, done=done))
        data_json(answer | {"is_grounded": is_grounded, "sources": sources})
        return
    if not text.endswith("\n"):
        data("")
    explain_end(done)
    _show_sources(sources)
    if done.ledger.dropped_sources:
        note(f"{done.ledger.dropped_sources} passages that were found did not fit into the context.")
    if stats:
        dim_note(stats_line(done))


def _without_false_marks(events: Iterator[Event], marks: Any) -> Iterator[Event]:
    for event in events:
        if isinstance(event, TextDelta):
            event = replace(event, text=marks.push(event.text))
        elif isinstance(event, Done):
            yield TextDelta(marks.flush())
        yield event


def _show_sources(sources: list[dict[str, Any]]) -> None:
    """Those that the answer names; where it names none, those that say most of what it says."""
    from madang.rag.grounding import heading_of

    shown = [source for source in sources if source["is_cited"]]
    if shown:
        note("\nSources:")
    elif sources:
        note("\nThe answer names no source. Closest to it, of what it was given:")
        shown = sorted(sources, key=lambda source: -source["support"])[:_CLOSEST]
    for source in shown:
        place = heading_of(source["title"], source["headings"], source["page"])
        note(f"[{source['n']}] {place}  ({source['collection']} {source['chunk'] or source['document']})")
        dim_note("    " + _beginning(source["excerpt"] or source["text"]))


def _beginning(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _refuse(material: Material, as_json: bool) -> None:
    from madang.rag.grounding import REFUSALS

    text = REFUSALS[material.language]
    if as_json:
        data_json({"text": text, "is_grounded": False, "sources": []})
        return
    data(text)
    note("Nothing that was found is about it. See what is near with: madang rag search QUESTION")
