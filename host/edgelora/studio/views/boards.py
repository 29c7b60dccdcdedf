"""The view Boards: connected boards, virtual boards, and the actions on each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nicegui import ui

from edgelora.board.devices import Device
from edgelora.learn.training.data.base import Base
from edgelora.studio import board_actions
from edgelora.studio.board_session import BoardSession, PlaceState
from edgelora.studio.board_status import Condition, condition
from edgelora.studio.project import Project
from edgelora.studio.runs import ProjectRuns
from edgelora.studio.training_options import about

from . import console, widgets
from . import project as project_cards
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


def page(project: Project) -> None:
    """Builds the view."""
    widgets.title("Boards", "Boards that you can train: plugged in, or virtual on this computer.", project)
    widgets.job_card(lambda: project.jobs[-1] if project.jobs else None)
    widgets.follow(lambda: tuple(project.sessions), lambda: _sessions(project))
    widgets.follow(lambda: project.others, lambda: _plugged_in(project))
    widgets.follow(lambda: project.of(ProjectRuns).refused(), lambda: _refused(project), 1.0)
    project_cards.sample_card(project)
    if project.virtual_kinds:
        _virtual(project)
    _by_address(project)
    project_cards.file_card(project)


def _sessions(project: Project) -> None:
    if not project.sessions:
        return widgets.empty("No board yet: plug one in, or start a virtual one below.", "memory")
    with ui.element("div").classes("cards"):
        for session in project.sessions.values():
            _card(project, session)


def _card(project: Project, session: BoardSession) -> None:
    with ui.element("section").classes("card").props(f'aria-label="{widgets.attribute(session.state.name)}"'):
        with ui.element("div").classes("row-line"):
            ui.icon("developer_board" if not session.state.is_virtual else "laptop").props("aria-hidden=true")
            ui.label(session.state.name).props("role=heading aria-level=2").classes("job-name grow")
            widgets.follow(lambda: condition(project, session), lambda: _condition(condition(project, session)))
        widgets.follow(lambda: replace(session.state, job=None, free_heap=None, status="idle"), lambda: _facts(session))
        widgets.place_job(session)
        with ui.element("div").classes("row-line actions"):
            _actions(project, session)
        with widgets.fold("Advanced"):
            widgets.follow(
                lambda: replace(session.state, job=None, status="idle"), lambda: facts(_details(session.state))
            )
            widgets.follow(lambda: session.state.status == "away", lambda: _rare_actions(project, session))


def _refused(project: Project) -> None:
    for name, why in project.of(ProjectRuns).refused().items():
        widgets.problem(
            f"{name} is not a base network: {why}", "replace it, or remove it from the project's folder bases"
        )


def _condition(word: Condition) -> None:
    with ui.element("span").classes(f"chip is-{word.replace(' ', '-')}"):
        ui.icon(ICONS[word]).props("aria-hidden=true")
        ui.label(word)


def _facts(session: BoardSession) -> None:
    """The facts that matter for training on a board."""
    state = session.state
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


def _actions(project: Project, session: BoardSession) -> None:
    """Buttons for a board. Reset and Stop are not redrawn while it restarts."""

    def shown() -> tuple[bool, ...]:
        """What decides on the first buttons, and no more: a click on a button that is redrawn is lost."""
        state, is_selected = session.state, project.selected is session
        if state.status == "away":
            return True, is_selected, project.waits_for_firmware(session), project.is_there(session)
        return False, is_selected, bool(state.module), bool(state.models)

    widgets.follow(shown, lambda: _first_actions(project, session))
    widgets.follow(lambda: _can_reset(project, session), lambda: _reset_and_stop(project, session))
    widgets.follow(lambda: session.state.status == "away", lambda: _last_actions(project, session))


def _first_actions(project: Project, session: BoardSession) -> None:
    state, name = session.state, session.state.name
    if project.selected is not session:
        widgets.button("Choose", lambda: project.select(session.key), icon="check", label=f"Choose {name}")
    if state.status != "away":
        if not state.module:
            widgets.button("Install EdgeLoRA", lambda: board_actions.install_on(session), icon="download", main=True)
        widgets.button(
            "Put a base on",
            lambda: _base_dialog(project, session),
            icon="inventory_2",
            label=f"Put a base on {name}",
            main=bool(state.module and not state.models),
        )
    elif project.waits_for_firmware(session):
        ui.label("It is in its boot loader: flash firmware.").classes("grow")
        widgets.button(
            "Flash", lambda: _flash_dialog(project, session, None), icon="bolt", label=f"Flash {name}", main=True
        )
    elif state.is_virtual and not project.is_there(session):
        widgets.button("Start", lambda: _start(project, session), icon="power", label=f"Start {name}", main=True)


def _can_reset(project: Project, session: BoardSession) -> bool:
    """Whether it is powered and past its boot loader; it may be silent, or its port used elsewhere."""
    return not project.waits_for_firmware(session) and (session.state.status != "away" or project.is_there(session))


def _reset_and_stop(project: Project, session: BoardSession) -> None:
    if not _can_reset(project, session):
        return
    name = session.state.name
    widgets.button("Reset", lambda: board_actions.restart(project, session), icon="restart_alt", label=f"Reset {name}")
    if session.state.is_virtual:
        widgets.button("Stop", lambda: _off_thread(project, "stop", session), icon="power_off", label=f"Stop {name}")


def _last_actions(project: Project, session: BoardSession) -> None:
    name = session.state.name
    if session.state.status == "away":
        widgets.button(
            "Forget", lambda: _off_thread(project, "disconnect", session), icon="close", label=f"Forget {name}"
        )
        return
    console.button(session)
    if not session.state.is_virtual:
        widgets.button(
            "Disconnect",
            lambda: _off_thread(project, "disconnect", session),
            icon="link_off",
            label=f"Disconnect {name}",
        )


def _rare_actions(project: Project, session: BoardSession) -> None:
    if session.state.status != "away":
        name = session.state.name
        widgets.button("Flash", lambda: _flash_dialog(project, session, None), icon="bolt", label=f"Flash {name}")


def _start(project: Project, session: BoardSession) -> None:
    project.start_virtual(session.state.board or "", Path(session.key).parent.name)


def _off_thread(project: Project, what: str, session: BoardSession) -> None:
    """Runs an action off the page's thread: stopping waits for the board's process."""
    act = project.stop_virtual if what == "stop" else project.release
    project.submit(f"{what} {session.state.name}", lambda job: act(session.key))


# --- devices that are plugged in but not opened


def _plugged_in(project: Project) -> None:
    for heading, virtual in (("Also plugged in", False), ("Virtual boards started elsewhere", True)):
        found = [device for device in project.others if device.virtual == virtual]
        if found:
            widgets.heading(heading)
            _cards(project, found)


def _cards(project: Project, devices: list[Device]) -> None:
    with ui.element("div").classes("cards"):
        for device in devices:
            with ui.element("section").classes("card stack tight"):
                ui.label(device.description).classes("job-name")
                ui.label(device.port).classes("quiet")
                _offer(project, device)


def _offer(project: Project, device: Device) -> None:
    if device.boot_loader:
        ui.label("It is in its boot loader: flash firmware.")
        widgets.button("Flash", lambda: _flash_dialog(project, None, device), icon="bolt", main=True)
        return
    if not device.known:
        ui.label("Unknown device: opening its port may reset it.")
    widgets.button("Connect", lambda: project.connect(device), icon="link", label=f"Connect {device.port}", main=True)


# --- dialogs


def _bases(project: Project) -> dict[str, Base]:
    return project.of(ProjectRuns).bases()


def _base_names(project: Project) -> dict[str, str]:
    return {name: f"{name} ({len(base.elm)} bytes)" for name, base in _bases(project).items()}


def _base_choice(project: Project, none: str = "") -> widgets.Choice:
    """A drop-down of bases. none: the label of the choice without a base, if allowed."""
    options = ({NO_BASE: none} if none else {}) | _base_names(project)
    choice = widgets.Choice(options, value=next(iter(options), None), label="Base network")
    return choice.props("outlined").classes("wide")


def _base_dialog(project: Project, session: BoardSession) -> None:
    with widgets.dialog(f"Put a base on {session.state.name}") as dialog:
        choice = _base_choice(project)

        def given(name: str, content: bytes) -> None:
            base = board_actions.keep_base(project, name, content)
            choice.set_options(_base_names(project), value=base.name)

        label = ui.label(about(_bases(project)[choice.value]) if choice.value else "").classes("quiet")
        choice.on_value_change(lambda event: label.set_text(about(_bases(project)[event.value]) if event.value else ""))
        widgets.drop("Add your own base (.elm)", ".elm", given)
        widgets.choices(
            dialog, "Copy to the board", lambda: board_actions.put_base(session, _bases(project)[choice.value])
        )


def _flash_dialog(project: Project, session: BoardSession | None, device: Device | None) -> None:
    """Flashes a board by its port, or by its boot loader's volume."""
    name = session.state.name if session else device.port if device else ""
    image: list[Path] = []

    def write() -> None:
        given = image[0] if image else None
        base = None if given else _bases(project).get(str(base_choice.value))
        board = None if given else str(board_choice.value)
        if session:
            board_actions.flash_place(project, session, given, board, base)
        elif device:
            board_actions.flash_device(project, device, given, board, base)

    with widgets.dialog(f"Flash {name}") as dialog:
        ui.label("Replaces the board's firmware. Its files stay if the new firmware has the same flash layout.")
        board_choice, base_choice = widgets.Choice([]), widgets.Choice([])
        board_choice.set_visibility(False)
        base_choice.set_visibility(False)
        if board_actions.can_build():
            kinds = board_actions.flashed_kinds()
            there = session.state.board if session else None
            board_choice = widgets.Choice(kinds, value=there if there in kinds else kinds[0], label="Firmware for")
            board_choice.props("outlined").classes("wide")
            base_choice = _base_choice(project, "none")

        def given(file: str, content: bytes) -> None:
            image[:] = [board_actions.keep_image(project, file, content)]
            label.set_text(f"{file} will be written")

        widgets.drop("Or your own image (.uf2 or .bin)", ".uf2,.bin", given)
        label = ui.label().classes("quiet")
        widgets.choices(dialog, "Flash", write)


