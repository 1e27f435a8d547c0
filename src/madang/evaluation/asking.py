"""Prompts of tasks put to an engine: answers side by side, choices as a tree, texts by their logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from madang.core import Engine, LogitSource, Message, Request, SamplingParams, Scored, Scorer, collect
from madang.core.errors import InvalidRequest
from madang.evaluation.tasks.task import Prompt, Response

Document = dict[str, Any]
_NO_LIKELIHOOD = "Not measurable with this engine: it does not tell how likely a given text is."


def ask(engine: Engine, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Response]]:
    """The number of a prompt and its response, as they come. What is wrong with one prompt is its response's problem.

    Raises InvalidRequest for what the engine cannot do at all, and what it raises when it fails.
    """
    kinds: dict[str, list[int]] = {"answer": [], "choose": [], "read": []}
    for number, prompt in enumerate(prompts):
        kind = "read" if prompt.is_rolling else "choose" if prompt.continuations else "answer"
        kinds[kind].append(number)
    yield from _choose(engine, [(number, prompts[number]) for number in kinds["choose"]])
    for number in kinds["read"]:
        yield number, _read(engine, prompts[number])
    yield from _answer_all(engine, [(number, prompts[number].request) for number in kinds["answer"]])


def ask_all(engine: Engine, prompts: Sequence[Prompt]) -> list[Response]:
    """All responses, in the order of the prompts. Raises the same."""
    found = dict(ask(engine, prompts))
    return [found[number] for number in range(len(prompts))]


# ---- answers


def _answer_all(engine: Engine, requests: Sequence[tuple[int, Request]]) -> Iterator[tuple[int, Response]]:
    """As many side by side as the engine computes."""
    if not requests:
        return
    with ThreadPoolExecutor(min(engine.info.max_concurrency, len(requests))) as pool:
        waiting = {pool.submit(_answer, engine, request): number for number, request in requests}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            for future in waiting:
                future.cancel()


def _answer(engine: Engine, request: Request) -> Response:
    try:
        collected = generate(engine, request)
    except InvalidRequest as error:
        return Response(problem=error.message)
    return Response(text=collected.text, tokens=collected.done.usage.completion_tokens)


def generate(engine: Engine, request: Request) -> Any:
    """The whole answer; where a model cannot be told not to think, it is not told."""
    try:
        return collect(engine.generate(request))
    except InvalidRequest as error:
        if error.param != "reasoning" or request.reasoning is None:
            raise
        return collect(engine.generate(replace(request, reasoning=None)))


# ---- choices


def _choose(engine: Engine, prompts: Sequence[tuple[int, Prompt]]) -> Iterator[tuple[int, Response]]:
    """In order. After a prompt that cannot be scored, those before which that was found are asked one by one."""
    if prompts and not isinstance(engine, Scorer | LogitSource):
        raise InvalidRequest(_NO_LIKELIHOOD)
    rest = [*prompts]
    while rest:
        n_done = 0
        try:
            for response in _choose_all(engine, [prompt for _, prompt in rest]):
                yield rest[n_done][0], response
                n_done += 1
        except InvalidRequest:
            n_done = min(n_done, len(rest) - 1)
            number, prompt = rest[n_done]
            yield number, _choose_one(engine, prompt)
            n_done += 1
        rest = rest[n_done:]


def _choose_one(engine: Engine, prompt: Prompt) -> Response:
    try:
        return next(_choose_all(engine, [prompt]))
    except InvalidRequest as error:
        return Response(problem=error.message)


def _choose_all(engine: Any, prompts: Sequence[Prompt]) -> Iterator[Response]:
    if isinstance(engine, Scorer):
        scores: Iterator[Sequence[Scored]] = engine.score_many(
            (prompt.request, prompt.continuations) for prompt in prompts
        )
    else:
        scores = ([_score_after(engine, prompt, text) for text in prompt.continuations] for prompt in prompts)
    for own in scores:
        yield Response(scored=tuple(own), tokens=sum(scored.n_tokens for scored in own))


def _score_after(engine: LogitSource, prompt: Prompt, text: str) -> Scored:
    """A continuation by the logits of everything before it."""
    before = prompt.request.prompt
    if before is None:
        raise InvalidRequest("This engine scores what follows a text, not what follows a chat.")
    own, whole = engine.tokenize(before), engine.tokenize(before + text)
    pairs = zip(own, whole, strict=False)
    n_own = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(own), len(whole)))
    if not 0 < n_own < len(whole):
        raise InvalidRequest("There is nothing to score, or nothing to score it after.")
    return _scored(engine, whole, n_own)


# ---- whole texts


def _read(engine: Engine, prompt: Prompt) -> Response:
    (text,) = prompt.continuations
    if not isinstance(engine, LogitSource):
        if not isinstance(engine, Scorer):
            raise InvalidRequest(_NO_LIKELIHOOD)
        scored = engine.score(Request(prompt=prompt.request.prompt or "\n"), [text])[0]
        return Response(scored=(scored,), tokens=scored.n_tokens)
    try:
        scored = read_rolling(engine, text, prompt.request.prompt or "", engine.info.context_tokens)
    except InvalidRequest as error:
        return Response(problem=error.message)
    return Response(scored=(scored,), tokens=scored.n_tokens)


def read_rolling(engine: LogitSource, text: str, prefix: str, n_ctx: int) -> Scored:
    """The likelihood of a text of any length: windows of ``n_ctx`` tokens, and each token is counted once.

    The last window looks back as far as it can. ``prefix`` is read first and not counted; empty, it is what the
    tokenizer begins a text with, or a line break where that is nothing. Raises InvalidRequest for a text of no token.
    """
    if not prefix and not engine.tokenize(""):
        prefix = "\n"
    tokens = [*engine.tokenize(prefix + text)]
    n_before = len(engine.tokenize(prefix))
    if len(tokens) <= n_before:
        raise InvalidRequest("A text to read is empty.")
    total, is_greedy, n_read = 0.0, True, n_before
    while n_read < len(tokens):
        end = min(len(tokens), n_ctx + 1 if n_read == n_before else n_read + n_ctx)
        window = tokens[max(0, end - n_ctx - 1) : end]
        own = _scored(engine, window, len(window) - (end - n_read))
        total, is_greedy, n_read = total + own.logprob, is_greedy and own.is_greedy, end
    return Scored(total, len(tokens) - n_before, is_greedy)


def _scored(engine: LogitSource, tokens: Sequence[int], n_before: int) -> Scored:
    """How likely the tokens after the first ``n_before`` are."""
    total, is_greedy, row = 0.0, True, 0
    for logits in engine.logits(tokens[:-1]):
        block: npt.NDArray[np.float32] = np.asarray(logits)
        first = max(0, n_before - 1 - row)
        if first < len(block):
            rows = block[first:].astype(np.float64)
            right = np.array(tokens[row + first + 1 : row + len(block) + 1])
            top = rows.max(axis=1)
            logsum = np.log(np.exp(rows - top[:, None]).sum(axis=1)) + top
            total += float((rows[np.arange(len(rows)), right] - logsum).sum())
            is_greedy = is_greedy and bool((rows.argmax(axis=1) == right).all())
        row += len(block)
    return Scored(total, len(tokens) - n_before, is_greedy)


# ---- as JSON, for a process of its own and for what is kept


def prompt_document(prompt: Prompt) -> Document:
    """A prompt as JSON holds it; nothing but what tasks set."""
    request = prompt.request
    return {
        "prompt": request.prompt,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": request.max_tokens,
        "stop": list(request.stop),
        "sampling": {name: value for name, value in asdict(request.sampling).items() if value is not None},
        "reasoning": request.reasoning,
        "continuations": list(prompt.continuations),
        "is_rolling": prompt.is_rolling,
    }


def prompt_of(document: Mapping[str, Any]) -> Prompt:
    """The same back."""
    request = Request(
        prompt=document["prompt"],
        messages=tuple(Message(**message) for message in document["messages"]),
        max_tokens=document["max_tokens"],
        stop=tuple(document["stop"]),
        sampling=SamplingParams(**document["sampling"]),
        reasoning=document["reasoning"],
    )
    return Prompt(request, tuple(document["continuations"]), is_rolling=document["is_rolling"])


def response_document(response: Response) -> Document:
    """A response as JSON holds it."""
    return {
        "text": response.text,
        "scored": [[own.logprob, own.n_tokens, own.is_greedy] for own in response.scored],
        "tokens": response.tokens,
        "problem": response.problem,
    }


def response_of(document: Mapping[str, Any]) -> Response:
    """The same back."""
    return Response(
        text=document["text"],
        scored=tuple(Scored(*own) for own in document["scored"]),
        tokens=document["tokens"],
        problem=document["problem"],
    )
