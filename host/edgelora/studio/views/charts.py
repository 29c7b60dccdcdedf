"""Charts and tables of runs. All content is shown as data, never as markup or script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from nicegui import ui

from edgelora.learn.report.measures import Accuracy, Error
from edgelora.learn.report.record import Report

from .widgets import attribute

Point = tuple[float, float]
MOST_POINTS = 400  # of a line in the page


class LineChart(ui.element, component="line_chart.js"):
    """A line chart. name: its title; `description`: its description for screen readers. limit: a vertical line."""

    def __init__(self, name: str, x_name: str, **settings: Any) -> None:
        super().__init__()
        self._props |= {"name": name, "xName": x_name, "description": name, "series": [], **settings}

    def show(self, description: str, series: Sequence[dict[str, Any]], **settings: Any) -> None:
        """Replaces the lines: each has a name and points, and may have `dots` (no line) and a `ring`."""
        thinned = [one | {"points": [list(p) for p in thin(one["points"])]} for one in series]
        new = {"description": description, "series": thinned, **settings}
        if any(self._props.get(name) != value for name, value in new.items()):
            self._props |= new
            self.update()


def thin(points: Sequence[Point]) -> list[Point]:
    """At most MOST_POINTS points, each the mean of its neighbours."""
    few = -(-len(points) // MOST_POINTS)
    groups = [points[at : at + few] for at in range(0, len(points), few)] if few else []
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], classes: str = "") -> ui.element:
    """A table: the first cell of each row is its header. It scrolls horizontally if wider than the page."""
    with _box(caption) as box, ui.element("table").classes(f"table {classes}"):
        _captioned(caption)
        with ui.element("thead"), ui.element("tr"):
            for name in head:
                with ui.element("th").props("scope=col"):
                    ui.label(name)
        with ui.element("tbody"):
            for first, *others in rows:
                with ui.element("tr"):
                    with ui.element("th").props("scope=row"):
                        ui.label(first)
                    for text in others:
                        with ui.element("td"):
                            ui.label(text)
    return box


def confusion(caption: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
    """A confusion matrix: rows are true classes, columns predictions. Empty rows and columns are left out."""
    used = [i for i, row in enumerate(counts) if sum(row) or any(other[i] for other in counts)]
    with _box(caption), ui.element("table").classes("table confusion"):
        _captioned(caption)
        with ui.element("thead"), ui.element("tr"):
            with ui.element("td"):
                ui.label("true \\ predicted").classes("quiet")
            for i in used:
                with ui.element("th").props("scope=col"):
                    ui.label(name_of(labels, i))
        with ui.element("tbody"):
            for i in (i for i in used if sum(counts[i])):
                with ui.element("tr"):
                    with ui.element("th").props("scope=row"):
                        ui.label(name_of(labels, i))
                    for j in used:
                        share = counts[i][j] / max(1, sum(counts[i]))
                        kind = "right" if i == j else "wrong"
                        with ui.element("td").classes(f"cell-{kind}").style(f"--share: {share:.2f}"):
                            ui.label(str(counts[i][j]) if counts[i][j] else "·")


VERDICT_ICONS = {"good": "verified", "neutral": "info", "bad": "warning"}


def verdict(tone: Literal["good", "neutral", "bad"], title: str, text: str) -> ui.element:
    """A card with an outcome. Elements built inside it appear below the text."""
    with ui.element("div").classes(f"card verdict verdict-{tone}"):
        ui.icon(VERDICT_ICONS[tone]).props("aria-hidden=true")
        with ui.element("div").classes("grow") as box, ui.element("div").props("role=status"):
            ui.label(title).classes("verdict-title")
            ui.label(text)
    return box


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, in two columns."""
    with ui.element("div").classes("facts"):
        for name, value in pairs:
            ui.label(name)
            ui.label(value)


def name_of(labels: Sequence[str], number: int) -> str:
    return labels[number] if number < len(labels) else str(number)


def _box(caption: str) -> ui.element:
    """A scrollable region, also by keyboard."""
    return ui.element("div").classes("table-box").props(f'tabindex=0 role=region aria-label="{attribute(caption)}"')


def _captioned(caption: str) -> None:
    with ui.element("caption"):
        ui.label(caption)


class SizeSlider(ui.element, component="size_slider.js"):
    """A slider of bytes, in about 64 steps."""

    def __init__(self, name: str, low: int, high: int, start: int, moved: Callable[[int], Awaitable[None]]) -> None:
        super().__init__()
        step = max(1, (high - low) // 64)
        self._props |= {
            "name": name,
            "low": low,
            "high": low + step * -(-(high - low) // step),
            "step": step,
            "start": start,
        }
        self.on("moved", lambda event: moved(int(event.args)))


class PairChart(ui.element, component="pair_chart.js"):
    """Values before and after, of runs that share a metric, with 95 % confidence intervals."""

    def __init__(self, runs: Sequence[tuple[str, Report]]) -> None:
        super().__init__()
        measures = [report.measure for _, report in runs]
        values = [value for one in measures for value in (one.before, one.after)]
        levels = measures[0].levels(values, from_zero=True)

        def spread(measure: Accuracy | Error, value: float) -> list[float]:
            within = measure.interval(value)
            return [value, within.low, within.high] if within else [value, value, value]

        rows = [
            {"name": name, "before": spread(one, one.before), "after": spread(one, one.after)}
            for (name, _), one in zip(runs, measures, strict=True)
        ]
        description = "; ".join(
            f"{name}: {one.shown(one.before)} before, {one.shown(one.after)} after"
            for (name, _), one in zip(runs, measures, strict=True)
        )
        ticks = [{"at": level, "text": measures[0].tick(level)} for level in levels]
        self._props |= {"name": measures[0].title, "description": description, "rows": rows, "ticks": ticks}