# --- virtual boards


def _virtual(project: Project) -> None:
    with ui.element("section").classes("card whole").props('aria-label="A virtual board"'):
        widgets.heading("No board at hand? Start a virtual one")
        ui.label("It runs real firmware on this computer. Its flash is a file of the project.").classes("quiet")
        with ui.element("div").classes("row-line field-line"):
            kinds = project.virtual_kinds
            usual = "virtual-pico" if "virtual-pico" in kinds and board_actions.can_build() else "unix"
            kind = widgets.Choice(kinds, value=usual, label="Kind").props("outlined dense").classes("field")
            name = ui.input("Name", placeholder="automatic").props("outlined dense maxlength=24").classes("field")

            def start() -> None:
                project.start_virtual(str(kind.value), name.value.strip())
                name.set_value("")

            begin = ui.element("div")
        act = widgets.reporting(start)
        with begin:
            widgets.button("Start a virtual board", act, icon="power", main=True)


def _by_address(project: Project) -> None:
    """Ports that are not listed: unknown serial adapters, boards over the network."""
    with widgets.fold("Another port").classes("wide"), ui.element("div").classes("row-line field-line"):
        port = ui.input("Port", placeholder="COM3 or socket://10.0.0.2:3333").props("outlined dense").classes("field")
        widgets.button("Open port", widgets.reporting(lambda: project.connect_address(port.value.strip())), icon="link")
