"""The live signal as views show it, and the choice of its source."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from nicegui import ui
from nicegui.element import Element

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.board.sim.world import parse_press, set_world
from edgelora.core.sensors import check_pins, pins_of, sensors, usual
from edgelora.learn.streaming.decisions import signal_of
from edgelora.learn.training.data.base import Base
from edgelora.model.datasets.recordings import doubts
from edgelora.studio.board_session import BoardSession
from edgelora.studio.error_messages import trouble_of
from edgelora.studio.file_import import check_recording, read_tape
from edgelora.studio.live import Live, Sensor, Source, Tape
from edgelora.studio.project import Project
from edgelora.studio.project_files import keep_capture
from edgelora.studio.runs import ProjectRuns
from edgelora.studio.samples import ProjectSamples
from edgelora.studio.selections import SourceWish

from . import widgets

COMPONENT = Path(__file__).parents[1] / "static" / "signal.js"
OTHERS = {"module": "a module on the board", "tape": "a recording on this computer"}
RECORDINGS = "recordings"
KINDS = (".csv", ".wav", ".npz", ".json", ".cbor")
MODULE = re.compile(r"[A-Za-z_]\w{0,40}$")
NONE = ""


def source_titles() -> dict[str, str]:
    """The kinds of sources, with their titles."""
    return {name: sensor.title for name, sensor in sensors().items()} | OTHERS


class SignalView(Element, component=COMPONENT):
    """A canvas of a board's signal, which fetches its own frames. bars: show one per class below it."""

    def __init__(self, board: str, bars: bool = True) -> None:
        super().__init__()
        self._props["board"] = board
        self._props["bars"] = bars


def active_base(project: Project, session: BoardSession | None) -> Base | None:
    """The base of the board's active adapter, if the project has it."""
    store = session.state.store if session else None
    active = next((entry for entry in store.adapters if entry.name == store.active), None) if store else None
    bases = project.of(ProjectRuns).bases().values() if active else ()
    return next((base for base in bases if active and base.base_id == active.base_id), None)


def usual_base(project: Project, session: BoardSession | None) -> Base | None:
    """The base of the board's active adapter, else the one that most likely fits the project's samples."""
    runs = project.of(ProjectRuns)
    name = runs.usual_base(project.of(ProjectSamples).dataset(), session)
    return active_base(project, session) or (runs.bases()[name] if name else None)


def recordings(project: Project) -> list[str]:
    """Recordings of the project that can be streamed to a board."""
    folder = project.folder / RECORDINGS
    return sorted(path.name for path in folder.glob("*") if path.suffix.lower() in KINDS) if folder.exists() else []


def load_tape(project: Project, name: str, base: Base) -> Tape:
    """A recording of the project, as counts of the base's signal. InputError if it does not fit."""
    if name not in recordings(project):
        raise InputError("no recording is selected", remedy="add one")
    return Tape(name, read_tape(project.folder / RECORDINGS / name, signal_of(base)))


def keep_recording(project: Project, name: str, content: bytes) -> str:
    """Adds a dropped recording to the project; returns its name there."""
    kept = re.sub(r"[^\w. -]", "_", Path(name.replace("\\", "/")).name).lstrip(".")[-80:]
    if Path(kept).suffix.lower() not in KINDS:
        raise InputError(f"{kept}: is not a recording", remedy=f"give {', '.join(KINDS)}")
    check_recording(kept, content)
    return keep_capture(project.folder / RECORDINGS / kept, content).name


def sources(project: Project, session: BoardSession, buttons: bool = False) -> None:
    """The choice of a board's source, folded while it runs."""
    live = session.of(Live)
    with (
        ui.element("section").classes("card whole fold-card").props('aria-label="Live input"'),
        widgets.fold(_listens_to(live), "tune", not live.is_running) as folded,
    ):
        SourceChoice(project, session, buttons)
    was = [live.is_running]

    def look() -> None:
        folded.set_text(_listens_to(live))
        if was != [live.is_running]:
            was[:] = [live.is_running]
            folded.set_value(not live.is_running)

    ui.timer(widgets.POLL_SECONDS, look)


def _listens_to(live: Live) -> str:
    if not live.is_running:
        return "Live input"
    source = source_titles().get(live.source.name, live.source.name)
    network = widgets.plain(live.base.name.removesuffix(".elm")) if live.base else "no network"
    return f"Listening to {widgets.plain(source)}, with {network}"


