"""The view Collect: the project's samples, recorded with a board or dropped in, by class."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nicegui import events, ui
from nicegui.element import Element

from edgelora.base.errors import InputError
from edgelora.learn.training.data.base import Base
from edgelora.studio.capture import Taker, Takers
from edgelora.studio.live import Live
from edgelora.studio.project import Project
from edgelora.studio.samples import Class, ProjectSamples
from edgelora.studio.selections import DropChoice

from . import sample_map, trim, widgets
from .signals import KINDS, SignalView, guarded, live_problem, other_base, sources, usual_base, virtual_world

COMPONENT = Path(__file__).parents[1] / "static" / "samples.js"
COUNTDOWNS = {0: "at once", 1: "1 s", 3: "3 s", 5: "5 s"}
COUNTS = {1: "one", 5: "5 in a row", 10: "10 in a row", 20: "20 in a row"}
FROM_FILE = "from the file"


class Samples(Element, component=COMPONENT):
    """Thumbnails of a class's samples: [{"id", "held"}]. Several can be selected, one played."""

    def __init__(
        self, label: str, picked: Callable[[list[str]], object], removed: Callable[[list[str]], object]
    ) -> None:
        super().__init__()
        self._props["label"] = label
        self._props["samples"] = []
        self.on("picked", lambda event: picked(_ids(event)))
        self.on("removed", lambda event: removed(_ids(event)))

    def show(self, samples: Sequence[dict[str, object]]) -> None:
        if self._props["samples"] != samples:
            self._props["samples"] = samples
            self.update()

    def play(self, sample_id: str) -> None:
        self.run_method("play", sample_id)

    def unpick(self) -> None:
        self.run_method("unpick")


def _ids(event: events.GenericEventArguments) -> list[str]:
    """Ids in a browser event, which is untrusted."""
    return [one for one in event.args if isinstance(one, str)] if isinstance(event.args, list) else []


def page(project: Project) -> None:
    """Builds the view."""
    widgets.title("Collect", "Record samples with the board, class by class.", project)
    widgets.follow(lambda: project.selected and project.selected.key, lambda: _recording(project))
    _Shelf(project)
    sample_map.panel(project)
    trim.panel(project)


# --- recording


def _recording(project: Project) -> None:
    session = project.selected
    if session is None:
        return widgets.empty(
            "No board yet: plug one in, or start a virtual one, in Boards. Files can be dropped in below."
        )
    live, taker = session.of(Live), project.of(Takers).of(session)
    live_problem(live)
    other_base(project, live)
    with ui.element("section").classes("card whole").props('aria-label="Recording"'):
        SignalView(session.key, bars=False).classes("low")
        _controls(project.of(ProjectSamples), taker)
    sources(project, session, buttons=True)
    virtual_world(project, session)


def _controls(project_samples: ProjectSamples, taker: Taker) -> None:
    def choose(label: str) -> None:
        taker.label = label

    def draw_classes() -> None:
        if taker.label not in project_samples.labels:
            taker.label = project_samples.labels[0] if project_samples.labels else ""
        with ui.element("div").classes("row-line").props('role=group aria-label="Class to record"'):
            for label in project_samples.labels:
                on = label == taker.label
                made = widgets.button(label, partial(choose, label), main=on, icon="check" if on else None)
                made.props(f"aria-pressed={'true' if on else 'false'} dense padding='2px 12px'")

    def add() -> None:
        taker.label = project_samples.name_class(str(name.value or ""))
        name.value = ""
        ui.run_javascript(f"getHtmlElement({record.id}).focus()")  # so that space records

    with ui.element("div").classes("row-line class-line"):
        widgets.follow(lambda: (project_samples.labels, taker.label), draw_classes)
        name = ui.input("New class").props("dense outlined").classes("narrow")
        adder = widgets.button("Add", widgets.reporting(add), icon="add", label="Add class")
        name.on("keydown.enter", lambda: adder.run_method("click"))
    with ui.element("div").classes("row-line record-line"):
        record = widgets.button("Record", lambda: None, icon="fiber_manual_record", main=True)
        record.props("color=negative").classes("record")
        countdown = widgets.Choice(COUNTDOWNS, value=taker.seconds, label="Countdown")
        count = widgets.Choice(COUNTS, value=taker.count, label="How many")
        for field in (countdown, count):
            field.props("dense outlined options-dense").classes("narrow")
        countdown.on_value_change(lambda event: setattr(taker, "seconds", int(event.value)))
        count.on_value_change(lambda event: setattr(taker, "count", int(event.value)))
        ui.label("Or press space, or a button on the board.").classes("quiet")
    state = ui.label().classes("countdown").props("aria-live=polite")
    meter = ui.linear_progress(0, show_value=False).props('rounded aria-label="Progress of the recorded window"')

    def act() -> None:
        taker.stop() if taker.phase != "idle" else taker.begin()
        show()

    def show() -> None:
        phase, words = taker.phase, taker.problem or (taker.last and f"Recorded: {taker.last}")
        if phase == "counting":
            words = f"{taker.label} in {int(taker.seconds_left) + 1}"
        elif phase == "recording":
            words = f"{taker.label}: now"
        if phase != "idle" and taker.left > 1:
            words += f" ({taker.left} to go)"
        state.set_text(widgets.plain(words))
        state.classes(add=phase, remove=" ".join({"idle", "counting", "recording"} - {phase}))
        meter.set_value(round(taker.share, 2))
        meter.set_visibility(phase == "recording")
        record.set_text("Record" if phase == "idle" else "Stop")

    with ui.element("div").classes("follow"):
        record.on_click(widgets.reporting(act))
    ui.keyboard(lambda event: _key(event, guarded(act)), repeating=False)
    show()
    ui.timer(0.1, show)


