"""Adapters in a board's store and in the project: each change is a job on the board's thread. No pages in here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgelora.base.errors import InputError
from edgelora.board.link.client import Link
from edgelora.board.link.replies import StoreState
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.store_names import store_name
from edgelora.learn.training.board.board_learner import BoardLearner
from edgelora.learn.training.data.base import Base, adapter_ranks
from edgelora.learn.training.heads.new_classes import activate_stored
from edgelora.learn.training.recipe import inference
from edgelora.learn.updates import releasing
from edgelora.learn.updates.keys import load_key, new_key
from edgelora.learn.updates.releasing import Release
from edgelora.model.datasets.dataset import Dataset

from .board_session import BoardSession
from .job import Job
from .project import Project
from .project_files import keep_network
from .runs import ProjectRuns

BARE = ""  # the name of the base alone in place of an adapter's
KEY_FILE = "release.pem"


def activate(project: Project, session: BoardSession, name: str) -> Job:
    """Activates an adapter, also after a reset; `BARE`: the base alone."""
    bases = project.of(ProjectRuns).bases().values()
    what = f"use {name or 'the base alone'}"
    return _change(session, what, lambda link: activate_stored(link, bases, name or None))


def remove(session: BoardSession, name: str) -> Job:
    return _change(session, f"remove {name}", lambda link: link.store_remove(name))


def pin(session: BoardSession, name: str, on: bool) -> Job:
    """A pinned adapter stays in the board's RAM once loaded."""
    return _change(session, f"{'pin' if on else 'unpin'} {name}", lambda link: link.store_pin(name, on))


def _change(session: BoardSession, what: str, change: Callable[[Link], StoreState]) -> Job:
    return session.submit(what, lambda link, job: change(link))


def files(project: Project) -> dict[str, int]:
    """The project's `.ela` files, and their bytes."""
    return {path.name: path.stat().st_size for path in sorted((project.folder / "adapters").glob("*.ela"))}


def pull(project: Project, session: BoardSession, name: str) -> Job:
    """Copies an adapter from the store to the project. The job's result is its path."""
    path = project.folder / "adapters" / f"{store_name(name)}.ela"

    def work(link: Link, job: Job) -> Path:
        return keep_network(path, link.store_get(name))

    return session.submit(f"pull {name}", work)


def push(project: Project, session: BoardSession, file: str) -> Job:
    """Copies a `.ela` file of the project to the store, under the file's name."""
    path = project.folder / "adapters" / Path(file).name

    def work(link: Link, job: Job) -> int:
        content = path.read_bytes()
        unpack_adapter(content, name=path.name)
        return link.store_put(store_name(path.stem), content)

    return session.submit(f"push {path.stem}", work)


def keep_file(project: Project, name: str, content: bytes) -> Path:
    """Checks a given `.ela` and adds it to the project."""
    unpack_adapter(content, name=name)
    return keep_network(project.folder / "adapters" / f"{store_name(Path(name).stem)}.ela", content)


def release(project: Project, session: BoardSession, name: str, target: str) -> Job:
    """Signs an adapter of the store as an update; creates the key the first time. The job's result is a `Release`."""

    def work(link: Link, job: Job) -> Release:
        key = project.folder / "keys" / KEY_FILE
        if not key.exists():
            new_key(key)
        return releasing.release(
            project.folder / "releases", link.store_get(name), name, load_key(key), target=target or None
        )

    return session.submit(f"release {name}", work)


@dataclass(frozen=True)
class Answers:
    """A board's predictions with one adapter. said: the class of each sample; infer_us: microseconds per sample."""

    name: str
    said: tuple[str, ...]
    infer_us: float


@dataclass(frozen=True)
class Comparison:
    """Predictions of the same samples, whose classes are `classes`; seen: which the project trained on."""

    classes: tuple[str, ...]
    answers: tuple[Answers, ...]
    seen: tuple[bool, ...]

    def rows(self, seen: bool) -> list[tuple[str, int, tuple[int, ...]]]:
        """By class, of seen or unseen samples: their number, and how many each adapter classifies correctly."""
        rows = []
        for label in sorted(set(self.classes)):
            at = [i for i, true in enumerate(self.classes) if true == label and self.seen[i] == seen]
            if at:
                rows.append((label, len(at), tuple(sum(one.said[i] == label for i in at) for one in self.answers)))
        return rows

    @property
    def apart(self) -> int:
        """The number of samples on which predictions differ."""
        return sum(len({one.said[i] for one in self.answers}) > 1 for i in range(len(self.classes)))


def compare(session: BoardSession, base: Base, data: Dataset, names: Sequence[str], learned: AbstractSet[bytes]) -> Job:
    """Has the board classify samples with each adapter. The job's result is a `Comparison`.

    data: windows that fit the base, classes by name; learned: see `ProjectRuns.learned_samples`. The store's
    active adapter stays active.
    """
    if not len(data.y):
        raise InputError("there are no samples to compare on", remedy="record some in Collect")
    x = base.model.input.quantize(data.x)
    seen = tuple(row.tobytes() in learned for row in np.asarray(data.x, np.float32))
    frames = base.model.frames(data.x.shape[1:])

    def work(link: Link, job: Job) -> Comparison:
        answers = []
        for name in names:
            job.tell(name or "the base alone")
            adapter = link.store_get(name) if name else None
            board = BoardLearner(link, base, inference(adapter_ranks(base, adapter)), job.progress, frames)
            board.use(adapter)
            numbers = board.predict(x)
            answers.append(Answers(name, _named(base, adapter, numbers), board.infer_us))
        return Comparison(tuple(data.labels[label] for label in data.y), tuple(answers), seen)

    return session.submit("compare", work)


def _named(base: Base, adapter: bytes | None, numbers: np.ndarray) -> tuple[str, ...]:
    """Class names: the base's, and those that an adapter added."""
    names = dict(enumerate(base.model.labels))
    if adapter:
        names |= {row.number: row.name for row in base.adapter(adapter).classes if row.name}
    return tuple(names.get(int(number), f"class {number}") for number in numbers)