class SourceChoice:
    """Controls for a board's source and base, and the start button."""

    def __init__(self, project: Project, session: BoardSession, buttons: bool = False) -> None:
        self._project, self._session, self._live = project, session, session.of(Live)
        wish = self._wish = session.of(SourceWish)
        self._shown = ""
        self._bases = project.of(ProjectRuns).bases()
        named = {NONE: "none, show the signal only"} | {name: name.removesuffix(".elm") for name in self._bases}
        if wish.base not in named:
            usual = usual_base(project, session)
            wish.base = usual.name if usual and usual.name in named else NONE
        with ui.element("div").classes("row-line choice"):
            self._kind = widgets.Choice(source_titles(), value=wish.kind, label="Source", on_change=self._changed)
            self._pins = ui.input("Pins").classes("narrow").bind_value(wish, "pins")
            self._module = ui.input("Module").classes("narrow").bind_value(wish, "module")
            self._tape = widgets.Choice(recordings(project), label="Recording").classes("wide-select")
            self._base = widgets.Choice(named, label="Network").bind_value(wish, "base")
            self._button = ui.input("Button pins", placeholder="15").classes("narrow") if buttons else None
            for field in (self._kind, self._pins, self._module, self._tape, self._base, self._button):
                if field:
                    field.props("dense outlined options-dense")
            widgets.button("Start", widgets.reporting(self.start), icon="play_arrow", main=True)
        if self._button:
            self._button.bind_value(wish, "buttons")
        with ui.element("div").classes("follow") as self._drop:
            widgets.drop("Add a recording (.csv, .wav, .npz)", ",".join(KINDS), self._dropped, small=True)
        self._tape.on_value_change(lambda event: setattr(wish, "tape", event.value or ""))
        self._follow()
        ui.timer(widgets.POLL_SECONDS, self._follow)

    def _follow(self) -> None:
        """Fields follow a start, or a choice, on another page."""
        wish = self._wish
        wish.follow()
        if self._kind.value != wish.kind:
            self._kind.set_value(wish.kind)
        if wish.tape in self._tape.options and self._tape.value != wish.tape:
            self._tape.set_value(wish.tape)
        self._show()

    def _changed(self) -> None:
        kind = str(self._kind.value)
        if kind != self._wish.kind:
            self._wish.kind, self._wish.pins = kind, usual(kind) if kind in sensors() else ""
        self._show()

    def _show(self) -> None:
        kind = str(self._kind.value)
        if self._shown == kind:
            return
        self._shown = kind
        self._pins.set_visibility(kind in sensors())
        if kind in sensors():
            label = f"Pins {', '.join(sensors()[kind].roles)}".strip()
            self._pins.props(f'label="{label}"')
        self._module.set_visibility(kind == "module")
        self._tape.set_visibility(kind == "tape")
        self._drop.set_visibility(kind == "tape")

    async def _dropped(self, name: str, content: bytes) -> None:
        kept = await asyncio.to_thread(keep_recording, self._project, name, content)
        self._tape.set_options(recordings(self._project), value=kept)

    async def start(self) -> str:
        """Starts the chosen source; returns a warning about its values, or "". InputError for a bad choice."""
        base = self._bases.get(str(self._base.value))
        source = await asyncio.to_thread(self._source, base)  # reads a recording
        self._live.start(source, base)
        return doubts(source.counts, signal_of(base)) if base and isinstance(source, Tape) else ""

    def _source(self, base: Base | None) -> Source:
        kind = str(self._kind.value)
        if kind == "tape":
            if base is None:
                raise InputError("a recording needs a network", remedy="choose a network")
            return load_tape(self._project, str(self._tape.value or ""), base)
        buttons = pins_of(self._wish.buttons)
        if kind == "module":
            name = str(self._module.value or "").strip()
            if not MODULE.match(name):
                remedy = "give the name of a module on the board that has source()"
                raise InputError(f"{name!r} is not a module name", remedy=remedy)
            return Sensor(name, (), 0, buttons)
        pins = pins_of(str(self._pins.value or ""))
        check_pins(kind, pins)
        bus = pins[0] // 2 % 2 if "SDA" in sensors()[kind].roles else 0  # an RP2's GPIO 0, 1, 4, 5... are of I2C 0
        return Sensor(kind, pins, bus, buttons)


