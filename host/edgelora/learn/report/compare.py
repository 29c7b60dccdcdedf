"""Comparison of several runs: a table, and a page with a chart of their accuracies or errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from edgelora.core.formats.files import write_atomic

from . import page
from .record import Report

Runs = Sequence[tuple[str, Report]]  # a run's name and its record
HEAD = (
    "run",
    "board",
    "mode",
    "rank",
    "samples",
    "epochs",
    "before",
    "after",
    "95% interval",
    "conclusion",
    "inference",
    "step",
    "adapter",
    "arena",
    "twin",
)


def comparison(runs: Runs) -> tuple[tuple[str, ...], list[list[str]]]:
    """The head of a table, and a row for each run."""
    return HEAD, [_row(name, report) for name, report in runs]


def _row(name: str, report: Report) -> list[str]:
    measure = report.measure
    twin = {True: "identical", False: "DIFFERS", None: "–"}[report.host_twin_identical]
    return [
        name,
        report.board,
        report.mode,
        str(report.rank),
        f"{report.samples:,}",
        str(report.epochs),
        measure.shown(measure.before),
        measure.shown(measure.after),
        measure.spread,
        report.conclusion.short,
        page.time(report.infer_us),
        page.time(report.train_step_us),
        page.size(report.adapter_bytes),
        page.size(report.arena_bytes),
        twin,
    ]


def differences(runs: Runs) -> list[str]:
    """Why runs are not comparable: different bases or test samples."""
    said = []
    for what, values in (
        ("base networks", {report.base_id for _, report in runs}),
        ("test samples", {(report.test_samples, report.tested_on, report.subject) for _, report in runs}),
    ):
        if len(values) > 1:
            said.append(f"These runs have {len(values)} different {what}: their figures are not comparable.")
    if len(_by_measure(runs)) > 1:
        said.append("Some runs have accuracies, others errors, with 95% intervals of their changes.")
    return said


def _by_measure(runs: Runs) -> list[list[tuple[str, Report]]]:
    """Runs with accuracies, and runs with errors."""
    kinds: dict[str, list[tuple[str, Report]]] = {}
    for run in runs:
        kinds.setdefault(run[1].measure.name, []).append(run)
    return list(kinds.values())


# --- The page ---


_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 440, 56, 12, 20, 10, 34


def render_comparison(runs: Runs) -> str:
    """The text of the page."""
    title = f"{page.count(len(runs), 'run')} compared"
    head, rows = comparison(runs)
    kinds = _by_measure(runs)
    notes = [*differences(runs), "Step: training, one sample. 1 KB is 1024 bytes."]
    sections = [
        page.part("headline", "comparison", title, [], [], [], [_best(alike) for alike in kinds]),
        *(page.section(alike[0][1].measure.title, _measure_figure(alike)) for alike in kinds),
        page.section("Runs", page.table(head, rows, "Settings, costs and results")),
        page.section("Notes", page.part("notes", notes)),
    ]
    return page.whole(title, sections)


def write_comparison(path: Path, runs: Runs) -> None:
    """Writes the page atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render_comparison(runs).encode())


def _best(runs: Runs) -> str:
    name, report = max(runs, key=lambda run: run[1].measure.merit)
    measure = report.measure
    message = f"The {measure.best} {measure.title.lower()} after personalization is that of {name}"
    return f"{message}: {measure.shown(measure.after)}."


def _measure_figure(runs: Runs) -> Markup:
    measure = runs[0][1].measure
    label = f"{measure.title} of each run, before and after personalization"
    legend = [(page.key("loss-update"), "before"), (page.key("loss-epoch"), "after")]
    return page.figure(_measure_chart(runs, label), label, f"{label}, {measure.caption}.", legend)


def _measure_chart(runs: Runs, label: str) -> Markup:
    height = _TOP + _ROW * len(runs) + _BOTTOM
    measures = [report.measure for _, report in runs]
    levels = measures[0].levels([value for one in measures for value in (one.before, one.after)], from_zero=True)

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * value / levels[-1]

    parts = []
    for level in levels:
        at = x(level)
        parts.append(page.line(at, _TOP, at, height - _BOTTOM, "grid"))
        parts.append(page.text(at, height - _BOTTOM + 18, measures[0].tick(level), "tick"))
    for i, ((name, _), measure) in enumerate(zip(runs, measures, strict=True)):
        y = _TOP + _ROW * (i + 0.65)
        shown = name if len(name) <= 48 else f"…{name[-47:]}"
        parts.append(page.text(_LEFT, y - 18, shown, "axis-name", "start"))
        for value, kind, at in ((measure.before, "update", y - 7), (measure.after, "epoch", y + 7)):
            low, high = measure.interval(value) or (value, value)
            parts.append(page.path([(x(low), at), (x(high), at)], f"loss-{kind}"))
            parts.append(page.dot(x(value), at, kind, f"{name}: {measure.shown(value)}"))
    return page.svg(_WIDTH, height, label, parts)
