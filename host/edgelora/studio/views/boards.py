"""The view Boards: connected boards, virtual boards, and the actions on each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nicegui import ui

from edgelora.board.devices import Device
from edgelora.learn.training.base import Base
from edgelora.studio import board_actions
from edgelora.studio.board_session import Place, PlaceState
from edgelora.studio.board_status import Condition, condition
from edgelora.studio.project import Desk
from edgelora.studio.runs import Lessons
from edgelora.studio.training_options import about

from . import console, project, widgets
from .charts import facts

ICONS: dict[Condition, str] = {
    "ready": "check_circle",
    "working": "hourglass_top",
    "listening": "sensors",
    "starting": "power",
    "unplugged": "link_off",
    "used elsewhere": "block",
    "not answering": "help_outline",
    "needs firmware": "bolt",
}
NO_BASE = ""


def page(desk: Desk) -> None:
    """Builds the view."""
    widgets.title("Boards", "Boards that you can train: plugged in, or virtual on this computer.", desk)
    widgets.job_card(lambda: desk.jobs[-1] if desk.jobs else None)
    widgets.follow(lambda: tuple(desk.places), lambda: _places(desk))
    widgets.follow(lambda: desk.others, lambda: _plugged_in(desk))
    widgets.follow(lambda: desk.of(Lessons).refused(), lambda: _refused(desk), 1.0)
    project.sample_card(desk)
    if desk.virtual_kinds:
        _virtual(desk)
    _by_address(desk)
    project.file_card(desk)


def _places(desk: Desk) -> None:
    if not desk.places:
        return widgets.empty("No board yet: plug one in, or start a virtual one below.", "memory")
    with ui.element("div").classes("cards"):
        for place in desk.places.values():
            _card(desk, place)


def _card(desk: Desk, place: Place) -> None:
    with ui.element("section").classes("card").props(f'aria-label="{widgets.attribute(place.state.name)}"'):
        with ui.element("div").classes("row-line"):
            ui.icon("developer_board" if not place.state.is_virtual else "laptop").props("aria-hidden=true")
            ui.label(place.state.name).props("role=heading aria-level=2").classes("job-name grow")
            widgets.follow(lambda: condition(desk, place), lambda: _condition(condition(desk, place)))
        widgets.follow(lambda: replace(place.state, job=None, free_heap=None, status="idle"), lambda: _facts(place))
        widgets.place_job(place)
        with ui.element("div").classes("row-line actions"):
            _actions(desk, place)
        with widgets.fold("Advanced"):
            widgets.follow(lambda: replace(place.state, job=None, status="idle"), lambda: facts(_details(place.state)))
            widgets.follow(lambda: place.state.status == "away", lambda: _rare_actions(desk, place))


def _refused(desk: Desk) -> None:
    for name, why in desk.of(Lessons).refused().items():
        widgets.problem(
            f"{name} is not a base network: {why}", "replace it, or remove it from the project's folder bases"
        )


def _condition(word: Condition) -> None:
    with ui.element("span").classes(f"chip is-{word.replace(' ', '-')}"):
        ui.icon(ICONS[word]).props("aria-hidden=true")
        ui.label(word)


def _facts(place: Place) -> None:
    """The facts that matter for training on a board."""
    state = place.state
    if state.problem:
        widgets.problem(state.problem, state.remedy)
    rows = [("board", state.board or state.machine or "unknown")]
    if state.firmware:
        if not state.module:
            rows.append(("EdgeLoRA", "not installed"))
        rows.append(("base", ", ".join(state.models) or "none yet"))
        rows.append(("active adapter", state.active or "none"))
    facts(rows)


def _details(state: PlaceState) -> list[tuple[str, str]]:
    rows = [("port", state.port)]
    if state.firmware:
        rows.append(("firmware", f"MicroPython {state.firmware}, EdgeLoRA {state.module or 'none'}"))
        if state.free_heap is not None:
            rows.append(("memory", f"{state.free_heap / 1024:.0f} KB free"))
        if state.free_flash is not None:
            rows.append(("storage", f"{state.free_flash / 1024:.0f} KB free"))
    return rows


def _actions(desk: Desk, place: Place) -> None:
    """Buttons for a board. Reset and Stop are not redrawn while it restarts."""

    def shown() -> tuple[object, ...]:
        state, is_away = place.state, place.state.status == "away"
        of_desk = desk.selected is place, desk.waits_for_firmware(place), desk.is_there(place)
        return is_away, state.module, state.models, *of_desk

    widgets.follow(shown, lambda: _first_actions(desk, place))
    widgets.follow(lambda: _can_reset(desk, place), lambda: _reset_and_stop(desk, place))
    widgets.follow(lambda: place.state.status == "away", lambda: _last_actions(desk, place))


def _first_actions(desk: Desk, place: Place) -> None:
    state, name = place.state, place.state.name
    if desk.selected is not place:
        widgets.button("Choose", lambda: desk.select(place.key), icon="check", label=f"Choose {name}")
    if state.status != "away":
        if not state.module:
            widgets.button("Install EdgeLoRA", lambda: board_actions.install_on(place), icon="download", main=True)
        widgets.button(
            "Put a base on",
            lambda: _base_dialog(desk, place),
            icon="inventory_2",
            label=f"Put a base on {name}",
            main=bool(state.module and not state.models),
        )
    elif desk.waits_for_firmware(place):
        ui.label("It is in its boot loader: flash firmware.").classes("grow")
        widgets.button("Flash", lambda: _flash_dialog(desk, place, None), icon="bolt", label=f"Flash {name}", main=True)
    elif state.is_virtual and not desk.is_there(place):
        widgets.button("Start", lambda: _start(desk, place), icon="power", label=f"Start {name}", main=True)


def _can_reset(desk: Desk, place: Place) -> bool:
    """Whether it is powered and past its boot loader; it may be silent, or its port used elsewhere."""
    return not desk.waits_for_firmware(place) and (place.state.status != "away" or desk.is_there(place))


def _reset_and_stop(desk: Desk, place: Place) -> None:
    if not _can_reset(desk, place):
        return
    name = place.state.name
    widgets.button("Reset", lambda: board_actions.restart(desk, place), icon="restart_alt", label=f"Reset {name}")
    if place.state.is_virtual:
        widgets.button("Stop", lambda: _off_thread(desk, "stop", place), icon="power_off", label=f"Stop {name}")


def _last_actions(desk: Desk, place: Place) -> None:
    name = place.state.name
    if place.state.status == "away":
        widgets.button("Forget", lambda: _off_thread(desk, "let go", place), icon="close", label=f"Forget {name}")
        return
    console.button(place)
    if not place.state.is_virtual:
        widgets.button("Let go", lambda: _off_thread(desk, "let go", place), icon="link_off", label=f"Let go of {name}")


def _rare_actions(desk: Desk, place: Place) -> None:
    if place.state.status != "away":
        name = place.state.name
        widgets.button("Flash", lambda: _flash_dialog(desk, place, None), icon="bolt", label=f"Flash {name}")


def _start(desk: Desk, place: Place) -> None:
    desk.start_virtual(place.state.board or "", Path(place.key).parent.name)


def _off_thread(desk: Desk, what: str, place: Place) -> None:
    """Runs an action off the page's thread: stopping waits for the board's process."""
    act = desk.stop_virtual if what == "stop" else desk.release
    desk.submit(f"{what} {place.state.name}", lambda job: act(place.key))


# --- devices that are plugged in but not opened


def _plugged_in(desk: Desk) -> None:
    for heading, virtual in (("Also plugged in", False), ("Virtual boards started elsewhere", True)):
        found = [device for device in desk.others if device.virtual == virtual]
        if found:
            widgets.heading(heading)
            _cards(desk, found)


def _cards(desk: Desk, devices: list[Device]) -> None:
    with ui.element("div").classes("cards"):
        for device in devices:
            with ui.element("section").classes("card stack tight"):
                ui.label(device.description).classes("job-name")
                ui.label(device.port).classes("quiet")
                _offer(desk, device)


def _offer(desk: Desk, device: Device) -> None:
    if device.boot_loader:
        ui.label("It is in its boot loader: flash firmware.")
        widgets.button("Flash", lambda: _flash_dialog(desk, None, device), icon="bolt", main=True)
        return
    if not device.known:
        ui.label("Unknown device: opening its port may reset it.")
    widgets.button("Connect", lambda: desk.connect(device), icon="link", label=f"Connect {device.port}", main=True)


# --- dialogs


def _bases(desk: Desk) -> dict[str, Base]:
    return desk.of(Lessons).bases()


def _base_names(desk: Desk) -> dict[str, str]:
    return {name: f"{name} ({len(base.elm)} bytes)" for name, base in _bases(desk).items()}


def _base_choice(desk: Desk, none: str = "") -> widgets.Choice:
    """A drop-down of bases. none: the label of the choice without a base, if allowed."""
    options = ({NO_BASE: none} if none else {}) | _base_names(desk)
    choice = widgets.Choice(options, value=next(iter(options), None), label="Base network")
    return choice.props("outlined").classes("wide")


def _base_dialog(desk: Desk, place: Place) -> None:
    with widgets.dialog(f"Put a base on {place.state.name}") as dialog:
        choice = _base_choice(desk)

        def given(name: str, content: bytes) -> None:
            base = board_actions.keep_base(desk, name, content)
            choice.set_options(_base_names(desk), value=base.name)

        label = ui.label(about(_bases(desk)[choice.value]) if choice.value else "").classes("quiet")
        choice.on_value_change(lambda event: label.set_text(about(_bases(desk)[event.value]) if event.value else ""))
        widgets.drop("Add your own base (.elm)", ".elm", given)
        widgets.choices(dialog, "Copy to the board", lambda: board_actions.put_base(place, _bases(desk)[choice.value]))


def _flash_dialog(desk: Desk, place: Place | None, device: Device | None) -> None:
    """Flashes a board by its port, or by its boot loader's volume."""
    name = place.state.name if place else device.port if device else ""
    image: list[Path] = []

    def write() -> None:
        given = image[0] if image else None
        base = None if given else _bases(desk).get(str(base_choice.value))
        board = None if given else str(board_choice.value)
        if place:
            board_actions.flash_place(desk, place, given, board, base)
        elif device:
            board_actions.flash_device(desk, device, given, board, base)

    with widgets.dialog(f"Flash {name}") as dialog:
        ui.label("Replaces the board's firmware. Its files stay if the new firmware has the same flash layout.")
        board_choice, base_choice = widgets.Choice([]), widgets.Choice([])
        board_choice.set_visibility(False)
        base_choice.set_visibility(False)
        if board_actions.can_build():
            kinds = board_actions.flashed_kinds()
            there = place.state.board if place else None
            board_choice = widgets.Choice(kinds, value=there if there in kinds else kinds[0], label="Firmware for")
            board_choice.props("outlined").classes("wide")
            base_choice = _base_choice(desk, "none")

        def given(file: str, content: bytes) -> None:
            image[:] = [board_actions.keep_image(desk, file, content)]
            label.set_text(f"{file} will be written")

        widgets.drop("Or your own image (.uf2 or .bin)", ".uf2,.bin", given)
        label = ui.label().classes("quiet")
        widgets.choices(dialog, "Flash", write)


