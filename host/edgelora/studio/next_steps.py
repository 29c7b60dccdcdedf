"""The next step of each view, on the way from a bare board to a trained one. No pages in here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .live import Live
from .project import Project
from .runs import ProjectRuns
from .samples import ProjectSamples


@dataclass(frozen=True)
class Step:
    """The next step: its text, and the path of its view.

    ready: whether its prerequisites are met.
    """

    text: str
    path: str
    ready: bool


def next_step(project: Project, view: str) -> Step | None:
    """The step after a view, by its name; None if something must be done in the view first, or nothing follows."""
    find = _STEPS.get(view)
    return find(project) if find and project.selected else None


def _after_boards(project: Project) -> Step | None:
    session = project.selected
    return (
        Step("see its sensor live", "/live", bool(session.state.models)) if session and session.state.module else None
    )


def _after_live(project: Project) -> Step | None:
    session = project.selected
    if session is None:
        return None
    if _kept(project):
        return Step("let it act on its own", "/act", True)
    return Step("collect samples", "/collect", session.of(Live).is_running)


def _after_collect(project: Project) -> Step | None:
    classes = project.of(ProjectSamples).classes
    return Step("learn", "/learn", len(classes) > 1 and not any(one.missing for one in classes)) if classes else None


def _after_learn(project: Project) -> Step | None:
    return Step("see it recognize them", "/live", True) if _kept(project) else None


def _after_adapters(project: Project) -> Step | None:
    session = project.selected
    return Step("see it recognize them", "/live", True) if session and session.state.active else None


def _kept(project: Project) -> bool:
    """Whether the board's latest adapter was kept."""
    run = project.of(ProjectRuns).of(project.selected) if project.selected else None
    return run is not None and run.status == "kept"


_STEPS: dict[str, Callable[[Project], Step | None]] = {
    "Boards": _after_boards,
    "Live": _after_live,
    "Collect": _after_collect,
    "Learn": _after_learn,
    "Adapters": _after_adapters,
}
