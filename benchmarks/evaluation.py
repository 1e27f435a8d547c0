"""Our tasks beside lm-evaluation-harness, on the same items and prompts: who answers what, and items/s.

    python benchmarks/evaluation.py MODEL.gguf --folder FOLDER [--float32 F32.gguf] [--items N] [--hf-items N]
        [--rounds N] [--only TASK ...] [--name NAME]

Three ways to the same figures: our own tasks; the harness driving our engine; the harness driving transformers on the
CPU (float32) with FOLDER, which is the same weights (``madang convert MODEL.gguf FOLDER``). The harness's tasks are its
own files with only the place of the data, and for wikitext the text as it is, replaced. What each way is asked is the
first items of each task; of choices it is looked whether they read the same, and how far their log-likelihoods are
apart. With --float32 (``madang convert FOLDER F32.gguf``) our engine also reads what transformers reads, so that what
is left apart comes from rounding sums, and keys and values to float16. Ours and the harness take turns at our engine,
and the median of the rounds counts. Needs the extra ``eval``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from madang.evaluation import DataPlace, KeptSteps, find_task, run_tasks
from madang.evaluation.asking import prompt_document, response_of
from madang.evaluation.kept import key_of
from madang.evaluation.tasks import Response, Task
from madang.native import NativeEngine
from own_engine import DATA, open_engine, options_of, results
from peers import recorded_command

CONTEXT_TOKENS = 2048
PREFIX = "\n"  # before texts of wikitext, in all three
BATCH = 8
KOREAN = DATA / "korean"


def _boolq(row: Any) -> Any:
    return {"paragraph": row["Text"], "question": row["Question"], "label": int(row["Answer"].lower() == "true")}


def _copa(row: Any) -> Any:
    names = {"premise": "sentence", "question": "question", "alternative_1": "1", "alternative_2": "2"}
    return {name: row[column] for name, column in names.items()} | {"label": int(row["Answer"]) - 1}


def _hellaswag(row: Any) -> Any:
    ends = {f"ending_{number}": row[f"choice{number}"] for number in range(1, 5)}
    return {"context": row["context"], **ends, "label": int(row["label"])}


def _sentineg(row: Any) -> Any:
    return {"sentence": row["Text"], "label": int(row["Label"])}


# Our name -> the harness's file, how a row of ours looks there, and how many of the items are asked.
TASKS: dict[str, tuple[str, Callable[[Any], Any], float]] = {
    "kobest:boolq": ("kobest/kobest_boolq.yaml", _boolq, 1),
    "kobest:copa": ("kobest/kobest_copa.yaml", _copa, 1),
    "kobest:hellaswag": ("kobest/kobest_hellaswag.yaml", _hellaswag, 1),
    "kobest:sentineg": ("kobest/kobest_sentineg.yaml", _sentineg, 1),
    "gsm8k": ("gsm8k/gsm8k.yaml", dict, 0.5),
    "wikitext": ("wikitext/wikitext.yaml", lambda row: {"page": row["text"]}, 0.05),
}


def write_tasks(folder: Path) -> Any:
    """The harness's tasks over local files; its task manager."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    theirs = Path(lm_eval.__file__).parent / "tasks"
    for name, (file, convert, _) in TASKS.items():
        data, own = folder / f"{own_name(name)}.jsonl", _own(name)
        rows = [convert(item.row) for item in own.items()]
        data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        lines = [
            f"include: {theirs / file}",
            f"task: {own_name(name)}",
            "dataset_path: json",
            "dataset_name: null",
            f"dataset_kwargs: {{data_files: {{test: {data}}}}}",
            "training_split: null",
            "validation_split: null",
            "fewshot_split: null",
            "test_split: test",
            "num_fewshot: 0",
        ]
        if name.startswith("kobest"):
            lines.append("metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]")
        if name == "wikitext":
            lines += ['doc_to_target: "{{page}}"', "should_decontaminate: false"]
        (folder / f"{own_name(name)}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return TaskManager(include_path=str(folder))


def own_name(name: str) -> str:
    """What a task of ours is called in the harness, where its own tasks must not be meant."""
    return f"local_{name.replace(':', '_')}"


@cache
def _own(name: str) -> Task:
    place = DataPlace(DATA, offline=True)
    if name == "wikitext":
        from madang.evaluation.tasks.perplexity import Perplexity

        texts = [item.row["text"] for item in find_task(name, place).items()]
        return Perplexity(name, lambda: texts, prefix=PREFIX)
    return find_task(name, place)


def n_items(name: str, wanted: int) -> int:
    """How many items of a task, of so many of the cheap ones."""
    return max(2, round(wanted * TASKS[name][2]))


# ---- three ways


def by_ours(engine: NativeEngine, name: str, n: int) -> tuple[list[Any], float]:
    """What came of each item, and seconds."""
    task, kept = _own(name), KeptSteps(None)
    engine.clear_cache()
    started = time.perf_counter()
    found = run_tasks(engine, [task], limit=n, keep=kept).tasks[0]
    seconds = time.perf_counter() - started
    assert found.problem is None and found.n_failed == 0, found
    outcomes = []
    for item in task.items()[:n]:
        prompt = task.prompt(item)
        own = kept.find(key_of(prompt_document(prompt)))
        assert own is not None
        read = [(prompt.request.prompt or "") + text for text in prompt.continuations]
        outcomes.append(_outcome(name, len(outcomes), response_of(own), read))
    return outcomes, seconds


def by_harness(model: Any, manager: Any, name: str, n: int) -> tuple[list[Any], float]:
    """The same through the harness with any of its models."""
    from lm_eval import simple_evaluate

    started = time.perf_counter()
    found = simple_evaluate(
        model,
        tasks=[own_name(name)],
        limit=n,
        task_manager=manager,
        bootstrap_iters=0,
        num_fewshot=0,
        verbosity="ERROR",
    )
    seconds = time.perf_counter() - started
    samples = {own["doc_id"]: own for own in found["samples"][own_name(name)]}
    return [_of_sample(name, number, samples[number]) for number in range(n)], seconds


def _of_sample(name: str, number: int, sample: Any) -> Any:
    first = [own[0] for own in sample["resps"]]
    if name == "gsm8k":
        return _outcome(name, number, Response(text=first[0]))
    if name == "wikitext":
        return {"nats": -float(_number(first))}
    logprobs = [float(own[0]) for own in first]
    return {"logprobs": logprobs, "read": [before + text for before, text in sample["arguments"]]}


def _outcome(name: str, number: int, response: Response, read: Sequence[str] = ()) -> Any:
    """What is compared of an item: a number said, nats, or log-probabilities of texts."""
    if name == "gsm8k":
        task = _own(name)
        return {"said": task.said(task.items()[number], response)}
    logprobs = [own.logprob for own in response.scored]
    return {"nats": -logprobs[0]} if name == "wikitext" else {"logprobs": logprobs, "read": read}


def _number(value: Any) -> Any:
    while isinstance(value, list | tuple):
        value = value[0]
    return value


def agreement(name: str, ours: Sequence[Any], theirs: Sequence[Any]) -> dict[str, Any]:
    """On how many items both end up with the same, and how far their log-likelihoods are apart."""
    pairs = list(zip(ours, theirs, strict=False))
    if name == "wikitext":
        apart = [abs(own["nats"] - other["nats"]) / other["nats"] for own, other in pairs]
        return {"n": len(apart), "same": sum(value < 1e-3 for value in apart), "most_relative_difference": max(apart)}
    if name == "gsm8k":
        return {"n": len(pairs), "same": sum(own["said"] == other["said"] for own, other in pairs)}
    apart = [max(abs(a - b) for a, b in zip(own["logprobs"], other["logprobs"], strict=True)) for own, other in pairs]
    where_not = [
        {"item": i, "margin": _margin(own), "their_margin": _margin(other), "most_apart": apart[i]}
        for i, (own, other) in enumerate(pairs)
        if _choice(own) != _choice(other)
    ]
    return {
        "n": len(pairs),
        "same": len(pairs) - len(where_not),
        "same_texts": sum(own["read"] == other["read"] for own, other in pairs),
        "mean_apart": sum(apart) / len(apart),
        "most_apart": max(apart),
        "where_not": where_not,
        "choices": ["".join(str(_choice(own)) for own in way) for way in (ours[: len(pairs)], theirs)],
        "apart": [round(value, 6) for value in apart],
    }


def _choice(own: Any) -> int:
    logprobs: list[float] = own["logprobs"]
    return logprobs.index(max(logprobs))


def _margin(own: Any) -> float:
    """By how much the likeliest is ahead, in nats."""
    best, second = sorted(own["logprobs"], reverse=True)[:2]
    return float(best - second)


def measure(options: argparse.Namespace, document: dict[str, Any], folder: Path) -> None:
    """Every task each way; the harness reads its data once before it is timed."""
    import lm_eval
    import torch

    torch.set_num_threads(options.threads)
    manager = write_tasks(folder)
    document["lm_eval"], document["torch"] = lm_eval.__version__, torch.__version__
    document["items"], document["hf_items"], document["hf_batch"] = options.items, options.hf_items, BATCH
    document["tasks"] = {name: {} for name in options.only or TASKS}
    found = with_our_engine(options, document["tasks"], manager)
    if options.hf_items:
        with_transformers(options, document["tasks"], manager, found)


def with_our_engine(options: argparse.Namespace, tasks: dict[str, Any], manager: Any) -> dict[str, list[Any]]:
    """Our tasks and the harness in turns at one engine; what came of ours."""
    from madang.evaluation.harness import MadangLM

    found: dict[str, list[Any]] = {}
    engine = open_engine(options, context=CONTEXT_TOKENS, speculation="off")
    adapter = MadangLM(engine=engine, prefix=PREFIX)
    for name, facts in tasks.items():
        n = n_items(name, options.items)
        by_harness(adapter, manager, name, 1)
        seconds: dict[str, list[float]] = {"ours_s": [], "adapter_s": []}
        for _ in range(options.rounds):
            found[name], ours_s = by_ours(engine, name, n)
            engine.clear_cache()
            theirs, theirs_s = by_harness(adapter, manager, name, n)
            seconds["ours_s"].append(ours_s)
            seconds["adapter_s"].append(theirs_s)
        facts |= {way: median(values) for way, values in seconds.items()}
        facts |= {"n": n, "ours_and_adapter": agreement(name, found[name], theirs)}
    engine.close()
    return found


def with_transformers(
    options: argparse.Namespace, tasks: dict[str, Any], manager: Any, found: dict[str, list[Any]]
) -> None:
    """The harness with its own model beside ours, and beside ours with the weights as they stand in the folder."""
    from lm_eval.models.huggingface import HFLM

    model = HFLM(
        pretrained=str(options.folder),
        device="cpu",
        dtype="float32",
        batch_size=BATCH,
        max_length=CONTEXT_TOKENS,
        prefix_token_id=_prefix_token(options.folder),
    )
    theirs: dict[str, list[Any]] = {}
    for name, facts in tasks.items():
        facts["n_hf"] = n_items(name, options.hf_items)
        theirs[name], facts["hf_s"] = by_harness(model, manager, name, facts["n_hf"])
        facts["ours_and_hf"] = agreement(name, found[name], theirs[name])
    if options.float32 is None:
        return
    options.model = options.float32
    engine = open_engine(options, context=CONTEXT_TOKENS, speculation="off")
    for name, facts in tasks.items():
        ours, facts["float32_s"] = by_ours(engine, name, facts["n_hf"])
        facts["float32_and_hf"] = agreement(name, ours, theirs[name])
    engine.close()


def _prefix_token(folder: Path) -> int:
    from transformers import AutoTokenizer

    (token,) = AutoTokenizer.from_pretrained(folder).encode(PREFIX)
    return int(token)


def show(document: dict[str, Any]) -> None:
    """A line per task."""
    for name, facts in document["tasks"].items():
        rates = [f"{way} {facts['n'] / facts[f'{way}_s']:.2f}" for way in ("ours", "adapter")]
        if "hf_s" in facts:
            rates.append(f"hf {facts['n_hf'] / facts['hf_s']:.2f}")
        if "float32_s" in facts:
            rates.append(f"ours in float32 {facts['n_hf'] / facts['float32_s']:.2f}")
        print(f"{name}: items/s {', '.join(rates)}")
        for pair in ("ours_and_adapter", "ours_and_hf", "float32_and_hf"):
            shown = {key: value for key, value in facts.get(pair, {}).items() if key not in ("choices", "apart")}
            print(f"  {pair}: {shown}")


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write."""
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--folder", type=Path, required=True)
    own.add_argument("--float32", type=Path)
    own.add_argument("--only", action="append", choices=TASKS)
    known, rest = own.parse_known_args(arguments)
    options = options_of("evaluation", rest, __doc__ or "", items=48, hf_items=24)
    options.folder, options.float32, options.only = known.folder, known.float32, known.only
    options.command = recorded_command(arguments).replace("peers.py", "evaluation.py")
    with tempfile.TemporaryDirectory() as folder, results(options) as document:
        measure(options, document, Path(folder))
        show(document)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
