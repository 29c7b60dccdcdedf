"""The view Learn: set up a training run, follow it, and keep or discard the result."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from nicegui import run as nicegui_run
from nicegui import ui

from edgelora.base.errors import EdgeloraError
from edgelora.board.profiles import load_board
from edgelora.core.store_names import store_name
from edgelora.learn.planning.choose import Choices
from edgelora.learn.planning.plan import Plan
from edgelora.learn.training.board.board_run import NAME
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.retrain import Consolidated
from edgelora.model.datasets.dataset import Dataset
from edgelora.studio.board_session import BoardSession
from edgelora.studio.job import Job
from edgelora.studio.project import Project
from edgelora.studio.run import GOING, UNFINISHED, StudioRun
from edgelora.studio.runs import USUAL, Added, ProjectRuns
from edgelora.studio.selections import RunChoice
from edgelora.studio.training_options import (
    OWN,
    Offer,
    Prospect,
    about,
    collected,
    collected_version,
    counts_of,
    left_out,
    measured_choices,
    offer,
    planned,
    prospect,
)

from . import widgets
from .charts import LineChart, SizeSlider, confusion, facts, verdict

LENGTHS = {16: "quick", 60: "usual", 0: "thorough"}  # epochs; 0: as `Recipe.fitted` chooses
WHERE = {True: "board", False: "with this computer"}  # whether the board controls training
STATUS = {
    "learning": "The board is training.",
    "pausing": "Pausing: the board finishes its current step.",
    "paused": "Paused. The board has saved its state.",
    "cut off": "Interrupted. The board resumes from its last checkpoint.",
    "judged": "Done. Keep or discard the adapter.",
    "differs": "Done, but the board and its host twin differ. The board keeps its previous adapter.",
    "kept": "Kept.",
    "discarded": "Discarded: the previous adapter was restored.",
    "given up": "Abandoned: another run uses the board.",
    "failed": "Failed.",
}


def page(project: Project) -> None:
    """Builds the view."""
    widgets.title("Learn", "Train your board on your own samples.", project)
    _Page(project).build()


class _Page:
    """The view and its selections."""

    def __init__(self, project: Project) -> None:
        self.project, self.runs = project, project.of(ProjectRuns)
        self.chosen = project.of(RunChoice)
        self.error: EdgeloraError | None = None
        self.after: Job | None = None  # add a class, consolidate, keep, discard
        self.version = 0

    def build(self) -> None:
        with ui.element("div").classes("stack"):
            widgets.follow(lambda: (self._port, id(self.after), self.after and self.after.state), self._after)
            widgets.follow(lambda: (self._port, id(self.run), self.run and self.run.status, self.version), self._run)
            widgets.follow(
                lambda: (
                    self._port,
                    self._samples_version,
                    self.run and (self.run.status, self.run.head.added),
                ),
                self._more,
            )
            self._setup()

    def _setup(self) -> None:
        """The setup of a run, folded once a run has begun."""
        with (
            ui.element("section").classes("card fold-card").props('aria-label="What to learn"'),
            widgets.fold(self._setup_name, "tune", self._begins) as folded,
        ):
            widgets.follow(
                lambda: (self._port, self._samples_version, self.chosen.base_name, self.runs.version), self._what
            )
            widgets.follow(lambda: (self._port, self._samples_version, self.chosen.base_name), self._how)
            with widgets.fold("Advanced").classes("wide"):
                widgets.follow(self._budget_version, self._budget)
            widgets.follow(lambda: (self._port, id(self.run), self._status, self.version), self._begin)
        was = [self._begins]

        def look() -> None:
            folded.set_text(self._setup_name)
            if was != [self._begins]:
                was[:] = [self._begins]
                folded.set_value(self._begins)

        ui.timer(widgets.POLL_SECONDS, look)

    @property
    def _status(self) -> str:
        return self.run.status if self.run else ""

    @property
    def _begins(self) -> bool:
        """Whether the board has no run whose result stands."""
        return self._status in ("", "discarded", "given up")

    @property
    def _setup_name(self) -> str:
        return "What to learn" if self._begins else "Learn again"

    # --- the current state

    @property
    def session(self) -> BoardSession | None:
        return self.project.selected

    @property
    def _port(self) -> str | None:
        return self.session.device.port if self.session else None

    @property
    def _samples_version(self) -> int:
        return collected_version(self.project)

    @property
    def run(self) -> StudioRun | None:
        return self.runs.of(self.session) if self.session else None

    @property
    def base(self) -> Base | None:
        bases = self.runs.bases()
        if self.chosen.base_name not in bases:
            self.chosen.base_name = self.runs.usual_base(collected(self.project, None)) or ""
        return bases.get(self.chosen.base_name)

    @property
    def data(self) -> Dataset | None:
        return collected(self.project, self.base)

    @property
    def prospect(self) -> Prospect | None:
        return prospect(self.base, self.data) if self.base else None

    @property
    def board(self) -> str:
        """The board profile that plans are for."""
        board = self.session.state.board if self.session else None
        return board or "rpi_pico"

    def recipe(self) -> Recipe:
        recipe = self.chosen.offer.recipe if self.chosen.within and self.chosen.offer else USUAL
        return replace(recipe, epochs=self.chosen.epochs, on_board=self.chosen.by_board)

    def changed(self) -> None:
        self.version += 1

    # --- classes

    def _what(self) -> None:
        with ui.element("div").classes("stack tight"):
            bases = self.runs.bases()
            found = self.prospect
            if not bases or found is None:
                return widgets.problem("there is no base network", "add a .elm file to the project's folder bases")
            options = {name: _titled(base) for name, base in bases.items()}
            choice = widgets.Choice(
                options, value=self.chosen.base_name, label="Base network", on_change=lambda e: self._choose(e.value)
            )
            choice.props("outlined dense").classes("choice-line")
            ui.label(_described(bases[self.chosen.base_name])).classes("quiet")
            others = left_out(self.project, self.base)
            if others:
                widgets.problem(f"{len(others)} samples are left out: {others[0]}", "choose a base for their sensor")
            if found.problem and not (others and not found.counts):
                widgets.problem(found.problem, found.remedy)
            with ui.element("div").classes("row-line").props('role=list aria-label="Classes"'):
                for label, count in found.counts.items():
                    with ui.element("div").classes("chip").props("role=listitem"):
                        ui.icon("add_circle" if label in found.added else "school").props("aria-hidden=true")
                        ui.label(f"{label}: {count}" + (", added after training" if label in found.added else ""))
            if found.renamed:
                message = "The base knows none of these classes: its outputs get your class names, and are retrained."
                if any(name.startswith(OWN) for name in bases):
                    message += " (To continue from an earlier run, choose your own base.)"
                ui.label(message).classes("quiet")
            if found.added and not found.renamed:
                message = f"{', '.join(found.added)}: new to this base. Add it after training, under Add classes."
                ui.label(message).classes("quiet")

    def _choose(self, name: str) -> None:
        self.chosen.base_name, self.chosen.measured, self.chosen.offer = name, None, None
        self.changed()

    # --- length and memory

    def _budget_version(self) -> object:
        job = self.chosen.measured
        return (self._port, self._samples_version, self.chosen.base_name, self.chosen.within, job and job.state)

    def _how(self) -> None:
        found = self.prospect
        if found is None or found.problem or not self.data:
            return
        usual = self._planned(found, replace(USUAL, epochs=self.chosen.epochs))
        lengths = {n: self._length(n, name, found, usual) for n, name in LENGTHS.items()}
        with ui.element("div").classes("row-line how-line"):
            long = widgets.Choice(lengths, label="Length").bind_value(self.chosen, "epochs")
            long.props("outlined dense").classes("choice-line")
            with ui.element("div").classes("row-line train-on").props('role=group aria-label="Train on"'):
                ui.label("Train on").classes("quiet").props("aria-hidden=true")
                ui.radio(WHERE).bind_value(self.chosen, "by_board").props("inline dense")
        if usual and not usual.fits and not self.chosen.within:
            needed, limit = _size(usual.arena_bytes), _size(usual.ram_bytes)
            widgets.problem(f"training needs {needed}, the board has {limit}", "choose by a budget, under Advanced")

    def _budget(self) -> None:
        found = self.prospect
        if found is None or found.problem or not self.data:
            ui.label("Nothing to choose yet.").classes("quiet")
            return
        ui.checkbox(
            "Choose layers by a memory budget", value=self.chosen.within, on_change=lambda e: self._within(e.value)
        )
        if not self.chosen.within:
            if usual := self._planned(found, replace(USUAL, epochs=self.chosen.epochs)):
                facts(_taken(usual))
            return
        widgets.job_card(lambda: self.chosen.measured)
        job = self.chosen.measured
        if job and job.state == "done":
            self._sliders(job.result)

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def _within(self, on: bool) -> None:
        self.chosen.within, found, data = on, self.prospect, self.data
        fresh = self.chosen.measured is not None and self.chosen.measured_for == self._samples_version
        if on and not fresh and found and data:
            self.chosen.measured_for = self._samples_version
            self.chosen.measured = measured_choices(self.project, found, data, USUAL)

    def _planned(self, found: Prospect, recipe: Recipe) -> Plan | None:
        try:
            return planned(found.base, self.board, recipe)
        except EdgeloraError:
            return None

    def _length(self, epochs: int, name: str, found: Prospect, plan: Plan | None) -> str:
        """A run's length in epochs, with an estimate of its time if known."""
        learned = sum(found.counts[label] - found.counts[label] // 4 for label in found.learned)
        times = Recipe(epochs=epochs).epochs_over(learned)
        took = plan.step_us * 1e-6 * times * learned if plan and plan.step_us else None
        return f"{name}: {times} epochs" + (f", about {_seconds(took)}" if took else "")

    def _sliders(self, found: Choices) -> None:
        """The sliders of the budgets, with the expected gain."""
        arena = max(one.arena_bytes for one in found.candidates)
        size = max(one.adapter_bytes for one in found.candidates)
        least = min(one.arena_bytes for one in found.candidates) // 2
        limit = min(arena, load_board(self.board).arena_bytes or arena)
        chart = LineChart("Gain by memory", "training memory", bytes=True, percent=True, low=0, high=1)
        wanted = {"ram": limit, "adapter": size}

        choosing = [False]

        async def moved(name: str, count: int) -> None:
            """Computes one choice at a time; only the last position counts."""
            wanted[name] = count
            if choosing[0]:
                return
            choosing[0] = True
            try:
                shown: dict[str, int] = {}
                while shown != wanted:
                    shown = dict(wanted)
                    await choose()
            finally:
                choosing[0] = False

        SizeSlider("Training memory", least, arena, limit, lambda count: moved("ram", count))
        SizeSlider("Adapter size", 64, size, size, lambda count: moved("adapter", count))
        box = ui.element("div").props("aria-live=polite")
        most = max(one.gain for one in found.candidates)

        async def choose() -> None:
            try:
                self.chosen.offer = await nicegui_run.io_bound(
                    offer, found, self.board, wanted["ram"], wanted["adapter"]
                )
                self.error = None
            except EdgeloraError as error:
                self.chosen.offer, self.error = None, error
            box.clear()
            with box:
                if self.error:
                    return widgets.problem(_first_words(self.error), "allow more memory, or a larger adapter")
                if self.chosen.offer:
                    self._show_offer(self.chosen.offer, most, chart, wanted["ram"])

        ui.timer(0.01, lambda: moved("ram", limit), once=True)

    def _show_offer(self, offer: Offer, most: float, chart: LineChart, ram: int) -> None:
        chosen, beyond = offer.choice.chosen, offer.choice.beyond
        points = sorted((one.arena_bytes, one.gain / most) for one in offer.choice.frontier)
        share = chosen.gain / most
        series = [{"name": "configurations", "points": points, "dots": True, "ring": [chosen.arena_bytes, share]}]
        chart.show(f"{100 * share:.0f} % of the possible gain, with {_size(chosen.arena_bytes)}", series, limit=ram)
        rows = [("expected gain", f"{100 * share:.0f} % of the maximum"), *_taken(offer.plan)]
        if beyond:
            more = f"{100 * (beyond.gain - chosen.gain) / most:.0f} % more with {_size(beyond.arena_bytes)}"
            rows.append(("a larger budget", f"{more} of memory and an adapter of {_size(beyond.adapter_bytes)}"))
        facts(rows)

    # --- the run

    def _run(self) -> None:
        session, run = self.session, self.run
        if session is None:
            return widgets.empty("No board yet: connect one, or start a virtual one, in Boards.", "memory")
        if run is None:
            return
        self._outcome(session, run)
        with ui.element("section").classes("card stack").props('aria-label="The run"'):
            with ui.element("div").props("aria-live=polite"):
                ui.label(f"{run.head.title}: {STATUS[run.status]}").classes("job-name")
            if run.error and run.status in ("failed", "cut off"):
                widgets.problem(run.error, "check the cable, press Resume" if run.status == "cut off" else "")
            widgets.follow(lambda: session.state.status == "away", lambda: self._run_buttons(session, run))
            if report := run.report:
                with ui.element("div").classes("charts"):
                    confusion("Before", report.labels, report.confusion_base)
                    confusion("Now", report.labels, report.confusion_adapted)
            self._progress(run)
            if run.report:
                ui.link("Full report", f"/page/{run.number}", new_tab=True)

    def _begin(self) -> None:
        session = self.session
        if session and self._status not in GOING:
            text = "Learn" if self._begins else "Learn again"
            self._start_button(session, text, self._status not in ("paused", "cut off", "judged"))

    def _run_buttons(self, session: BoardSession, run: StudioRun) -> None:
        if run.status == "learning":
            widgets.button("Pause", run.pause, icon="pause")
        elif run.status in ("paused", "cut off", "failed"):
            resume = functools.partial(self.runs.resume, session, run)
            made = widgets.button("Resume", functools.partial(self._try, resume), icon="play_arrow", main=True)
            made.set_enabled(session.state.status != "away")  # it may be powered on but not reachable yet

    def _start_button(self, session: BoardSession, text: str, main: bool = True) -> None:
        widgets.button(text, lambda: self._start(session), icon="school", main=main)
        if self.error and not self.chosen.within:
            widgets.problem(str(self.error))

    def _start(self, session: BoardSession) -> None:
        found, data = self.prospect, self.data
        if found is None or data is None:
            return self._say("there are no samples yet: record some in Collect")
        self._try(lambda: self.runs.start(session, found, data, self.recipe()))
        if found.renamed and self.run:
            self.chosen.base_name = str(self.run.head.recipe["base_name"])
        self.after = None

    def _try(self, what: Callable[[], object]) -> None:
        """Runs an action and shows its error next to the button."""
        self.error = None
        try:
            what()
        except EdgeloraError as error:
            self.error = error
        self.changed()

    def _say(self, text: str) -> None:
        self.error = EdgeloraError(text)
        self.changed()

    def _progress(self, run: StudioRun) -> None:
        """Charts and figures, updated during training."""
        bar = ui.linear_progress(0, show_value=False).props('aria-label="Training progress" rounded')
        bar.set_visibility(run.status in UNFINISHED)
        line = ui.label().classes("quiet")
        with ui.element("div").classes("charts"):
            loss = LineChart("Loss, nats", "update", low=0)
            right = LineChart("Test accuracy", "epoch", percent=True, low=0, high=1)
        last: list[object] = []

        def tell() -> None:
            now = (run.version, run.done, len(run.accuracies), run.status)
            if last == [now]:
                return
            last[:] = [now]
            total = max(1, run.head.total)
            over = run.status not in UNFINISHED
            bar.set_value(1.0 if over else run.done / total)
            line.set_text(_progress_line(run))
            losses = [(float(one.step), one.loss) for one in run.updates if one.loss is not None]
            if losses:
                message = f"Loss from {losses[0][1]:.3f} to {losses[-1][1]:.3f} nats in {len(losses)} updates"
                loss.show(
                    message,
                    [{"name": "loss", "points": losses}],
                    xLow=0,
                    xHigh=max(total if not over else 1, losses[-1][0]),
                )
            found = run.accuracies
            if found:
                message = f"Test accuracy: {found[0]:.0%} before, {found[-1]:.0%} now"
                points = [(float(i), value) for i, value in enumerate(found)]
                best = over and run.report and run.report.best_epoch
                kept = points[best] if best and best < len(points) else None  # the chosen epoch: least loss
                right.show(
                    message,
                    [{"name": "right", "points": points, "ring": kept}],
                    xLow=0,
                    xHigh=max(run.epochs if not over else 1, len(found) - 1),
                )

        tell()
        ui.timer(widgets.POLL_SECONDS, tell)

    # --- the result

    def _outcome(self, session: BoardSession, run: StudioRun) -> None:
        report = run.report
        if report is None:
            return
        conclusion = report.conclusion
        good = conclusion.tone != "bad"
        with verdict(conclusion.tone, conclusion.title, conclusion.text):
            if run.status == "judged":
                self._keep_or_discard(session, run, good)
            elif run.status == "kept":
                ui.label(f"The board uses it as {run.head.name}, also after a reset.").classes("quiet")

    def _keep_or_discard(self, session: BoardSession, run: StudioRun, good: bool) -> None:
        with ui.element("div").classes("row-line actions"):
            name = ui.input("Name on the board", value=NAME, validation=_name_problem)
            name.props("outlined dense hide-bottom-space")
            keep = "Keep" if good else "Keep anyway"

            def kept() -> None:
                if name.validate():
                    self.after = self.runs.keep(session, run, str(name.value))

            widgets.button(keep, kept, icon="check", main=good)
            widgets.button("Discard", lambda: self._set(after=self.runs.discard(session, run)), icon="delete")

    def _after(self) -> None:
        job = self.after
        if job is None:
            return
        widgets.job_card(lambda: self.after)
        if isinstance(job.result, Added):
            self._added(job.result)
        elif isinstance(job.result, Consolidated):
            found = job.result
            message = (
                f"Of {found.judged_by} held-out samples {found.before} were correct before, {found.after} are now."
            )
            end = "The board uses the new adapter." if found.better else "Not better: the board keeps its adapter."
            if found.said:
                end += f" {found.said[0].upper()}{found.said[1:]}."
            verdict("good" if found.better else "neutral", "Retrained on all samples", f"{message} {end}")

    def _added(self, found: Added) -> None:
        made = found.made
        names = ", ".join(row.name for row in made.classes if row.name) or "your classes"
        message = "Too few held-out samples to measure accuracy. "
        if made.before is not None and made.after is not None:
            message = f"Accuracy on {made.judged_by} held-out samples: {made.before:.0%} before, {made.after:.0%} now. "
        end = "The board uses it." if found.used else "Not better: the board keeps its adapter. Record more samples."
        verdict("good" if found.used else "neutral", f"Added: {names}" if found.used else "Not added", message + end)

    # --- classes added after training

    def _more(self) -> None:
        session, run, data = self.session, self.run, self.data
        if session is None or run is None or data is None or run.status not in ("judged", "kept"):
            return
        base = run.base
        others = [label for label in counts_of(data) if label not in base.model.labels]
        new = [label for label in others if label not in run.head.added]
        title, why = "Add a class", "Record samples of a new class in Collect first."
        if new:
            title, why = f"Add {', '.join(new)}", "takes a moment, without training"
        elif others:
            title, why = f"Add {', '.join(others)} again", "useful after recording more samples"
        with ui.element("section").classes("card stack").props('aria-label="Add classes"'):
            widgets.heading("Add classes")
            with ui.element("div").classes("row-line"):
                add = widgets.button(
                    title,
                    lambda: self._set(after=self.runs.add_classes(session, run, data)),
                    icon="add",
                    main=bool(new),
                )
                add.set_enabled(bool(others))
                ui.label(why).classes("quiet")
            with ui.element("div").classes("row-line"):
                widgets.button(
                    "Relearn everything",
                    lambda: self._set(after=self.runs.consolidate(session, run, data)),
                    icon="merge",
                )
                ui.label(
                    "Retrains on this computer, on all samples and added classes. A better result goes to the board."
                ).classes("quiet")


def _progress_line(run: StudioRun) -> str:
    """The progress of a run, in a line."""
    said = [
        f"update {run.done} of {run.head.total}",
        f"epoch {run.epoch} of {run.epochs}",
    ]
    if run.joules is not None:
        said.append(f"{run.joules * 1000:.3g} mJ by the data sheet")
    if run.status not in UNFINISHED:
        said = said[2:] + [f"{run.done} updates"]
    elif (left := run.seconds_left) is not None and run.done < run.head.total:
        said.append(f"about {_seconds(left)} left")
    elif run.done == run.head.total:
        said.append("measuring before and after")
    return ", ".join(said)


def _taken(plan: Plan) -> list[tuple[str, str]]:
    arena, limit = _size(plan.arena_bytes), _size(plan.ram_bytes)
    message = f"{arena} of {limit} to train, {_size(plan.infer_arena_bytes)} to infer"
    if not plan.fits:
        message = f"{arena}: more than the board's {limit}. Choose layers by a memory budget."
    rows = [("memory", message)]
    rows.append(("adapter", _size(plan.adapter_bytes)))
    if plan.step_us and plan.infer_us:
        rows.append(("time", f"{plan.step_us / 1000:.3g} ms to train a sample, {plan.infer_us / 1000:.3g} ms to infer"))
    if plan.update_joules:
        rows.append(("energy", f"{plan.update_joules * 1000:.3g} mJ per update, by the data sheet"))
    return rows


def _titled(base: Base) -> str:
    stem = base.name.removesuffix(".elm")
    if stem.startswith(OWN):
        mine = [label for label in base.model.labels if not label.startswith("(")]
        return f"{stem}: your {', '.join(mine)}"
    return stem


def _described(base: Base) -> str:
    signal = f"{base.model.signal}. " if base.model.signal else ""
    mine = [label for label in base.model.labels if not label.startswith("(")]  # the other outputs are unused
    return about(base) or f"{signal}Knows {', '.join(mine) or base.model.classes}."


def _name_problem(text: str) -> str | None:
    try:
        store_name(str(text))
    except EdgeloraError as error:
        return str(error)
    return None


def _first_words(error: EdgeloraError) -> str:
    return str(error).partition(": give")[0]


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _size(count: float) -> str:
    return f"{count:,.0f} B" if count < 1024 else f"{count / 1024:.1f} KB"
