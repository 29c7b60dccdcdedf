"""The view Live: a board's signal and its predictions, live."""

from __future__ import annotations

from nicegui import ui

from edgelora.studio.board_session import BoardSession
from edgelora.studio.live import Live
from edgelora.studio.project import Project

from . import corrections, novelty, record_button, widgets
from .signals import SignalView, adapter_choice, live_problem, other_base, sources, virtual_world


def page(project: Project) -> None:
    """Builds the view."""
    widgets.title("Live", "The board's signal and its predictions, live.", project)
    widgets.follow(lambda: project.selected and project.selected.key, lambda: _board(project))


def _board(project: Project) -> None:
    session = project.selected
    if session is None:
        return widgets.empty("No board yet: plug one in, or start a virtual one, in Boards.", "sensors_off")
    live = session.of(Live)
    live_problem(live)
    other_base(project, live)
    with ui.element("section").classes("card whole").props('aria-label="Signal"'):
        SignalView(session.key)
        with ui.element("div").classes("row-line live-actions"):
            _pause(live)
            adapter_choice(live)
        record_button.panel(project, session)
    corrections.panel(project, session)
    sources(project, session)
    virtual_world(project, session)
    novelty.panel(project, session)
    _tallies(session, live)


def _pause(live: Live) -> None:
    def draw() -> None:
        if not live.is_running:
            return
        if live.metadata.paused:
            widgets.button("Resume", lambda: live.pause(False), icon="play_arrow", main=True)
        else:
            widgets.button("Pause", live.pause, icon="pause")
        widgets.button("Stop", live.stop, icon="stop")

    widgets.follow(lambda: (live.is_running, live.metadata.paused), draw)


def _tallies(session: BoardSession, live: Live) -> None:
    """Predictions counted by adapter, to compare adapters. Texts change in place."""
    cells: dict[str, list[ui.label]] = {}

    def draw() -> None:
        cells.clear()
        if not live.tallies:
            return
        widgets.heading("Predictions by adapter")
        with ui.element("div").classes("scroll"), ui.element("table").classes("plain-table"):
            with ui.element("thead"), ui.element("tr"):
                for head in ("Adapter", "Windows", "Mean confidence", "Classes"):
                    with ui.element("th").props("scope=col"):
                        ui.label(head)
            with ui.element("tbody"):
                for name in list(live.tallies):
                    cells[name] = []
                    with ui.element("tr"):
                        for text in (name or "none", "", "", ""):
                            with ui.element("td"):
                                cells[name].append(ui.label(widgets.plain(text)))

    def tell() -> None:
        for name, (_, windows, certain, classes) in cells.items():
            if tally := live.tallies.get(name):
                often = sorted(tally.classes.items(), key=lambda entry: -entry[1])[:5]
                windows.set_text(str(tally.windows))
                certain.set_text(f"{100 * tally.certain / max(tally.windows, 1):.0f} %")
                classes.set_text(", ".join(f"{widgets.plain(label)} {count}" for label, count in often))

    widgets.follow(lambda: (id(live.tallies), tuple(live.tallies)), draw, 0.5)
    ui.timer(0.5, tell)
