"""Measure OpenVINO GenAI on a GGUF file, in its own process.

`LLMPipeline` reads the GGUF directly. Token ids go in and out, so neither tokenizing nor detokenizing is timed. The
prompt's time is OpenVINO's own time to first token, the decode's its time per output token.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import openvino
import openvino_genai
from prompt_ids import WARM_UP_REPETITION, answer, prompt_token_ids

WARM_UP_DECODE_TOKENS = 8


def _generate(pipeline: Any, prompt: list[int], decode_tokens: int) -> tuple[float, float]:
    """Return seconds to the first token and seconds for the `decode_tokens` after it."""
    ids = np.array([prompt], dtype=np.int64)
    inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = decode_tokens + 1  # the first one belongs to the prompt
    config.ignore_eos = True
    config.do_sample = False
    metrics = pipeline.generate(inputs, config).perf_metrics
    if metrics.get_num_generated_tokens() != decode_tokens + 1:
        raise RuntimeError(f"generated {metrics.get_num_generated_tokens()} tokens, not {decode_tokens + 1}")
    return metrics.get_ttft().mean / 1000, metrics.get_tpot().mean / 1000 * decode_tokens


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Load, warm up, time every repetition; seconds throughout."""
    started = time.perf_counter()
    pipeline = openvino_genai.LLMPipeline(options.model, "CPU", INFERENCE_NUM_THREADS=options.threads)
    load_s = time.perf_counter() - started
    vocabulary_tokens = len(pipeline.get_tokenizer().get_vocab())

    def prompt(repetition: int) -> list[int]:
        return prompt_token_ids(options.prompt_tokens, repetition, vocabulary_tokens)

    _generate(pipeline, prompt(WARM_UP_REPETITION), min(WARM_UP_DECODE_TOKENS, options.decode_tokens))
    times = [_generate(pipeline, prompt(i + 1), options.decode_tokens) for i in range(options.repetitions)]
    return {
        "load_s": load_s,
        "prompt_tokens": options.prompt_tokens,
        "decode_tokens": options.decode_tokens,
        "prompt_s": [prompt_s for prompt_s, _ in times],
        "decode_s": [decode_s for _, decode_s in times],
        "details": {"vocabulary_tokens": vocabulary_tokens},
    }


if __name__ == "__main__":
    answer(measure)
