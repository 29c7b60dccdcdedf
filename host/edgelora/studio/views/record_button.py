"""Recording in the view Live: hold a button while doing the gesture."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import events, ui

from edgelora.studio.board_session import BoardSession
from edgelora.studio.capture import Taker, Takers
from edgelora.studio.live import Live
from edgelora.studio.project import Project
from edgelora.studio.samples import ProjectSamples

from . import widgets
from .signals import guarded


def panel(project: Project, session: BoardSession) -> None:
    """The class, the button, and the last recording; space works like the button."""
    project_samples, live, taker = project.of(ProjectSamples), session.of(Live), project.of(Takers).of(session)
    widgets.follow(
        lambda: (project_samples.labels, live.is_running and live.base is not None),
        lambda: _controls(project_samples, live, taker),
    )


def _controls(project_samples: ProjectSamples, live: Live, taker: Taker) -> None:
    if not live.is_running or live.base is None or not project_samples.labels:
        return
    if taker.label not in project_samples.labels:
        taker.label = project_samples.labels[0]
    with ui.element("div").classes("row-line hold-line").props('role=group aria-label="Hold to record"'):
        label = widgets.Choice(list(project_samples.labels), value=taker.label, label="Record")
        label.props("dense outlined options-dense").classes("narrow")
        label.on_value_change(lambda event: setattr(taker, "label", str(event.value)))
        button = widgets.button("Hold while you do it", lambda: None, icon="fiber_manual_record", main=True)
        button.props("color=negative").classes("record")
        status = ui.label().classes("quiet").props("aria-live=polite")
    hold, release = guarded(taker.hold), guarded(taker.release)
    for event in ("pointerdown", "keydown.space"):
        button.on(event, hold if event == "pointerdown" else _once(taker, hold))
    for event in ("pointerup", "pointerleave", "keyup.space", "blur"):
        button.on(event, release)

    def key(event: events.KeyEventArguments) -> None:
        if event.key == " ":
            hold() if event.action.keydown else release()

    def tell() -> None:
        words = taker.problem or (taker.last and f"Recorded: {taker.last}")
        status.set_text(widgets.plain(f"{taker.label}: now" if taker.is_held else words))

    ui.keyboard(key, repeating=False)
    ui.timer(0.1, tell)


def _once(taker: Taker, hold: Callable[[], None]) -> Callable[[], None]:
    """Ignores the repeats of a held key."""

    def begin() -> None:
        if not taker.is_held:
            hold()

    return begin
