"""Few labels in the view Live: corrections that teach at once, and windows to label."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from nicegui import ui

from edgelora.studio.board_session import BoardSession
from edgelora.studio.corrections import Asked, Corrector, Correctors
from edgelora.studio.project import Project

from . import widgets

WIDTH, HEIGHT = 160, 48  # of a window's drawing, in pixels
COLORS = ("#0f6b5c", "#b3480f", "#3b4fa3")


def panel(project: Project, session: BoardSession) -> None:
    """Corrections of the latest answer, and the windows whose labels would help most."""
    corrector = project.of(Correctors).of(session)
    widgets.follow(lambda: tuple(corrector.labels), lambda: _section(corrector, session.key), 0.5)


def _section(corrector: Corrector, board: str) -> None:
    labels = corrector.labels
    if not labels:
        return
    with ui.element("section").classes("card whole stack tight").props('aria-label="Corrections"'):
        widgets.heading("Was that right?")
        with ui.element("div").classes("row-line"):
            widgets.button("No", _act(partial(corrector.correct, None)), icon="close", label="No, it was not that")
            ui.label("It was:")
            for label in labels:
                words = f"It was {label}"
                widgets.button(widgets.plain(label), _act(partial(corrector.correct, label)), label=words)
        said = ui.label().classes("quiet").props("aria-live=polite")
        unsure = ui.label().classes("quiet")
        widgets.heading("Which windows would help most?")
        with ui.element("div").classes("row-line"):
            kept = ui.label().classes("quiet")
            widgets.button("Ask", widgets.reporting(lambda: asyncio.to_thread(corrector.ask)), icon="help_outline")
        widgets.follow(lambda: tuple(one.number for one in corrector.asked), lambda: _asked(corrector, labels, board))

    def tell() -> None:
        said.set_text(corrector.words)
        unsure.set_text(corrector.unsure)
        kept.set_text(f"{corrector.kept} windows heard without a label; the network is unsure of some of them.")

    tell()
    ui.timer(0.5, tell)


def _act(act: Callable[[], None]) -> Callable[[], object]:
    return widgets.reporting(lambda: asyncio.to_thread(act))


def _asked(corrector: Corrector, labels: list[str], board: str) -> None:
    for number, one in enumerate(corrector.asked, 1):
        with ui.element("div").classes("row-line").props(f'role=group aria-label="Window {number}"'):
            if corrector.live.metadata.fast:
                ui.audio(f"/senses/asked/{one.number}?board={quote(board)}").props(f'aria-label="Window {number}"')
            else:
                _drawing(one, number)
            ui.label(f"taken for {widgets.plain(one.predicted)}, by {one.margin:.0%}. Which was it?").classes("quiet")
            for label in labels:
                answer = _act(partial(corrector.answer, one, label))
                widgets.button(widgets.plain(label), answer, label=f"Window {number} was {label}")
            widgets.button("Skip", _act(partial(corrector.answer, one, None)), label=f"Skip window {number}")


def _drawing(asked: Asked, number: int) -> None:
    """The first channels, each within its own range."""
    counts = asked.counts[:: max(1, len(asked.counts) // WIDTH), : len(COLORS)].astype(float)
    low, high = counts.min(), counts.max()
    with ui.element("svg").props(
        f'viewBox="0 0 {WIDTH} {HEIGHT}" width={WIDTH} height={HEIGHT} role=img aria-label="Signal of window {number}"'
    ):
        for channel, color in zip(counts.T, COLORS, strict=False):
            y = (HEIGHT - 2) * (high - channel) / max(high - low, 1.0) + 1
            points = " ".join(f"{WIDTH * i / max(len(y) - 1, 1):.0f},{at:.0f}" for i, at in enumerate(y))
            ui.element("polyline").props(f'points="{points}" fill=none stroke="{color}"')
