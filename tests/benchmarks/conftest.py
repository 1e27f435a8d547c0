"""The benchmark scripts import each other by bare name, as when they are run; tests do the same."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
for folder in (BENCHMARKS, BENCHMARKS / "workers"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
