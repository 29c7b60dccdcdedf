"""The view Fleet: progress of federations, accuracy of their boards, and releases to a fleet."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from nicegui import ui

from edgelora.base.errors import EdgeloraError
from edgelora.fleet.federation import Federation
from edgelora.fleet.plan import Plan
from edgelora.fleet.privacy import ADJACENCY
from edgelora.fleet.rollout import Rollout
from edgelora.fleet.roster import Site
from edgelora.fleet.simulate import of_twins
from edgelora.learn.report.fleet_page import mean_of, worst_tenth
from edgelora.studio.federations import DATA, Federations
from edgelora.studio.project import Project

from . import widgets
from .charts import LineChart, facts, table

COMMANDS = """pip install 'edgelora[fleet]'
edgelora fleet enroll --help                  # boards, into a roster
edgelora fleet init FOLDER --site SITE --base base.elm
edgelora fleet run FOLDER --start             # this page shows each round as it ends"""
SIMULATED = Plan(rounds=8)
NOISY_CLIP = 1000  # frozen A, in masters


def page(project: Project) -> None:
    """Builds the view."""
    widgets.title("Fleet", "Boards that train together: no sample leaves a board.", project)
    _Page(project).build()


class _Page:
    """The view and its selections."""

    def __init__(self, project: Project) -> None:
        self.federations = project.of(Federations)
        self.name = ""
        self.site = ""
        self.error: EdgeloraError | None = None
        self.message = ""
        self.changes = 0
        self.opened: set[str] = set()  # expanded sections

    def build(self) -> None:
        with ui.element("div").classes("stack"):
            widgets.follow(lambda: (self.federations.version, self.name, self.changes), self._federation, 1.0)
            widgets.follow(lambda: (self.federations.version, self.name, self.changes), self._publish, 1.0)
            self._begin()

    # --- a federation

    @property
    def federation(self) -> Federation | EdgeloraError | None:
        found = self.federations.all()
        if self.name not in found:
            self.name = next(iter(found), "")
        return found.get(self.name)

    def _federation(self) -> None:
        one, names = self.federation, list(self.federations.all())
        if one is None:
            return widgets.empty("No federation yet: simulate one below, or start one of real boards.", "hub")
        with ui.element("section").classes("card stack"):
            choice = widgets.Choice(
                names, value=self.name, label="Federation", on_change=lambda e: self._choose(e.value)
            )
            choice.props("outlined dense").classes("choice-line")
            if isinstance(one, EdgeloraError):
                return widgets.problem(str(one))
            self._shown(one)

    def _choose(self, name: str) -> None:
        self.name = name

    def _shown(self, one: Federation) -> None:
        plan, rounds = one.plan, one.rounds
        last = rounds[-1] if rounds else None
        facts(
            [
                ("rounds", f"{len(rounds)} of {plan.rounds}"),
                (
                    "boards",
                    f"{plan.boards}" + (f", {last.survivors} of {last.asked} in the last round" if last else ""),
                ),
            ]
        )
        measured = [(float(i), r.accuracies) for i, r in enumerate(rounds, 1) if r.accuracies]
        if measured:
            chart = LineChart("Test accuracy by round", "round", percent=True)
            lines = [("mean of boards", mean_of), ("worst tenth of boards", worst_tenth)]
            series = [{"name": name, "points": [(i, of(by) or 0.0) for i, by in measured]} for name, of in lines]
            mean, worst = (one["points"][-1][1] for one in series)
            message = f"After round {len(rounds)}: mean of boards {mean:.1%}, worst tenth {worst:.1%}"
            chart.show(message, series, xLow=1, high=1.0)
            rows = [(f"board {index}", f"{share:.1%}") for index, share in sorted(measured[-1][1].items(), key=_number)]
            table("Accuracy by board after the last round", ("board", "accuracy"), rows, "narrow-table")
        elif rounds:
            message = "Each board knows only its own accuracy; only simulations measure all boards."
            ui.label(message).classes("quiet")
        with widgets.fold("Advanced", opened=self.opened).classes("wide"):
            self._advanced(one)

    def _advanced(self, one: Federation) -> None:
        """Privacy figures, and every round."""
        plan, rounds = one.plan, one.rounds
        rows = [("masks", _masks(one)), ("global adapter", f"{len(one.adapter):,} bytes, {one.sha256[:16]}")]
        try:
            standing = one.standing(recorded=True)
        except EdgeloraError as error:
            widgets.problem(str(error), error.remedy)
        else:
            rows = [
                ("epsilon, outsiders", _epsilon(standing.epsilons.outsider, plan.delta)),
                ("epsilon, server", _epsilon(standing.epsilons.server, plan.delta)),
                ("neighbouring data sets", ADJACENCY),
                ("remaining budget", standing.words),
                *rows,
            ]
        facts(rows)
        if rounds:
            head = ("round", "boards", "took", "down", "up", "epsilon outside", "epsilon server")
            shown = [
                (
                    str(i),
                    f"{r.survivors} of {r.asked}",
                    f"{r.seconds:.1f} s",
                    _bytes(r.down),
                    _bytes(r.up),
                    _short(r.outsider),
                    _short(r.server),
                )
                for i, r in enumerate(rounds, 1)
            ]
            table("Rounds", head, shown)

    # --- releases

    def _publish(self) -> None:
        one, sites = self.federation, self.federations.sites()
        if not isinstance(one, Federation) or not one.rounds:
            return
        with ui.element("section").classes("card stack"):
            widgets.heading("Publish")
            if not sites:
                message = "No fleet to publish to: add the folder of its roster to the project's folder fleets."
                ui.label(message).classes("quiet")
                return
            if self.site not in sites:
                self.site = next(iter(sites))
            site = sites[self.site]
            with ui.element("div").classes("row-line"):
                fleet = (
                    widgets.Choice(list(sites), value=self.site, label="Fleet")
                    .props("outlined dense")
                    .classes("choice-line")
                )
                fleet.on_value_change(lambda event: setattr(self, "site", str(event.value)))
                name = ui.input("Name", value="global").props("outlined dense")
                share = ui.number("First share of boards, %", value=10, precision=0)
                share.props("outlined dense")
            with ui.element("div").classes("row-line"):

                def few() -> None:
                    self._do(lambda: self.federations.publish(site, one, str(name.value), int(share.value or 0)))

                widgets.button("Publish to first boards", few, icon="campaign", main=True)
                everyone = widgets.button("To all", lambda: self._to_all(site, str(name.value)), icon="public")
                widgets.button("Roll back", lambda: self._back(site, str(name.value)), icon="undo")
                everyone.set_enabled(bool(self.federations.rollouts(site)))
            if self.error:
                widgets.problem(str(self.error), self.error.remedy)
            if self.message:
                ui.label(self.message).props("role=status")
            self._rollouts(site)

    def _rollouts(self, site: Site) -> None:
        try:
            roster, found = site.roster(), self.federations.rollouts(site)
        except (EdgeloraError, OSError) as error:
            return widgets.problem(str(error))
        rows = [(one.name, str(one.version), _out_to(one, one.first(roster))) for one in found]
        if rows:
            table("Published", ("name", "version", "released to"), rows)

    def _to_all(self, site: Site, name: str) -> None:
        self._do(lambda: self.federations.to_everyone(site, name))

    def _back(self, site: Site, name: str) -> None:
        self._do(lambda: self.federations.back(site, name))

    def _do(self, what: Callable[[], Rollout]) -> None:
        self.error, self.message = None, ""
        try:
            one = what()
            self.message = f"{one.name}, version {one.version}, is on {'all' if one.everyone else 'the first'} boards."
        except EdgeloraError as error:
            self.error = error
        self.changes += 1

    # --- start a federation

    def _begin(self) -> None:
        with ui.element("section").classes("card stack"):
            widgets.heading("Start a federation")
            text = f"Simulated: host twins on this computer, bit-exact, with the recordings of {DATA}."
            ui.label(text).classes("quiet")

            def attempt(what: Callable[[], object]) -> None:
                """Runs an action and shows its error here."""
                wrong.clear()
                try:
                    what()
                except EdgeloraError as error:
                    with wrong:
                        widgets.problem(str(error), error.remedy)

            with ui.element("div").classes("row-line"):
                name = ui.input("Name", value="simulated").props("outlined dense")
                boards = ui.number("Boards", value=SIMULATED.boards, precision=0)
                rounds = ui.number("Rounds", value=SIMULATED.rounds, precision=0)

                def start() -> None:
                    self.name = str(name.value)
                    attempt(
                        lambda: self.federations.simulate(self.name, _plan(boards.value, rounds.value, noise.value))
                    )

                widgets.button("Simulate", start, icon="play_arrow", main=True)
            wrong = ui.element("div")
            widgets.job_card(lambda: self.federations.job)
            with widgets.fold("Advanced").classes("wide"):
                noise = ui.number("Noise multiplier", value=0)
                for one in (boards, rounds, noise):
                    one.props("outlined dense")
                ui.label("Real boards: Flower runs the rounds, in a separate environment.").classes("quiet")
                ui.label(COMMANDS).classes("code").props('tabindex=0 role=region aria-label="Commands to start one"')
                with ui.element("div").classes("row-line"):
                    folder = ui.input("Folder of a federation or fleet").props("outlined dense").classes("choice-line")

                    def show() -> None:
                        attempt(lambda: self.federations.add(Path(str(folder.value)).expanduser()))

                    widgets.button("Show it", show, icon="folder_open")


