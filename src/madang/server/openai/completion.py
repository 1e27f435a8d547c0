"""``/v1/completions``: text that is gone on with, as it is, without a chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from madang.core.errors import InvalidRequest
from madang.core.events import Completion, Done, Event, TextDelta, TokenLogprob
from madang.core.request import Request
from madang.server.answering import MAX_ANSWERS
from madang.server.event_stream import Stencil, data
from madang.server.openai.answers import Identity, extras_of, finite, new_id, usage_of
from madang.server.openai.chat import IGNORED_EVERYWHERE, SampledRequest, several
from madang.server.wire import Refused

DEFAULT_MAX_TOKENS = 16  # OpenAI's; without it, a base model goes on until the context is full


class CompletionRequest(SampledRequest):
    """The body. Prompts of token ids are refused: they are those of another tokenizer."""

    prompt: str | list[str] | list[int] | list[list[int]]
    echo: bool | None = None
    logprobs: int | None = None

    IGNORED: ClassVar[Mapping[str, str]] = IGNORED_EVERYWHERE
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "suffix": Refused("texts are gone on with at their end only", harmless=("",)),
        "best_of": Refused("answers are not ranked; ask for several with n", harmless=(1,)),
    }

    @property
    def prompts(self) -> list[str]:
        """Raises InvalidRequest when there are none, too many, or token ids."""
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        if len(texts) < len(prompts):
            raise InvalidRequest(
                "prompt has token ids, but only the tokenizer of the model makes them.", param="prompt"
            )
        if not 1 <= len(texts) * self.n_answers <= MAX_ANSWERS:
            raise InvalidRequest(
                f"{len(texts)} prompts with {self.n_answers} answers each were given, but one request has from 1 to"
                f" {MAX_ANSWERS} answers.",
                param="prompt",
            )
        return texts

    def core_requests(self) -> list[Request]:
        """One for each answer: all of the first prompt, then all of the second. Raises InvalidRequest."""
        if self.echo and self.logprobs is not None:
            raise InvalidRequest("logprobs are of the answer only; they cannot be had with echo.", param="logprobs")
        requests: list[Request] = []
        for prompt in self.prompts:
            request = Request(
                prompt=prompt,
                sampling=self.sampling(self.logprobs),
                max_tokens=DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens,
                stop=self.stop_strings,
            )
            requests += several(request, self.n_answers)
        return requests

    def echoed(self, index: int) -> str:
        """What the answer of that number begins with."""
        return self.prompts[index // self.n_answers] if self.echo else ""

    def usage(self, dones: Sequence[tuple[int, Done]]) -> dict[str, Any]:
        """Of all prompts together, each read once."""
        by_prompt: dict[int, list[Done]] = {}
        for index, done in dones:
            by_prompt.setdefault(index // self.n_answers, []).append(done)
        return _sum([usage_of(own) for own in by_prompt.values()])


class CompletionChunks:
    """Turns the events of all answers of one request into chunks."""

    def __init__(self, body: CompletionRequest, warnings: Sequence[str]) -> None:
        self._identity = Identity("text_completion", body.model, new_id("cmpl-"))
        self._body = body
        self._warnings = warnings
        self._lengths: dict[int, int] = {}  # characters so far of each answer that has begun
        self._stencils: dict[int, Stencil] = {}
        self._dones: list[tuple[int, Done]] = []

    def push(self, index: int, event: Event) -> bytes:
        """Chunks that say what happened in the answer of that number."""
        begin = b""
        if index not in self._lengths:
            echoed = self._body.echoed(index)
            self._lengths[index] = len(echoed)
            begin = self._text(index, echoed) if echoed else b""
        if isinstance(event, TextDelta):
            told = self._text(index, event.text, event.logprobs)
            self._lengths[index] += len(event.text)
            return begin + told
        if isinstance(event, Done):
            self._dones.append((index, event))
            last = self._chunk(index, "", finish_reason=event.finish_reason)
            return begin + data(last | extras_of(event, self._warnings))
        return begin

    def end(self) -> bytes:
        """What comes after all answers."""
        if not self._body.wants_usage:
            return b""
        return data({**self._identity.head(), "choices": [], "usage": self._body.usage(self._dones)})

    def _text(self, index: int, text: str, logprobs: Sequence[TokenLogprob] = ()) -> bytes:
        if logprobs:
            return data(self._chunk(index, text, logprobs=logprobs))
        stencil = self._stencils.get(index)
        if stencil is None:
            stencil = self._stencils[index] = Stencil(lambda mark: data(self._chunk(index, mark)))
        return stencil.with_text(text)

    def _chunk(
        self, index: int, text: str, *, logprobs: Sequence[TokenLogprob] = (), finish_reason: str | None = None
    ) -> dict[str, Any]:
        told = _logprobs(logprobs, self._lengths[index]) if logprobs else None
        choice = {"index": index, "text": text, "logprobs": told, "finish_reason": finish_reason}
        chunk = {**self._identity.head(), "choices": [choice]}
        return chunk | {"usage": None} if self._body.wants_usage else chunk


def text_completion(
    body: CompletionRequest, completions: Sequence[Completion], warnings: Sequence[str]
) -> dict[str, Any]:
    """The whole answer. Speed and ledger are those of the first choice."""
    identity = Identity("text_completion", body.model, new_id("cmpl-"))
    choices = [
        {
            "index": index,
            "text": body.echoed(index) + completion.text,
            "logprobs": None if body.logprobs is None else _logprobs(completion.logprobs, 0),
            "finish_reason": completion.done.finish_reason,
        }
        for index, completion in enumerate(completions)
    ]
    usage = body.usage([(index, completion.done) for index, completion in enumerate(completions)])
    return {**identity.head(), "choices": choices, "usage": usage, **extras_of(completions[0].done, warnings)}


def _logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [finite(token.logprob) for token in tokens],
        "top_logprobs": [
            {text: finite(logprob) for text, (_, logprob) in zip(token.top_texts, token.top, strict=False)}
            for token in tokens
        ],
        "text_offset": offsets,
    }


def _sum(usages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total = {
        name: sum(usage[name] for usage in usages) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    }
    cached_tokens = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    return {**total, "prompt_tokens_details": {"cached_tokens": cached_tokens}}
