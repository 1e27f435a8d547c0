"""What a student is told: soft_weight * T² * KL(teacher_T || student_T) + (1 - soft_weight) * cross-entropy.

With ``beta``, another divergence takes the place of this KL: see :func:`top_k_divergence`.
``soft_weight`` is 1 for the teacher alone and 0 for the text alone. The field calls it alpha and means either: it is
the weight of the soft part in Hinton et al. (arXiv:1503.02531) as most write it, and of the hard part in others. T²
keeps the soft gradients as large as the hard ones whatever T is.

A teacher of k words and a tail is compared as k + 1 outcomes: the student's probability of everything else stands
against the tail, so mass is neither lost nor scaled up. That is the whole KL where k is the vocabulary, and never more
than it.

Tensors: n labelled tokens, V words, k kept words.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

# Nats: what a teacher gives less is 0 in float32, and a student that says it would be infinitely far off.
_LEAST: Final = -100.0


class LossParts(NamedTuple):
    """Sums over labelled tokens, as tensors: divergence at T (without T²), and cross-entropy."""

    kl: Any
    cross_entropy: Any


def top_k_divergence(
    logits_nV: Any, words_nk: Any, teacher_nk: Any, tail_n: Any, temperature: float, *, beta: float = 0.0
) -> Any:
    """How far the student is from the teacher at each token, [n], nats, at that temperature.

    beta   0 is KL(teacher || student), 1 is KL(student || teacher), and between lies the generalized Jensen-Shannon
           divergence of GKD (arXiv:2306.13649)

    Gradients reach ``logits_nV``.
    """
    import torch

    z_nV = logits_nV.float() / temperature
    p_parts, q_parts = [teacher_nk / temperature], [z_nV.gather(1, words_nk)]
    if words_nk.shape[1] < z_nV.shape[1]:
        # Not 1 - sum: where the student puts everything on the k words, that would have no logarithm.
        rest_nV = z_nV.scatter(1, words_nk, float("-inf"))
        p_parts.append(tail_n[:, None])
        q_parts.append(rest_nV.logsumexp(1, keepdim=True))
    log_p = torch.cat(p_parts, 1).log_softmax(1).clamp_min(_LEAST)
    log_q = torch.cat(q_parts, 1).log_softmax(1)
    if beta == 0:
        return _kl(log_p, log_q)
    if beta == 1:
        return _kl(log_q, log_p)
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)


def _kl(log_p: Any, log_q: Any) -> Any:
    return (log_p.exp() * (log_p - log_q)).sum(1)


def weighted(parts: LossParts, n_tokens: int, soft_weight: float, temperature: float) -> Any:
    """The mean loss per labelled token."""
    soft = soft_weight * temperature**2 * parts.kl
    return (soft + (1 - soft_weight) * parts.cross_entropy) / max(n_tokens, 1)
