"""The page of an evaluation: figures of tasks with their intervals, what changed between models, and the prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Final

from madang.core.errors import InvalidRequest
from madang.evaluation.outcomes import EvaluationResult, TaskDifference, TaskResult, compare_results
from madang.evaluation.page import html_page
from madang.evaluation.plots import Axis, Point, intervals
from madang.evaluation.tasks.task import Figure
from madang.evaluation.words import Language

_MOST_EXAMPLE_CHARACTERS: Final = 6000
_MOST_PLOTS: Final = 60
_OF_WORDS: Final = ("task", "metric")  # columns
_PLAIN: Final = ("perplexity", "loss", "bits_per_byte", "BLEU")  # metrics that are no shares

_ENGLISH: Final = {
    "title": "Evaluation of {n} models",
    "title_one": "Evaluation of {model}",
    "summary": "Made on {made_at} with madang {version}.",
    "figures": "Figures",
    "model": "Model",
    "task": "Task",
    "metric": "Metric",
    "items": "Items",
    "value": "Value",
    "error": "Standard error",
    "interval": "95 % interval",
    "notes": "Intervals: items drawn again 4000 times. Items that could not be asked count as wrong: {n}.",
    "changes": "{after} against {before}",
    "changes_note": "≈ may be chance: the 95 % interval of the difference, over the same items, includes none. Gained "
    "items were wrong and are right; P is the chance of flips as uneven (McNemar, exact).",
    "before": "Before",
    "after": "After",
    "difference": "Difference",
    "gained": "Gained",
    "lost": "Lost",
    "chance": "P",
    "plot_note": "{metric} of {n} items; lines are 95 % intervals.",
    "prompts": "What was asked",
    "prompts_note": "The first prompt of each task, as the model read it; behind arrows is what was scored after it.",
    "version": "{task}, version {version}",
    "failed": "Could not be measured",
    "settings": "Files and settings",
}
_KOREAN: Final = {
    "title": "모델 {n}개 평가",
    "title_one": "{model} 평가",
    "summary": "{made_at}에 madang {version}로 측정했습니다.",
    "figures": "결과",
    "model": "모델",
    "task": "과제",
    "metric": "지표",
    "items": "문항",
    "value": "값",
    "error": "표준 오차",
    "interval": "95 % 구간",
    "notes": "구간은 문항을 4000번 다시 뽑아 얻었습니다. 물을 수 없어 틀린 것으로 센 문항: {n}개.",
    "changes": "{before} 대비 {after}",
    "changes_note": "≈ 표시는 우연일 수 있다는 뜻입니다. 같은 문항에서 얻은 차이의 95 % 구간이 0을 포함합니다. "
    "얻은 문항은 틀렸다가 맞은 것이고, P는 뒤집힘이 우연히 이만큼 치우칠 확률입니다(맥니마 정확 검정).",
    "before": "이전",
    "after": "이후",
    "difference": "차이",
    "gained": "얻음",
    "lost": "잃음",
    "chance": "P",
    "plot_note": "{n}문항의 {metric}. 선은 95 % 구간입니다.",
    "prompts": "물은 것",
    "prompts_note": "과제마다 첫 프롬프트를 모델이 읽은 그대로 적었습니다. 화살표 뒤는 이어서 점수를 매긴 글입니다.",
    "version": "{task}, 버전 {version}",
    "failed": "측정하지 못한 것",
    "settings": "파일과 설정",
}
_WORDS: Final[Mapping[Language, Mapping[str, str]]] = {"en": _ENGLISH, "ko": _KOREAN}


def outcomes_page(results: Sequence[EvaluationResult], languages: Sequence[Language] = ("en",)) -> str:
    """One file of HTML that asks for nothing else; in one language, or one after the other in several."""
    bodies = [_Page(results, language).body() for language in languages]
    return html_page(_title(results, _WORDS[languages[0]]), bodies, languages[0])


def _title(results: Sequence[EvaluationResult], words: Mapping[str, str]) -> str:
    if len(results) == 1:
        return words["title_one"].format(model=results[0].model["label"])
    return words["title"].format(n=len(results))


class _Page:
    """One language."""

    def __init__(self, results: Sequence[EvaluationResult], language: Language) -> None:
        self._results, self._language, self._words = results, language, _WORDS[language]

    def body(self) -> str:
        """Everything inside <body>."""
        first = self._results[0]
        head = f"<h1>{escape(_title(self._results, self._words))}</h1>\n"
        head += f"<p>{self._say('summary', made_at=first.made_at, version=first.madang)}</p>"
        parts = [head, self._figures(), *self._changes(), self._plots(), self._failures(), self._prompts()]
        parts.append(self._settings())
        return f'<main lang="{self._language}">\n' + "\n".join(part for part in parts if part) + "\n</main>"

    def _say(self, key: str, **values: object) -> str:
        return escape(self._words[key].format(**values))

    def _table(self, label: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Cells are text; the first of a row is its head."""
        kinds = [' class="word"' if name in _OF_WORDS else "" for name in columns]
        head = "".join(
            f'<th scope="col"{kind}>{self._say(name)}</th>' for name, kind in zip(columns, kinds, strict=True)
        )
        lines = [
            f'<tr><th scope="row">{escape(row[0])}</th>'
            + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
            + "</tr>"
            for row in rows
        ]
        return (
            f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>"
        )

    def _figures(self) -> str:
        rows = [
            [
                result.model["label"],
                task.name,
                metric,
                str(len(task.items)),
                *_cells(metric, own),
            ]
            for result in self._results
            for task in result.tasks
            for metric, own in task.figures.items()
        ]
        columns = ("model", "task", "metric", "items", "value", "error", "interval")
        n_failed = sum(task.n_failed for result in self._results for task in result.tasks)
        table = self._table(self._say("figures"), columns, rows)
        return f"<h2>{self._say('figures')}</h2>\n{table}\n<p>{self._say('notes', n=n_failed)}</p>"

    def _changes(self) -> list[str]:
        parts = []
        before = self._results[0]
        for after in self._results[1:]:
            try:
                found = compare_results(before, after)
            except InvalidRequest:
                continue  # they have no task in common
            title = self._say("changes", before=before.model["label"], after=after.model["label"])
            columns = ("task", "metric", "items", "before", "after", "difference", "gained", "lost", "chance")
            table = self._table(title, columns, [_change(own) for own in found])
            parts.append(f"<h2>{title}</h2>\n{table}\n<p>{self._say('changes_note')}</p>")
        return parts

    def _plots(self) -> str:
        names = dict.fromkeys(task.name for result in self._results for task in result.tasks)
        plots = [self._plot(number, name) for number, name in enumerate([*names][:_MOST_PLOTS])]
        return "\n".join(plot for plot in plots if plot)

    def _plot(self, number: int, name: str) -> str:
        measured = [
            (result.model["label"], task, task.figure)
            for result in self._results
            for task in result.tasks
            if task.name == name and task.figure is not None
        ]
        if not measured:
            return ""
        task = measured[0][1]
        points = [Point(label, 0, own["value"], own["low"], own["high"]) for label, _, own in measured]
        note = self._say("plot_note", metric=task.metric, n=len(task.items))
        listed = "; ".join(f"{point.label}: {shown_value(task.metric, point.y)}" for point in points)
        write: Callable[[float], str] = lambda value: shown_value(task.metric, value, short=True)  # noqa: E731
        plot = intervals(f"task-{number}-{self._language}", name, f"{note} {listed}.", Axis(task.metric, write), points)
        return f"<h2>{escape(name)}</h2>\n<p>{note}</p>\n<figure>{plot}</figure>"

    def _failures(self) -> str:
        lines = [
            f"<li><b>{escape(result.model['label'])}</b>: {escape(result.failed)}</li>"
            for result in self._results
            if result.failed is not None
        ]
        lines += [
            f"<li><b>{escape(result.model['label'])}</b>, {escape(task.name)}: {escape(task.problem)}</li>"
            for result in self._results
            for task in result.tasks
            if task.problem is not None
        ]
        return f"<h2>{self._say('failed')}</h2>\n<ul>{''.join(lines)}</ul>" if lines else ""

    def _prompts(self) -> str:
        tasks: dict[str, TaskResult] = {}
        for result in self._results:
            for task in result.tasks:
                tasks.setdefault(task.digest, task)
        cards = [
            f"<h3>{self._say('version', task=task.name, version=task.version)}</h3>\n"
            f'<div class="answers"><div><p>{escape(_cut(task.example))}</p></div></div>'
            for task in tasks.values()
        ]
        return f"<h2>{self._say('prompts')}</h2>\n<p>{self._say('prompts_note')}</p>\n" + "\n".join(cards)

    def _settings(self) -> str:
        lines = []
        for result in self._results:
            model = result.model
            told = ", ".join(f"{name} {value}" for name, value in (model.get("settings") or {}).items() if value)
            digest = f"sha256 {model['digest']}" if model.get("digest") else ""
            facts = "; ".join(part for part in (str(model.get("engine") or ""), digest, told) if part)
            lines.append(f"<li><b>{escape(model['label'])}</b>: {escape(facts)}</li>")
        return f"<h2>{self._say('settings')}</h2>\n<ul>{''.join(lines)}</ul>"


