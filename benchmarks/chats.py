"""Several conversations at once, and one after another.

python benchmarks/chats.py MODEL.gguf [--rounds N] [--threads N]

aggregate   tokens/s of 16 chats at once, all together, against one alone
turn 5      seconds to the first token of a chat's fifth turn, with what the cache has of it and with nothing
latency     seconds between two tokens of running chats while a prompt of 4,000 tokens enters, and while none does
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

from madang.core import Message, Request, collect
from madang.native import NativeEngine
from own_engine import GREEDY, article, at_once, done_of, open_engine, options_of, percentiles, plain, results, spread

N_CHATS = 16
ANSWER_TOKENS = 96
TURNS = 5
RUNNING_CHATS = 4
LONG_CHARACTERS = 17_000  # about 4,000 tokens


def aggregate(engine: NativeEngine, n_chats: int, round_: int) -> float:
    """Tokens/s of all chats together, prompts of a few tokens included."""
    requests = [plain(f"Round {round_}, story {number}. Once upon a time", ANSWER_TOKENS) for number in range(n_chats)]
    started = time.perf_counter()
    done = at_once([partial(_answer, engine, request) for request in requests])
    return sum(one.usage.completion_tokens for one in done) / (time.perf_counter() - started)


def _answer(engine: NativeEngine, request: Request) -> Any:
    return done_of(engine.generate(request))


def fifth_turn(engine: NativeEngine, round_: int) -> dict[str, float]:
    """Seconds to the first token of turn 5: after the four turns before it, and as the first request of all."""
    rules = f"You answer in a few sentences. What you know:\n{article(1200, round_)}"
    messages: tuple[Message, ...] = (Message("system", f"Conversation {round_}. {rules}"),)
    for turn in range(TURNS):
        messages += (Message("user", f"{article(150, 9 * round_ + turn)}\nWhat is this about?"),)
        completion = collect(engine.generate(Request(messages=messages, max_tokens=96, sampling=GREEDY)))
        if turn < TURNS - 1:
            messages += (Message("assistant", completion.text),)
    other = Message("system", f"Discussion {round_}. {rules}")
    unknown = done_of(engine.generate(Request(messages=(other, *messages[1:]), max_tokens=1, sampling=GREEDY)))
    return {
        "cached_s": completion.done.timings.time_to_first_token_s,
        "uncached_s": unknown.timings.time_to_first_token_s,
        "prompt_tokens": completion.done.usage.prompt_tokens,
        "cached_tokens": completion.done.usage.cached_tokens,
    }


def latencies(engine: NativeEngine, round_: int) -> dict[str, Any]:
    """Seconds between tokens of running chats, before the long prompt enters and while it is read."""
    entered, was_read = threading.Event(), threading.Event()
    gaps: dict[str, list[float]] = {"alone": [], "beside": []}

    def chat(number: int) -> None:
        events = engine.generate(plain(f"Round {round_}, tale {number}. Once upon a time", 2000))
        with closing(events):  # type: ignore[type-var]
            next(events)
            last = time.perf_counter()
            for _ in events:
                now = time.perf_counter()
                gaps["beside" if entered.is_set() else "alone"].append(now - last)
                last = now
                if was_read.is_set():
                    return

    def long_prompt() -> float:
        time.sleep(1.0)
        entered.set()
        done = done_of(engine.generate(plain(f"{round_} {article(LONG_CHARACTERS, round_)}", 1)))
        was_read.set()
        return done.timings.time_to_first_token_s

    *_, seconds = at_once([*(partial(chat, number) for number in range(RUNNING_CHATS)), long_prompt])
    return {"gaps": gaps, "long_prompt_s": seconds}


def measure(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """All three, round by round."""
    with closing(open_engine(options, context=8192)) as engine:
        aggregate(engine, 2, -1)  # warm
        rates = {n: [aggregate(engine, n, round_) for round_ in range(options.rounds)] for n in (1, N_CHATS)}
        turns = [fifth_turn(engine, round_) for round_ in range(options.rounds)]
        waits = [latencies(engine, round_) for round_ in range(options.rounds)]
    document["aggregate_tokens_per_s"] = {str(n): spread(found) for n, found in rates.items()}
    document["turn_5"] = {key: spread(turn[key] for turn in turns) for key in turns[0]}
    document["inter_token_s"] = {
        kind: percentiles(gap for wait in waits for gap in wait["gaps"][kind]) for kind in ("alone", "beside")
    }
    document["long_prompt_s"] = spread(wait["long_prompt_s"] for wait in waits)


def show(document: dict[str, Any]) -> None:
    """The medians, and their ratios."""
    one, many = (document["aggregate_tokens_per_s"][str(n)]["median"] for n in (1, N_CHATS))
    print(f"1 chat {one:.0f} tokens/s, {N_CHATS} chats {many:.0f} together: {many / one:.1f} times")
    turn = {key: found["median"] for key, found in document["turn_5"].items()}
    print(
        f"turn {TURNS}: {turn['cached_s'] * 1e3:.0f} ms to the first token, {turn['uncached_s'] * 1e3:.0f} ms without "
        f"cache: 1/{turn['uncached_s'] / turn['cached_s']:.1f} ({turn['cached_tokens']:.0f} of "
        f"{turn['prompt_tokens']:.0f} tokens cached)"
    )
    for kind, words in (("alone", "alone"), ("beside", "while a long prompt enters")):
        found = {key: f"{value * 1e3:.0f}" for key, value in document["inter_token_s"][kind].items()}
        print(f"{RUNNING_CHATS} chats {words}: {', '.join(f'{key} {value} ms' for key, value in found.items())}")
    print(f"the long prompt took {document['long_prompt_s']['median']:.1f} s beside them")


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write."""
    options = options_of("chats", arguments, __doc__ or "")
    with results(options) as document:
        measure(options, document)
        show(document)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
