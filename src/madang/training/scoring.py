"""What a model makes of held-out examples and of a text that has nothing to do with them, before and after a run.

An answer is an exact match when each of its tokens, the one that ends it included, is the likeliest after those before
it: then greedy decoding gives this answer and no other. One pass tells that and the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from madang import __version__
from madang.evaluation import EvaluationResult, TaskResult
from madang.evaluation.kept import key_of
from madang.evaluation.measures import difference, estimate, is_noise
from madang.evaluation.running import now
from madang.evaluation.tasks.task import mean_figure
from madang.evaluation.texts import EvaluationText
from madang.formats.tokenizers import Tokenizer, decode
from madang.training.batching import rows_of
from madang.training.examples import Encoded
from madang.training.examples.encoding import NO_LOSS
from madang.training.loss import Objective

MIN_INTERVAL: Final = 5


@dataclass(frozen=True, slots=True)
class Scores:
    """Item by item. ``nats`` over ``tokens`` is the loss; ``exact`` is 1 for an exact match."""

    nats: tuple[float, ...]
    tokens: tuple[int, ...]
    exact: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The mean loss and share of exact matches with their intervals."""
        return {
            "n": len(self.nats),
            "loss": estimate(self.nats, self.tokens),
            "exact_match": estimate(self.exact, [1.0] * len(self.exact)),
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """A model on held-out examples, and on each part of the text."""

    held_out: Scores
    texts: Mapping[str, Scores]

    def to_dict(self) -> dict[str, Any]:
        """With perplexities of the text."""
        return {
            "held_out": self.held_out.to_dict() if self.held_out.nats else None,
            "texts": {
                part: {
                    "n": len(scores.nats),
                    "tokens": sum(scores.tokens),
                    "perplexity": estimate(scores.nats, scores.tokens, math.exp),
                }
                for part, scores in self.texts.items()
            },
        }


def score_items(model: Any, objective: Objective, items: Sequence[Encoded], row_tokens: int, *, packed: bool) -> Scores:
    """Each item by itself, whatever row it lies in."""
    was_training = model.training
    model.eval()
    nats, tokens = [0.0] * len(items), [0] * len(items)
    exact = [1.0] * len(items)
    for row, numbers in rows_of(items, row_tokens, packed=packed) if items else ():
        judged = objective.judge(row)
        row_nats, row_greedy = judged.nats.float().cpu().numpy(), judged.is_greedy.cpu().numpy()
        for place, number in enumerate(numbers):
            own = row.owners == place
            nats[number] = float(row_nats[own].sum())
            tokens[number] = int(own.sum())
            exact[number] = float(row_greedy[own].all())
    model.train(was_training)
    return Scores(tuple(nats), tuple(tokens), tuple(exact))


def text_items(text: EvaluationText, tokenizer: Tokenizer) -> dict[str, list[Encoded]]:
    """Passages whose tokens all count but the first, by part."""
    found: dict[str, list[Encoded]] = {part: [] for part in text.parts}
    begins = len(tokenizer.encode("")) > 0
    for passage in text.passages:
        ids = np.array(tokenizer.encode(passage.text if begins else f"\n{passage.text}", parse_special=False), np.int32)
        found[passage.part].append(Encoded(ids, ids.copy()))
    return found


def standing(
    model: Any,
    objective: Objective,
    held_out: Sequence[Encoded],
    texts: Mapping[str, Sequence[Encoded]],
    row_tokens: int,
    *,
    packed: bool,
) -> Standing:
    """Score everything."""
    parts = {name: score_items(model, objective, items, row_tokens, packed=packed) for name, items in texts.items()}
    return Standing(score_items(model, objective, held_out, row_tokens, packed=packed), parts)


def compared(before: Standing, after: Standing) -> dict[str, Any]:
    """After minus before, paired item by item, each with its interval; ``flips`` are of exact matches.

    Differences of text are in nats per token: times 100, roughly per cent of perplexity.
    """
    old, new = before.held_out, after.held_out
    pairs = list(zip(old.exact, new.exact, strict=True))
    return {
        "loss": _difference(new.nats, old.nats, old.tokens),
        "exact_match": _difference(new.exact, old.exact, [1] * len(old.exact)),
        "flips": {"gained": sum(a < b for a, b in pairs), "lost": sum(a > b for a, b in pairs)},
        "texts": {
            part: _difference(after.texts[part].nats, scores.nats, scores.tokens)
            for part, scores in before.texts.items()
        },
    }


def _difference(new: Sequence[float], old: Sequence[float], counts: Sequence[int]) -> dict[str, Any] | None:
    found = difference(new, old, counts)
    if found is None:
        return None
    value, low, high = found
    return {"value": value, "low": low, "high": high, "within_noise": is_noise(found)}


def as_evaluation(
    found: Standing,
    held_out: Sequence[Encoded],
    texts: Mapping[str, Sequence[Encoded]],
    model: Mapping[str, Any],
) -> EvaluationResult:
    """The same as results of tasks, which ``madang runs`` shows and compares with those of other runs."""
    loss = [
        _as_task("held-out loss", "loss", held_out, found.held_out),
        _as_task("held-out answers", "exact_match", held_out, found.held_out),
    ]
    kept = [_as_task(f"text {part}", "perplexity", texts[part], scores) for part, scores in found.texts.items()]
    return EvaluationResult(model, (*(loss if held_out else ()), *kept), now(), __version__)


def _as_task(name: str, metric: str, items: Sequence[Encoded], scores: Scores) -> TaskResult:
    is_exact = metric == "exact_match"
    values = scores.exact if is_exact else scores.nats
    weights = [1.0] * len(values) if is_exact else list(map(float, scores.tokens))
    return TaskResult(
        name=name,
        version="1",
        metric=metric,
        higher_is_better=is_exact,
        digest=key_of([name, [item.input_ids.tolist() for item in items]]),
        example="",
        figures={metric: mean_figure(values, weights, math.exp if metric == "perplexity" else None)},
        items=[
            {"id": str(number), "score": value, "weight": weight, "said": ""}
            for number, (value, weight) in enumerate(zip(values, weights, strict=True))
        ],
        tokens=sum(scores.tokens),
    )


def answers(
    model: Any, items: Sequence[Encoded], tokenizer: Tokenizer, *, max_tokens: int = 64
) -> list[dict[str, str]]:
    """What the model says to some prompts, each token the likeliest, beside what it was to say."""
    import torch

    was_training = model.training
    model.eval()
    found = []
    ends = sorted(tokenizer.end_ids)
    for item in items:
        begin = int(np.flatnonzero(item.labels != NO_LOSS)[0])
        prompt = torch.from_numpy(item.input_ids[None, :begin].astype(np.int64)).to(model.device)
        with torch.inference_mode():
            made = model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=False,
                max_new_tokens=max_tokens,
                eos_token_id=ends,
                pad_token_id=ends[0] if ends else 0,
            )
        said = [int(token) for token in made[0, begin:] if int(token) not in tokenizer.end_ids]
        wanted = [int(token) for token in item.input_ids[begin:] if int(token) not in tokenizer.end_ids]
        asked = [int(token) for token in item.input_ids[:begin]]
        found.append(
            {"prompt": decode(tokenizer, asked), "wanted": decode(tokenizer, wanted), "said": decode(tokenizer, said)}
        )
    model.train(was_training)
    return found
