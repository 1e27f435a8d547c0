"""The gate: an export is kept only when it is the model that was trained.

What is compared, in this order, so that the first difference names the mistake: tokens of words, ids of beginning and
end, the token that ends a turn, prompts of conversations, the tie of head and embeddings, greedy continuations, and KL
on prose. The trained side is computed once for any number of exports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.core.errors import EngineError, ParityFailed, TemplateError
from madang.core.messages import Message
from madang.formats.templates import ChatTemplate
from madang.formats.tokenizers import Tokenizer
from madang.quantization.divergence import KeptLogits, measure
from madang.training.exporting.bounds import Bound
from madang.training.exporting.conversations import CONVERSATIONS, PROSE, WORDS
from madang.training.exporting.sides import Side, TorchSide
from madang.training.exporting.trained import Trained

GREEDY_TOKENS: Final = 24
CHUNK_TOKENS: Final = 192
MAX_CHUNKS: Final = 8
_TEMPLATE_HINT: Final = "The exported file has another chat template than the model was trained with."
_TOKENIZER_HINT: Final = "The exported file has another tokenizer than the model was trained with."


@dataclass(frozen=True, slots=True)
class ParityReport:
    """What was compared, and how far apart the two are.

    n_prompts        conversations whose token ids are the same
    greedy_tokens    compared one by one; ``agreement`` is the share that is the same
    mean_kl          KL(trained || exported), nats per token of ``kl_tokens`` tokens of held-out prose
    bound            what they were held to
    """

    n_prompts: int
    greedy_tokens: int
    agreement: float
    kl_tokens: int
    mean_kl: float
    largest_kl: float
    perplexity: float
    trained_perplexity: float
    bound: Bound

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def read_report(document: Mapping[str, Any]) -> ParityReport | None:
    """Back from JSON; None for what is no report."""
    try:
        return ParityReport(**{**document, "bound": Bound(**document["bound"])})
    except (KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class _Continuation:
    """A conversation's prompt and the trained model's greedy answer."""

    name: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class Reference:
    """The trained model: what it reads, answers and expects. Its logits lie in files of ``work``."""

    def __init__(self, trained: Trained, work: Path, *, text: str | None = None) -> None:
        """Compute everything that exports are compared with, once.

        text   held-out prose of the model's own field, beside ours; the more tokens, the surer the KL

        Raises ParityFailed when the trained model itself cannot end a turn, EngineUnavailable, NotEnoughDisk.
        """
        settings = work / "settings"
        settings.mkdir(parents=True)
        trained.write_settings(settings)
        side = TorchSide(trained.folder, trained.adapter, settings)
        try:
            self.tokenizer, self.template, self.is_tied = side.tokenizer, side.template, side.is_tied
            _check_turn_end(self.tokenizer, self.template)
            self.prompts = prompts_of(self.tokenizer, self.template)
            self.continuations = [
                _Continuation(name, tuple(ids), tuple(side.greedy(ids, GREEDY_TOKENS)))
                for name, ids in self.prompts.items()
                if ids is not None
            ]
            self.prose = _chunks(self.tokenizer, (*PROSE, *([] if text is None else [text])))
            texts = [[*one.prompt, *one.answer] for one in self.continuations] + self.prose
            n_words = next(side.logits(texts[0][:1])).shape[-1]
            self.logits = KeptLogits(work / "logits", side, texts, n_words)
        finally:
            side.close()


def check_parity(reference: Reference, exported: Side, bound: Bound) -> ParityReport:
    """Compare; raises ParityFailed with the first difference, EngineError for logits of another shape."""
    _check_tokenizer(reference.tokenizer, exported.tokenizer)
    _check_prompts(reference, exported)
    if None not in (reference.is_tied, exported.is_tied) and reference.is_tied != exported.is_tied:
        words = {True: "tied to its embeddings", False: "a matrix of its own"}
        raise ParityFailed(
            "output head",
            f"trained it is {words[bool(reference.is_tied)]}, exported it is {words[bool(exported.is_tied)]}",
        )
    try:
        n_greedy, agreement, first = _greedy(reference, exported, bound.tie_nats)
        found = measure(reference.logits, exported, reference.prose)
    except EngineError as error:
        raise ParityFailed("logits", error.message.rstrip(".")) from error
    report = ParityReport(
        n_prompts=len(reference.continuations),
        greedy_tokens=n_greedy,
        agreement=agreement,
        kl_tokens=len(found.kl),
        mean_kl=found.mean,
        largest_kl=float(found.kl.max()),
        perplexity=found.perplexity,
        trained_perplexity=found.reference_perplexity,
        bound=bound,
    )
    _check_bound(report, first)
    return report


def _check_bound(report: ParityReport, first: str) -> None:
    bound = report.bound
    if not report.mean_kl <= bound.mean_kl:
        raise ParityFailed(
            "probabilities",
            f"KL is {report.mean_kl:.4g} nats per token on held-out text, at most {bound.mean_kl:g} is allowed; "
            f"perplexity {report.trained_perplexity:.4g} became {report.perplexity:.4g}",
            hint="Weights were lost on the way: an adapter merged into quantized weights, a head or a matrix missed. "
            "For few bits, another type, or --max-kl, may be what you want.",
        )
    if report.agreement < bound.agreement:
        raise ParityFailed(
            "greedy answers",
            f"{report.agreement:.1%} of {report.greedy_tokens} tokens are the same, at least {bound.agreement:.0%} are "
            f"required; first {first}",
        )


# ---- what is read


def prompts_of(tokenizer: Tokenizer, template: ChatTemplate) -> dict[str, list[int] | None]:
    """Token ids of every fixed conversation; None where the template refuses it, as some do with system prompts."""
    return {name: _prompt(tokenizer, template, messages) for name, messages in CONVERSATIONS.items()}


def _prompt(tokenizer: Tokenizer, template: ChatTemplate, messages: Sequence[Message]) -> list[int] | None:
    try:
        return tokenizer.encode_chat(template.render(messages, guard=tokenizer.guard))
    except TemplateError:
        return None


def _check_tokenizer(trained: Tokenizer, exported: Tokenizer) -> None:
    for text in WORDS:
        ids, others = (own.encode(text, add_special=False, parse_special=False) for own in (trained, exported))
        if ids != others:
            raise ParityFailed("tokenizer", _first(ids, others, trained, exported, repr(text)), hint=_TOKENIZER_HINT)
        for token in ids:
            if trained.token_bytes(token) != exported.token_bytes(token):
                raise ParityFailed(
                    "tokenizer",
                    f"token {token} is {trained.token_text(token)!r}, exported {exported.token_text(token)!r}",
                    hint=_TOKENIZER_HINT,
                )
    ids_of: dict[str, tuple[list[int] | int | None, list[int] | int | None]] = {
        "beginning-of-sequence token": (trained.bos_id, exported.bos_id),
        "tokens around a text": (_around(trained), _around(exported)),
        "end-of-sequence token": (trained.eos_id, exported.eos_id),
        "tokens that end an answer": (sorted(trained.end_ids), sorted(exported.end_ids)),
    }
    for what, (before, after) in ids_of.items():
        if before != after:
            raise ParityFailed(
                what,
                f"trained {_shown(before, trained)}, exported {_shown(after, exported)}",
                hint="Without the right end, answers never stop; without the right beginning, they are worse.",
            )


def _around(tokenizer: Tokenizer) -> list[int]:
    return [*tokenizer.vocabulary.prefix_ids, *tokenizer.vocabulary.suffix_ids]


def _check_turn_end(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    """The control token that the template writes after an answer must end one. Raises ParityFailed."""
    question, answer = Message("user", "Q"), Message("assistant", "A")
    try:
        asked = template.render([question], guard=tokenizer.guard)
        whole = template.render([question, answer], add_generation_prompt=False, guard=tokenizer.guard)
    except TemplateError:
        return
    if not whole.startswith(asked + "A"):
        return
    ids = tokenizer.encode(whole[len(asked) + 1 :], add_special=False)
    controls = [token for token in ids if tokenizer.is_control(token)]
    if controls and tokenizer.end_ids.isdisjoint(controls):
        raise ParityFailed(
            "end of a turn",
            f"the template ends an answer with {_shown(controls[:1], tokenizer)}, but answers are only ended by "
            f"{_shown(sorted(tokenizer.end_ids), tokenizer)}",
            hint="State it as eos_token_id in generation_config.json of the trained folder; otherwise answers never "
            "stop.",
        )


def _check_prompts(reference: Reference, exported: Side) -> None:
    others = prompts_of(exported.tokenizer, exported.template)
    for name, ids in reference.prompts.items():
        other = others[name]
        if ids is None and other is None:
            continue
        if ids is None or other is None:
            which = "trained" if ids is None else "exported"
            raise ParityFailed("prompt", f"of {name}, the {which} template refuses it", hint=_TEMPLATE_HINT)
        if ids != other:
            raise ParityFailed(
                "prompt", _first(ids, other, reference.tokenizer, exported.tokenizer, name), hint=_TEMPLATE_HINT
            )


def _first(ids: Sequence[int], others: Sequence[int], trained: Tokenizer, exported: Tokenizer, what: str) -> str:
    at = next(number for number, (a, b) in enumerate(zip_longest(ids, others)) if a != b)
    before, after = (_shown(list(own[at : at + 4]), by) for own, by in ((ids, trained), (others, exported)))
    return f"in {what}, from token {at + 1} on, trained {before}, exported {after}"


def _shown(value: list[int] | int | None, tokenizer: Tokenizer) -> str:
    """Ids with their texts."""
    if value is None:
        return "none"
    ids: list[int] = value if isinstance(value, list) else [value]
    return " ".join(f"{token} {tokenizer.token_text(token)!r}" for token in ids) or "nothing"


# ---- what is computed


def _greedy(reference: Reference, exported: Side, tie_nats: float) -> tuple[int, float, str]:
    """Tokens, the share that the export would choose as well after the same tokens, and the first other one in words.

    The export reads the trained model's answer: where every token is its own choice too, that is its greedy answer.
    """
    n_same = n_tokens = 0
    first = ""
    for one in reference.continuations:
        text = [*one.prompt, *one.answer]
        trained = np.concatenate(list(reference.logits.logits(text[:-1])))[len(one.prompt) - 1 :]
        rows = np.concatenate(list(exported.logits(text[:-1])))[len(one.prompt) - 1 :]
        if rows.shape != trained.shape:
            raise EngineError(f"{rows.shape[-1]} words, the trained model has {trained.shape[-1]}.")
        for at, (row, own, token) in enumerate(zip(rows, trained, one.answer, strict=True)):
            chosen = int(row.argmax())
            n_tokens += 1
            if chosen == token or own[token] - own[chosen] < tie_nats:
                n_same += 1
            elif not first:
                names = (_shown(token, reference.tokenizer), _shown(chosen, exported.tokenizer))
                first = f"in {one.name}, answer token {at + 1}: trained {names[0]}, exported {names[1]}"
    return n_tokens, n_same / max(n_tokens, 1), first


def _chunks(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Of each text its first tokens; all have what the model expects at the beginning."""
    found: list[list[int]] = []
    for text in texts:
        ids = tokenizer.encode(text, parse_special=False)
        parts = [ids[begin : begin + CHUNK_TOKENS] for begin in range(0, len(ids), CHUNK_TOKENS)]
        found += [part for part in parts[:MAX_CHUNKS] if len(part) > 1]
    return found


def bounded(bound: Bound, max_kl: float | None) -> Bound:
    """A bound with what a person allows in place of its KL; greedy answers are then not held to a share."""
    return bound if max_kl is None else replace(bound, mean_kl=max_kl, agreement=0.0)