def _masks(one: Federation) -> str:
    if not one.plan.masks:
        return "off: the server sees each board's update"
    return "omitted in simulations: masks cancel" if of_twins(one.folder) else "on: the server sees only sums"


def _plan(boards: float | None, rounds: float | None, noise: float | None) -> Plan:
    count = int(boards or 0)
    if not noise:
        return Plan.suited(boards=count, rounds=int(rounds or 0))
    return Plan.suited(
        boards=count, rounds=int(rounds or 0), noise=float(noise), clip=NOISY_CLIP, least=max(1, count * 3 // 4)
    )


def _number(pair: tuple[str, float]) -> tuple[int, str]:
    return (int(pair[0]) if pair[0].isdigit() else 0, pair[0])


def _short(epsilon: float) -> str:
    return f"{epsilon:.3g}" if math.isfinite(epsilon) else "no noise"


def _epsilon(epsilon: float, delta: float) -> str:
    if not math.isfinite(epsilon):
        return "unbounded: boards add no noise"
    return f"{epsilon:.3g}, at delta {delta:g}"


def _bytes(count: int) -> str:
    return f"{count / 1024:,.0f} KB" if count >= 10240 else f"{count:,} B"


def _out_to(one: Rollout, first: list[int]) -> str:
    return "all boards" if one.everyone else f"{len(first)} boards: {', '.join(map(str, first[:20]))}"
