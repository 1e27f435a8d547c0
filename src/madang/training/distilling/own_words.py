"""What a student writes itself, to learn where it goes and not only where others went (arXiv:2306.13649)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from madang.training.examples.encoding import NO_LOSS, Encoded


def in_own_words(student: Any, item: Encoded, ends: Collection[int], seed: tuple[int, ...]) -> Encoded:
    """The item's prompt with an answer that the model drew, as long as the item's at most; labels are on the answer.

    student   a causal model of transformers
    ends      tokens that end an answer; they belong to it

    The prompt of a text, which is learnt from its beginning on, is its first half.
    """
    import torch

    prompt = item.input_ids[: _prompt_tokens(item)]
    draws = np.random.default_rng(seed)
    written: list[int] = []
    given, cache = prompt.astype(np.int64), None
    student.eval()
    with torch.inference_mode():
        while len(prompt) + len(written) < len(item.input_ids) and not (written and written[-1] in ends):
            tokens = torch.from_numpy(given)[None].to(student.device)
            found = student(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, logits = found.past_key_values, found.logits[0, -1].double()
            sums = logits.softmax(-1).cumsum(-1).cpu().numpy()
            written.append(min(int(np.searchsorted(sums, draws.random() * sums[-1], "right")), len(sums) - 1))
            given = np.array(written[-1:])
    student.train()
    tokens_n = np.concatenate([prompt, np.array(written, np.int32)])
    return Encoded(tokens_n, np.where(np.arange(len(tokens_n)) < len(prompt), NO_LOSS, tokens_n).astype(np.int32))


def _prompt_tokens(item: Encoded) -> int:
    begin = int(np.flatnonzero(item.labels[1:] != NO_LOSS)[0]) + 1
    return begin if begin > 1 else max(len(item.input_ids) // 2, 1)
