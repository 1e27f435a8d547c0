"""``madang distill``: a small model learns from a larger one, or what pruning lost from the model before."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.certifying import Made
from madang.cli.console import data, data_json, note
from madang.cli.making import n_threads
from madang.cli.prune import folder_of
from madang.cli.sizing import Teller, read_text
from madang.core.errors import InvalidRequest, UnsupportedModel
from madang.core.settings import Settings

if TYPE_CHECKING:
    from madang.training.distilling import DistilConfig, TeacherLogits
    from madang.training.examples import Encoded

Source = Annotated[
    str,
    typer.Argument(metavar="SRC", help="The student: a Hugging Face folder. With --responses, a file of questions."),
]
Target = Annotated[Path, typer.Argument(metavar="DST", help="The folder to write; with --responses, a JSONL file.")]
Teacher = Annotated[
    str | None, typer.Option("--teacher", metavar="MODEL", help="The model to learn from, with the same tokenizer.")
]
Text = Annotated[Path | None, typer.Option("--text", metavar="FILE", help="Plain text to learn on.")]
Data = Annotated[
    str | None, typer.Option("--data", metavar="FILE", help="Conversations to learn on, in any form of 'madang data'.")
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Another text, for the certificate. Unset: no certificate."),
]
SoftWeight = Annotated[
    float,
    typer.Option("--soft-weight", metavar="W", min=0, max=1, help="Of the teacher's distribution; the text has 1 - W."),
]
Temperature = Annotated[
    float, typer.Option("--temperature", metavar="T", min=0.01, max=100, help="At which both are compared.")
]
OnPolicy = Annotated[
    float,
    typer.Option("--on-policy", metavar="SHARE", min=0, max=1, help="Steps on what the student writes itself: 0 to 1."),
]
Beta = Annotated[
    float,
    typer.Option("--beta", metavar="B", min=0, max=1, help="0: KL(teacher || student), 1: reverse; between: JSD."),
]
Top = Annotated[
    int, typer.Option("--top", metavar="K", min=1, max=65536, help="Words of the teacher to keep for each token.")
]
Tokens = Annotated[
    int | None, typer.Option("--tokens", metavar="N", min=1, help="Tokens to learn from. Unset: all, once.")
]
SequenceTokens = Annotated[
    int, typer.Option("--sequence-tokens", metavar="N", min=8, max=65536, help="The most tokens of a sequence.")
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", min=1, max=65536, help="Sequences in a step.")]
Rate = Annotated[
    float, typer.Option("--learning-rate", metavar="R", min=1e-9, max=0.999, help="The highest, after warm-up.")
]
Precision = Annotated[
    str | None, typer.Option("--precision", metavar="WORD", help="float32, or bfloat16. Unset: what is faster here.")
]
Run = Annotated[
    Path | None,
    typer.Option("--run", metavar="FOLDER", help="Its log and checkpoints. Unset: one of its own below MADANG_HOME."),
]
Responses = Annotated[
    bool, typer.Option("--responses", help="Have the teacher answer questions; tune a student on the file.")
]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", metavar="N", min=1, max=1_000_000, help="The most tokens of an answer.")
]


def distill(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    source: Source,
    target: Target,
    *,
    teacher: Teacher = None,
    text: Text = None,
    data_file: Data = None,
    report: Report = None,
    soft_weight: SoftWeight = 0.5,
    temperature: Temperature = 1.0,
    on_policy: OnPolicy = 0.0,
    beta: Beta = 0.0,
    top: Top = 64,
    tokens: Tokens = None,
    sequence_tokens: SequenceTokens = 256,
    batch: Batch = 2,
    learning_rate: Rate = 3e-4,
    precision: Precision = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the order, and of what is drawn.")] = 0,
    run: Run = None,
    responses: Responses = False,
    max_tokens: MaxTokens = 1024,
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Teach a student what a teacher says: soft_weight * T² * KL + (1 - soft_weight) * cross-entropy.

    With --on-policy, some steps are on what the student writes itself, and the teacher alone has a say in them. The
    teacher's likeliest words are kept on disk and computed once. A run that was broken off goes on when the same
    command is given again.
    """
    begun_s = time.monotonic()
    settings = options.settings_of(ctx, threads=threads)
    if responses:
        _answer(source, target, teacher, max_tokens, settings, as_json=as_json)
        return
    from madang.training.distilling import DistilConfig
    from madang.training.folders import require_new

    require_new(target)
    config = DistilConfig(
        soft_weight=soft_weight,
        temperature=temperature,
        on_policy=on_policy,
        beta=beta,
        learning_rate=learning_rate,
        batch_sequences=batch,
        seed=seed,
        precision=precision,
    )
    student = folder_of(source, settings)
    report_words = None if report is None else read_text(report)
    items = _items(student, text, data_file, sequence_tokens, tokens)
    job = _Job(student, target, items, config, settings)
    with job.teacher(None if soft_weight == 0 else teacher, top) as kept:
        document = job.run(kept, run)
    made = Made("distill", [source], document, begun_s)
    if report_words is not None:
        told = {"config": asdict(config), "tokens_learnt": document["tokens"]}
        made.certify({"before": student, "distilled": target}, report_words, n_threads(settings), told)
    made.keep(settings)
    made.tell(as_json=as_json)


