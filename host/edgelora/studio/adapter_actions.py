"""The adapters of a board's store and of the project: each change is a job on the board's thread. No pages in here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgelora.base.errors import InputError
from edgelora.base.text import store_name
from edgelora.board.link.client import Link
from edgelora.board.link.replies import StoreState
from edgelora.core.formats.ela import unpack_adapter
from edgelora.learn.training.base import Base, adapter_ranks
from edgelora.learn.training.board_learner import BoardLearner
from edgelora.learn.training.new_classes import activate_stored
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.updates import releasing
from edgelora.learn.updates.keys import load_key, new_key
from edgelora.learn.updates.releasing import Release
from edgelora.model.datasets.dataset import Dataset

from .board_session import Place
from .job import Job
from .project import Desk
from .project_files import keep_network
from .runs import Lessons

BARE = ""  # stands for the bare base where an adapter can be named
KEY_FILE = "release.pem"


def activate(desk: Desk, place: Place, name: str) -> Job:
    """Has the board use an adapter, also after a reset; `BARE`: the bare base."""
    bases = desk.of(Lessons).bases().values()
    what = f"use {name or 'the bare base'}"
    return _change(place, what, lambda link: activate_stored(link, bases, name or None))


def remove(place: Place, name: str) -> Job:
    return _change(place, f"remove {name}", lambda link: link.store_remove(name))


def pin(place: Place, name: str, on: bool) -> Job:
    """Pinned, an adapter stays in the board's RAM once it is there."""
    return _change(place, f"{'pin' if on else 'unpin'} {name}", lambda link: link.store_pin(name, on))


def _change(place: Place, what: str, change: Callable[[Link], StoreState]) -> Job:
    return place.submit(what, lambda link, job: change(link))


def files(desk: Desk) -> dict[str, int]:
    """The project's `.ela` files, and their bytes."""
    return {path.name: path.stat().st_size for path in sorted((desk.folder / "adapters").glob("*.ela"))}


def pull(desk: Desk, place: Place, name: str) -> Job:
    """Copies an adapter out of the store into the project. The job's result is its path."""
    path = desk.folder / "adapters" / f"{store_name(name)}.ela"

    def work(link: Link, job: Job) -> Path:
        return keep_network(path, link.store_get(name))

    return place.submit(f"pull {name}", work)


def push(desk: Desk, place: Place, file: str) -> Job:
    """Puts a `.ela` file of the project into the store, under the file's name."""
    path = desk.folder / "adapters" / Path(file).name

    def work(link: Link, job: Job) -> int:
        content = path.read_bytes()
        unpack_adapter(content, name=path.name)
        return link.store_put(store_name(path.stem), content)

    return place.submit(f"push {path.stem}", work)


def keep_file(desk: Desk, name: str, content: bytes) -> Path:
    """Puts a `.ela` that a person has into the project. It is checked first."""
    unpack_adapter(content, name=name)
    return keep_network(desk.folder / "adapters" / f"{store_name(Path(name).stem)}.ela", content)


def release(desk: Desk, place: Place, name: str, target: str) -> Job:
    """Signs an adapter of the store, for boards to fetch; the key is made at the first time. The result: `Release`."""

    def work(link: Link, job: Job) -> Release:
        key = desk.folder / "keys" / KEY_FILE
        if not key.exists():
            new_key(key)
        return releasing.release(
            desk.folder / "releases", link.store_get(name), name, load_key(key), target=target or None
        )

    return place.submit(f"release {name}", work)


@dataclass(frozen=True)
class Answers:
    """What a board said of samples with one adapter. said: a class of each; infer_us: microseconds a sample."""

    name: str
    said: tuple[str, ...]
    infer_us: float


@dataclass(frozen=True)
class Comparison:
    """Answers to the same samples, whose classes are `classes`; seen: which of them a run of the project learned."""

    classes: tuple[str, ...]
    answers: tuple[Answers, ...]
    seen: tuple[bool, ...]

    def rows(self, seen: bool) -> list[tuple[str, int, tuple[int, ...]]]:
        """By class, of the samples that were learned or of the others: their number, and how many each has right."""
        rows = []
        for label in sorted(set(self.classes)):
            at = [i for i, true in enumerate(self.classes) if true == label and self.seen[i] == seen]
            if at:
                rows.append((label, len(at), tuple(sum(one.said[i] == label for i in at) for one in self.answers)))
        return rows

    @property
    def apart(self) -> int:
        """Samples of which not all say the same."""
        return sum(len({one.said[i] for one in self.answers}) > 1 for i in range(len(self.classes)))


def compare(place: Place, base: Base, data: Dataset, names: Sequence[str], learned: AbstractSet[bytes]) -> Job:
    """Has the board say what samples are, with one adapter after another. The job's result is a `Comparison`.

    data: windows that fit the base, classes by name; learned: as `Lessons.learned_samples` has them. What its
    store says is in use stays so.
    """
    if not len(data.y):
        raise InputError("there are no samples to compare with", remedy="record some in Collect")
    x = base.model.input.quantize(data.x)
    seen = tuple(row.tobytes() in learned for row in np.asarray(data.x, np.float32))
    frames = base.model.frames(data.x.shape[1:])

    def work(link: Link, job: Job) -> Comparison:
        answers = []
        for name in names:
            job.tell(name or "the bare base")
            adapter = link.store_get(name) if name else None
            board = BoardLearner(link, base, Recipe(), job.progress, adapter_ranks(base, adapter), frames)
            board.use(adapter)
            numbers = board.predict(x)
            answers.append(Answers(name, _named(base, adapter, numbers), board.infer_us))
        return Comparison(tuple(data.labels[label] for label in data.y), tuple(answers), seen)

    return place.submit("compare", work)


def _named(base: Base, adapter: bytes | None, numbers: np.ndarray) -> tuple[str, ...]:
    """Classes by name: the base's, and those that an adapter has beside them."""
    names = dict(enumerate(base.model.labels))
    if adapter:
        names |= {row.number: row.name for row in unpack_adapter(adapter, base.model).classes if row.name}
    return tuple(names.get(int(number), f"class {number}") for number in numbers)
