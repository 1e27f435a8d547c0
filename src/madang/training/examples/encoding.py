"""From examples to tokens, with loss on answers only.

Rendered by the template and tokenizer that `madang run` uses, so training and running cannot disagree. Where an answer
begins is found by rendering, never by searching: the prompt that running would give (the turns before it, with the
beginning of the assistant's turn) is compared with the rendered turn. Where it ends is where running would stop: at the
first end token behind that. Three things that templates do are met on the way:

- an earlier answer looks different once more turns follow (reasoning is taken out): it becomes an item of its own, in
  the form in which it will have to be generated;
- the turns before an answer look different once it is there (a system message that only the last turn shows): the
  answer is put behind the prompt that running would give;
- the prompt ends with words that the rendered turn has not (an opened "<think>"): loss begins where both part, and the
  report counts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidRequest, TemplateError
from madang.core.messages import Message
from madang.formats.templates import ChatTemplate
from madang.formats.tokenizers import Tokenizer
from madang.training.examples.example import Example, Problem

NO_LOSS: Final = -100  # the label that cross entropy leaves out, as in PyTorch

TooLong: TypeAlias = Literal["drop", "cut", "split", "refuse"]
POLICIES: Final[dict[TooLong, str]] = {
    "drop": "left out",
    "cut": "cut at the end, and left out where no answer is left",
    "split": "made into several if they are plain text, and left out if they are conversations",
    "refuse": "refused, with nothing done",
}


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One sequence, int32 [n] each; ``labels`` are aligned with ``input_ids``, -100 where no loss is taken."""

    input_ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]


@dataclass(slots=True)
class EncodingReport:
    """What became of the examples.

    too_long         examples with more than ``max_tokens``, and ``policy`` what was done with them
    items            sequences that came out; more than examples where a conversation became several
    without_end      answers behind which the template writes no token that ends a turn: nobody learns to stop from them
    unlike_running   answers whose prompt ends differently when the model runs
    problems         examples that the template refused
    """

    max_tokens: int
    policy: str
    examples: int = 0
    items: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    longest_tokens: int = 0
    too_long: int = 0
    without_end: int = 0
    unlike_running: int = 0
    problems: list[Problem] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """What is trained on, and the report on how it came to be."""

    items: list[Encoded]
    report: EncodingReport


def encode(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    max_tokens: int,
    too_long: TooLong = "drop",
) -> EncodedSet:
    """Every example as tokens and labels.

    too_long   what is done with more than ``max_tokens``: see :data:`POLICIES`

    Raises InvalidRequest for a policy that there is none of, and under "refuse" when something is too long, with how
    many and where.
    """
    if too_long not in get_args(TooLong):
        raise InvalidRequest(f"'{too_long}' is not one of {', '.join(get_args(TooLong))}.", param="too_long")
    if max_tokens < 2:
        raise InvalidRequest(f"Sequences of {max_tokens} tokens hold nothing to learn.", param="max_tokens")
    encoder = Encoder(tokenizer, template)
    report = EncodingReport(max_tokens, POLICIES[too_long])
    items: list[Encoded] = []
    refused: list[Example] = []
    for example in examples:
        report.examples += 1
        try:
            found = encoder.items(example)
        except TemplateError as error:
            report.problems.append(Problem(example.line, error.message))
            continue
        n_tokens = max(len(item.input_ids) for item in found)
        report.longest_tokens = max(report.longest_tokens, n_tokens)
        if n_tokens > max_tokens:
            report.too_long += 1
            refused.append(example)
            found = [part for item in found for part in _shortened(item, max_tokens, too_long, example)]
        items += found
    if too_long == "refuse" and refused:
        lines = ", ".join(str(example.line) for example in refused[:5])
        raise InvalidRequest(
            f"{len(refused)} examples have more than {max_tokens} tokens, the longest {report.longest_tokens};"
            f" the first are in line {lines}.",
            param="max_tokens",
            hint="Allow more tokens, or choose to drop or cut them.",
        )
    report.items, report.tokens = len(items), sum(len(item.input_ids) for item in items)
    report.loss_tokens = sum(int((item.labels != NO_LOSS).sum()) for item in items)
    report.without_end, report.unlike_running = encoder.without_end, encoder.unlike_running
    return EncodedSet(items, report)


