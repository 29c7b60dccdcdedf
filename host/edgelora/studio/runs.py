"""Bases and training runs of a project, and actions on their adapters. No pages in here."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.text import printable
from edgelora.board.link.client import Link
from edgelora.board.link.replies import StoredAdapter, StoreState
from edgelora.core.formats.files import write_atomic
from edgelora.core.store_names import store_name
from edgelora.learn.report.record import Report, read_report
from edgelora.learn.training.board.board_run import NAME
from edgelora.learn.training.data.base import Base, load_base
from edgelora.learn.training.heads.new_classes import AddedClasses, add_stored_classes, stored_adapter
from edgelora.learn.training.judge import early_stopping
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.retrain import Consolidated, consolidate_stored
from edgelora.model.datasets.dataset import Dataset, save_dataset

from .board_session import BoardSession
from .job import Job
from .project import Project
from .project_files import keep_network
from .run import GOING, UNFINISHED, Head, StudioRun
from .training_options import OWN, PACKAGED, Prospect, fits, parted

USUAL = Recipe(on_board=True)


@dataclass
class ProjectRuns:
    """Bases and training runs of a project. Get them by `project.of(ProjectRuns)`."""

    project: Project
    runs: list[StudioRun] = field(default_factory=list)  # latest first
    version: int = 0

    def __post_init__(self) -> None:
        self.folder = self.project.folder / "reports"
        self._bases: dict[Path, tuple[int, Base | str]] = {}  # modification time, and the base or its error
        for path in sorted(self.folder.glob("*/lesson.json"), reverse=True):
            try:
                self.runs.append(StudioRun.read(path.parent))
            except (EdgeloraError, OSError):
                continue  # the reports view shows folders that can't be read

    # --- bases

    def bases(self) -> dict[str, Base]:
        """Bases by name: the project's, then those included in the studio."""
        return {name: base for name, base in self._files().items() if isinstance(base, Base)}

    def refused(self) -> dict[str, str]:
        """Invalid files in the project's folder of bases: errors by name."""
        return {name: why for name, why in self._files().items() if isinstance(why, str)}

    def _files(self) -> dict[str, Base | str]:
        found: dict[str, Base | str] = {}
        for path in [*sorted((self.project.folder / "bases").glob("*.elm")), *sorted(PACKAGED.glob("*.elm"))]:
            if isinstance(found.get(path.name), Base):
                continue
            try:
                changed = path.stat().st_mtime_ns
            except OSError:  # it was deleted
                continue
            if path not in self._bases or self._bases[path][0] != changed:
                self._bases[path] = (changed, _base_or_why(path))
            found[path.name] = self._bases[path][1]
        return found

    def usual_base(self, data: Dataset | None, session: BoardSession | None = None) -> str | None:
        """The base that most likely fits: for these samples, of the user's class names, newest first; then one that the
        board has."""
        bases = self.bases()
        fitting = [name for name, base in bases.items() if data is None or fits(base, data)]
        own = [name for name in fitting if name.startswith(OWN)]
        there = {PurePosixPath(path).name for path in session.state.models} if session else set()
        return next(iter([*reversed(own), *(name for name in fitting if name in there), *fitting, *bases]), None)

    def put_base(self, base: Base) -> Base:
        """Adds a base to the project, under an unused name."""
        return replace(base, name=keep_network(self.project.folder / "bases" / base.name, base.elm).name)

    # --- reports

    def folders(self) -> dict[str, Path]:
        """Folders of finished runs by name, latest first."""
        found = sorted(self.folder.glob("*/report.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        return {printable(path.parent.name): path.parent for path in found}

    def reports(self) -> dict[str, Report | EdgeloraError]:
        """Reports of runs by name, latest first, or why they can't be read."""
        return {name: _report(folder) for name, folder in self.folders().items()}

    # --- runs

    def of(self, session: BoardSession) -> StudioRun | None:
        """The latest run of a board."""
        return next((one for one in self.runs if _is_of(one, session)), None)

    def source(self, session: BoardSession, adapter: StoredAdapter) -> StudioRun | None:
        """The run that made an adapter of a board's store, if this project has it."""
        for one in self.runs:
            if _is_of(one, session) and one.status in ("judged", "kept") and (one.head.name or NAME) == adapter.name:
                with contextlib.suppress(EdgeloraError, OSError):
                    if one.base.base_id == adapter.base_id:
                        return one
        return None

    def rename(self, session: BoardSession, adapter: StoredAdapter, to: str) -> Job:
        """Renames an adapter of a board's store, and updates its run."""
        to, run = store_name(to), self.source(session, adapter)

        def work(link: Link, job: Job) -> StoreState:
            store = link.store_rename(adapter.name, to)
            if run:
                run.note_renamed(to)
            return store

        return session.submit(f"rename {adapter.name}", work)

    def start(self, session: BoardSession, prospect: Prospect, data: Dataset, recipe: Recipe) -> StudioRun:
        """Starts a run on a board. Classes added to the board's latest run are added to this one again.

        InputError if it can't start.
        """
        if prospect.problem:
            raise InputError(prospect.problem, remedy=prospect.remedy)
        there = self.of(session)
        if there and there.status in GOING:
            raise InputError("the board is training", remedy="pause it, or wait for its end")
        recipe = prospect.suited(recipe)
        base = self.put_base(prospect.base) if prospect.renamed else prospect.base
        title = ", ".join(prospect.learned)
        parts = parted(data.only(prospect.learned), "the project", recipe.on_board)
        course = early_stopping.prepared(base.elm, base.samples(parts.train), recipe)
        folder = self._fresh()
        save_dataset(parts.train, folder / "samples.npz")
        save_dataset(parts.test, folder / "test.npz")
        write_atomic(folder / "base.elm", base.elm)
        said = asdict(replace(recipe, epochs=course.settings.epochs)) | {"base_name": base.name}
        total = len(course.updates)
        board = session.state.board or session.state.machine
        head = Head(
            title, session.device.port, board, said, parts.tested_on, prospect.learned, total, id=session.state.id
        )
        head = replace(head, tested_on_seen=parts.seen, again=_added_before(there, prospect))
        if head.again:
            save_dataset(data.only([*prospect.learned, *head.again]), folder / "again.npz")
        run = StudioRun(folder, head)
        run._now()
        for other in self.runs:
            if _is_of(other, session) and other.status in UNFINISHED:
                other.give_up()
        self.runs.insert(0, run)
        self._submit(session, run)
        return run

    def resume(self, session: BoardSession, run: StudioRun) -> None:
        """Resumes a run that was paused or interrupted."""
        if run.status not in ("paused", "cut off", "failed"):
            raise InputError(f"the run is {run.status}", remedy="start a new run")
        self._submit(session, run)

    def _submit(self, session: BoardSession, run: StudioRun) -> None:
        run._now(status="learning", error="")
        run.job = session.submit("learn", run.run)
        self.version += 1

    def keep(self, session: BoardSession, run: StudioRun, name: str = NAME) -> Job:
        """Keeps the adapter, regardless of the verdict."""
        store_name(name)
        return session.submit("keep", lambda link, job: run.keep(link, name))

    def discard(self, session: BoardSession, run: StudioRun) -> Job:
        """Restores the board's previous adapter."""
        return session.submit("discard", lambda link, job: run.discard(link))

    def add_classes(self, session: BoardSession, run: StudioRun, data: Dataset, force: bool = False) -> Job:
        """Adds all classes of the data to a run's adapter. The job's result is `Added`."""
        base, name = run.base, run.head.name or NAME

        def work(link: Link, job: Job) -> Added:
            run.check(link)
            made, used = add_stored_classes(link, base, data, name, job.progress, force)
            if used:
                run.note_learned(data)
                run.note_added([row.name for row in made.classes if row.name])
            return Added(name, made, used)

        return session.submit("add a class", work)

    def consolidate(self, session: BoardSession, run: StudioRun, data: Dataset) -> Job:
        """Retrains on all samples, with added classes. The job's result is `Consolidated`."""
        base, name = run.base, run.head.name or NAME

        def work(link: Link, job: Job) -> Consolidated:
            run.check(link)
            job.tell("retraining on all samples")
            if stored_adapter(link, base, name) is None:
                run.note_gone()
            made = consolidate_stored(link, base, data, name)
            if made.better:
                run.note_learned(data)
            return made

        return session.submit("relearn everything", work)

    def learned_samples(self) -> set[bytes]:
        """The samples of all runs: see `StudioRun.learned_samples`."""
        return set().union(*(one.learned_samples() for one in self.runs))

    def _fresh(self) -> Path:
        taken = [int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()]
        folder = self.folder / f"{max(taken, default=0) + 1:03d}"
        folder.mkdir()
        return folder


def _added_before(earlier: StudioRun | None, prospect: Prospect) -> tuple[str, ...]:
    """Classes that were added to an earlier run, and that still have samples."""
    if earlier is None or earlier.status not in ("judged", "kept"):
        return ()
    return tuple(label for label in prospect.added if label in earlier.head.added)


def _is_of(run: StudioRun, session: BoardSession) -> bool:
    """Whether a run is of this board, by its chip id if both are known, else by its port."""
    head, chip = run.head, session.state.id
    return head.id == chip if head.id and chip else head.port in (session.key, session.device.port)


def _base_or_why(path: Path) -> Base | str:
    try:
        return load_base(path)
    except (EdgeloraError, OSError) as error:
        return str(error)


def _report(folder: Path) -> Report | EdgeloraError:
    try:
        return read_report(folder / "report.json")
    except EdgeloraError as error:
        return error


@dataclass(frozen=True)
class Added:
    """The result of adding classes. used: the new adapter was activated."""

    name: str
    made: AddedClasses
    used: bool