# --- virtual boards


def _virtual(desk: Desk) -> None:
    with ui.element("section").classes("card whole").props('aria-label="A virtual board"'):
        widgets.heading("No board at hand? Start a virtual one")
        ui.label("It runs real firmware on this computer. Its flash is a file of the project.").classes("quiet")
        with ui.element("div").classes("row-line field-line"):
            kinds = desk.virtual_kinds
            usual = "virtual-pico" if "virtual-pico" in kinds and board_actions.can_build() else "unix"
            kind = widgets.Choice(kinds, value=usual, label="Kind").props("outlined dense").classes("field")
            name = ui.input("Name", placeholder="automatic").props("outlined dense maxlength=24").classes("field")

            def start() -> None:
                desk.start_virtual(str(kind.value), name.value.strip())
                name.set_value("")

            begin = ui.element("div")
        act = widgets.reporting(start)
        with begin:
            widgets.button("Start a virtual board", act, icon="power", main=True)


def _by_address(desk: Desk) -> None:
    """Ports that are not listed: unknown serial adapters, boards over the network."""
    with widgets.fold("Another port").classes("wide"), ui.element("div").classes("row-line field-line"):
        port = ui.input("Port", placeholder="COM3 or socket://10.0.0.2:3333").props("outlined dense").classes("field")
        widgets.button("Open port", widgets.reporting(lambda: desk.connect_address(port.value.strip())), icon="link")
