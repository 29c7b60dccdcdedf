"""One training run of a board, from its start to its outcome. No pages in here.

A run calls `personalize` on the board's thread. Its folder holds all inputs and outputs, so
it can resume after the page, the studio or the board was gone:

    reports/NNN/lesson.json     its settings and progress
                base.elm        the network, and samples.npz, test.npz
                more-N.npz      samples learned afterwards: of added classes, or all in a retraining
                previous.ela    the board's adapter before the run, if any
                again.npz       samples of classes to add again afterwards, and of the others
                metrics.jsonl   every update
                adapter.ela     the result, with report.json and report.html
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.text import printable
from edgelora.board.link.client import Link
from edgelora.board.link.replies import LinkError
from edgelora.board.link.transport import LineLost
from edgelora.core.formats.ela import pack_adapter
from edgelora.core.formats.files import write_atomic
from edgelora.core.store_names import store_name
from edgelora.core.twin.session import Session
from edgelora.learn.personalize import personalize
from edgelora.learn.report.metrics import Metrics, Update, read_metrics
from edgelora.learn.report.record import Report, read_report
from edgelora.learn.report.sections import write_report
from edgelora.learn.training.board.board_paths import STATE_PATH
from edgelora.learn.training.board.board_run import NAME, RunOptions, Suspended
from edgelora.learn.training.data.base import Base, load_base
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.heads.new_classes import (
    activate_stored,
    add_stored_classes,
    stored_adapter,
    without_classes,
)
from edgelora.learn.training.judge import metrics as training_metrics
from edgelora.learn.training.judge.metrics import Measure
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.board_personalization import Task
from edgelora.model.datasets.dataset import Dataset, Parts, load_dataset, save_dataset

from .board_session import another
from .job import Job
from .training_options import PACKAGED

VERSION = 1
Status = Literal[
    "learning", "pausing", "paused", "cut off", "judged", "differs", "kept", "discarded", "given up", "failed"
]
GOING, UNFINISHED = ("learning", "pausing"), ("learning", "pausing", "paused", "cut off")


@dataclass(frozen=True)
class Head:
    """The content of `lesson.json`."""

    title: str
    port: str
    board: str
    recipe: dict[str, Any]
    tested_on: str
    learned: tuple[str, ...]
    total: int  # updates
    status: Status = "learning"
    error: str = ""
    active: str | None = None  # adapter in the board's store before the run
    name: str = ""  # of the kept adapter
    added: tuple[str, ...] = ()  # classes added to it since
    again: tuple[str, ...] = ()  # classes of an earlier run, to add again after this one
    begun: bool = False  # whether the board has a checkpoint of this run
    id: str = ""  # the board's chip id
    tested_on_seen: int = 0  # test samples also used for training or choosing the epoch
    version: int = VERSION


class StudioRun:
    """One run in its folder. Another thread runs it; any thread may read it.

    updates: so far; accuracies: on held-out samples after each completed epoch, by the twin, which equals the board
    bit for bit.
    """

    def __init__(self, folder: Path, head: Head) -> None:
        self.folder, self.head = folder, head
        self.version = 0
        self.doing = ""  # steps other than training
        self.updates: list[Update] = []
        self.job: Job | None = None
        self._accuracies: list[Measure] = []
        self._pause = threading.Event()
        self._since = (0.0, 0)  # when this session began to train, and after how many updates

    @classmethod
    def read(cls, folder: Path) -> StudioRun:
        """Reads an earlier run. InputError if its folder is damaged."""
        try:
            said = json.loads((folder / "lesson.json").read_bytes())
            known = {one.name for one in fields(Head)}
            head = Head(**{key: value for key, value in said.items() if key in known})
            classes: dict[str, Any] = {
                what: tuple(map(str, getattr(head, what))) for what in ("learned", "added", "again")
            }
            head = replace(head, title=str(head.title), **classes)
            if head.status not in get_args(Status) or not isinstance(head.total, int):
                raise InputError(f"status {head.status!r}, total {head.total!r}")
            Recipe(**_recipe_fields(head.recipe))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{folder / 'lesson.json'} is damaged ({error})", remedy="delete its folder") from None
        if head.status in GOING:
            head = replace(head, status="cut off", error="the studio was closed during training")
        run = cls(folder, head)
        if (folder / "metrics.jsonl").exists():
            with_epochs = [one for one in read_metrics(folder / "metrics.jsonl") if one.get("event") == "update"]
            known = {one.name for one in fields(Update) if one.init}
            run.updates = [Update(**{k: v for k, v in one.items() if k in known}) for one in with_epochs]
        return run

    # --- settings and outcome

    @property
    def number(self) -> str:
        return self.folder.name

    @property
    def status(self) -> Status:
        """The status, also if the job failed before it began, as without a board."""
        if self.head.status in GOING and self.job is not None and self.job.ended:
            return "cut off"
        return self.head.status

    @property
    def error(self) -> str:
        if self.head.error or self.job is None:
            return self.head.error
        return self.job.error

    @property
    def recipe(self) -> Recipe:
        return Recipe(**_recipe_fields(self.head.recipe))

    @property
    def base(self) -> Base:
        base = load_base(self.folder / "base.elm")
        return replace(base, name=str(self.head.recipe["base_name"]))

    @property
    def report(self) -> Report | None:
        path = self.folder / "report.json"
        return read_report(path) if path.exists() else None

    @property
    def page(self) -> Path:
        return self.folder / "report.html"

    # --- progress

    @property
    def done(self) -> int:
        """Updates."""
        return self.updates[-1].step if self.updates else 0

    @property
    def epochs(self) -> int:
        return self.recipe.epochs

    @property
    def epoch(self) -> int:
        """The current epoch, from 1; 0 before the first."""
        return self.updates[-1].epoch if self.updates else 0

    @property
    def accuracies(self) -> list[float]:
        """Accuracies on held-out samples: before training, then after each epoch that the board has completed."""
        if (report := self.report) is not None and report.epoch_accuracies:
            return [report.base_accuracy or 0.0, *report.epoch_accuracies]
        over = self.epoch - 1 + (self.done == self.head.total)
        return [one.rounded for one in self._accuracies[: max(over, 0) + 1]]

    @property
    def joules(self) -> float | None:
        """Energy so far, by the data sheet; None if the board's power is unknown."""
        spent = [one.joules for one in self.updates]
        return None if not spent or None in spent else float(sum(one or 0.0 for one in spent))

    @property
    def seconds_left(self) -> float | None:
        """An estimate from this session's pace; None until there is one."""
        since, first = self._since
        if self.status != "learning" or self.done <= first or not since:
            return None
        return (time.monotonic() - since) / (self.done - first) * (self.head.total - self.done)

    def took(self, update: Update) -> None:
        """Records an update of the board; a resumed run repeats a few."""
        if not self._since[0]:
            self._since = (time.monotonic(), update.step)
        self.updates[-64:] = [*(one for one in self.updates[-64:] if one.step < update.step), update]

    # --- actions

    def pause(self) -> None:
        """Pauses after the current micro-batch and saves the state. `ProjectRuns.resume` continues."""
        if self.head.status == "learning":
            self._pause.set()
            self._now(status="pausing")

    # --- the run, on the board's thread

    def run(self, link: Link, job: Job) -> None:
        """Trains, or resumes training; after `Suspended` or a lost line it can be resumed."""
        self._pause.clear()
        try:
            self._run(link, job)
        except (Suspended, _Paused):
            self._now(status="paused")
        except (LinkError, LineLost) as error:
            self._now(status="cut off", error=printable(error))
            raise
        except (EdgeloraError, OSError) as error:
            self._now(status="failed", error=printable(error))
            raise

    def _run(self, link: Link, job: Job) -> None:
        self.check(link)
        base, recipe = self.base, self.recipe
        train, tested = (load_dataset(self.folder / f"{name}.npz") for name in ("samples", "test"))
        about = (self.head.tested_on, self.head.tested_on_seen)
        task = Task.of(base, Parts(train, tested, *about), self.head.title)
        if not self.head.again:
            without_classes(link, base, NAME)
        resume = self._prepared(link, base)
        self._now(status="learning", error="")
        accuracies = self._accuracies = [_bare(base, task.test)]

        def tested_epoch(measure: Measure) -> None:
            if job.ended:
                raise _Paused  # the twin is done
            accuracies.append(measure)  # of this session: a paused session's twin runs on for a while
            self.version += 1

        self._since = (0.0, self.done)

        def progress(done: int, total: int, what: str) -> None:
            self.doing = what
            job.done, job.total = self.done, self.head.total
            job.tell(what)
            self.version += 1
            if stop() and not recipe.on_board:
                raise _Paused

        def stop() -> bool:
            return self._pause.is_set() or job.cancelled

        with _Log(self, fresh=not resume) as metrics:
            if not resume:
                self.updates = []
            options = RunOptions(metrics, progress, job.tell, tested_epoch, stop, resume)
            done = personalize(base, task, recipe, link, options, self.folder)
        activated, report = done.board_run.activated, done.report
        if activated and not recipe.on_board:
            link.store_put(NAME, done.adapter)
            link.store_activate(NAME)
        report.title, report.board = self.head.title, self.head.board or report.board
        write_report(report, self.folder)
        if self.head.again:
            self._add_again(link, job, activated)
        self.doing = ""
        self._now(status="judged" if done.twin.identical else "differs", error="")

    def _prepared(self, link: Link, base: Base) -> bool:
        """Whether the board can resume this run; else its previous state is restored."""
        there = link.store_list()
        checkpoint = any(entry.name == f"{NAME}.chk" for entry in there.adapters)
        if not self.recipe.on_board:
            checkpoint = link.size(STATE_PATH) is not None
        if self.head.begun and checkpoint and self.done:
            return True
        if self.head.begun:
            self._restore(link)
        elif any(entry.name == NAME and entry.base_id != base.base_id for entry in there.adapters):
            _set_aside(link)
        if not self.recipe.on_board and link.size(STATE_PATH) is not None:
            link.remove(STATE_PATH)  # of an earlier run
        previous = stored_adapter(link, base, NAME)
        write_atomic(self.folder / "previous.ela", previous or b"")
        self._now(begun=True, active=link.store_list().active)
        if previous and self.head.again:
            self._take_classes_out(link, base, previous)
        return False

    def _take_classes_out(self, link: Link, base: Base, previous: bytes) -> None:
        """Removes added classes from the active adapter during training, which measures and trains its layers."""
        adapter = base.adapter(previous)
        if adapter.layers:
            adapter.classes = []
            link.store_put(NAME, pack_adapter(adapter))
            return
        if link.store_list().active == NAME:
            link.store_activate(None)
        link.store_remove(NAME)

    def _add_again(self, link: Link, job: Job, activated: bool) -> None:
        """Adds an earlier run's added classes again; if training did not improve, the previous adapter stays."""
        if not activated:
            return self._restore(link)
        job.tell(f"adding {', '.join(self.head.again)} again")
        data = load_dataset(self.folder / "again.npz")
        made, used = add_stored_classes(link, self.base, data, NAME, force=True)
        if used:
            self.note_learned(data)
            self.note_added([row.name for row in made.classes if row.name])

    @property
    def _previous(self) -> bytes | None:
        path = self.folder / "previous.ela"
        return (path.read_bytes() or None) if path.exists() else None

    def _restore(self, link: Link) -> None:
        """Restores the board's store to its state before the run."""
        previous, there = self._previous, {entry.name for entry in link.store_list().adapters}
        if previous:
            link.store_put(NAME, previous)
        elif NAME in there:
            if link.store_list().active == NAME:
                link.store_activate(None)
            link.store_remove(NAME)
        if f"{NAME}.new" in there:
            link.store_remove(f"{NAME}.new")
        if self.head.active in {entry.name for entry in link.store_list().adapters}:
            project = self.folder.parents[1]
            there_too = [*sorted((project / "bases").glob("*.elm")), *sorted(PACKAGED.glob("*.elm"))]
            activate_stored(link, map(load_base, there_too), self.head.active)

    def check(self, link: Link) -> None:
        """Raises InputError if the connected board is not the one that ran this."""
        if self.head.id and link.hello().id != self.head.id:
            raise another()

    def keep(self, link: Link, name: str) -> None:
        """Keeps the adapter, with added classes, under this name: it is active, also after a reset."""
        self.check(link)
        adapter = (self.folder / "adapter.ela").read_bytes()
        if self.head.added:
            adapter = stored_adapter(link, self.base, NAME) or adapter
        if name != NAME:
            without_classes(link, self.base, store_name(name))
            self._restore(link)
        link.store_put(name, adapter)
        activate_stored(link, [self.base], name)
        self._now(status="kept", name=name)

    def discard(self, link: Link) -> None:
        """Restores the board's state before the run; the result stays in the run's folder."""
        self.check(link)
        self._restore(link)
        self._now(status="discarded")

    def note_learned(self, data: Dataset) -> None:
        """Records that the adapter was also trained on these samples."""
        count = len(list(self.folder.glob("more-*.npz")))
        save_dataset(data, self.folder / f"more-{count + 1}.npz")

    def learned_samples(self) -> set[bytes]:
        """The float32 bytes of each sample used for training or choosing the epoch."""
        found: set[bytes] = set()
        for path in (self.folder / "samples.npz", *self.folder.glob("more-*.npz")):
            with contextlib.suppress(EdgeloraError, OSError):
                x = np.asarray(load_dataset(path).x, np.float32)
                found |= {row.tobytes() for row in x}
        return found

    def note_added(self, labels: Sequence[str]) -> None:
        """Records that classes were added to the adapter on the board."""
        self._now(added=tuple(dict.fromkeys([*self.head.added, *labels])))

    def note_renamed(self, name: str) -> None:
        """Records the adapter's new name on the board."""
        self._now(name=name)

    def note_gone(self) -> None:
        """Records that the adapter and its added classes were removed from the board."""
        self._now(added=())

    def give_up(self) -> None:
        """Abandons the run, as another one uses the board."""
        self._now(status="given up")

    def _now(self, **changes: Any) -> None:
        self.head = replace(self.head, **changes)
        write_atomic(self.folder / "lesson.json", json.dumps(asdict(self.head), indent=1).encode())
        self.version += 1


