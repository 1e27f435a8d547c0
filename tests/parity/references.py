"""What others compute from the same weights: ``transformers`` in float32, and how far two sets of logits are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.parity.checkpoints import TinyModel

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

Logits = npt.NDArray[np.float32]  # [tokens, words]


def reference_model(model: TinyModel, weights: Mapping[str, npt.NDArray[np.float32]]) -> Any:
    """A ``transformers`` model with exactly these weights, which it does not copy."""
    torch.set_num_threads(1)  # more would wait for each other when the tests share their cores
    options = {
        "hidden_size": model.n_embd,
        "intermediate_size": model.n_ff,
        "num_hidden_layers": model.n_layers,
        "num_attention_heads": model.n_heads,
        "num_key_value_heads": model.n_kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab_size,
        "rms_norm_eps": model.norm_epsilon,
        "max_position_embeddings": model.context_tokens,
        "tie_word_embeddings": model.tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta, **model.scaling},
        "attn_implementation": "eager",
    }
    with torch.device("meta"):
        if model.window is None:
            reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**options))
        else:
            options["sliding_window"] = model.window
            reference = transformers.MistralForCausalLM(transformers.MistralConfig(**options))
    state = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    if model.tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    reference.load_state_dict(state, strict=True, assign=True)
    rotary = reference.model.rotary_emb
    reference.model.rotary_emb = type(rotary)(reference.config)  # its tables are no weights, and still on "meta"
    return reference.eval()


class HalfCache(transformers.DynamicCache):
    """Keys and values in float16, as the native engine keeps them, so that what remains is arithmetic."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **options: Any) -> Any:
        """Round, then store and return as float32."""
        return super().update(key_states.half().float(), value_states.half().float(), *args, **options)


def reference_inside(reference: Any, tokens: Sequence[int]) -> tuple[Logits, Logits, Logits]:
    """Hidden states before the output norm, attention, and the logits of every layer, with a float16 cache."""
    states: list[Any] = []
    hook = reference.model.norm.register_forward_pre_hook(lambda _, arguments: states.append(arguments[0]))
    with torch.inference_mode():
        options = {"output_hidden_states": True, "output_attentions": True, "past_key_values": HalfCache()}
        output = reference(torch.tensor([list(tokens)]), **options)
        hidden = torch.stack([*output.hidden_states[:-1], states[0]])[:, 0]
        hook.remove()
        logits = reference.lm_head(reference.model.norm(hidden))
    return hidden.numpy(), torch.stack(output.attentions)[:, 0].numpy(), logits.numpy()


def reference_logits(reference: Any, tokens: Sequence[int], *, half_cache: bool = False) -> Logits:
    """Logits after each token, in one pass."""
    cache = HalfCache() if half_cache else None
    with torch.inference_mode():
        logits: Logits = reference(torch.tensor([list(tokens)]), past_key_values=cache).logits[0].numpy()
    return logits


def reference_greedy(reference: Any, prompt: Sequence[int], n_tokens: int) -> list[int]:
    """The most likely continuation."""
    with torch.inference_mode():
        answer = reference.generate(
            torch.tensor([list(prompt)]), max_new_tokens=n_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    tokens: list[int] = answer[0, len(prompt) :].tolist()
    return tokens


def log_softmax(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Natural-log probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_probabilities: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return log_probabilities


def divergences(expected: Logits, actual: Logits) -> npt.NDArray[np.float64]:
    """KL(expected || actual) of each row, in nats."""
    ours, theirs = log_softmax(actual), log_softmax(expected)
    rows: npt.NDArray[np.float64] = (np.exp(theirs) * (theirs - ours)).sum(-1)
    return rows
