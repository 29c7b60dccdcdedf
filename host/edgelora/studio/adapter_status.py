"""What an adapter of a board knows, how well and since when, as far as the project can tell. No pages in here."""

from __future__ import annotations

from dataclasses import dataclass

from edgelora.base.errors import EdgeloraError
from edgelora.board.link.replies import StoredAdapter

from .board_session import Place
from .project import Desk
from .run import Lesson
from .runs import Lessons


@dataclass(frozen=True)
class Knowledge:
    """classes: by name, added ones last; how_well: in words, or "" where nobody measured it; since: an ISO time, or "";
    base: the name of its network in the project, or ""."""

    classes: tuple[str, ...]
    how_well: str
    since: str
    base: str


def knowledge(desk: Desk, place: Place, adapter: StoredAdapter) -> Knowledge:
    """Of an adapter: by the run that it came of, else by its network alone."""
    lessons = desk.of(Lessons)
    base = next((one for one in lessons.bases().values() if one.base_id == adapter.base_id), None)
    name = base.name if base else ""
    lesson = lessons.source(place, adapter)
    if lesson is None:
        return Knowledge(tuple(_named(base.model.labels)) if base else (), "", "", name)
    how_well, since = _judged(lesson)
    return Knowledge((*lesson.head.learned, *lesson.head.added), how_well, since, name)


def _judged(lesson: Lesson) -> tuple[str, str]:
    try:
        report = lesson.report
        measure = report.measure if report else None
    except EdgeloraError:
        return "", ""
    if report is None or measure is None:
        return "", ""
    message = f"{measure.shown(measure.after)} {measure.name} on {report.test_samples} samples to test, "
    message += report.conclusion.short
    if lesson.head.added:
        message += f", before {', '.join(lesson.head.added)} was added"
    return message, report.created


def _named(labels: list[str]) -> list[str]:
    """Those that stand for something: outputs of a renamed base that are nobody's yet are in parentheses."""
    return [label for label in labels if not label.startswith("(")]
