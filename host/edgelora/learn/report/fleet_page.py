"""The page of a federation: accuracy by round, costs, and privacy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from edgelora.core.formats.files import write_atomic

from . import page

_CHART = (720, 300, 52, 20, 24, 44)  # width, height; margins left, right, top, bottom
_TENTH = 10


@dataclass(frozen=True)
class FleetRound:
    """A round. accuracies: by board, shares of 1; empty if not measured. Epsilons: of all rounds so far."""

    asked: int
    survivors: int
    seconds: float
    down: int
    up: int
    outsider: float
    server: float
    accuracies: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FleetReport:
    """A federation's results. before: accuracies with the base alone, by board; settings: names and values.

    adjacency: of the epsilons; outsider, server: current epsilons; budget: 0 for none; left: the rest of it, in words.
    """

    created: str
    title: str
    boards: int
    planned: int
    delta: float
    adjacency: str
    outsider: float
    server: float
    budget: float
    left: str
    noise: float
    masks: bool
    twins: bool  # only boards of this computer, which omit masks
    sha256: str
    adapter_bytes: int
    settings: list[tuple[str, str]]
    before: dict[str, float]
    rounds: list[FleetRound]
    ended: str = ""  # why it ended before its last round, if it did


def mean_of(accuracies: dict[str, float]) -> float | None:
    return sum(accuracies.values()) / len(accuracies) if accuracies else None


def worst_tenth(accuracies: dict[str, float]) -> float | None:
    """The mean of the worst tenth of boards, at least one."""
    worst = sorted(accuracies.values())[: max(1, len(accuracies) // _TENTH)]
    return sum(worst) / len(worst) if worst else None


def write_fleet_page(report: FleetReport, path: Path) -> Path:
    """Writes the page atomically."""
    title = report.title
    write_atomic(path, page.whole(title, [_headline(report, title), *_sections(report)]).encode())
    return path


def _headline(report: FleetReport, title: str) -> Markup:
    measured = [one.accuracies for one in report.rounds if one.accuracies]
    numbers = []
    if measured:
        numbers = [
            ("before", "accuracy with the base, mean of boards", page.percent(mean_of(report.before))),
            ("after", "with the global adapter", page.percent(mean_of(measured[-1]))),
            ("float", "worst tenth of boards", page.percent(worst_tenth(measured[-1]))),
        ]
    of = f"For outsiders, at delta {report.delta:g}; {report.adjacency}."
    badges = [("yes" if report.noise else "no", f"epsilon {_epsilon(report.outsider)}", of), _masks(report)]
    if report.budget:
        note = f"Relative to the larger epsilon; the server's current epsilon is {_epsilon(report.server)}."
        badges.append(("yes", f"remaining budget: {report.left}", note))
    sentences = [
        f"{page.count(len(report.rounds), 'round')} of {report.planned} are done; {page.count(report.boards, 'board')} "
        "belong to the fleet. No sample, and no board's own adapter, left a board."
    ]
    if report.ended:
        sentences.append(report.ended)
    return page.part("headline", "fleet report", title, [page.date(report.created)], numbers, badges, sentences)


def _masks(report: FleetReport) -> tuple[str, str, str]:
    if not report.masks:
        return "no", "masks off", "The server saw each board's update."
    if report.twins:
        return "yes", "masks omitted", "Simulated on one computer: masks cancel exactly."
    return "yes", "masks on", "The server saw only sums."


def _sections(report: FleetReport) -> list[Markup]:
    return [
        page.section("Accuracy by round", _accuracy(report), _boards(report)),
        page.section("Privacy", _privacy(report)),
        page.section("Costs", _costs(report)),
        page.section("Result", _outcome(report)),
    ]


def _accuracy(report: FleetReport) -> Markup:
    points = [(0, report.before)] + [(i, one.accuracies) for i, one in enumerate(report.rounds, 1)]
    points = [(i, by) for i, by in points if by]
    if len(points) < 2:
        text = "Not measured: outside of simulations, each board knows only its own accuracy."
        return page.part("note", text)
    curves: list[tuple[str, str, Callable[[dict[str, float]], float | None]]] = [
        ("loss-epoch", "mean of boards", mean_of),
        ("loss-float", "worst tenth", worst_tenth),
    ]
    drawn = [(look, [(i, value) for i, by in points if (value := of(by)) is not None]) for look, _, of in curves]
    levels = [i / 10 for i in range(math.floor(10 * min(v for _, line in drawn for _, v in line)), 11)]
    label = "Accuracy on test samples that no board trained on. Round 0 is the base."
    picture = _chart(drawn, levels, "{:.0%}".format, max(len(report.rounds), 1), label)
    return page.figure(picture, label, label, [(page.key(look), name) for look, name, _ in curves])


def _chart(
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    levels: Sequence[float],
    shown: Callable[[float], str],
    rounds: int,
    label: str,
) -> Markup:
    width, height, left, right, top, bottom = _CHART
    low, high = levels[0], levels[-1]

    def x(at: float) -> float:
        return left + (width - left - right) * at / rounds

    def y(value: float) -> float:
        return height - bottom - (height - top - bottom) * (value - low) / ((high - low) or 1)

    parts = []
    for level in levels:
        parts.append(page.line(left, y(level), width - right, y(level), "grid" if level > low else "axis"))
        parts.append(page.text(left - 8, y(level) + 4, shown(level), "tick", "end"))
    every = max(1, round(page.ticks(rounds, 10)[1]))
    parts += [page.text(x(i), height - bottom + 18, str(i), "tick") for i in range(0, rounds + 1, every)]
    parts.append(page.text((left + width - right) / 2, height - 6, "round", "axis-name"))
    parts += [page.path([(x(i), y(value)) for i, value in line], look) for look, line in lines]
    return page.svg(width, height, label, parts)


def _boards(report: FleetReport) -> Markup:
    """Each board before, half-way and at the end; of many boards only the worst and the best."""
    measured = [(i, one.accuracies) for i, one in enumerate(report.rounds, 1) if one.accuracies]
    if not measured or not report.before:
        return Markup()
    middle, last = measured[len(measured) // 2], measured[-1]
    order = sorted(last[1], key=lambda board: last[1][board])
    shown = order if len(order) <= 32 else [*order[:16], *order[-16:]]
    rows = [
        [f"board {board}", *(page.percent(by.get(board)) for by in (report.before, middle[1], last[1]))]
        for board in shown
    ]
    head = ["Board", "base", f"round {middle[0]}", f"round {last[0]}"]
    which = "Worst first" if shown is order else f"The 16 worst and the 16 best of {len(order)}"
    return page.table(head, rows, which)


def _privacy(report: FleetReport) -> Markup:
    if not report.noise:
        hidden = "Only masks hide a board among the others." if report.masks else "Nothing hides a board's update."
        return page.part("note", f"No noise was added: epsilon is infinite. {hidden}")
    rounds = report.rounds
    lines = [
        ("loss-epoch", [(i, one.outsider) for i, one in enumerate(rounds, 1) if math.isfinite(one.outsider)]),
        ("loss-float", [(i, one.server) for i, one in enumerate(rounds, 1) if math.isfinite(one.server)]),
    ]
    top = max((value for _, line in lines for _, value in line), default=0.0)
    label = f"Epsilon at delta {report.delta:g}, of a board's whole data, by round; {report.adjacency}"
    picture = _chart(lines, page.ticks(top, 5), lambda value: f"{value:g}", max(len(rounds), 1), label)
    legend = [
        (
            page.key("loss-epoch"),
            "an outsider, who sees the global adapters, but not this page, which shows how many replied",
        ),
        (page.key("loss-float"), "the server, which knows the sampled boards"),
    ]
    rows = [
        ["epsilon, outsiders", _epsilon(report.outsider)],
        ["epsilon, server", _epsilon(report.server)],
        ["remaining budget", report.left],
    ]
    now = f"Current, over all federations of these boards, at delta {report.delta:g}; {report.adjacency}"
    return Markup("\n").join([page.figure(picture, label, label, legend), page.table([], rows, now)])


def _costs(report: FleetReport) -> Markup:
    rounds = report.rounds
    asked, back = sum(one.asked for one in rounds), sum(one.survivors for one in rounds)
    rows = [
        ["boards sampled, all rounds", f"{asked:,}"],
        ["dropped out", f"{asked - back:,}"],
        ["bytes to boards", page.size(sum(one.down for one in rounds))],
        ["bytes from boards", page.size(sum(one.up for one in rounds))],
        ["time", page.time(1e6 * sum(one.seconds for one in rounds))],
    ]
    shown = list(enumerate(rounds, 1))[-20:]
    by_round = [
        [
            str(i),
            f"{one.survivors} of {one.asked}",
            page.size(one.down),
            page.size(one.up),
            page.time(1e6 * one.seconds),
        ]
        + [_epsilon(one.outsider), _epsilon(one.server)]
        for i, one in shown
    ]
    head = ["Round", "boards", "down", "up", "time", "ε outsider", "ε server"]
    caption = "By round" if len(shown) == len(rounds) else f"The last {len(shown)} rounds"
    return Markup("\n").join([page.table([], rows, "In all"), page.table(head, by_round, caption)])


def _outcome(report: FleetReport) -> Markup:
    rows = [["global adapter, SHA-256", report.sha256], ["with masters", page.size(report.adapter_bytes)]]
    return page.table([], [*rows, *map(list, report.settings)], "The same bytes with every engine, and its settings")


def _epsilon(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"