def _items(
    student: Path, text: Path | None, data_file: str | None, sequence_tokens: int, n_tokens: int | None
) -> list[Encoded]:
    """What is learnt on, cut to ``n_tokens`` of it that are spread over all."""
    import numpy as np

    from madang.formats.families import describe_folder
    from madang.formats.templates.chat_template import template_for
    from madang.formats.tokenizers import tokenizer_from_json
    from madang.quantization.divergence import cut
    from madang.training.examples import Encoded, encode, load_examples

    if (text is None) == (data_file is None):
        raise InvalidRequest("There must be something to learn on.", hint="Give either --text or --data.")
    describe_folder(student)
    tokenizer = tokenizer_from_json(student)
    if text is not None:
        most = None if n_tokens is None else max(n_tokens // sequence_tokens, 1)
        chunks = cut(tokenizer.encode(read_text(text)), sequence_tokens, at_most=most)
        return [Encoded(np.array(chunk, np.int32), np.array(chunk, np.int32)) for chunk in chunks]
    loaded = load_examples(str(data_file))
    for problem in loaded.problems[:5]:
        note(f"Note: {data_file}, line {problem.line}: {problem.sentence}")
    made = encode(loaded.examples, tokenizer, template_for(tokenizer), max_tokens=sequence_tokens)
    ends = np.cumsum([len(item.input_ids) for item in made.items])
    return made.items if n_tokens is None else made.items[: int(np.searchsorted(ends, n_tokens)) + 1]


class _Job:
    def __init__(
        self, student: Path, target: Path, items: Sequence[Encoded], config: DistilConfig, settings: Settings
    ) -> None:
        self._student, self._target, self._items = student, target, items
        self._config, self._settings = config, settings
        self._threads = n_threads(settings)

    @contextmanager
    def teacher(self, reference: str | None, top: int) -> Iterator[TeacherLogits | None]:
        """What it says, kept below MADANG_HOME for every run with these sequences; it stays open if it is needed."""
        from madang.core.engine import LogitSource
        from madang.core.settings import load_settings
        from madang.models import Store
        from madang.runtime import find_files, open_model
        from madang.training.distilling import digest_items, keep_teacher_logits
        from madang.training.models import digest_of

        if reference is None:
            yield None
            return
        path = find_files(reference, Store(self._settings.home)).path
        name, teller = digest_of(path), Teller()
        items = [] if self._config.on_policy == 1 else self._items
        facts = [name, top, self._config.temperature, digest_items(items)]
        with closing(open_model(str(path.absolute()), load_settings({"threads": self._threads}, {}))) as engine:
            if not isinstance(engine, LogitSource):
                raise UnsupportedModel(
                    "teachers that give no logits",
                    engine=engine.info.engine,
                    hint="Have it answer questions instead: --responses.",
                )
            kept = keep_teacher_logits(
                self._settings.home / "teachers" / _key(facts)[:16],
                engine,
                items,
                teacher_name=name,
                n_top=top,
                temperature=self._config.temperature,
                progress=lambda done, total: teller("teacher", done, total),
            )
            if self._config.on_policy == 0:
                engine.close()
            yield kept

    def run(self, teacher: TeacherLogits | None, folder: Path | None) -> dict[str, Any]:
        """Teach, and tell what came of it."""
        from madang.training.distilling import distil

        facts = [str(self._student.resolve()), str(self._target.absolute()), asdict(self._config)]
        own = self._settings.home / "runs" / f"distill-{_key(facts)[:12]}"
        run_folder = own if folder is None else folder
        teller = _StepTeller()
        done = distil(
            self._student,
            self._target,
            self._items,
            teacher,
            self._config,
            run_folder=run_folder,
            n_threads=self._threads,
            tell=teller,
        )
        size_bytes = sum(one.stat().st_size for one in self._target.glob("*.safetensors"))
        paths = {"path": str(self._target.absolute()), "run": str(run_folder.absolute())}
        return {**paths, "size_bytes": size_bytes, **asdict(done)}


class _StepTeller:
    """Loss and speed on stderr now and then."""

    def __init__(self) -> None:
        self._teller = Teller()

    def __call__(self, line: dict[str, Any]) -> None:
        self._teller(
            f"loss {line['loss']:.3f}, {line['tokens_s']:.0f} tokens/s, step", int(line["step"]), int(line["steps"])
        )


def _key(facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _answer(
    source: str, target: Path, teacher: str | None, max_tokens: int, settings: Settings, *, as_json: bool
) -> None:
    from madang.runtime import open_model
    from madang.training.distilling import answer_questions
    from madang.training.examples import load_examples

    if teacher is None:
        raise InvalidRequest("Somebody must answer.", hint="Give --teacher MODEL.")
    loaded = load_examples(source)
    engine, teller = open_model(teacher, settings), Teller()
    try:
        report = answer_questions(
            engine,
            loaded.examples,
            target,
            max_tokens=max_tokens,
            progress=lambda done, total: teller("answers", done, total),
        )
    finally:
        engine.close()
    document = {"path": str(target.absolute()), **asdict(report), "unreadable": len(loaded.problems)}
    if as_json:
        data_json(document)
    else:
        left_out = f"{report.empty} empty and {report.cut_short} cut short left out"
        data(f"{target}  {report.written + report.resumed} answers, {left_out}")
