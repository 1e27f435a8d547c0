"""The thread pool: under stress, and where its threads run.

More threads than cores, so that nearly every barrier parks and wakes somebody, show a pool that hangs at once. The
wake-up that was lost once in millions of barriers (docs/log.md) is too rare.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


PLACES = """
import os, sys, time
from tests.native.bare import BareModel, bare_decoder

before = set(os.listdir("/proc/self/task"))
decoder = bare_decoder(BareModel(windows=(0,)), n_threads=int(sys.argv[1]))
time.sleep(0.2)  # its threads begin with finding their places
print(*sorted(",".join(map(str, sorted(os.sched_getaffinity(int(thread))))) for thread in
      set(os.listdir("/proc/self/task")) - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads are left where they are")
@pytest.mark.parametrize("spare", [0, 1])
def test_threads_as_many_as_processors_keep_to_their_own(spare: int) -> None:
    processors = sorted(os.sched_getaffinity(0))
    n_threads = len(processors) + spare
    done = subprocess.run(
        [sys.executable, "-c", PLACES, str(n_threads)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    anywhere = ",".join(map(str, processors))
    own = [str(processor) for processor in processors[1:]]
    assert sorted(done.stdout.split()) == ([anywhere] * (n_threads - 1) if spare else sorted(own))
