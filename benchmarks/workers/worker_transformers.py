"""Measure transformers on a GGUF file, in its own process.

transformers dequantizes the file to the variant's dtype while it loads, so the file's type changes accuracy here, not
speed. The loop is `forward` with a key/value cache and the arg-max, without `generate`'s own overhead.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from prompt_ids import WARM_UP_REPETITION, answer, prompt_token_ids

WARM_UP_DECODE_TOKENS = 8


def _time_once(model: Any, prompt: list[int], decode_tokens: int) -> tuple[float, float]:
    """Return seconds for the prompt and seconds for `decode_tokens` steps after it."""
    cache = transformers.DynamicCache(config=model.config)
    started = time.perf_counter()
    token = _step(model, torch.tensor([prompt]), cache)
    prompt_done = time.perf_counter()
    for _ in range(decode_tokens):
        token = _step(model, token, cache)
    return prompt_done - started, time.perf_counter() - prompt_done


def _step(model: Any, ids_BT: torch.Tensor, cache: Any) -> torch.Tensor:
    """Compute `ids_BT` (batch 1, any number of tokens) after the cache; return the most probable next id, shape 1x1."""
    logits_BTV = model(ids_BT, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    return logits_BTV[:, -1:].argmax(dim=-1)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Load, warm up, time every repetition; seconds throughout."""
    torch.set_num_threads(options.threads)
    path = Path(options.model)
    started = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=getattr(torch, options.variant), local_files_only=True
    ).eval()
    load_s = time.perf_counter() - started

    def prompt(repetition: int) -> list[int]:
        return prompt_token_ids(options.prompt_tokens, repetition, model.config.vocab_size)

    with torch.inference_mode():
        _time_once(model, prompt(WARM_UP_REPETITION), min(WARM_UP_DECODE_TOKENS, options.decode_tokens))
        times = [_time_once(model, prompt(i + 1), options.decode_tokens) for i in range(options.repetitions)]
    return {
        "load_s": load_s,
        "prompt_tokens": options.prompt_tokens,
        "decode_tokens": options.decode_tokens,
        "prompt_s": [prompt_s for prompt_s, _ in times],
        "decode_s": [decode_s for _, decode_s in times],
        "details": {"dtype": options.variant, "attention": model.config._attn_implementation},
    }


if __name__ == "__main__":
    answer(measure)
