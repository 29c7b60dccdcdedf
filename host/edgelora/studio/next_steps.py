"""The next step of each view, on the way from a bare board to a trained one. No pages in here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .live import Live
from .project import Desk
from .runs import Lessons
from .samples import Book


@dataclass(frozen=True)
class Step:
    """The next step: its text, and the path of its view.

    ready: whether its prerequisites are met.
    """

    text: str
    path: str
    ready: bool


def next_step(desk: Desk, view: str) -> Step | None:
    """The step after a view, by its name; None if something must be done in the view first, or nothing follows."""
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
        return Step("let it act on its own", "/act", True)
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
    """Whether the board's latest adapter was kept."""
    lesson = desk.of(Lessons).of(desk.selected) if desk.selected else None
    return lesson is not None and lesson.status == "kept"


_STEPS: dict[str, Callable[[Desk], Step | None]] = {
    "Boards": _after_boards,
    "Live": _after_live,
    "Collect": _after_collect,
    "Learn": _after_learn,
    "Adapters": _after_adapters,
}
