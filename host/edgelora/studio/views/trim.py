"""Trims a recording of the project."""

from __future__ import annotations

import asyncio

from nicegui import ui

from edgelora.studio.project import Project
from edgelora.studio.trim import seconds_of, trim

from . import widgets
from .signals import recordings


def panel(project: Project) -> None:
    """Shown where the project has recordings."""
    widgets.follow(lambda: tuple(recordings(project)), lambda: _panel(project), 1.0)


def _panel(project: Project) -> None:
    names = recordings(project)
    if not names:
        return
    with widgets.fold("Trim a recording", "content_cut"):
        with ui.element("div").classes("row-line"):
            choice = widgets.Choice(names, label="Recording to trim").props("outlined dense options-dense")
            choice.classes("wide-select")
            start = ui.number("From, s", value=0.0, min=0).props("outlined dense").classes("narrow")
            end = ui.number("To, s", value=0.0, min=0).props("outlined dense").classes("narrow")
        label = ui.label().classes("quiet")

        async def chosen() -> None:
            seconds = await asyncio.to_thread(seconds_of, project, str(choice.value or ""))
            start.value, end.value = 0.0, round(seconds, 2)
            label.set_text(f"It lasts {seconds:.2f} s.")

        async def cut() -> None:
            times = float(start.value or 0), float(end.value or 0)
            kept = await asyncio.to_thread(trim, project, str(choice.value or ""), *times)
            ui.notify(f"Saved as {kept}", type="positive")

        choice.on_value_change(widgets.reporting(chosen))
        widgets.button("Save this part", widgets.reporting(cut), icon="content_cut")
