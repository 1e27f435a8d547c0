"""``madang run``: one answer, or a chat."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from madang.cli import options
from madang.cli.answering import AnswerOptions, answer_once
from madang.cli.forming import AdapterArgument, constraint_of
from madang.cli.prompting import checked_text, read_prompt
from madang.core.engine import Engine
from madang.core.errors import InvalidRequest
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.core.settings import Settings

if TYPE_CHECKING:
    from madang.cli.keeping import Keeper
    from madang.runtime.forecasting import Learner


@options.running()
def run(  # noqa: PLR0913  (a command line's options are its parameters)
    model: options.Model,
    prompt: options.Prompt = None,
    *,
    settings: Settings,
    system: options.System = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repeat_penalty: options.RepeatPenalty = None,
    seed: options.Seed = None,
    stop: options.Stop = None,
    schema: options.Schema = None,
    regex: options.Pattern = None,
    grammar: options.LarkGrammar = None,
    think: options.Think = None,
    adapter: options.Adapter = None,
    logprobs: options.Logprobs = None,
    session: options.KeptIn = None,
    last: options.Continue = False,
    raw: options.Raw = False,
    stats: options.Stats = False,
    as_json: options.Json = False,
) -> None:
    """Answer a prompt, or chat when there is none. What is piped in is added to the prompt."""
    answer = AnswerOptions(
        system=None if system is None else checked_text(system, "The system message"),
        max_tokens=max_tokens,
        stop=tuple(stop or ()),
        sampling=SamplingParams(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repeat_penalty=repeat_penalty,
            seed=seed,
            logprobs=logprobs,
        ),
        constraint=constraint_of(schema, regex, grammar),
        reasoning=think,
    )
    from madang.cli.pull import fetcher
    from madang.models import Store
    from madang.runtime import open_model
    from madang.runtime.deriving import adapter_of, preset_of

    own = None if adapter is None else AdapterArgument.of(adapter)
    text = read_prompt(prompt, sys.stdin)
    store = Store(settings.home)
    preset = preset_of(store, model)
    answer = replace(answer, preset=preset)
    request = _request(answer, text, raw=raw, as_json=as_json)  # refuse what makes no sense before a model is loaded

    is_kept = session is not None or last
    keeper = _keeper(settings.home, session, is_chat=request is None) if is_kept else None
    with closing(open_model(model, settings, fetch=fetcher(settings))) as loaded:
        if own is not None:
            answer = replace(answer, adapter=own.load_into(loaded))
        elif preset is not None:
            answer = replace(answer, adapter=adapter_of(store, loaded, preset))
        if request is None:
            _chat(loaded, model, answer, settings, keeper, stats=stats)
            return
        done = answer_once(loaded, replace(request, adapter=answer.adapter), as_json=as_json, stats=stats)
        if (learner := _learner(model, settings)) is not None:
            learner.learn(done, is_only=True)


def _chat(
    loaded: Engine, model: str, answer: AnswerOptions, settings: Settings, keeper: Keeper | None, *, stats: bool
) -> None:
    from madang.cli.chat import chat

    learner = _learner(model, settings)
    learn = None if learner is None else learner.learn
    chat(loaded, answer, home=settings.home, stats=stats, keeper=keeper, learn=learn)


def _learner(model: str, settings: Settings) -> Learner | None:
    """What compares answers with their forecast, where there is one."""
    from madang.hardware.profile import MACHINE_FILE

    if not (settings.home / MACHINE_FILE).exists():
        return None
    from madang.runtime.forecasting import Learner

    return Learner(model, settings)


def _keeper(home: Path, session: str | None, *, is_chat: bool) -> Keeper | None:
    """What keeps the chat. Raises :class:`InvalidRequest` when there is nothing to keep, or nothing to go on with."""
    from madang.cli.keeping import open_session

    if not is_chat:
        raise InvalidRequest("--session and --continue are for chats; leave the prompt out.", param="session")
    return open_session(home, session)


def _request(answer: AnswerOptions, text: str | None, *, raw: bool, as_json: bool) -> Request | None:
    """The one request, or None for a chat. Raises :class:`InvalidRequest` when options contradict each other."""
    from madang.core.messages import Message

    if raw and answer.system is not None:
        raise InvalidRequest("--raw sends no system message, so --system cannot be given with it.", param="system")
    if answer.sampling.logprobs is not None and not as_json:
        raise InvalidRequest("--logprobs are only shown with --json.", param="logprobs")
    if text is None:
        if as_json or raw:
            raise InvalidRequest("--json and --raw need a prompt; without one it is a chat.", param="prompt")
        return None
    return answer.raw_request(text) if raw else answer.chat_request([Message("user", text)])
