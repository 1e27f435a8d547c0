"""The process that holds one model of a comparison, so that its memory is its own and its end nobody else's.

On stdin come lines of JSON: first ``{"open": settings, "model": reference}``, then steps (steps.py). To each, one line
goes to stdout (to some steps several): the result, or ``{"problem": sentence}``. The end of stdin is the end of this
process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from madang.core.errors import MadangError
from madang.core.settings import load_settings
from madang.evaluation.steps import take_steps
from madang.hardware.residence import peak_bytes, resident_bytes
from madang.runtime import open_model


def main() -> None:
    """Open the model, and take steps until stdin ends."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; when to end is the parent's to say
        signal.signal(stop, signal.SIG_IGN)
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else writes to stdout
    engine: Any = None

    def tell(result: dict[str, Any]) -> None:
        answer.write(json.dumps(result) + "\n")
        answer.flush()

    for line in sys.stdin.buffer:
        told = json.loads(line)
        try:
            if "open" in told:
                engine, facts = _open(told)
                tell(facts)
            else:
                for result in take_steps(engine, told):
                    tell(result)
        except MadangError as error:
            tell(_problem(" ".join(part for part in (error.message, error.hint) if part)))
        except MemoryError:
            tell(_problem("There was not enough memory."))
        except Exception as error:  # a row of a table, not the end of the comparison
            tell(_problem(f"{type(error).__name__}: {error}"))
    if engine is not None:
        engine.close()


def _problem(sentence: str) -> dict[str, Any]:
    return {"problem": sentence}


def _open(told: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    started = time.perf_counter()
    settings = load_settings(told["open"], os.environ).for_all_models()
    engine = open_model(told["model"], settings)
    facts = {
        "engine": engine.info.engine,
        "context_tokens": engine.info.context_tokens,
        "threads": getattr(engine, "threads", None),
        "load_s": time.perf_counter() - started,
        "resident_bytes": resident_bytes(),
        "peak_bytes": peak_bytes(),
    }
    return engine, facts


if __name__ == "__main__":
    main()
