"""A board's console: its output, a line of input, Ctrl-C and a restart."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from edgelora.board.devices import Device
from edgelora.studio.board_session import BoardSession
from edgelora.studio.console import Console
from edgelora.studio.job import Job
from edgelora.studio.project import Project

from . import widgets


def button(session: BoardSession) -> None:
    """A button that opens the console of a board of the project."""
    name = session.state.name
    show = lambda: _show(name, session.device, session.submit_on_port)  # noqa: E731
    widgets.button("Console", widgets.reporting(show), icon="terminal", label=f"Console of {name}")


def watch_button(project: Project, device: Device) -> None:
    """The same for a board that runs on its own and keeps running."""

    def submit(name: str, work: Callable[[str, Job], object]) -> Job:
        return project.submit(name, lambda job: work(device.port, job))

    show = widgets.reporting(lambda: _show(device.description, device, submit))
    widgets.button("Watch its output", show, icon="terminal")


def _show(name: str, device: Device, submit: Callable[[str, Callable[[str, Job], object]], Job]) -> None:
    console = Console()
    console.open(device, submit)
    with widgets.dialog(f"Console of {widgets.plain(name)}") as made:
        made.on("hide", console.close)  # before the element is deleted
        screen = ui.label().classes("program console").props('role=log aria-label="Output" tabindex=0')
        state = ui.label().classes("quiet").props("aria-live=polite")
        with ui.element("div").classes("row-line"):
            line = ui.input("Input line").props("dense outlined autofocus spellcheck=false").classes("grow")

            def send() -> None:
                console.type(str(line.value or ""))
                line.value = ""

            act = widgets.reporting(send)
            line.on("keydown.enter", act)
            widgets.button("Send", act, icon="send")
        with ui.element("div").classes("row-line actions"):
            widgets.button("Interrupt", console.interrupt, icon="pan_tool", label="Interrupt: Ctrl-C")
            widgets.button("Restart", console.restart, icon="restart_alt", label="Restart: Ctrl-D")
            widgets.button("Close", made.close, main=True)
        shown = [-1]

        def tell() -> None:
            if shown[0] != console.version:
                shown[0] = console.version
                screen.set_text(console.text)
                ui.run_javascript(f"const log = getHtmlElement({screen.id}); log && (log.scrollTop = log.scrollHeight)")
            job = console.job
            words = "" if job is None or not job.ended else job.error or "Closed: another job uses the board."
            state.set_text("" if console.is_open else words)

        ui.timer(widgets.POLL_SECONDS, tell)
    made.client.on_disconnect(console.close)
