"""``/v1/chat/completions``: the request on the wire, and what it is in ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, WithJsonSchema

from madang.core.errors import InvalidRequest
from madang.core.request import Priority, Request
from madang.core.sampling import SamplingParams
from madang.server.answering import MAX_ANSWERS
from madang.server.fitting import Overflow
from madang.server.openai.messages import (
    WireMessage,
    WireResponseFormat,
    WireStreamOptions,
    WireTool,
    core_constraint,
    core_messages,
    core_tool_choice,
    core_tools,
)
from madang.server.wire import Refused, WireRequest

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Tier: TypeAlias = Literal["auto", "default", "flex", "scale", "priority", "fast"]

# What has no effect on a machine of one's own, wherever it appears.
IGNORED_EVERYWHERE = {
    "user": "requests are not told apart by user",
    "metadata": "requests are not kept",
    "store": "requests are not kept",
    "safety_identifier": "there is no moderation",
    "prompt_cache_key": "what was computed is shared by all requests that begin alike",
    "prompt_cache_options": "what was computed is shared by all requests that begin alike",
    "prompt_cache_retention": "what was computed is kept as long as memory lasts",
}
MODERATION = Refused("there is no moderation here")
_SEEDS = 2**64
# OpenAI's are signed, ours are not: each negative one of 64 bits is the same as the positive of these bits.
SignedSeed: TypeAlias = Annotated[
    int, WithJsonSchema({"type": "integer", "minimum": -_SEEDS // 2, "maximum": _SEEDS - 1})
]


class SampledRequest(WireRequest):
    """How tokens are chosen, in the words that chats and completions share; below the line, those of other servers."""

    model: str
    stream: bool | None = None
    stream_options: WireStreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: SignedSeed | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def n_answers(self) -> int:
        """How many answers. Raises InvalidRequest when it is none, or too many."""
        n = 1 if self.n is None else self.n
        if not 1 <= n <= MAX_ANSWERS:
            raise InvalidRequest(f"n is {n}, but must be from 1 to {MAX_ANSWERS}.", param="n")
        return n

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """As a tuple, however they were written."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def _seed(self) -> int | None:
        """Without its sign; one that has more than 64 bits is left as it is, for the sampler to refuse."""
        return None if self.seed is None else self.seed % _SEEDS if -_SEEDS // 2 <= self.seed < 0 else self.seed

    def sampling(self, logprobs: int | None) -> SamplingParams:
        """Raises InvalidRequest for a value out of its limits."""
        return SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
            repeat_last_n=self.repeat_last_n,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self._seed,
            logit_bias=_biases(self.logit_bias),
            logprobs=logprobs,
        )


def _biases(given: Mapping[str, float] | None) -> dict[int, float] | None:
    """Token ids are texts on the wire. Raises InvalidRequest for one that is no number."""
    if given is None:
        return None
    wrong = next((token for token in given if not (token.isascii() and token.isdigit() and len(token) < 10)), None)
    if wrong is not None:
        raise InvalidRequest(f"logit_bias names '{wrong}', which is no token id.", param="logit_bias")
    return {int(token): bias for token, bias in given.items()}


def several(request: Request, n: int) -> list[Request]:
    """The same request n times. With a seed each has its own, so that they differ, and are the same every time."""
    seed = request.sampling.seed
    if seed is None:
        return [request] * n
    return [replace(request, sampling=replace(request.sampling, seed=(seed + i) % _SEEDS)) for i in range(n)]


class ChatRequest(SampledRequest):
    """The body."""

    messages: list[WireMessage] = Field(min_length=1)
    max_completion_tokens: int | None = None
    tools: list[WireTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: WireResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: Effort | None = None
    service_tier: Tier | None = None
    context_overflow: Overflow | None = None

    IGNORED: ClassVar[Mapping[str, str]] = {
        **IGNORED_EVERYWHERE,
        "prediction": "the engine guesses tokens ahead by itself",
        "verbosity": "models here have no such switch; ask for it in a message",
    }
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "audio": Refused("models here speak in text only"),
        "modalities": Refused("models here answer in text only", harmless=(["text"],)),
        "functions": Refused("this older form of tools is not read; send tools"),
        "function_call": Refused("this older form of tool_choice is not read; send tool_choice", harmless=("none",)),
        "web_search_options": Refused("there is no search here"),
        "moderation": MODERATION,
    }

    def core_requests(self) -> list[Request]:
        """One for each answer. Raises InvalidRequest for what makes no sense."""
        request = Request(
            messages=core_messages(self.messages),
            tools=core_tools(self.tools or ()),
            sampling=self.sampling(self._n_top()),
            max_tokens=self._limit(),
            stop=self.stop_strings,
            constraint=self._constraint(),
            tool_choice=core_tool_choice(self.tool_choice),
            reasoning=reasoning_of(self.reasoning_effort),
            priority=priority_of(self.service_tier),
        )
        return several(request, self.n_answers)

    def warnings(self) -> list[str]:
        """What has no effect. Raises InvalidRequest for what is refused."""
        warnings = self.ignored()
        if any(message.name is not None and message.role != "tool" for message in self.messages):
            warnings.append("name is ignored: chat templates know of roles, not of names.")
        if any(tool.function is not None and tool.function.strict for tool in self.tools or ()) and (
            core_tool_choice(self.tool_choice) == "auto"
        ):
            warnings.append("strict is ignored: a call is held to its schema when tool_choice makes the model call.")
        return warnings

    def _limit(self) -> int | None:
        if self.max_completion_tokens is None:
            return self.max_tokens
        if self.max_tokens is not None and self.max_tokens != self.max_completion_tokens:
            raise InvalidRequest(
                f"max_tokens is {self.max_tokens}, max_completion_tokens {self.max_completion_tokens}; send one.",
                param="max_tokens",
            )
        return self.max_completion_tokens

    def _n_top(self) -> int | None:
        if not self.logprobs:
            if self.top_logprobs:
                raise InvalidRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
            return None
        return self.top_logprobs or 0

    def _constraint(self) -> Any:
        given = self.response_format
        if given is None:
            return None
        schema = None if given.json_schema is None else given.json_schema.json_schema
        return core_constraint(given.type, schema, "response_format.json_schema.schema")


def reasoning_of(effort: Effort | None) -> bool | None:
    """Models here think or do not; how much is theirs to say."""
    return None if effort is None else effort not in ("none", "minimal")


def priority_of(tier: Tier | None) -> Priority:
    """What may wait makes room for what is waited for."""
    return "background" if tier == "flex" else "chat"
