"""``madang run``: one answer, or a chat."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from typing import Annotated

import typer

from madang.cli import options
from madang.cli.answering import AnswerOptions, answer_once
from madang.cli.forming import AdapterArgument, constraint_of
from madang.cli.prompting import checked_text, read_prompt
from madang.core.errors import InvalidRequest
from madang.core.request import Request
from madang.core.sampling import SAMPLING_DEFAULTS, SamplingParams


def _option(name: str, metavar: str, text: str, default: object = None) -> typer.models.OptionInfo:
    """A number option; ``default`` is only told: what holds when neither the user nor the model says otherwise."""
    told = "" if default is None else f" Unset: the model's own, else {default}."
    info: typer.models.OptionInfo = typer.Option(name, metavar=metavar, help=text + told)
    return info


def run(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    model: options.Model,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to answer; without one it is a chat.")
    ] = None,
    *,
    system: Annotated[str | None, _option("--system", "TEXT", "System message: how to answer.")] = None,
    max_tokens: Annotated[
        int | None, _option("--max-tokens", "N", "Most tokens to generate; 0 only reads the prompt.")
    ] = None,
    temperature: Annotated[
        float | None,
        _option("--temperature", "T", "Randomness; 0 always takes the likeliest token.", SAMPLING_DEFAULTS.temperature),
    ] = None,
    top_k: Annotated[
        int | None, _option("--top-k", "K", "Draw from the K likeliest tokens; 0 is all.", SAMPLING_DEFAULTS.top_k)
    ] = None,
    top_p: Annotated[
        float | None,
        _option("--top-p", "P", "Draw from the likeliest that add up to P; 1 is all.", SAMPLING_DEFAULTS.top_p),
    ] = None,
    min_p: Annotated[
        float | None,
        _option(
            "--min-p", "P", "Leave out what is less likely than P times the best; 0 is off.", SAMPLING_DEFAULTS.min_p
        ),
    ] = None,
    repeat_penalty: Annotated[
        float | None,
        _option("--repeat-penalty", "R", "Make recent tokens less likely; 1 is off.", SAMPLING_DEFAULTS.repeat_penalty),
    ] = None,
    seed: Annotated[int | None, _option("--seed", "N", "Same seed and same request, same answer.")] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", metavar="TEXT", help="End the answer before this text; may be given several times."),
    ] = None,
    schema: Annotated[
        str | None, _option("--schema", "FILE|JSON", "The answer is JSON that this JSON schema accepts.")
    ] = None,
    regex: Annotated[str | None, _option("--regex", "PATTERN", "The answer matches this pattern as a whole.")] = None,
    grammar: Annotated[
        str | None, _option("--grammar", "FILE", "The answer follows this grammar, in Lark's notation.")
    ] = None,
    think: Annotated[
        bool | None,
        typer.Option("--think/--no-think", help="Whether a model that can think first does; unset: as it likes."),
    ] = None,
    adapter: Annotated[
        str | None, _option("--adapter", "PATH[:SCALE]", "Answer with this LoRA adapter: a PEFT folder or GGUF file.")
    ] = None,
    logprobs: Annotated[
        int | None, _option("--logprobs", "N", "With --json: how likely each token was, and N alternatives.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Send the prompt as it is, without the model's chat template.")
    ] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Say how fast it was and where the tokens went.")] = False,
    context: options.Context = None,
    threads: options.Threads = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    kv_memory: options.KvMemory = None,
    kv_type: options.KvType = None,
    speculation: options.Speculation = None,
    as_json: options.Json = False,
) -> None:
    """Answer a prompt, or chat when there is none. What is piped in is added to the prompt."""
    settings = options.settings_of(
        ctx,
        threads=threads,
        context=context,
        engine=engine,
        precision=precision,
        kv_memory=kv_memory,
        kv_type=kv_type,
        speculation=speculation,
    )
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
    own = None if adapter is None else AdapterArgument.of(adapter)
    text = read_prompt(prompt, sys.stdin)
    request = _request(answer, text, raw=raw, as_json=as_json)  # refuse what makes no sense before a model is loaded

    from madang.cli.pull import fetch_with_progress
    from madang.runtime import open_model

    with closing(open_model(model, settings, fetch=fetch_with_progress)) as loaded:
        if own is not None:
            answer = replace(answer, adapter=own.load_into(loaded))
        if request is not None:
            request = replace(request, adapter=answer.adapter)
            answer_once(loaded, request, as_json=as_json, stats=stats)
            return
        from madang.cli.chat import chat

        chat(loaded, answer, home=settings.home, stats=stats)


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
