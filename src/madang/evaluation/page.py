"""The page of a comparison: one file of HTML that asks for nothing else, with a table beside each plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from madang.core.units import format_bytes, format_duration
from madang.evaluation.plots import Axis, Point, scatter
from madang.evaluation.words import WORDS, Language

Document = Mapping[str, Any]
_MB = 1e6


def comparison_page(document: Document, languages: Sequence[Language] = ("en",)) -> str:
    """The page in one language, or one after the other in several."""
    title = WORDS[languages[0]]["title"].format(n=len(document["models"]))
    return html_page(title, [_Page(document, language).body() for language in languages], languages[0])


def html_page(title: str, bodies: Sequence[str], language: Language) -> str:
    """One file around what stands inside <body>; ``title`` is plain text."""
    style = (files("madang.evaluation") / "page.css").read_text(encoding="utf-8")
    body = "\n".join(bodies)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


class _Page:
    """One language."""

    def __init__(self, document: Document, language: Language) -> None:
        self._document, self._language, self._words = document, language, WORDS[language]
        self._models: Sequence[Document] = document["models"]
        self._parts: list[str] = [part["name"] for part in document["measured_on"]["text"]]

    def body(self) -> str:
        """Everything inside <body>."""
        sections = [
            self._head(),
            self._overview(),
            self._quality_plot(),
            self._speed_plot(),
            self._answers(),
            self._failures(),
            self._text(),
        ]
        return f'<main lang="{self._language}">\n' + "\n".join(part for part in sections if part) + "\n</main>"

    def _say(self, key: str, **values: object) -> str:
        return escape(self._words[key].format(**values))

    def _head(self) -> str:
        machine = self._document["machine"]
        told = ", ".join(str(part) for part in (machine["cpu"], machine["system"]) if part)
        summary = self._say(
            "summary",
            made_at=self._document["made_at"],
            version=self._document["madang"],
            machine=told or self._words["nothing"],
            reference=self._document["reference"],
        )
        return f"<h1>{self._say('title', n=len(self._models))}</h1>\n<p>{summary}</p>"

    # ---- the table of everything

    def _overview(self) -> str:
        measure = "perplexity" if self._document["one_tokenizer"] else "bits_per_byte"
        columns: list[tuple[str, Callable[[Document], str]]] = [
            (self._say("size"), lambda model: self._bytes(model["size_bytes"])),
            (f"{self._say('memory')}, {self._say('loaded')}", lambda model: self._bytes(_memory(model, "loaded"))),
            (f"{self._say('memory')}, {self._say('peak')}", lambda model: self._bytes(_memory(model, "peak"))),
        ]
        for part in self._parts if any(model["text"] for model in self._models) else ():
            columns.append((f"{self._say(measure)}, {escape(part)}", self._of_text(part, measure)))
        if any(_divergence(model) is not None for model in self._models):
            columns += [(self._say("kl"), self._kl), (self._say("same_top"), self._same_top)]
        if self._document["measured_on"]["tasks"]:
            columns.append((f"{self._say('tasks')} (n = {self._document['measured_on']['tasks']})", self._tasks))
        if self._document["measured_on"]["speed"]["runs"]:
            columns += [(self._say(step), self._rate(step)) for step in ("prompt", "decode")]
            columns.append((self._say("first_token"), self._first_token))
        head = "".join(
            f'<th scope="col">{title}</th>' for title in (self._say("model"), *(name for name, _ in columns))
        )
        lines = [
            f'<tr><th scope="row">{self._name(model)}</th>'
            + "".join(f"<td>{write(model)}</td>" for _, write in columns)
            + "</tr>"
            for model in self._models
        ]
        table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        return (
            f"<h2>{self._say('overview')}</h2>\n"
            f'<div class="wide" role="region" tabindex="0" aria-label="{self._say("overview")}">'
            f"<table>{table}</table></div>\n{self._notes()}"
        )

    def _name(self, model: Document) -> str:
        mark = f" <small>({self._say('reference')})</small>" if model["label"] == self._document["reference"] else ""
        engine = model["engine"]
        label: str = model["label"]
        told = f" <small>{escape(engine)}</small>" if engine and not label.endswith(f"@{engine}") else ""
        return f"{escape(label)}{told}{mark}"

    def _bytes(self, n_bytes: int | None) -> str:
        return "–" if n_bytes is None else escape(format_bytes(n_bytes))

    def _of_text(self, part: str, measure: str) -> Callable[[Document], str]:
        def write(model: Document) -> str:
            if model["text"] is None:
                return "–"
            noise = _noise(model, "text")
            return _estimate(model["text"][part][measure], 3, is_noise=noise is not None and noise[part] is True)

        return write

    def _kl(self, model: Document) -> str:
        found = _divergence(model)
        return "–" if found is None else _estimate(found["mean_kl"], 5)

    def _same_top(self, model: Document) -> str:
        found = _divergence(model)
        return "–" if found is None else _estimate(found["top_1_agreement"], 1, percent=True)

    def _tasks(self, model: Document) -> str:
        if model["tasks"] is None:
            return "–"
        return _estimate(model["tasks"]["score"], 1, percent=True, is_noise=_noise(model, "tasks") is True)

    def _rate(self, step: str) -> Callable[[Document], str]:
        def write(model: Document) -> str:
            if model["speed"] is None:
                return "–"
            rate = model["speed"][step]["tokens_per_s"]
            mark = "≈ " if _noise(model, step) is True else ""
            return f"{mark}{rate['median']:.1f} <small>[{rate['min']:.1f}–{rate['max']:.1f}]</small>"

        return write

    def _first_token(self, model: Document) -> str:
        first = None if model["speed"] is None else model["speed"]["time_to_first_token_s"]
        return "–" if first is None else escape(format_duration(first["median"]))

    def _notes(self) -> str:
        measured = self._document["measured_on"]
        context = next((model["context_tokens"] for model in self._models if model["context_tokens"]), "?")
        notes = [
            self._say("noise_note"),
            self._say(
                "interval_note",
                passages=sum(part["passages"] for part in measured["text"]),
                runs=measured["speed"]["runs"],
            ),
            self._say("memory_note", context=context),
        ]
        if any(_divergence(model) is not None for model in self._models):
            notes.append(self._say("kl_note"))
        if not self._document["one_tokenizer"]:
            notes.append(self._say("tokenizers_note"))
        if self._document["equal_kl"]:
            pairs = "; ".join(f"{one} {self._words['and']} {other}" for one, other in self._document["equal_kl"])
            notes.append(self._say("equal_kl", pairs=pairs))
        return "<ul>" + "".join(f"<li>{note}</li>" for note in notes) + "</ul>"

    # ---- plots

    def _quality_plot(self) -> str:
        """KL where there is one, else bits per byte of the first text."""
        by_kl = [_point(model, found["mean_kl"]) for model in self._models if (found := _divergence(model)) is not None]
        if any(point is not None for point in by_kl):
            reference = next(model for model in self._models if model["label"] == self._document["reference"])
            own = (
                None if reference["size_bytes"] is None else Point(reference["label"], reference["size_bytes"] / _MB, 0)
            )
            return self._plot("quality", "quality_plot_kl", "kl_axis", [own, *by_kl], 5)
        if not self._parts:
            return ""
        bits = [
            _point(model, model["text"][self._parts[0]]["bits_per_byte"])
            for model in self._models
            if model["text"] is not None
        ]
        return self._plot("quality", "quality_plot_bits", "bits_axis", bits, 3)

    def _speed_plot(self) -> str:
        points = []
        for model in self._models:
            if model["speed"] is not None:
                rate = model["speed"]["decode"]["tokens_per_s"]
                points.append(_point(model, {"value": rate["median"], "low": rate["min"], "high": rate["max"]}))
        return self._plot("speed", "speed_plot_note", "speed_axis", points, 1)

    def _plot(self, name: str, note: str, axis: str, found: Sequence[Point | None], digits: int) -> str:
        points = [point for point in found if point is not None]
        if not points:
            return ""
        title = self._words[f"{name}_plot"]
        listed = "; ".join(f"{point.label}: {point.x:.1f} MB, {point.y:.{digits}f}" for point in points)
        axes = (Axis(self._words["size_axis"], lambda value: f"{value:g}"), Axis(self._words[axis], _short))
        plot = scatter(f"{name}-{self._language}", title, f"{self._words[note]} {listed}.", axes, points)
        return (
            f"<h2>{escape(title)}</h2>\n<p>{self._say(note)}</p>\n"
            f'<figure>{plot}<figcaption class="wide" tabindex="0">{self._table(points, axis, digits)}</figcaption>'
            "</figure>"
        )

    def _table(self, points: Sequence[Point], axis: str, digits: int) -> str:
        names = (self._say("model"), self._say("size_axis"), self._say(axis), self._say("low"), self._say("high"))
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        lines = [
            f'<tr><th scope="row">{escape(point.label)}</th><td>{point.x:.1f}</td>'
            + "".join(f"<td>{_number(value, digits)}</td>" for value in (point.y, point.low, point.high))
            + "</tr>"
            for point in points
        ]
        caption = f"<caption>{self._say('points')}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"

    # ---- answers and the rest

    def _answers(self) -> str:
        prompts = self._document["measured_on"]["prompts"]
        if not prompts:
            return ""
        parts = [f"<h2>{self._say('answers')}</h2>"]
        parts.append(f"<p>{self._say('answers_note', tokens=self._document['measured_on']['answer_tokens'])}</p>")
        for number, prompt in enumerate(prompts):
            cards = [
                f"<div><h4>{self._name(model)}</h4><p>{_answer(model, number)}</p></div>"
                for model in self._models
                if model["answers"]
            ]
            parts.append(f'<h3>{escape(prompt)}</h3>\n<div class="answers">{"".join(cards)}</div>')
        return "\n".join(parts)

    def _failures(self) -> str:
        lines = []
        for model in self._models:
            if model["failed"] is not None:
                lines.append(f"<li><b>{escape(model['label'])}</b>: {escape(model['failed'])}</li>")
            for kind, problem in model["problems"].items():
                what = self._say(f"problem_{kind}")
                lines.append(f"<li><b>{escape(model['label'])}</b>, {what}: {escape(problem)}</li>")
        return f"<h2>{self._say('failed')}</h2>\n<ul>{''.join(lines)}</ul>" if lines else ""

    def _text(self) -> str:
        parts = self._document["measured_on"]["text"]
        lines = "".join(f"<li>{self._say('text_row', **part)}</li>" for part in parts)
        return f"<h2>{self._say('text')}</h2>\n<ul>{lines}</ul>" if lines else ""


def _memory(model: Document, when: str) -> int | None:
    n_bytes: int | None = model["memory"][f"{when}_bytes"]
    return n_bytes


def _divergence(model: Document) -> Document | None:
    against = model["against_reference"]
    found: Document | None = None if against is None else against["divergence"]
    return found


def _noise(model: Document, what: str) -> Any:
    against = model["against_reference"]
    return None if against is None else against["within_noise"][what]


def _estimate(found: Document, digits: int, *, percent: bool = False, is_noise: bool = False) -> str:
    factor, unit = (100, " %") if percent else (1, "")
    text = f"{'≈ ' if is_noise else ''}{factor * found['value']:.{digits}f}{unit}"
    if found["low"] is None:
        return text
    return f"{text} <small>[{factor * found['low']:.{digits}f}–{factor * found['high']:.{digits}f}]</small>"


def _point(model: Document, found: Document) -> Point | None:
    if model["size_bytes"] is None:
        return None
    return Point(model["label"], model["size_bytes"] / _MB, found["value"], found["low"], found["high"])


def _answer(model: Document, number: int) -> str:
    text = model["answers"][number]["text"] if number < len(model["answers"]) else None
    return "–" if text is None else escape(text)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _short(value: float) -> str:
    return f"{value:.6g}"