class _Paused(Exception):
    """A run led by this computer was paused; the board has the state of the last epoch."""


class _Log(Metrics):
    """A run's metrics log, which also updates its run."""

    def __init__(self, run: StudioRun, fresh: bool) -> None:
        super().__init__(run.folder / "metrics.jsonl", fresh)
        self._run = run

    def write(self, event: str, **values: Any) -> None:
        super().write(event, **values)
        if event == "update":
            self._run.took(Update(**values))


def _bare(base: Base, test: Samples) -> Measure:
    """The accuracy of the base alone."""
    session = Session(base.elm, bytes(len(base.model.ops)), "infer", frames=test.frames)
    return training_metrics.measured(base, training_metrics.answers(base, session, test), test)


def _set_aside(link: Link) -> None:
    """Renames an adapter of another base that has the name of runs."""
    entries = {entry.name: entry for entry in link.store_list().adapters}
    name = f"{NAME}-{entries[NAME].base_id[:8]}"
    if name in entries:
        link.store_remove(name)
    link.store_rename(NAME, name)


def _recipe_fields(said: dict[str, Any]) -> dict[str, Any]:
    known = {one.name for one in fields(Recipe)}
    given = {key: value for key, value in said.items() if key in known}
    if given.get("given_ranks") is not None:
        given["given_ranks"] = tuple(given["given_ranks"])
    return given
