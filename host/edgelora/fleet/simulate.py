"""Federations of twins on this computer: in a plain loop, or by Flower's apps over a pool of processes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from edgelora.base.errors import MissingPackage
from edgelora.base.progress import Progress, no_progress
from edgelora.learn.report.fleet_page import FleetReport, FleetRound, write_fleet_page

from .federation import Call, Exchange, Federation, Judge, Total, federate
from .privacy import ADJACENCY
from .roster import Site
from .simulated_boards import Boards, accuracies, boards_of, sum_of

ENGINES = ("pool", "loop")
MOST_JUDGED = 64  # boards whose accuracy is measured after a round


def plain_loop(federation: Federation, boards: Boards) -> Exchange:
    """The reference engine: one board after the other, in this process, without Flower."""
    plan, elm = federation.plan, federation.base.elm

    def exchange(call: Call) -> Total:
        call.charge(call.boards)
        vector = sum_of(plan, elm, call.adapter, call.rate, call.seed, boards, call.boards)
        size = len(call.boards)
        return Total(vector, size, size * len(call.adapter), size * 4 * len(vector))

    return exchange


def judge_of(federation: Federation, boards: Boards) -> Judge:
    """A function that measures the accuracies of at most `MOST_JUDGED` boards, evenly spaced."""
    count = min(MOST_JUDGED, federation.plan.boards)
    chosen = [place * federation.plan.boards // count for place in range(count)]

    def judge(adapter: bytes | None) -> dict[str, float]:
        found = accuracies(federation.plan, federation.base.elm, adapter, boards, chosen)
        return {str(index): round(value, 4) for index, value in zip(chosen, found, strict=True)}

    return judge


def simulate(
    federation: Federation,
    data: str,
    engine: str = "pool",
    progress: Progress = no_progress,
    judged: bool = True,
    nodes: int | None = None,
    workers: int | None = None,
) -> None:
    """Runs the remaining rounds. BudgetSpent at the budget's end. nodes: of the pool, None: one for each board."""
    base = federation.base
    boards = boards_of(data, base.elm, base.name, federation.plan.boards)
    judge = judge_of(federation, boards) if judged else None
    if engine == "loop":
        federate(federation, plain_loop(federation, boards), None, progress, judge)
        return
    pooled(federation, data, nodes or federation.plan.boards, workers, progress, judge)


def pooled(
    federation: Federation,
    work: str | Site,
    nodes: int,
    workers: int | None = None,
    progress: Progress = no_progress,
    judge: Judge | None = None,
    gateways: Path | None = None,
) -> None:
    """Runs Flower's apps over a process pool. work: data of twins, or the site whose boards are behind gateways.

    gateways: a folder with a gateway's folder for each node: 0, 1 and so on.
    """
    try:
        from .flower import FleetStrategy, Twins
        from .sim_grid import PoolGrid
    except ModuleNotFoundError as error:
        raise MissingPackage(
            "the pool runs Flower's apps: pip install 'edgelora[fleet]'", remedy="or take --engine loop"
        ) from error
    plan, base = federation.plan, federation.base
    twins = Twins(work, plan, base.elm, base.name) if isinstance(work, str) else work
    with PoolGrid(nodes, workers, run_config={"gateways": str(gateways)} if gateways else {}) as grid:
        FleetStrategy(federation, twins, progress, judge).start(grid)


def of_twins(folder: Path) -> bool:
    """Whether all boards of a federation are twins: it has no Flower project, or its project names their data."""
    try:
        project = tomllib.loads((folder / "app" / "pyproject.toml").read_text())
        return bool(project["tool"]["flwr"]["app"]["config"]["data"])
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, TypeError):  # unknown: don't claim it
        return False


def write_page(
    federation: Federation,
    path: Path,
    ended: str = "",
    before: Mapping[str, float] = MappingProxyType({}),
    measured: Mapping[int, dict[str, float]] = MappingProxyType({}),
) -> Path:
    """Writes the page of a federation in its present state; its path.

    before, measured: accuracies by board with the base alone, and after rounds by their number from 1, if the
    federation itself has not recorded them.
    """
    plan, standing = federation.plan, federation.standing(recorded=True)
    rounds = [
        FleetRound(
            *(r.asked, r.survivors, r.seconds, r.down, r.up, r.outsider, r.server), measured.get(i, r.accuracies)
        )
        for i, r in enumerate(federation.rounds, 1)
    ]
    settings = [(name.replace("_", " "), str(value)) for name, value in plan.as_json().items()]
    report = FleetReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        title=f"A fleet of {plan.boards} boards",
        boards=plan.boards,
        planned=plan.rounds,
        delta=plan.delta,
        adjacency=ADJACENCY,
        outsider=standing.epsilons.outsider,
        server=standing.epsilons.server,
        budget=plan.budget,
        left=standing.words,
        noise=plan.multiplier,
        masks=plan.masks,
        twins=of_twins(federation.folder),
        sha256=federation.sha256,
        adapter_bytes=len(federation.adapter),
        settings=settings,
        before=dict(before) or federation.before,
        rounds=rounds,
        ended=ended,
    )
    return write_fleet_page(report, path)
