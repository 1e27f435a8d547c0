"""Cross-entropy of the tokens that are learned: no other token gets logits, and no logits outlive their chunk.

Shapes: T predicted tokens, D width, V words, B and N as in batching.
"""

from __future__ import annotations

import inspect
from typing import Any, Final, NamedTuple

from madang.training.batching import Row

CHUNK_TOKENS: Final = 256
# Heads that do more than multiply, by what their config.json says; such models give their logits themselves.
_MORE_THAN_A_PRODUCT: Final = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")


class Judged(NamedTuple):
    """Of each predicted token [T]: minus its natural log-probability, and whether it was the likeliest."""

    nats: Any
    is_greedy: Any


class Objective:
    """A causal model of transformers, perhaps with adapters, and the loss of rows."""

    def __init__(self, model: Any, device: str, dtype: str) -> None:
        self.device, self._dtype = device, dtype
        self.causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._head = self.causal.get_output_embeddings()
        self._is_product = _is_product(self.causal.config, self._head)

    def loss(self, row: Row) -> Any:
        """Sum over the row's targets, nats; a scalar to go backward from."""
        import torch

        targets = torch.from_numpy(row.targets).to(self.device)
        with self._autocast():
            if self._is_product:
                return fused_cross_entropy(self._hidden(row), self._head.weight, targets)
            return torch.nn.functional.cross_entropy(self._logits(row).float(), targets, reduction="sum")

    def judge(self, row: Row) -> Judged:
        """The same token by token, without gradients."""
        import torch

        targets = torch.from_numpy(row.targets).to(self.device)
        with torch.inference_mode(), self._autocast():
            if not self._is_product:
                return _judged(self._logits(row), targets)
            hidden = self._hidden(row)
            chunks = zip(hidden.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS), strict=True)
            judged = [_judged(self._head(part), wanted) for part, wanted in chunks]
        return Judged(*(torch.cat(parts) for parts in zip(*judged, strict=True)))

    def _autocast(self) -> Any:
        import torch

        kind = self.device.partition(":")[0]
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self._dtype == "bfloat16")

    def _hidden(self, row: Row) -> Any:
        """[T, D]: what predicts, after the last norm."""
        core = getattr(self.causal, self.causal.base_model_prefix)
        hidden = core(**self._inputs(row)).last_hidden_state
        return hidden.flatten(0, 1)[self._tensor(row.predictors)]

    def _logits(self, row: Row) -> Any:
        return self.causal(**self._inputs(row)).logits.flatten(0, 1)[self._tensor(row.predictors)]

    def _inputs(self, row: Row) -> dict[str, Any]:
        inputs = {"input_ids": self._tensor(row.input_ids), "attention_mask": self._tensor(row.allowed)}
        if row.position_ids is not None:
            inputs["position_ids"] = self._tensor(row.position_ids)
        return {**inputs, "use_cache": False}

    def _tensor(self, array: Any) -> Any:
        import torch

        return torch.from_numpy(array).to(self.device)


def _is_product(config: Any, head: Any) -> bool:
    import torch

    if type(head) is not torch.nn.Linear or head.bias is not None:
        return False
    return all(getattr(config, name, None) in (None, 1, 1.0) for name in _MORE_THAN_A_PRODUCT)


def _judged(logits: Any, targets: Any) -> Judged:
    import torch

    logits = logits.float()
    nats = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return Judged(nats, logits.argmax(-1) == targets)


def fused_cross_entropy(hidden: Any, weight: Any, targets: Any) -> Any:
    """Sum of the cross-entropies of ``hidden @ weight.T`` [T, V], whose gradients are formed chunk by chunk.

    The logits of one chunk are all that is ever there (the idea of Liger-Kernel's fused linear cross-entropy, Hsu et
    al. 2024); a frozen ``weight`` costs no gradient. For ``loss.backward()`` only: it has no second derivative.
    """
    return _fused().apply(hidden, weight, targets)


def _fused() -> Any:
    """Made when torch is first needed, since its base class is torch's."""
    if not _made:
        _made.append(_make_fused())
    return _made[0]


_made: Final[list[Any]] = []


def _make_fused() -> Any:
    import torch

    class FusedCrossEntropy(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed here
        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any, targets: Any) -> Any:
            kind = hidden.device.type
            product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
            wanted = weight.to(product)
            learns_weight = weight.requires_grad
            grad_hidden = torch.empty_like(hidden)
            grad_weight = torch.zeros_like(weight, dtype=torch.float32) if learns_weight else None
            total = torch.zeros((), device=hidden.device, dtype=torch.float32)
            with torch.autocast(kind, enabled=False):
                for begin in range(0, len(targets), CHUNK_TOKENS):
                    part = slice(begin, begin + CHUNK_TOKENS)
                    states, ids = hidden[part].to(product), targets[part, None]
                    logits = (states @ wanted.T).float()
                    normalizer = logits.logsumexp(-1, keepdim=True)
                    total += (normalizer - logits.gather(1, ids)).sum()
                    grad = logits.sub_(normalizer).exp_()
                    grad.scatter_add_(1, ids, torch.full_like(ids, -1, dtype=grad.dtype))
                    grad = grad.to(product)
                    grad_hidden[part] = (grad @ wanted).to(hidden.dtype)
                    if grad_weight is not None:
                        grad_weight += (grad.T @ states).float()
            ctx.grads = grad_hidden, grad_weight, weight.dtype
            return total

        @staticmethod
        def backward(ctx: Any, grad_output: Any) -> Any:
            grad_hidden, grad_weight, dtype = ctx.grads
            ctx.grads = None
            weight = None if grad_weight is None else grad_weight.mul_(grad_output).to(dtype)
            return grad_hidden * grad_output.to(grad_hidden.dtype), weight, None

    return FusedCrossEntropy


def takes_packed_rows(config: Any, model: Any) -> bool:
    """Whether every layer attends to all that it is allowed to: no window, no recurrent state, told by ``allowed``."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    has_window = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    implementation = getattr(config, "_attn_implementation", "sdpa")
    return kinds == {"full_attention"} and not has_window and takes_positions and implementation in ("sdpa", "eager")