def is_share(metric: str) -> bool:
    """Whether a metric is told in percent."""
    return not metric.endswith(_PLAIN)


def shown_value(metric: str, value: float, *, short: bool = False) -> str:
    """A figure as people read it: shares in percent."""
    if is_share(metric):
        return f"{100 * value:.0f} %" if short else f"{100 * value:.1f} %"
    return f"{value:.4g}" if short else f"{value:.3f}"


def shown_difference(own: TaskDifference) -> str:
    """After minus before with its interval, ≈ where it may be chance."""
    if own.difference is None:
        return "–"
    factor, unit, digits = (100, " points", 1) if is_share(own.metric) else (1, " nats", 4)
    if own.metric == "word_perplexity":
        unit = " nats/word"
    elif own.metric == "BLEU":
        unit, digits = "", 2
    value, low, high = (factor * part for part in own.difference)
    mark = "≈ " if own.may_be_chance else ""
    return f"{mark}{value:+.{digits}f}{unit} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _cells(metric: str, own: Figure) -> list[str]:
    error, low, high = own["standard_error"], own["low"], own["high"]
    interval = "–" if low is None else f"{shown_value(metric, low)} – {shown_value(metric, high)}"
    return [shown_value(metric, own["value"]), "–" if error is None else shown_value(metric, error), interval]


def _change(own: TaskDifference) -> list[str]:
    flips = ["–" if ids is None else str(len(ids)) for ids in (own.gained, own.lost)]
    flips.append("–" if own.p_value is None else f"{own.p_value:.3f}")
    values = [shown_value(own.metric, value) for value in (own.before, own.after)]
    return [own.name, own.metric, str(own.n), *values, shown_difference(own), *flips]


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_EXAMPLE_CHARACTERS else f"{text[:_MOST_EXAMPLE_CHARACTERS]} …"
