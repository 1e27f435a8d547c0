"""``madang data filter``, ``dedup`` and ``contamination``: what is worth learning from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, note
from madang.cli.data import Data, Form, Output, Usable
from madang.core.errors import InvalidRequest
from madang.training.curation.rules import Rules

if TYPE_CHECKING:
    from madang.core.settings import Settings
    from madang.training.curation.classifier import Classifier

_TELL_EVERY_S = 5.0
_RULES = Rules()

_Share = {"min": 0, "max": 1, "metavar": "S"}
Dropped = Annotated[
    Path | None, typer.Option("--dropped", metavar="FILE", help="Write what is dropped there, with the reasons.")
]
MinCharacters = Annotated[
    int | None,
    typer.Option("--min-characters", metavar="N", min=0, max=10**9, help="Unset: 2 of an answer, 50 of a text."),
]
MaxCharacters = Annotated[
    int | None, typer.Option("--max-characters", metavar="N", min=1, max=10**9, help="Unset: no limit.")
]
MaxSymbols = Annotated[float, typer.Option("--max-symbols", help="Share that is no letter, digit or mark.", **_Share)]
MaxDigits = Annotated[float, typer.Option("--max-digits", help="Share that is digits.", **_Share)]
MaxRepetition = Annotated[
    float, typer.Option("--max-repetition", help="Share that was said before, in runs or in lines.", **_Share)
]
MaxBoilerplate = Annotated[
    float, typer.Option("--max-boilerplate", help="Share in lines of notices and menus.", **_Share)
]
InLanguage = Annotated[str | None, typer.Option("--language", metavar="WORD", help="Keep only ko or en.")]
JudgeModel = Annotated[
    str | None, typer.Option("--model", metavar="MODEL", help="Small model that tells how likely each example is.")
]
MaxPerplexity = Annotated[
    float | None,
    typer.Option("--max-perplexity", metavar="P", min=1, max=1e30, help="Drop what the model finds less likely."),
]
MinPerplexity = Annotated[
    float | None,
    typer.Option("--min-perplexity", metavar="P", min=1, max=1e30, help="Drop what it foresees better than that."),
]
Good = Annotated[
    str | None, typer.Option("--good", metavar="DATA", help="Examples of the good kind, to train a classifier on.")
]
Bad = Annotated[str | None, typer.Option("--bad", metavar="DATA", help="Examples of the bad kind; with --good.")]
MinQuality = Annotated[
    float, typer.Option("--min-quality", help="Least probability of being good, by that classifier.", **_Share)
]
Similarity = Annotated[
    float,
    typer.Option("--similarity", metavar="S", min=0.2, max=1, help="Jaccard of runs of 5 characters; 1: the same."),
]
By = Annotated[str, typer.Option("--by", metavar="WORD", help="What is compared: everything, question or answer.")]
Against = Annotated[
    list[str], typer.Option("--against", metavar="DATA", help="An evaluation set; may be given several times.")
]
Overlap = Annotated[
    float, typer.Option("--overlap", help="Share of an item's runs from which it counts; 0: one is enough.", **_Share)
]


def filter_data(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    name: Data,
    *,
    form: Form = None,
    output: Output = None,
    dropped: Dropped = None,
    min_characters: MinCharacters = None,
    max_characters: MaxCharacters = None,
    max_symbols: MaxSymbols = _RULES.max_symbol_share,
    max_digits: MaxDigits = _RULES.max_digit_share,
    max_repetition: MaxRepetition = _RULES.max_repeated_share,
    max_boilerplate: MaxBoilerplate = _RULES.max_boilerplate_share,
    language: InLanguage = None,
    model: JudgeModel = None,
    max_perplexity: MaxPerplexity = None,
    min_perplexity: MinPerplexity = None,
    good: Good = None,
    bad: Bad = None,
    min_quality: MinQuality = _RULES.min_quality,
    engine: options.Engine = None,
    threads: options.Threads = None,
    context: options.Context = None,
    as_json: options.Json = False,
) -> None:
    """Keep what is worth learning from: by rules, by likelihood, by a classifier. Says what was dropped, and why."""

    rules = Rules(
        min_characters=min_characters,
        max_characters=max_characters,
        max_symbol_share=max_symbols,
        max_digit_share=max_digits,
        max_repeated_share=max_repetition,
        max_repeated_line_share=max_repetition,
        max_boilerplate_share=max_boilerplate,
        language=language,
        max_perplexity=max_perplexity,
        min_perplexity=min_perplexity,
        min_quality=min_quality,
    )
    _check_outputs(output, dropped)
    classifier = _classifier(good, bad)
    settings = options.settings_of(ctx, engine=engine, threads=threads, context=context)
    rows = Usable(name, form)
    document = rows.document() | _filtered(rows, rules, classifier, (model, settings), (output, dropped))
    document |= {"unusable": rows.unusable, "problems": rows.problems}
    if as_json:
        data_json(document)
        return
    rows.tell()
    if classifier is not None:
        note(f"The classifier was right on {classifier.accuracy:.0%} of what it had not seen (a coin: 50%).")
    _print_dropped(document)
    told(output, document["kept"])


def dedup(
    name: Data,
    *,
    form: Form = None,
    output: Output = None,
    similarity: Similarity = 0.8,
    by: By = "everything",
    as_json: options.Json = False,
) -> None:
    """Keep the first of what is the same, or nearly the same."""
    from madang.core.errors import UnknownOption
    from madang.training.curation.duplicates import PARTS, find_duplicates
    from madang.training.examples.writing import row_of, writing_examples

    if by not in PARTS:
        raise UnknownOption("part to compare", by, PARTS)
    _check_outputs(output)
    rows = Usable(name, form)
    found = find_duplicates(rows, similarity=similarity, by=by)
    if output is not None:
        with writing_examples(output) as write:
            for example, is_kept in zip(rows, found.is_kept, strict=True):
                if is_kept:
                    write(row_of(example))
    document = rows.document() | found.to_dict()
    if as_json:
        data_json(document)
        return
    rows.tell()
    data(f"{document['kept']:,} kept, {found.exact:,} dropped as the same, {found.near:,} as nearly the same")
    for pair in found.shown:
        note(f"Line {pair['line']} as line {pair['as']}:\n  {pair['text']}\n  {pair['kept']}")
    told(output, document["kept"])


def contamination(
    name: Data,
    *,
    against: Against,
    form: Form = None,
    output: Output = None,
    overlap: Overlap = 0.0,
    as_json: options.Json = False,
) -> None:
    """Find what a model will be measured on; with --output, write the data without it.

    Runs of 13 words, or of 20 characters of Korean, that an example shares with an item. The exit status is 1 when
    something was found and nothing was written.
    """
    from madang.training.curation.contamination import EvaluationSets
    from madang.training.examples.forms import FIELDS
    from madang.training.examples.writing import row_of, writing_examples

    _check_outputs(output)
    sets = EvaluationSets(((Path(item).name, Usable(item, None, otherwise=FIELDS)) for item in against), overlap)
    rows = Usable(name, form)
    with ExitStack() as stack:
        write = None if output is None else stack.enter_context(writing_examples(output))
        for example in rows:
            if sets.find(example) is None and write is not None:
                write(row_of(example))
    document = rows.document() | sets.to_dict()
    if as_json:
        data_json(document)
    else:
        rows.tell()
        data(f"{sets.contaminated:,} of {sets.examples:,} examples share something with an evaluation set")
        columns = ["SET", "ITEMS", "FOUND", "WHOLE", "TOO SHORT"]
        keys = ("name", "items", "found", "found_whole", "too_short")
        data_table([columns, *[[str(found[key]) for key in keys] for found in document["sets"]]], right=range(1, 5))
        for shown in sets.shown:
            item = f"{shown['set']}, line {shown['item']}"
            note(f"Line {shown['line']} has {shown['overlap']:.0%} of {item}: {shown['text']}")
        told(output, sets.examples - sets.contaminated)
    if sets.contaminated and output is None:
        raise typer.Exit(1)


def _check_outputs(*paths: Path | None) -> None:
    from madang.training.examples.writing import check_new

    for path in paths:
        if path is not None:
            check_new(path)
    named = [path.resolve() for path in paths if path is not None]
    if len(set(named)) < len(named):
        raise InvalidRequest("Two outputs are the same file.", param="output")


def _classifier(good: str | None, bad: str | None) -> Classifier | None:
    if (good is None) != (bad is None):
        raise InvalidRequest("A classifier needs examples of both kinds.", param="good", hint="Give --good and --bad.")
    if good is None or bad is None:
        return None
    from madang.training.curation.classifier import train_classifier

    texts = [[example.everything for example in Usable(kind, None)] for kind in (good, bad)]
    return train_classifier(texts[0], texts[1])


def _filtered(
    rows: Usable,
    rules: Rules,
    classifier: Classifier | None,
    judge: tuple[str | None, Settings],
    outputs: tuple[Path | None, Path | None],
) -> dict[str, Any]:
    """Write both files, as far as they are wanted; the report of the filter."""
    from madang.cli.pull import fetcher
    from madang.runtime.open import open_model
    from madang.training.curation.filtering import Filter
    from madang.training.curation.likelihood import Likelihood
    from madang.training.examples.writing import row_of, writing_examples

    model, settings = judge
    with ExitStack() as stack:
        likelihood = None
        if model is not None:
            engine = open_model(model, settings, fetch=fetcher(settings))
            stack.callback(engine.close)
            likelihood = Likelihood(engine)
        sieve = Filter(rules, likelihood=likelihood, classifier=classifier)
        keep, drop = (None if path is None else stack.enter_context(writing_examples(path)) for path in outputs)
        told_at = time.monotonic()
        for judged in sieve.judge(rows):
            if model is not None and time.monotonic() - told_at > _TELL_EVERY_S:
                note(f"{sieve.report.kept + sieve.report.dropped:,} examples read …")
                told_at = time.monotonic()
            row = row_of(judged.example)
            if judged.reasons and drop is not None:
                drop(row | {"dropped": [reason.to_dict() for reason in judged.reasons]})
            elif not judged.reasons and keep is not None:
                keep(row)
    trained = None
    if classifier is not None:
        trained = {"accuracy": classifier.accuracy, "good": classifier.n_good, "bad": classifier.n_bad}
    return sieve.report.to_dict() | {"classifier": trained}


def _print_dropped(document: Mapping[str, Any]) -> None:
    data(f"{document['kept']:,} kept, {document['dropped']:,} dropped")
    if document["by_rule"]:
        data_table([["REASON", "DROPPED"], *[[rule, f"{n:,}"] for rule, n in document["by_rule"].items()]], right=[1])
    for rule, shown in document["examples"].items():
        for example in shown:
            note(f"{rule} ({example['value']:g}), line {example['line']}: {example['text']}")
    if document["perplexity_quantiles"] is not None:
        told = ", ".join(
            f"{float(share):.0%}: {value:.1f}" for share, value in document["perplexity_quantiles"].items()
        )
        note(f"Perplexity at most, of {told}")


def told(output: Path | None, n: int) -> None:
    """Say where so many examples are now."""
    note("Nothing was written; --output names a file." if output is None else f"Wrote {n:,} examples to {output}.")