def _key(event: events.KeyEventArguments, act: Callable[[], None]) -> None:
    if event.action.keydown and event.key == " ":
        act()


# --- the samples


class _ClassCount:
    """The number of samples of a class, as text and a bar relative to other classes; updated in place."""

    def __init__(self) -> None:
        with ui.element("div").classes("bar-track balance").props("aria-hidden=true"):
            self._kept = ui.element("div").classes("share-kept")
            self._held = ui.element("div").classes("share-held")
        self._count = ui.label().classes("balance-count")
        self._missing = ui.label().classes("missing grow")

    def show(self, entry: Class, most: int) -> None:
        self._kept.style(f"width: {100 * entry.kept / most:.1f}%")
        self._held.style(f"width: {100 * entry.held / most:.1f}%")
        self._count.set_text(f"{entry.kept} to train, {entry.held} to test")
        self._missing.set_text(entry.missing)


def _label_of(label: object) -> str:
    return "" if label == FROM_FILE else str(label)


class _Shelf:
    """The samples by class, and the actions on selected ones."""

    def __init__(self, project: Project) -> None:
        self._project, self._project_samples = project, project.of(ProjectSamples)
        self._picked: dict[str, list[str]] = {}
        self._rows: dict[str, Samples] = {}
        self._counts: dict[str, _ClassCount] = {}
        project_samples = self._project_samples
        with ui.element("div").classes("row-line shelf-head"):
            with ui.element("div").classes("grow"):
                widgets.heading("Samples")
                self._advice = ui.label().classes("quiet")
            self._undo = widgets.button("Undo", guarded(project_samples.undo), icon="undo")
        self._dropping()
        self._bar()
        widgets.follow(lambda: project_samples.labels, self._draw_classes)
        self._version = -1
        self._look()
        ui.timer(widgets.POLL_SECONDS, self._look)

    def _look(self) -> None:
        """Follows the samples without losing the keyboard focus."""
        if self._version == self._project_samples.version:
            return
        self._version = self._project_samples.version
        for label, row in self._rows.items():
            row.show([{"id": sample.id, "held": sample.held} for sample in self._project_samples.of(label)])
        self._advice.set_text(widgets.plain(self._project_samples.advice))
        classes = self._project_samples.classes
        most = max([entry.kept + entry.held for entry in classes], default=1)
        for entry in classes:
            if entry.label in self._counts:
                self._counts[entry.label].show(entry, max(most, 1))
        there = {sample.id for sample in self._project_samples.samples}
        self._picked = {label: [i for i in ids if i in there] for label, ids in self._picked.items()}
        self._undo.set_enabled(bool(self._project_samples.can_undo))
        what = self._project_samples.can_undo
        self._undo.set_text(f"Undo: {widgets.plain(what)}" if what else "Undo")
        self._show_bar()

    @property
    def _ids(self) -> list[str]:
        return [sample_id for ids in self._picked.values() for sample_id in ids]

    # --- classes

    def _draw_classes(self) -> None:
        self._rows, self._counts, self._picked = {}, {}, {}
        with ui.element("div").classes("shelf"):
            for label in self._project_samples.labels:
                with (
                    ui.element("section").classes("card whole").props(f'aria-label="Class {widgets.attribute(label)}"')
                ):
                    with ui.element("div").classes("class-head"):
                        ui.label(label).props("role=heading aria-level=3").classes("class-name")
                        self._counts[label] = _ClassCount()
                        rename = widgets.button("Rename", partial(self._rename, label), label=f"Rename {label}")
                        remove = widgets.button("Remove", partial(self._remove_class, label), label=f"Remove {label}")
                        for made in (rename, remove):
                            made.props("flat dense padding='2px 8px'")
                    self._rows[label] = Samples(label, self._on_picked(label), self._remove)
        self._version = -1
        self._look_later()

    def _look_later(self) -> None:
        if hasattr(self, "_undo") and hasattr(self, "_count"):
            self._look()

    def _on_picked(self, label: str) -> Callable[[list[str]], None]:
        def picked(ids: list[str]) -> None:
            self._picked[label] = ids
            self._show_bar()

        return picked

    def _rename(self, label: str) -> None:
        with widgets.dialog(f"Rename {widgets.plain(label)}") as made:
            name = ui.input("Name", value=label).props("outlined autofocus")
            widgets.choices(made, "Rename", lambda: self._project_samples.rename_class(label, str(name.value or "")))

    def _remove_class(self, label: str) -> None:
        guarded(lambda: self._project_samples.remove_class(label))()

    # --- the selection

    def _bar(self) -> None:
        with (
            ui.element("div")
            .classes("card whole picked-bar")
            .props('role=toolbar aria-label="Selected samples"') as self._tools
        ):
            self._count = ui.label()
            widgets.button("Play", self._play, icon="play_arrow")
            self._to = widgets.Choice([], label="Relabel as").props("dense outlined options-dense").classes("narrow")
            widgets.button("Relabel", guarded(self._relabel), icon="label")
            widgets.button("Delete", guarded(lambda: self._remove(self._ids)), icon="delete")
            widgets.button("Clear selection", self._unpick, icon="close")

    def _show_bar(self) -> None:
        count = len(self._ids)
        self._tools.set_visibility(count > 0)
        self._count.set_text(f"{count} selected")
        if self._to.options != list(self._project_samples.labels):
            self._to.set_options(list(self._project_samples.labels))

    def _play(self) -> None:
        for label, ids in self._picked.items():
            if ids:
                return self._rows[label].play(ids[-1])

    def _relabel(self) -> None:
        if not self._to.value:
            raise InputError("choose a class to relabel as")
        ids = self._ids
        self._unpick()
        self._project_samples.relabel(ids, str(self._to.value))

    def _remove(self, ids: list[str]) -> None:
        there = {sample.id for sample in self._project_samples.samples}
        if gone := [sample_id for sample_id in ids if sample_id in there]:
            self._project_samples.remove(gone)

    def _unpick(self) -> None:
        for row in self._rows.values():
            row.unpick()
        self._picked = {}
        self._show_bar()

    # --- files

    def _dropping(self) -> None:
        with ui.element("div").classes("drop-line"):
            label = widgets.Choice(
                [FROM_FILE, *self._project_samples.labels], value=self._drop_label, label="Their class"
            )
            label.on_value_change(lambda event: setattr(self._project.of(DropChoice), "label", _label_of(event.value)))
            label.props("outlined options-dense").classes("field")
            zone = ui.element("div").classes("grow")
        ui.label(
            "A recording (.csv, .wav, .npz, Edge Impulse .json or .cbor) is cut into windows; "
            "a data set (.npz with x, y) is added unchanged."
        ).classes("quiet small")

        def look() -> None:
            options = [FROM_FILE, *self._project_samples.labels]
            if label.options != options:
                label.set_options(options, value=self._drop_label)

        ui.timer(0.5, look)

        async def given(name: str, content: bytes) -> str:
            session = self._project.selected
            base = (session.of(Live).base if session else None) or self._usual()
            taken = await asyncio.to_thread(self._project_samples.drop, name, content, _label_of(label.value), base)
            ui.notify(f"{len(taken)} samples added", type="positive")
            doubt = await asyncio.to_thread(self._project_samples.doubts, taken)
            return f"{doubt} They were added; Undo removes them." if doubt else ""

        with zone:
            widgets.drop("Drop files here, or choose them", ",".join(KINDS), given)

    @property
    def _drop_label(self) -> str:
        """The label chosen for dropped files, kept over a reload."""
        label = self._project.of(DropChoice).label
        return label if label in self._project_samples.labels else FROM_FILE

    def _usual(self) -> Base:
        base = usual_base(self._project, self._project.selected)
        if base is None:
            raise InputError(
                "there is no base network, which defines the window", remedy="add one to the project's folder bases"
            )
        return base
