"""What a model is asked to do in a comparison, one step at a time; requests and results are JSON.

    speed    prompt_tokens, decode_tokens, number                 -> the fields of SpeedRun
    answer   prompt, max_tokens, raw                              -> text, tokens
    read     text, [keep: file], [against: {file, token_digest}]  -> tokens, nats, token_digest, [kl, agreed]
    ask      prompts of tasks (asking.py)                         -> number, response for each; then {"end": true}

Results of the first two also have ``resident_bytes`` and ``peak_bytes``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from madang.core import Engine, LogitSource, Message, Request, SamplingParams, Scorer
from madang.core.errors import EngineError, InvalidRequest
from madang.core.writing import require_disk
from madang.evaluation.asking import ask, generate, prompt_of, response_document
from madang.evaluation.speed import run_answer
from madang.hardware.residence import peak_bytes, resident_bytes
from madang.quantization.divergence import compare, rows_of

Step = Mapping[str, Any]
Result = dict[str, Any]


def take_steps(engine: Engine, step: Step) -> Iterator[Result]:
    """What comes of a step: one result, but of "ask" one for each prompt. Raises as below."""
    if step["do"] != "ask":
        yield take_step(engine, step)
        return
    for number, response in ask(engine, [*map(prompt_of, step["prompts"])]):
        yield {"number": number, "response": response_document(response)}
    yield {"end": True}


def take_step(engine: Engine, step: Step) -> Result:
    """Do it. Raises what the engine raises, InvalidRequest for what it cannot measure."""
    match step["do"]:
        case "speed":
            run = run_answer(engine, step["prompt_tokens"], step["decode_tokens"], step["number"])
            return {**run._asdict(), **_memory()}
        case "answer":
            return {**_answer(engine, step["prompt"], step["max_tokens"], raw=step["raw"]), **_memory()}
        case "read":
            return read_passage(engine, step)
    raise EngineError(f"There is no step '{step['do']}'.")


def _memory() -> Result:
    return {"resident_bytes": resident_bytes(), "peak_bytes": peak_bytes()}


def _answer(engine: Engine, prompt: str, max_tokens: int, *, raw: bool) -> Result:
    """The likeliest answer, without thinking first where a model can leave that out."""
    limits: dict[str, Any] = {"max_tokens": max_tokens, "sampling": SamplingParams(temperature=0)}
    if raw:
        found = generate(engine, Request(prompt=prompt, **limits))
    else:
        found = generate(engine, Request(messages=(Message("user", prompt),), reasoning=False, **limits))
    return {"text": found.text, "tokens": found.done.usage.completion_tokens}


def read_passage(engine: object, step: Step) -> Result:
    """How likely a text is, and how far the distributions are from the kept ones."""
    if isinstance(engine, LogitSource):
        return _read_logits(engine, step)
    if isinstance(engine, Scorer):
        scored = engine.score(Request(prompt="\n"), [step["text"]])[0]
        return {"tokens": scored.n_tokens, "nats": -scored.logprob, "token_digest": None}
    raise InvalidRequest("Not measurable with this engine: it does not tell how likely a given text is.")


def _read_logits(engine: LogitSource, step: Step) -> Result:
    tokens = text_tokens(engine, step["text"])
    rows = rows_of(engine, tokens)
    own = compare(rows, rows, tokens)
    digest = hashlib.sha256(np.array(tokens, "<i8").tobytes()).hexdigest()
    found: Result = {"tokens": len(own.logprob), "nats": -float(own.logprob.sum()), "token_digest": digest}
    keep, against = step.get("keep"), step.get("against")
    if keep is not None:
        require_disk(Path(keep).parent, rows.nbytes)
        np.save(keep, rows)
    if against is not None and against["token_digest"] == digest:
        reference = np.load(against["file"], mmap_mode="r")
        width = min(reference.shape[1], rows.shape[1])  # some engines leave out rows that stand for no token
        apart = compare(np.ascontiguousarray(reference[:, :width]), np.ascontiguousarray(rows[:, :width]), tokens)
        found["kl"] = [float(f"{value:.7g}") for value in apart.kl]
        found["agreed"] = int(apart.agrees.sum())
    return found


def text_tokens(engine: LogitSource, text: str) -> Sequence[int]:
    """Tokens of which all but the first are predicted: the one that begins a text, or a line break where there is none.

    So all of a text counts, whatever the tokenizer.
    """
    begins = len(engine.tokenize("")) > 0
    return engine.tokenize(text if begins else f"\n{text}")
