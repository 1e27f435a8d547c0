"""The loss of rows is that of each example by itself, and its gradient that of plain cross-entropy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from madang.training.batching import pack_row, pad_row
from madang.training.examples import Encoded
from madang.training.examples.encoding import NO_LOSS
from tests.training.tiny_runs import write_model

torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
transformers = pytest.importorskip("transformers", reason="training needs the extra 'train'")

from madang.training.loss import CHUNK_TOKENS, Objective, fused_cross_entropy, takes_packed_rows  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = write_model(tmp_path_factory.mktemp("loss") / "model")
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def items() -> list[Encoded]:
    random = np.random.default_rng(0)
    begin = random.integers(3, 250, 6)
    found = []
    for n_own, n_answer in ((3, 4), (9, 1), (1, 12)):
        ids = np.concatenate([begin, random.integers(3, 250, n_own + n_answer)]).astype(np.int32)
        labels = np.where(np.arange(len(ids)) < 6 + n_own, NO_LOSS, ids).astype(np.int32)
        found.append(Encoded(ids, labels))
    return found


def alone(model: Any, item: Encoded) -> Any:
    ids = torch.from_numpy(item.input_ids[None].astype(np.int64))
    logits = model(input_ids=ids).logits[0, :-1]
    labels = torch.from_numpy(item.labels[1:].astype(np.int64))
    return torch.nn.functional.cross_entropy(logits, labels, ignore_index=NO_LOSS, reduction="sum")


@pytest.mark.parametrize("make", [pack_row, pad_row])
def test_rows_give_the_loss_and_the_gradient_of_each_example(model: Any, make: Any) -> None:
    objective = Objective(model, "cpu", "float32")
    model.zero_grad()
    expected = sum(alone(model, item) for item in items())
    expected.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    found = objective.loss(make(items()))
    found.backward()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=1e-4)


def test_each_token_is_judged(model: Any) -> None:
    objective, row = Objective(model, "cpu", "float32"), pack_row(items())
    judged = objective.judge(row)
    assert float(judged.nats.sum()) == pytest.approx(float(objective.loss(row)), rel=1e-5)
    assert judged.is_greedy.shape == judged.nats.shape == (len(row.targets),)


@pytest.mark.parametrize("learns_head", [True, False])
def test_the_fused_loss_is_cross_entropy(learns_head: bool) -> None:
    n = CHUNK_TOKENS + 7  # more than a chunk
    torch.manual_seed(0)
    hidden, weight = torch.randn(n, 8), torch.randn(31, 8)
    targets = torch.randint(0, 31, (n,))
    one, head = hidden.clone().requires_grad_(), weight.clone().requires_grad_(learns_head)
    (fused_cross_entropy(one, head, targets) / 3).backward()
    other, other_head = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    (torch.nn.functional.cross_entropy(other @ other_head.T, targets, reduction="sum") / 3).backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
    if learns_head:
        torch.testing.assert_close(head.grad, other_head.grad, rtol=1e-4, atol=1e-4)
    else:
        assert head.grad is None


def test_models_with_windows_get_padded_rows(model: Any) -> None:
    assert takes_packed_rows(model.config, model)
    config = transformers.MistralConfig(sliding_window=8)
    assert not takes_packed_rows(config, model)
