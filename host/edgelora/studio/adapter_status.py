"""Classes, accuracy and date of a board's adapters, from the project's runs. No pages in here."""

from __future__ import annotations

from dataclasses import dataclass

from edgelora.base.errors import EdgeloraError
from edgelora.board.link.replies import StoredAdapter

from .board_session import BoardSession
from .project import Project
from .run import StudioRun
from .runs import ProjectRuns


@dataclass(frozen=True)
class Knowledge:
    """classes: by name, added ones last; how_well: in words, "" if not measured; since: an ISO time, or "";
    base: the name of its base in the project, or ""."""

    classes: tuple[str, ...]
    how_well: str
    since: str
    base: str


def knowledge(project: Project, session: BoardSession, adapter: StoredAdapter) -> Knowledge:
    """An adapter's facts, from the run that made it, else from its base alone."""
    runs = project.of(ProjectRuns)
    base = next((one for one in runs.bases().values() if one.base_id == adapter.base_id), None)
    name = base.name if base else ""
    run = runs.source(session, adapter)
    if run is None:
        return Knowledge(tuple(_named(base.model.labels)) if base else (), "", "", name)
    how_well, since = _judged(run)
    return Knowledge((*run.head.learned, *run.head.added), how_well, since, name)


def _judged(run: StudioRun) -> tuple[str, str]:
    try:
        report = run.report
        measure = report.measure if report else None
    except EdgeloraError:
        return "", ""
    if report is None or measure is None:
        return "", ""
    message = f"{measure.shown(measure.after)} {measure.name} on {report.test_samples} test samples, "
    message += report.conclusion.short
    if run.head.added:
        message += f", before {', '.join(run.head.added)} was added"
    return message, report.created


def _named(labels: list[str]) -> list[str]:
    """Names of used outputs: unused outputs of a renamed base have names in parentheses."""
    return [label for label in labels if not label.startswith("(")]
