"""Measure llama.cpp through llama-cpp-python's low-level API, in its own process.

The prompt is one `llama_decode` of all prompt tokens; decoding is single-token `llama_decode` calls that continue
from that prompt. Both end with the arg-max over the logits, the only sampling there is.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from typing import Any

import llama_cpp
import numpy as np
from prompt_ids import WARM_UP_REPETITION, answer, prompt_token_ids

WARM_UP_DECODE_TOKENS = 8


class Session:
    """A loaded model and a context of fixed size; threads are the same for prompt and decode."""

    def __init__(self, options: argparse.Namespace) -> None:
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(options.model.encode(), model_params)
        if not self.model:
            raise RuntimeError("llama.cpp can't load this file")
        self.context = llama_cpp.llama_init_from_model(self.model, _context_params(options))
        if not self.context:
            raise RuntimeError("llama.cpp can't make a context for this model")
        self.vocabulary_tokens = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def step(self, token_ids: list[int]) -> int:
        """Compute `token_ids` after what the context already holds; return the most probable next id."""
        ids = (llama_cpp.llama_token * len(token_ids))(*token_ids)
        status = llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(ids, len(token_ids)))
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.argmax(np.ctypeslib.as_array(logits, shape=(self.vocabulary_tokens,))))

    def clear(self) -> None:
        """Forget all tokens."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)


def _context_params(options: argparse.Namespace) -> llama_cpp.llama_context_params:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = -(-(options.prompt_tokens + options.decode_tokens) // 256) * 256
    params.n_batch = params.n_ubatch = max(options.prompt_tokens, 512)
    params.n_threads = params.n_threads_batch = options.threads
    if options.variant:
        # 'fa-off' and 'fa-on' force flash attention; without a variant llama.cpp decides, as it does for its users.
        params.flash_attn_type = {"fa-off": 0, "fa-on": 1}[options.variant]
    return params


def _time_once(session: Session, prompt: list[int], decode_tokens: int) -> tuple[float, float]:
    """Return seconds for the prompt and seconds for `decode_tokens` steps after it."""
    session.clear()
    started = time.perf_counter()
    token = session.step(prompt)
    prompt_done = time.perf_counter()
    for _ in range(decode_tokens):
        token = session.step([token])
    return prompt_done - started, time.perf_counter() - prompt_done


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Load, warm up, time every repetition; seconds throughout."""
    llama_cpp.llama_backend_init()
    started = time.perf_counter()
    session = Session(options)
    load_s = time.perf_counter() - started

    def prompt(repetition: int) -> list[int]:
        return prompt_token_ids(options.prompt_tokens, repetition, session.vocabulary_tokens)

    _time_once(session, prompt(WARM_UP_REPETITION), min(WARM_UP_DECODE_TOKENS, options.decode_tokens))
    times = [_time_once(session, prompt(i + 1), options.decode_tokens) for i in range(options.repetitions)]
    system_info = ctypes.string_at(llama_cpp.llama_print_system_info()).decode()
    return {
        "load_s": load_s,
        "prompt_tokens": options.prompt_tokens,
        "decode_tokens": options.decode_tokens,
        "prompt_s": [prompt_s for prompt_s, _ in times],
        "decode_s": [decode_s for _, decode_s in times],
        "details": {"system_info": system_info, "n_ctx": llama_cpp.llama_n_ctx(session.context)},
    }


if __name__ == "__main__":
    answer(measure)