def _shortened(item: Encoded, max_tokens: int, too_long: TooLong, example: Example) -> Iterator[Encoded]:
    if len(item.input_ids) <= max_tokens:
        yield item
    elif too_long == "split" and example.text is not None:
        for begin in range(0, len(item.input_ids), max_tokens):
            part = slice(begin, begin + max_tokens)
            labels = item.labels[part].copy()
            labels[0] = NO_LOSS  # nothing of this sequence comes before it
            if len(labels) > 1:
                yield Encoded(item.input_ids[part], labels)
    elif too_long == "cut" and (item.labels[:max_tokens] != NO_LOSS).any():
        yield Encoded(item.input_ids[:max_tokens], item.labels[:max_tokens])


class Encoder:
    """Renders and encodes one example after the other, and counts what is odd about them."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self.without_end = 0
        self.unlike_running = 0

    def items(self, example: Example) -> list[Encoded]:
        """At least one sequence. Raises TemplateError when the template refuses the conversation."""
        return [self._text(example.text)] if example.text is not None else self._conversation(example)

    def _text(self, text: str) -> Encoded:
        """The text between its first token, which nothing predicts, and the token that ends a document."""
        ids = self._tokenizer.encode(text, parse_special=False)
        end = self._tokenizer.eos_id
        if end is None:
            self.without_end += 1
        elif ids[-1:] != [end]:
            ids.append(end)
        return _encoded(ids, [(1, len(ids))])

    def _conversation(self, example: Example) -> list[Encoded]:
        messages = example.messages
        answered = [i for i, message in enumerate(messages) if message.role == "assistant" and i > 0]
        if not answered:
            raise TemplateError("Nothing is said before the answer.")
        whole, begin, end = self._turn(example, answered[-1])
        spans, alone = [(begin, end)], []
        for i in answered[:-1]:
            ids, begin, end = self._turn(example, i)
            if whole[:end] == ids[:end]:
                spans.append((begin, end))
            else:
                alone.append(_encoded(ids, [(begin, end)]))
        return [*alone, _encoded(whole, spans)]

    def _turn(self, example: Example, i: int) -> tuple[list[int], int, int]:
        """Tokens of the conversation up to answer ``i``, and those of them that the answer and its end are."""
        messages = example.messages[: i + 1]
        prompt, turn = self._render(example, messages[:-1], begins=True), self._render(example, messages)
        if not turn.startswith(prompt):
            joined = _behind(prompt, turn, self._guarded(messages[-2]), self._guarded(messages[-1]))
            if joined is not None:
                turn = joined
            elif turn.startswith(self._render(example, messages[:-1])):
                self.unlike_running += 1
            else:
                raise TemplateError("The chat template writes the turns before an answer anew once it is there.")
        ids, begin = self._joined(prompt, turn)
        ends = (k + 1 for k in range(begin, len(ids)) if ids[k] in self._tokenizer.end_ids)
        end = next(ends, None)
        if end is None:
            self.without_end += 1
        return ids, begin, len(ids) if end is None else end

    def _joined(self, prompt: str, turn: str) -> tuple[list[int], int]:
        """Tokens of the turn, and how many of them are the prompt's.

        Words of the prompt may merge with the answer's when they are encoded together, which they are not when the
        model runs. Where a text that begins in the middle would get a space of its own, they are learnt as merged.
        """
        before, ids = self._tokenizer.encode_chat(prompt), self._tokenizer.encode_chat(turn)
        begin = _n_common(before, ids)
        if begin == len(before) or not turn.startswith(prompt) or self._tokenizer.leading_space:
            return ids, begin
        return before + self._tokenizer.encode(turn[len(prompt) :], add_special=False), len(before)

    def _guarded(self, message: Message) -> str:
        return self._tokenizer.guard(message.content).strip()

    def _render(self, example: Example, messages: Sequence[Message], *, begins: bool = False) -> str:
        return self._template.render(messages, example.tools, add_generation_prompt=begins, guard=self._tokenizer.guard)


def _behind(prompt: str, turn: str, question: str, answer: str) -> str | None:
    """The answer, as ``turn`` writes it, behind the prompt that running would give; None where it is not to be told."""
    at = prompt.rfind(question)
    tail = prompt[at:] if question and at >= 0 else ""
    found = turn.rfind(tail, 0, turn.rfind(answer)) if tail and answer else -1
    return None if found < 0 else prompt + turn[found + len(tail) :]


def _n_common(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = zip(a, b, strict=False)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(a), len(b)))


def _encoded(ids: Sequence[int], spans: Iterable[tuple[int, int]]) -> Encoded:
    input_ids = np.array(ids, np.int32)
    labels = np.full(len(ids), NO_LOSS, np.int32)
    for begin, end in spans:
        labels[begin:end] = input_ids[begin:end]
    return Encoded(input_ids, labels)
