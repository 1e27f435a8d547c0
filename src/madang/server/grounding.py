"""Answers from documents: what is looked for before a model is asked, what it is told, what is said of its answer."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from starlette.requests import Request as HttpRequest

from madang.chat import ContextPolicy, Fitted
from madang.core.engine import Engine
from madang.core.errors import InvalidRequest
from madang.core.events import ContextLedger, Done, Event, TextDelta, Timings, Usage
from madang.core.request import Request
from madang.rag.citations import Marks
from madang.rag.finding import Material, Wanted, find
from madang.rag.grounding import REFUSALS, Grounded, is_refusal, source_documents, tokens_of, with_sources
from madang.rag.summarising import grounding
from madang.server.bridge import in_thread
from madang.server.exchanges import Exchange, WireSession
from madang.server.fitting import Memory, fitted_to, whole
from madang.server.history import caller
from madang.server.library import opened


@dataclass(slots=True)
class Grounding:
    """One answer from documents. :meth:`fit` makes its prompt, :meth:`told` its events, :meth:`facts` what is said of
    it in the end."""

    material: Material
    _grounded: Grounded | None = None
    _fitted: Fitted | None = None
    _marks: Marks = field(default_factory=lambda: Marks({}))
    _text: list[str] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        """Whether nothing relevant was found, so that no model is asked."""
        return not self.material.is_relevant

    def refusal(self) -> Iterator[Event]:
        """The answer without a model."""
        text = REFUSALS[self.material.language]
        self._text.append(text)
        yield TextDelta(text)
        yield Done("stop", Usage(0, 0, 0), Timings(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0), ContextLedger(0, 0, 0, 0, 0, 0))

    async def fit(
        self, engine: Engine, request: Request, policy: ContextPolicy | None, memory: Memory | None
    ) -> Request:
        """The request with its passages; the conversation before the question makes room if its policy lets it.

        A long document is read in parts first, with requests of its own. Raises what generating raises.
        """
        may_shorten = policy is not None and policy != "strict"
        steps = grounding(engine, request, self.material, may_shorten=may_shorten)
        grounded = await _driven(engine, steps)
        if may_shorten and policy is not None:
            fresh = partial(with_sources, passages=grounded.passages, language=self.material.language)
            n_more = await in_thread(lambda: tokens_of(engine, fresh(request)) - tokens_of(engine, request))
            n_ctx = engine.info.context_of(request)
            fitted = await fitted_to(engine, replace(request, context_tokens=max(n_ctx - n_more, 1)), policy, memory)
            if fitted is not None:
                whole_request = fresh(replace(fitted.request, context_tokens=request.context_tokens))
                self._fitted = replace(fitted, received_tokens=fitted.received_tokens + n_more)
                grounded = replace(grounded, request=whole_request)
        self._grounded = grounded
        self._marks = Marks(grounded.texts)
        return grounded.request

    def told(self, event: Event) -> Iterator[Event]:
        """The same events, without marks that name nothing; what could become one is held back for the next."""
        match event:
            case TextDelta():
                text = self._marks.push(event.text)
                self._text.append(text)
                if text or event.logprobs:
                    yield replace(event, text=text)
            case Done():
                if rest := self._marks.flush():
                    self._text.append(rest)
                    yield TextDelta(rest)
                done = event if self._fitted is None else self._fitted.ended(event)
                yield done if self._grounded is None else self._grounded.ended(done)
            case _:
                yield event

    def facts(self) -> dict[str, Any]:
        """``sources`` and ``is_grounded``, as the answer's ``madang`` object has them."""
        answer = "".join(self._text)
        is_grounded = self.material.is_relevant and not is_refusal(answer)
        sources = []
        if self._grounded is not None and is_grounded:
            sources = source_documents(self._grounded, answer, self._marks.cited)
        facts: dict[str, Any] = {"sources": sources, "is_grounded": is_grounded}
        return facts | ({"warnings": list(self.material.warnings)} if self.material.warnings else {})


async def begin_grounding(
    http: HttpRequest, wire: WireSession | None, exchange: Exchange | None, request: Request
) -> Grounding | None:
    """Look for what the last question is to be answered from; None for a request that names no collection.

    What the request names goes before what its session's persona brings. Raises NotFound for a collection, document or
    speaker that is not the caller's.
    """
    names = () if exchange is None else exchange.collections
    if wire is not None and wire.collection is not None:
        names = (wire.collection,) if isinstance(wire.collection, str) else tuple(wire.collection)
    if not names:
        if wire is not None and (wire.document is not None or wire.speaker is not None):
            raise InvalidRequest("A document or speaker is looked for in a collection.", param="madang.collection")
        return None
    wanted = Wanted(
        collections=tuple(dict.fromkeys(names)),
        document=None if wire is None else wire.document,
        speaker=None if wire is None else wire.speaker,
    )
    asked = [message.content for message in request.messages if message.role == "user"]
    if not asked:
        raise InvalidRequest("There is no question to look for.", param="messages")
    earlier = asked[-2] if len(asked) > 1 else ""
    collections = await opened(http)
    made = Grounding(await in_thread(partial(find, collections, caller(), wanted, asked[-1], earlier)))
    if exchange is not None:
        exchange.more = made.facts
    return made


async def _driven(engine: Engine, steps: Generator[Request, str, Grounded]) -> Grounded:
    """What comes of it, each request that it wants answered by the same engine."""
    answer: str | None = None
    while True:
        wanted, outcome = await in_thread(partial(_next, steps, answer))
        if outcome is not None:
            return outcome
        assert wanted is not None
        answer = (await whole(engine, wanted)).text


def _next(steps: Generator[Request, str, Grounded], answer: str | None) -> tuple[Request, None] | tuple[None, Grounded]:
    try:
        return (next(steps) if answer is None else steps.send(answer)), None
    except StopIteration as stop:
        return None, stop.value
