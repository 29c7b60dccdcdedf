"""The way through the studio, from a bare board to one that knows: what comes next in each view. No pages in here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .live import Live
from .project import Desk
from .runs import Lessons
from .samples import Book


@dataclass(frozen=True)
class Step:
    """What comes next: what it is called, the path of the view where it is done.

    ready: whether all that it takes is there.
    """

    text: str
    path: str
    ready: bool


def next_step(desk: Desk, view: str) -> Step | None:
    """What comes after a view, by its name; None where something has to be done in it first, or nothing follows."""
    find = _STEPS.get(view)
    return find(desk) if find and desk.selected else None


def _after_boards(desk: Desk) -> Step | None:
    place = desk.selected
    return Step("see it sense", "/live", bool(place.state.models)) if place and place.state.module else None


def _after_live(desk: Desk) -> Step | None:
    place = desk.selected
    if place is None:
        return None
    if _kept(desk):
        return Step("have it act by itself", "/act", True)
    return Step("collect samples", "/collect", place.of(Live).is_running)


def _after_collect(desk: Desk) -> Step | None:
    classes = desk.of(Book).classes
    return Step("learn", "/learn", len(classes) > 1 and not any(one.missing for one in classes)) if classes else None


def _after_learn(desk: Desk) -> Step | None:
    return Step("see it recognize them", "/live", True) if _kept(desk) else None


def _after_adapters(desk: Desk) -> Step | None:
    place = desk.selected
    return Step("see it recognize them", "/live", True) if place and place.state.active else None


def _kept(desk: Desk) -> bool:
    """Whether the board keeps what it learned last."""
    lesson = desk.of(Lessons).of(desk.selected) if desk.selected else None
    return lesson is not None and lesson.status == "kept"


_STEPS: dict[str, Callable[[Desk], Step | None]] = {
    "Boards": _after_boards,
    "Live": _after_live,
    "Collect": _after_collect,
    "Learn": _after_learn,
    "Adapters": _after_adapters,
}
