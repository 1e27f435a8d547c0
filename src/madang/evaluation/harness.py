"""Any engine as a model of lm-evaluation-harness (EleutherAI): likelihoods, rolling likelihoods, greedy answers.

    python -m madang.evaluation.harness --model madang --model_args model=smollm2:135m --tasks kobest_boolq

runs the harness's own command line with the model ``madang`` in it. Its arguments are ``model`` and any setting.
Needs the extra ``eval``; nothing else of madang imports this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from madang.core import Engine, Message, Request, SamplingParams, Speller
from madang.core.errors import EngineError, InvalidRequest
from madang.core.request import MAX_STOP_STRINGS
from madang.core.settings import load_settings
from madang.evaluation.asking import ask_all
from madang.evaluation.tasks.answers import GREEDY
from madang.evaluation.tasks.task import Prompt, Response
from madang.runtime import open_model

_MOST_TOKENS = 256  # of an answer, where a task does not say; the harness's own default
_SAMPLING = {"temperature": float, "top_k": int, "top_p": float, "min_p": float}


@register_model("madang")
class MadangLM(LM):  # type: ignore[misc]  # the harness has no types
    """A model that madang opens, or an ``engine`` that is open already.

    ``prefix`` stands before texts without a context; unset, it is what the tokenizer begins a text with, or a line
    break. The harness with transformers takes the model's BOS token there.
    """

    def __init__(
        self, model: str = "", *, engine: Engine | None = None, prefix: str = "", **settings: str | int
    ) -> None:
        super().__init__()
        for name in ("batch_size", "max_batch_size", "device"):  # the harness hands these to every model
            settings.pop(name, None)
        self._name = model or (engine.info.model if engine is not None else "")
        self._engine = engine or open_model(model, load_settings(settings, os.environ))
        self._prefix = prefix

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability, is greedy) of each continuation after its context."""
        prompts = [*self._choices([request.args for request in requests])]
        scores = [own for response in ask_all(self._engine, prompts) for own in _checked(response).scored]
        found = [(own.logprob, own.is_greedy) for own in scores]
        for request, result in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, result)
        return found

    def _choices(self, pairs: Sequence[tuple[str, str]]) -> Iterator[Prompt]:
        """Requests that follow each other with one context are branches of it."""
        for context, group in groupby(pairs, key=lambda pair: pair[0]):
            continuations = [continuation for _, continuation in group]
            bare = context.rstrip()
            if not bare:
                begin = Request(prompt=self._prefix)
                yield from (Prompt(begin, (context + text,), is_rolling=True) for text in continuations)
            else:  # spaces between belong to what follows, as tokenizers have it
                spaces = context[len(bare) :]
                yield Prompt(Request(prompt=bare), tuple(spaces + text for text in continuations))

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each text from its beginning."""
        begin = Request(prompt=self._prefix)
        prompts = [Prompt(begin, (request.args[0],), is_rolling=True) for request in requests]
        found = [_checked(response).scored[0].logprob for response in ask_all(self._engine, prompts)]
        for request, result in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, result)
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What is generated after each context until a text that ends it."""
        prompts = [Prompt(_answer_request(*request.args)) for request in requests]
        found = []
        for request, response in zip(requests, ask_all(self._engine, prompts), strict=True):
            text = _checked(response).text
            for end in _ends(request.args[1]):
                text = text.split(end)[0]
            self.cache_hook.add_partial("generate_until", request.args, text)
            found.append(text)
        return found

    @property
    def tokenizer_name(self) -> str:
        """What the harness keeps prepared requests under."""
        return f"madang:{self._name}"

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The model's own template is applied inside the engine; the harness only records this."""
        return "" if chat_template is False else f"of {self._name}"

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the model's template writes it. Raises EngineError where an engine cannot tell."""
        if not isinstance(self._engine, Speller) or not add_generation_prompt:
            raise EngineError("This engine does not show its chat template, so the harness cannot use it.")
        messages = tuple(Message(own["role"], own["content"]) for own in chat_history)  # type: ignore[arg-type]
        return self._engine.render(Request(messages=messages))


def _answer_request(context: str, options: Mapping[str, Any]) -> Request:
    chosen = {name: kind(options[name]) for name, kind in _SAMPLING.items() if options.get(name) is not None}
    sampling = GREEDY if not options.get("do_sample") else SamplingParams(**chosen)
    ends = tuple(_ends(options))[:MAX_STOP_STRINGS]
    return Request(prompt=context, sampling=sampling, max_tokens=_most_tokens(options), stop=ends)


def _most_tokens(options: Mapping[str, Any]) -> int:
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
    return next((int(options[name]) for name in names if options.get(name) is not None), _MOST_TOKENS)


def _ends(options: Mapping[str, Any]) -> list[str]:
    until = options.get("until") or []
    return [end for end in ([until] if isinstance(until, str) else until) if end]


def _checked(response: Response) -> Response:
    if response.problem is not None:
        raise InvalidRequest(response.problem)
    return response


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
