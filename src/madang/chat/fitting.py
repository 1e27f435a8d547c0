"""Conversations that are longer than the context: refused, shortened, or summarised, as who asks has chosen.

What is dropped or summarised is whole exchanges from the beginning: what a user said and all up to the next time.
System messages and the last exchange always stay; if they alone do not fit, the engine refuses them with numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from madang.core.engine import Engine, TokenCounter
from madang.core.errors import InvalidRequest
from madang.core.events import Done, Event
from madang.core.messages import Message
from madang.core.request import Request
from madang.core.sampling import SamplingParams

ContextPolicy: TypeAlias = Literal["strict", "drop_oldest", "summarise"]
POLICIES: tuple[ContextPolicy, ...] = get_args(ContextPolicy)

_SUMMARY_SHARE = 8  # of the context, for a summary
_AHEAD = 4, 5  # of what may be sent: from there on a summary is made before it is needed
_KEPT_SHARE = 2  # of what may be sent: exchanges that stay as they are, so that not every turn needs a new summary

_HEADING = "[What was said before, in short: "
_ASK = (
    "Summarise our conversation up to here, for yourself to go on from: facts, names, numbers, decisions and open "
    "questions, in the language of the conversation. Write only the summary."
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A request whose prompt fits, as far as it can be made to, and what is missing of it."""

    request: Request
    received_tokens: int
    dropped_messages: int = 0
    summarised_messages: int = 0

    def told(self, event: Event) -> Event:
        """The same event; a Done says what became of the conversation."""
        return self.ended(event) if isinstance(event, Done) else event

    def ended(self, done: Done) -> Done:
        """The same, with what became of the conversation in its ledger."""
        ledger = replace(
            done.ledger,
            received_tokens=self.received_tokens,
            dropped_tokens=self.received_tokens - done.ledger.kept_tokens,
            dropped_messages=self.dropped_messages,
            summarised_messages=self.summarised_messages,
        )
        return replace(done, ledger=ledger)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A summary that has to be made first.

    ask      asks the model for it; what it says goes into :meth:`fitted`
    digest   of the messages that it stands for: whoever keeps the summary finds it again by that
    """

    ask: Request
    digest: str
    request: Request
    n_kept: int
    received_tokens: int
    dropped_messages: int
    summarised_messages: int

    def fitted(self, summary: str) -> Fitted:
        """The request with the summary; without one, as a model that says nothing gives, with less."""
        n_gone = self.dropped_messages + self.summarised_messages
        if not summary.strip():
            return Fitted(_last(self.request, self.n_kept, None), self.received_tokens, n_gone)
        request = _last(self.request, self.n_kept, summary.strip())
        return Fitted(request, self.received_tokens, self.dropped_messages, self.summarised_messages)


def drop_oldest(engine: Engine, request: Request) -> Fitted:
    """Without the oldest exchanges that do not fit.

    Raises InvalidRequest for a raw prompt, and for an engine that cannot count.
    """
    counter = _counter(engine, request)
    limit = engine.info.prompt_room_of(request)
    received_tokens = counter.count_tokens(request)
    if received_tokens <= limit:
        return Fitted(request, received_tokens)
    n_dropped = _fewest_dropped(counter, request, limit)
    shorter = _from(request, n_dropped)
    return Fitted(shorter, received_tokens, len(request.messages) - len(shorter.messages))


def summarise(engine: Engine, request: Request, known: Mapping[str, str], *, ahead: bool = False) -> Fitted | Wanted:
    """With a summary in place of the oldest exchanges, if they do not fit; ``known`` has earlier ones by digest.

    A known summary is used as long as what comes after it fits. ``ahead`` wants one a little before it is needed, as
    work that may wait. Raises what :func:`drop_oldest` does.
    """
    counter = _counter(engine, request)
    limit = engine.info.prompt_room_of(request)
    if ahead:
        limit = limit * _AHEAD[0] // _AHEAD[1]
    received_tokens = counter.count_tokens(request)
    n_known, summary = _longest_known(request, known)
    if summary is not None:
        shorter = _last(request, len(_exchanges(request)) - n_known, summary)
        n_gone = _n_gone(request, n_known)
        if counter.count_tokens(shorter) <= limit:
            return Fitted(shorter, received_tokens, 0, n_gone)
    elif received_tokens <= limit:
        return Fitted(request, received_tokens)
    n_ctx = _context(engine, request)
    n_summary = max(n_ctx // _SUMMARY_SHARE, 1)
    n_old = _fewest_dropped(counter, request, (limit - n_summary) // _KEPT_SHARE)
    if n_old <= n_known:  # what came since the last summary does not fit behind it
        return drop_oldest(engine, request)
    ask, n_dropped = _ask(request, (n_known, n_old), summary, n_summary), 0
    if counter.count_tokens(ask) > n_ctx - n_summary:  # too much to read at once: what is nearest is worth most

        def suffices(n: int) -> bool:
            return counter.count_tokens(_ask(request, (n, n_old), summary, n_summary)) <= n_ctx - n_summary

        n_read = _fewest(n_known, n_old - 1, suffices)
        ask = _ask(request, (n_read, n_old), summary, n_summary)
        n_dropped = _n_gone(request, n_read) - _n_gone(request, n_known)
    return Wanted(
        ask=replace(ask, priority="background") if ahead else ask,
        digest=digests(request)[n_old],
        request=request,
        n_kept=len(_exchanges(request)) - n_old,
        received_tokens=received_tokens,
        dropped_messages=n_dropped,
        summarised_messages=_n_gone(request, n_old) - n_dropped,
    )


def digests(request: Request) -> list[str]:
    """One for the beginning of the conversation up to each exchange, and one for the whole: they name summaries."""
    hashed = hashlib.sha256()
    found: list[str] = []
    for message in request.messages:
        if message.role == "user":
            found.append(hashed.hexdigest())
        if message.role != "system":
            calls = [[call.name, dict(call.arguments)] for call in message.tool_calls]
            told = [message.role, message.content, calls]
            hashed.update(json.dumps(told, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass"))
    return [*found, hashed.hexdigest()]


# ---- how much


def _counter(engine: Engine, request: Request) -> TokenCounter:
    if request.prompt is not None:
        raise InvalidRequest("Only a conversation has an oldest part to drop.", param="context_overflow")
    if not isinstance(engine, TokenCounter):
        raise InvalidRequest(f"The {engine.info.engine} engine does not count tokens.", param="context_overflow")
    return engine


def _context(engine: Engine, request: Request) -> int:
    return engine.info.context_tokens if request.context_tokens is None else request.context_tokens


def _fewest_dropped(counter: TokenCounter, request: Request, limit: int) -> int:
    """How many exchanges have to go for the rest to fit, but never the last."""
    most = max(len(_exchanges(request)) - 1, 0)
    return _fewest(0, most, lambda n: counter.count_tokens(_from(request, n)) <= limit)


def _n_gone(request: Request, n_exchanges: int) -> int:
    return len(request.messages) - len(_from(request, n_exchanges).messages)


# ---- parts of a conversation


def _exchanges(request: Request) -> list[int]:
    """Where each begins."""
    return [i for i, message in enumerate(request.messages) if message.role == "user"]


def _from(request: Request, n_gone: int) -> Request:
    """Without that many exchanges at the beginning."""
    return request if n_gone == 0 else _last(request, len(_exchanges(request)) - n_gone, None)


def _last(request: Request, n_kept: int, summary: str | None) -> Request:
    """System messages and that many exchanges of the end, behind a summary of what came before.

    The summary is the user's words, as what it stands for was: it must not speak with the system's authority.
    """
    begins = _exchanges(request)[-n_kept]
    kept = [message for i, message in enumerate(request.messages) if message.role == "system" or i >= begins]
    if summary is not None:
        first = next(i for i, message in enumerate(kept) if message.role == "user")
        kept[first] = _behind(summary, kept[first])
    return replace(request, messages=tuple(kept))


def _behind(summary: str, message: Message) -> Message:
    return replace(message, content=f"{_HEADING}{summary}]\n\n{message.content}")


def _longest_known(request: Request, known: Mapping[str, str]) -> tuple[int, str | None]:
    """How many exchanges a known summary stands for, and the summary; never all of them."""
    for n, digest in reversed([*enumerate(digests(request)[:-1])]):
        if n > 0 and digest in known:
            return n, known[digest]
    return 0, None


def _ask(request: Request, span: tuple[int, int], summary: str | None, n_summary: int) -> Request:
    """Ask for a summary of the exchanges of ``span``, behind one of what came before them.

    The beginning is that of the conversation itself, which is in the cache.
    """
    begins = _exchanges(request)
    system = [message for message in request.messages if message.role == "system"]
    old = [message for message in request.messages[begins[span[0]] : begins[span[1]]] if message.role != "system"]
    if summary is not None:
        old[0] = _behind(summary, old[0])
    return Request(
        messages=(*system, *old, Message("user", _ASK)),
        sampling=SamplingParams(temperature=0.0),
        max_tokens=n_summary,
        reasoning=request.reasoning,
        adapter=request.adapter,
        context_tokens=request.context_tokens,
        priority=request.priority,
    )


def _fewest(low: int, high: int, suffices: Callable[[int], bool]) -> int:
    """The smallest number above ``low`` that suffices, or ``high``, by halving."""
    while low + 1 < high:
        middle = (low + high) // 2
        if suffices(middle):
            high = middle
        else:
            low = middle
    return high
