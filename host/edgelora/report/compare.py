"""Several runs beside each other: a table, and a page with a chart of their accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from ..formats import write_atomic
from . import page
from .record import Report
from .statistics import wilson

Runs = Sequence[tuple[str, Report]]  # what a run is called, and its record
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
    "verdict",
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
    within = wilson(report.adapted_accuracy, report.test_samples)
    twin = {True: "identical", False: "DIFFERS", None: "–"}[report.host_twin_identical]
    return [
        name,
        report.board,
        report.mode,
        str(report.rank),
        f"{report.samples:,}",
        str(report.epochs),
        page.percent(report.base_accuracy),
        page.percent(report.adapted_accuracy),
        "–" if within is None else f"{page.percent(within[0])} to {page.percent(within[1])}",
        report.verdict or "–",
        page.time(report.infer_us),
        page.time(report.train_step_us),
        page.size(report.adapter_bytes),
        page.size(report.arena_bytes),
        twin,
    ]


def differences(runs: Runs) -> list[str]:
    """What keeps runs from being compared: other bases, other test samples."""
    said = []
    for what, values in (
        ("base networks", {report.base_id for _, report in runs}),
        ("test samples", {(report.test_samples, report.tested_on, report.subject) for _, report in runs}),
    ):
        if len(values) > 1:
            said.append(f"These runs have {len(values)} different {what}: accuracies are not of the same task.")
    return said


# --- The page ---


_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 440, 56, 12, 20, 10, 34


def render_comparison(runs: Runs) -> str:
    """The text of the page."""
    title = f"{page.count(len(runs), 'run')} compared"
    head, rows = comparison(runs)
    notes = [*differences(runs), "Step: training, one sample. 1 KB is 1024 bytes."]
    sections = [
        page.part("headline", "comparison", title, [], [], [], [_best(runs)]),
        page.section("Accuracy", _accuracy_figure(runs)),
        page.section("Runs", page.table(head, rows, "What they were, took and gave")),
        page.section("Notes", page.part("notes", notes)),
    ]
    return page.whole(title, sections)


def write_comparison(path: Path, runs: Runs) -> None:
    """Writes the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render_comparison(runs).encode())


def _best(runs: Runs) -> str:
    name, report = max(runs, key=lambda run: run[1].adapted_accuracy)
    return f"The highest accuracy after personalization is that of {name}: {page.percent(report.adapted_accuracy)}."


def _accuracy_figure(runs: Runs) -> Markup:
    label = "Accuracy of each run, before and after personalization"
    legend = [(page.key("loss-update"), "before"), (page.key("loss-epoch"), "after")]
    caption = f"{label}, with 95% confidence intervals (Wilson's), as far as the number of test samples is known."
    return page.figure(_accuracy_chart(runs, label), label, caption, legend)


def _accuracy_chart(runs: Runs, label: str) -> Markup:
    height = _TOP + _ROW * len(runs) + _BOTTOM

    def x(share: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share

    parts = []
    for percent in range(0, 101, 20):
        at = x(percent / 100)
        parts.append(page.line(at, _TOP, at, height - _BOTTOM, "grid"))
        parts.append(page.text(at, height - _BOTTOM + 18, f"{percent}%", "tick"))
    for i, (name, report) in enumerate(runs):
        y = _TOP + _ROW * (i + 0.65)
        shown = name if len(name) <= 48 else f"…{name[-47:]}"
        parts.append(page.text(_LEFT, y - 18, shown, "axis-name", "start"))
        for share, kind, at in (
            (report.base_accuracy, "update", y - 7),
            (report.adapted_accuracy, "epoch", y + 7),
        ):
            within = wilson(share, report.test_samples)
            low, high = within or (share, share)
            parts.append(page.path([(x(low), at), (x(high), at)], f"loss-{kind}"))
            parts.append(page.dot(x(share), at, kind, f"{name}: {page.percent(share)}"))
    return page.svg(_WIDTH, height, label, parts)
