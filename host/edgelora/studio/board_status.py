"""A board's status in one word, the same everywhere on the page. No pages in here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .board_session import BoardSession, Fault
from .project import Project

Condition = Literal["ready", "working", "listening", "starting", "needs firmware"] | Fault


def condition(project: Project, session: BoardSession) -> Condition:
    """The status of a board of the project.

    working: it runs an exclusive job; listening: it runs the live view, which yields to jobs; starting: powered on
    but not reached yet; needs firmware: it is in its boot loader. Else why it is away: see `PlaceState`.
    """
    state = session.state
    if state.status == "idle":
        return "ready"
    if state.status == "busy":
        return "listening" if state.job is not None and not state.job.exclusive else "working"
    if project.waits_for_firmware(session):
        return "needs firmware"
    if _is_starting(project, session):
        return "starting"
    return state.fault


def _is_starting(project: Project, session: BoardSession) -> bool:
    """Whether it was never reached without a fault, or is a virtual board that is starting."""
    if not session.state.problem:
        return True
    start = f"start {Path(session.key).parent.name}"
    return session.state.is_virtual and any(job.name == start and not job.ended for job in list(project.jobs))
