"""The page of one monitored machine: how well scores detect faults, and the rate of false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from edgelora.core.formats.files import write_atomic

from . import page
from .statistics import most_events

_CHART = (460, 320, 52, 20, 24, 44)  # width, height; margins left, right, top, bottom
_LOOKS = {"lora_residual": "epoch", "mahalanobis": "float", "base_residual": "update", "z_score": "z"}
NAMES = {
    "lora_residual": "own adapter",
    "base_residual": "base alone",
    "mahalanobis": "Mahalanobis distance, in float on the host",
    "z_score": "z-score, no network",
}


@dataclass(frozen=True)
class Method:
    """A score's performance. curve: points (false alarms, detected faults), shares of windows; by_severity: AUC."""

    auc: float
    partial_auc: float
    curve: list[tuple[float, float]]
    by_severity: dict[str, float]


@dataclass(frozen=True)
class MachineReport:
    """A machine's results. methods: by name, see `NAMES`. Shares are of windows, 0 to 1.

    found: share of faulty windows above the threshold, by fault and severity. false_alarms: of normal windows above it,
    in_alarm: during an alarm; alarms: how many began; tested: numbers of normal and faulty windows.
    """

    created: str
    board: str
    machine: int
    elm: str
    base_id: str
    verdict: str
    activated: bool
    host_twin_identical: bool
    watched: int
    watched_above: int
    threshold: float
    one_in: int
    least: int
    votes: int
    window_seconds: float
    false_alarms: float
    in_alarm: float
    alarms: int
    tested: tuple[int, int]
    methods: dict[str, Method]
    found: dict[str, dict[str, float]]
    stages: dict[str, int]
    adapter_bytes: int
    record_bytes: int
    arena_bytes: int
    heap_free: int
    train_step_us: float | None
    window_us: float

    @property
    def days(self) -> float:
        """Days of tested normal operation."""
        return self.tested[0] * self.window_seconds / 86400

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def write_machine_page(report: MachineReport, path: Path) -> Path:
    """Writes the page atomically."""
    title = f"Machine {report.machine}, monitored by a board"
    write_atomic(path, page.whole(title, [_headline(report, title), *_sections(report)]).encode())
    return path


def _headline(report: MachineReport, title: str) -> Markup:
    own, base = report.methods["lora_residual"], report.methods["base_residual"]
    numbers = [
        ("before", "AUC of the base alone", f"{base.auc:.3f}"),
        ("after", "AUC with its own adapter", f"{own.auc:.3f}"),
        ("float", "normal windows above the threshold", page.percent(report.false_alarms)),
    ]
    kept = "yes" if report.activated else "no"
    meaning = "Validated on held-out normal windows, without faults."
    twin = "yes" if report.host_twin_identical else "no"
    badges = [
        (kept, f"Adapter: {report.verdict}" + ("" if report.activated else ", not active"), meaning),
        (twin, f"Host twin identical: {twin}", "Samples, adapter, record and scores, bit for bit."),
    ]
    sentences = [
        "The vibration is simulated: nothing here was measured on a machine.",
        f"The board computed features from raw counts, trained on {sum(report.stages.values())} normal windows of "
        f"{report.window_seconds:.1f} s, and set its own threshold. It then watched {report.watched} windows, of which "
        f"{report.watched_above} were above it.",
    ]
    return page.part(
        "headline", "machine report", title, [report.board, page.date(report.created)], numbers, badges, sentences
    )


def _sections(report: MachineReport) -> list[Markup]:
    tested = (
        f"The host twin, equal to the board, scored {report.tested[0]} normal windows and {report.tested[1]} "
        "faulty ones, none used for calibration. Scores without a network use the same normal windows."
    )
    legend = [(page.key(f"loss-{_LOOKS[name]}"), NAMES[name]) for name in _LOOKS if name in report.methods]
    chart = page.figure(_chart(report), "Detected faults by false alarms", tested, legend)
    return [
        page.section("Detected faults by false alarms", chart, _methods(report)),
        page.section("Detection at the board's threshold", _found(report)),
        page.section("Alarms", _alarms(report)),
        page.section("Costs", _costs(report)),
    ]


def _chart(report: MachineReport) -> Markup:
    width, height, left, right, top, bottom = _CHART

    def at(point: Sequence[float]) -> tuple[float, float]:
        return left + (width - left - right) * point[0], height - bottom - (height - top - bottom) * point[1]

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(page.line(*at((0, tick)), *at((1, tick)), "grid" if tick else "axis"))
        parts.append(page.text(left - 8, at((0, tick))[1] + 4, f"{tick:g}", "tick", "end"))
        parts.append(page.text(at((tick, 0))[0], height - bottom + 18, f"{tick:g}", "tick"))
    parts.append(page.text((left + width - right) / 2, height - 6, "share of normal windows above", "axis-name"))
    parts.append(page.text(0, 14, "share of faulty windows above", "axis-name", "start"))
    for name, look in reversed(_LOOKS.items()):
        if name in report.methods:
            parts.append(page.path([at(point) for point in report.methods[name].curve], f"loss-{look}"))
    return page.svg(width, height, "Receiver operating characteristic of each score", parts)


def _methods(report: MachineReport) -> Markup:
    severities = list(next(iter(report.methods.values())).by_severity)
    rows = [
        [NAMES[name], f"{one.auc:.3f}", f"{one.partial_auc:.3f}", *(f"{one.by_severity[s]:.3f}" for s in severities)]
        for name, one in report.methods.items()
    ]
    head = ["Score", "AUC", "pAUC, 10 %", *(f"severity {severity}" for severity in severities)]
    return page.table(head, rows, "Area under the curve; partial: up to 10 % false alarms, scaled to 1", marked=0)


def _found(report: MachineReport) -> Markup:
    severities = list(next(iter(report.found.values())))
    rows = [[fault, *(page.percent(by[severity]) for severity in severities)] for fault, by in report.found.items()]
    head = ["Fault", *(f"severity {severity}" for severity in severities)]
    return page.table(head, rows, "Share of windows above the threshold, by severity")


def _alarms(report: MachineReport) -> Markup:
    most = most_events(report.alarms) / report.days
    rows = [
        ["threshold", f"{report.threshold:.3f}"],
        ["target: normal windows above it", f"1 in {report.one_in}"],
        ["measured", page.percent(report.false_alarms)],
        [f"in alarm: {report.least} of {report.votes} above it", page.percent(report.in_alarm)],
        [f"false alarms in {24 * report.days:.1f} hours", str(report.alarms)],
        ["per day", f"{report.alarms / report.days:.1f}, at most {most:.0f}"],
    ]
    table = page.table([], rows, f"In normal operation, {86400 / report.window_seconds:,.0f} windows per day")
    return Markup("\n").join([table, page.part("note", "At most: with 95 % confidence, if alarms come independently.")])


def _costs(report: MachineReport) -> Markup:
    rows = [
        ["adapter with the machine's record", page.size(report.adapter_bytes)],
        ["of which the record", page.size(report.record_bytes)],
        ["arena", page.size(report.arena_bytes)],
        ["heap left", page.size(report.heap_free)],
        ["front end, network and monitor, per window", page.time(report.window_us)],
        ["training step", page.time(report.train_step_us)],
        *([f"windows of stage {stage}", str(count)] for stage, count in report.stages.items()),
    ]
    return page.table([], rows, "On the board's clock")