def adapter_choice(live: Live) -> None:
    """Buttons that switch adapters without a pause."""

    def draw() -> None:
        if live.base is None:
            return
        with ui.element("div").classes("row-line").props('role=group aria-label="Active adapter"'):
            ui.label("Adapter").classes("quiet")
            for name in live.adapters:
                on = live.metadata.adapter == name
                made = widgets.button(name or "none", _switch(live, name), main=on, icon="check" if on else None)
                made.props(f"aria-pressed={'true' if on else 'false'} dense padding='2px 12px'")

    widgets.follow(lambda: (live.base and live.base.base_id, live.metadata.adapter, tuple(live.adapters)), draw)


def _switch(live: Live, name: str) -> Callable[[], None]:
    return lambda: live.use(name)


def other_base(project: Project, live: Live) -> None:
    """Offers the active adapter's network if the view uses another one."""

    def wanted() -> Base | None:
        base = active_base(project, live.session)
        if base is None or live.base is None or live.base.base_id == base.base_id or not live.is_running:
            return None
        fits = not isinstance(live.source, Tape) or live.base.model.signal == base.model.signal
        return base if fits else None

    def draw() -> None:
        if base := wanted():
            name = base.name.removesuffix(".elm")
            with ui.element("div").classes("row-line card whole"):
                ui.label(f"The board's active adapter belongs to another network, {widgets.plain(name)}.")
                widgets.button(
                    "Use that network",
                    widgets.reporting(lambda: live.start(live.source, base)),
                    icon="hearing",
                    main=True,
                )

    widgets.follow(lambda: base.base_id if (base := wanted()) else None, draw, 1.0)


def live_problem(live: Live) -> None:
    """Shows why the view failed, or what it waits for."""

    def draw() -> None:
        job, state = live.job, live.session.state
        if job is None:
            return
        if job.state == "failed":
            widgets.problem(job.error, job.remedy)
        elif state.status == "away":
            widgets.problem(state.problem or "the board is unplugged", state.remedy)
        elif job.state == "queued" and state.job is not None and state.job is not job:
            ui.label(f"Continues after: {state.job.name}").classes("quiet")

    def version() -> object:
        job, state = live.job, live.session.state
        return id(job), job and (job.state, job.error), state.status == "away", state.job is job

    widgets.follow(version, draw)


def virtual_world(project: Project, session: BoardSession) -> None:
    """A virtual Pico's surroundings: its motion sensor's input, and its buttons."""
    if session.device.board not in ("virtual-pico", "virtual-pico-stock") or not session.device.state_dir:
        return
    state = Path(session.device.state_dir)

    async def play(name: str) -> None:
        await asyncio.to_thread(set_world, state, project.folder / RECORDINGS / name, [])

    async def dropped(name: str, content: bytes) -> None:
        kept = await asyncio.to_thread(keep_recording, project, name, content)
        await play(kept)
        if not choice.is_deleted:  # the page may show another view by now
            choice.set_options(recordings(project), value=kept)

    def press() -> None:
        set_world(state, None, parse_press(str(pin.value or "")))

    with (
        ui.element("section").classes("card whole fold-card").props('aria-label="Around the virtual board"'),
        widgets.fold("Sensor input of this virtual board", "precision_manufacturing"),
    ):
        ui.label("Its MPU-6050 on pins 4, 5 plays a recording: g and rad/s, six numbers per line, 50 lines/s.").classes(
            "quiet"
        )
        with ui.element("div").classes("row-line"):
            choice = (
                widgets.Choice(recordings(project), label="Recording")
                .props("dense outlined options-dense")
                .classes("field")
            )
            widgets.button(
                "Play recording", widgets.reporting(lambda: play(str(choice.value or ""))), icon="play_circle"
            )
            widgets.drop("Add a recording (.csv)", ",".join(KINDS), dropped, small=True)
        with ui.element("div").classes("row-line"):
            pin = ui.input("Pin to press", value="15").props("dense outlined").classes("narrow")
            widgets.button("Press button", widgets.reporting(press), icon="touch_app")


def guarded(act: Callable[[], object]) -> Callable[[], None]:
    """Wraps an action of a key: shows its error as a notification, as keys have no card."""

    def done() -> None:
        try:
            act()
        except (EdgeloraError, OSError) as error:
            ui.notify(trouble_of(error).what, type="warning")

    return done
