"""The thread pool under stress: more threads than cores, so that nearly every barrier parks and wakes somebody.

It catches a pool that hangs at once. The wake-up that was lost once in millions of barriers (docs/log.md) is too rare.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 120  # a hang is what is looked for; the work takes seconds

STRESS = """
import numpy as np
from tests.native.bare import BareModel, bare_decoder

decoder = bare_decoder(BareModel(windows=(0,) * 8), n_threads=6)
decoder.reserve_pages(1)
zero, page = np.zeros(1, np.int32), np.zeros((1, 1), np.int32)
for _ in range(1500):
    decoder.step(zero, zero, zero, page, zero)
print("all steps done")
"""


def test_more_threads_than_cores_come_to_an_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRESS], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.stdout == "all steps done\n", done.stderr
