"""A board's status in one word, the same everywhere on the page. No pages in here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .board_session import Fault, Place
from .project import Desk

Condition = Literal["ready", "working", "listening", "starting", "needs firmware"] | Fault


def condition(desk: Desk, place: Place) -> Condition:
    """The status of a board of the desk.

    working: it runs an exclusive job; listening: it runs the live view, which yields to jobs; starting: powered on
    but not reached yet; needs firmware: it is in its boot loader. Else why it is away: see `PlaceState`.
    """
    state = place.state
    if state.status == "idle":
        return "ready"
    if state.status == "busy":
        return "listening" if state.job is not None and not state.job.exclusive else "working"
    if desk.waits_for_firmware(place):
        return "needs firmware"
    if _is_starting(desk, place):
        return "starting"
    return state.fault


def _is_starting(desk: Desk, place: Place) -> bool:
    """Whether it was never reached without a fault, or is a virtual board that is starting."""
    if not place.state.problem:
        return True
    start = f"start {Path(place.key).parent.name}"
    return place.state.is_virtual and any(job.name == start and not job.ended for job in list(desk.jobs))
