"""What is said about a finished run."""

from __future__ import annotations

import pytest

from madang.training.reporting import forgetting_advice


@pytest.mark.parametrize(
    ("nats", "is_noise", "said"), [(0.22, False, "rose by 25%"), (0.05, False, None), (0.22, True, None)]
)
def test_much_forgetting_comes_with_advice(nats: float, is_noise: bool, said: str | None) -> None:
    result = {
        "difference": {"texts": {"a": {"value": nats, "within_noise": is_noise}, "b": None}},
        "plan": {"learning_rate": {"value": 1e-3}},
    }
    advice = forgetting_advice(result)
    assert advice is None if said is None else advice is not None and said in advice and "0.001" in advice
