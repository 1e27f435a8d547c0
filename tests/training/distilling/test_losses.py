"""The loss against what torch computes from whole distributions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from madang.training.distilling.losses import LossParts, top_k_divergence, weighted

N, V = 7, 40


def shortened(teacher, k: int, temperature: float):
    values, words = teacher.topk(k, dim=1)
    rest = (teacher / temperature).scatter(1, words, float("-inf")).logsumexp(1)
    return words, values, rest


@pytest.fixture
def logits():
    draws = torch.Generator().manual_seed(0)
    return torch.randn(N, V, generator=draws) * 3, torch.randn(N, V, generator=draws) * 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_with_all_words_it_is_the_whole_divergence(logits, temperature: float) -> None:
    teacher, student = logits
    found = top_k_divergence(student, *shortened(teacher, V, temperature), temperature)
    p, q = (teacher / temperature).log_softmax(1), (student / temperature).log_softmax(1)
    torch.testing.assert_close(found, (p.exp() * (p - q)).sum(1))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_beta_goes_from_forward_to_reverse(logits, beta: float) -> None:
    teacher, student = logits
    found = top_k_divergence(student, *shortened(teacher, V, 2.0), 2.0, beta=beta)
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    mean = beta * p + (1 - beta) * q
    kl_p, kl_q = ((one * (one / mean).log()).sum(1) for one in (p, q))
    expected = {0.0: kl_p, 1.0: kl_q}.get(beta, beta * kl_p + (1 - beta) * kl_q)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("k", [1, 5, 39])
def test_the_rest_is_one_outcome_whose_mass_is_kept(logits, k: int) -> None:
    teacher, student = logits
    words, values, rest = shortened(teacher, k, 2.0)
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    p_k, q_k = p.gather(1, words), q.gather(1, words)
    p_all, q_all = (torch.cat([own, 1 - own.sum(1, keepdim=True)], 1) for own in (p_k, q_k))
    found = top_k_divergence(student, words, values, rest, 2.0)
    torch.testing.assert_close(found, (p_all * (p_all / q_all).log()).sum(1), atol=1e-4, rtol=1e-4)
    whole = (p * (p / q).log()).sum(1)
    assert (found <= whole + 1e-5).all()


def test_a_student_like_its_teacher_has_nothing_to_learn(logits) -> None:
    teacher, _ = logits
    student = teacher.clone().requires_grad_()
    found = top_k_divergence(student, *shortened(teacher, 5, 1.0), 1.0).sum()
    found.backward()
    assert abs(float(found.detach())) < 1e-5
    assert float(student.grad.abs().max()) < 1e-5


def test_certain_students_and_teachers_give_numbers() -> None:
    """Where one word has everything, the rest has no logarithm to lose."""
    teacher = torch.full((1, V), -1e4)
    teacher[0, 3] = 1e4
    student = teacher.clone().requires_grad_()
    for k, beta in ((1, 0.0), (V, 0.0), (1, 1.0), (V, 1.0), (5, 0.5)):
        found = top_k_divergence(student, *shortened(teacher, k, 1.0), 1.0, beta=beta).sum()
        found.backward()
        assert np.isfinite(float(found.detach()))
        assert torch.isfinite(student.grad).all()


def test_weights_are_of_the_soft_part_and_the_text_has_the_rest() -> None:
    parts = LossParts(torch.tensor(6.0), torch.tensor(10.0))
    assert float(weighted(parts, 2, 1.0, 3.0)) == 9 * 6 / 2
    assert float(weighted(parts, 2, 0.0, 3.0)) == 5
    assert float(weighted(parts, 2, 0.25, 1.0)) == pytest.approx((0.25 * 6 + 0.75 * 10) / 2)
