"""Measure a llama-bench that someone has built: ik_llama.cpp's, with weights repacked at run time.

There is no package to install; MADANG_LLAMA_BENCH names the program. Warm-up and repetitions are its own;
decoding comes after the prompt, as everywhere here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from typing import Any

from prompt_ids import answer

VARIABLE = "MADANG_LLAMA_BENCH"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run it once; seconds throughout."""
    program = os.environ.get(VARIABLE)
    if not program:
        raise RuntimeError(f"set {VARIABLE} to a llama-bench of ik_llama.cpp")
    n_prompt, n_decode = options.prompt_tokens, options.decode_tokens
    command = [program, "-m", options.model, "-p", str(n_prompt), "-n", "0", "-gp", f"{n_prompt},{n_decode}"]
    command += ["-r", str(options.repetitions), "-t", str(options.threads), "-rtr", "1", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["llama-bench failed"])[-1])
    prompt, decode = json.loads(done.stdout)
    return {
        "prompt_tokens": n_prompt,
        "decode_tokens": n_decode,
        "prompt_s": [nanoseconds / 1e9 for nanoseconds in prompt["samples_ns"]],
        "decode_s": [nanoseconds / 1e9 for nanoseconds in decode["samples_ns"]],
        "details": {key: prompt[key] for key in ("build_commit", "repack", "flash_attn", "cpu_info")},
    }


if __name__ == "__main__":
    answer(measure)
