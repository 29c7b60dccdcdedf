"""Unknown input in the view Live: rejecting it as "nothing", the effect, and recording it as a class."""

from __future__ import annotations

from nicegui import ui

from edgelora.learn.training.heads.known import NOTHING
from edgelora.studio.actions import Acts
from edgelora.studio.board_session import BoardSession
from edgelora.studio.capture import Takers
from edgelora.studio.live import Live
from edgelora.studio.novelty import Judge, judge_of
from edgelora.studio.project import Project
from edgelora.studio.samples import ENOUGH

from . import widgets


def panel(project: Project, session: BoardSession) -> None:
    """Rejects unknown windows in the board's live view, and shows the effect."""
    live, acts = session.of(Live), project.of(Acts)
    live.judge_of = lambda base, adapter: judge_of(project, base, adapter)
    with ui.element("section").classes("card whole stack tight").props('aria-label="Nothing"'):
        choice = ui.checkbox("Say “nothing” when a window resembles no sample", value=acts.nothing).props("dense")
        choice.on_value_change(lambda event: acts.set_nothing(bool(event.value)))
        label = ui.label().classes("quiet")
        with ui.element("div").classes("row-line"):
            ui.label(f"Or train a class “{NOTHING}” on {ENOUGH} windows of everyday movement.").classes("quiet")
            act = widgets.reporting(lambda: _record(project, session))
            widgets.button(f"Record “{NOTHING}”", act, icon="fiber_manual_record")

    def tell() -> None:
        label.set_text(_words(live, acts))

    tell()
    ui.timer(0.5, tell)


def _words(live: Live, acts: Acts) -> str:
    if not acts.nothing or not live.is_running:
        return ""
    judge = live.judge
    if isinstance(judge, Judge) and judge.labels():
        return judge.words
    return "Needs samples of the network's classes."


def _record(project: Project, session: BoardSession) -> None:
    """Records the next windows as samples of the class."""
    project.of(Takers).of(session).take_some(NOTHING, 0, ENOUGH)
