"""Adds classes to a base on a board from a user's samples; validates on held-out samples and compares with the twin.

samples -> board: an adapter with a row per class -> twin: the same bytes? -> held-out samples: better? -> store
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.board.link.replies import StoreState
from edgelora.core.formats.classes import ClassRow, no_room
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id
from edgelora.core.formats.limits import MAX_CLASS_SAMPLES, MAX_NAME
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.board.board_learner import open_base
from edgelora.learn.training.board.board_paths import CLASS_PATH
from edgelora.learn.training.data.base import Base, adapter_ranks, labels_of, opened
from edgelora.learn.training.recipe import inference
from edgelora.model.datasets.dataset import Dataset, held_out


@dataclass(frozen=True)
class AddedClasses:
    """The board's adapter with added classes. identical: the twin made the same bytes.

    before, after: accuracy on held-out samples of what was in use and of this adapter; None if these are too few.
    """

    ela: bytes
    classes: list[ClassRow]
    identical: bool
    judged_by: int
    before: float | None
    after: float | None

    @property
    def is_better(self) -> bool:
        """Whether to use it: it equals the twin's, and its accuracy is higher or could not be validated."""
        return self.identical and (self.before is None or self.after is None or self.after > self.before)


def add_classes(
    link: Link, base: Base, data: Dataset, before: bytes | None, progress: Progress = no_progress
) -> AddedClasses:
    """Adds each class of the data to the adapter `before` (None: the base alone), on the board, in its RAM.

    Classes that the base has by name get an additional row. A quarter of each class is held out for validation.
    """
    if base.model.class_stats is None:
        raise InputError(f"{base.name} {no_room(base.model)}")
    if not data.labels:
        raise InputError("classes need names: give data with labels")
    for one in data.labels:
        if one not in base.model.labels and len(one.encode()) > MAX_NAME:
            raise InputError(
                f"the name {one!r} takes {len(one.encode())} bytes, the limit for an added class is {MAX_NAME}",
                remedy="give it a shorter name",
            )
    held = held_out(data.y)
    x = base.model.input.quantize(data.x)
    ranks = adapter_ranks(base, before)
    session, model = Session(base.elm, ranks, "infer"), opened(base, before)
    _open(link, base, ranks, before)
    wanted = [label for label in range(len(data.labels)) if (data.y[~held] == label).any()]
    for done, label in enumerate(wanted, 1):
        samples, name = x[~held & (data.y == label)][:MAX_CLASS_SAMPLES], data.labels[label]
        link.put(CLASS_PATH, pack_samples(samples, np.zeros(len(samples), np.int64), None, base_id(base.elm)))
        link.class_add(name, CLASS_PATH)
        model.add_class(name, [one.tobytes() for one in samples])
        progress(done, len(wanted), name)
    link.remove(CLASS_PATH)
    made = link.class_get()
    mine = bytes(model.used.buffer)
    numbers = numbers_of(base, mine)
    y = np.array([numbers[data.labels[label]] for label in data.y[held]], np.int64)
    judges = device.module("training").can_judge(y.tolist())
    shares = [_right(session, ela, x[held], y) for ela in (before, made)] if judges else [None, None]
    found = base.adapter(made).classes
    return AddedClasses(made, found, made == mine, len(y) if judges else 0, *shares)


def add_stored_classes(
    link: Link, base: Base, data: Dataset, name: str, progress: Progress = no_progress, force: bool = False
) -> tuple[AddedClasses, bool]:
    """Adds classes to the adapter of that name in the board's store; also returns whether it is now active there.

    Without such an adapter for this base, starts from the base alone. force: activates it even if it is not better,
    unless the twin made another one.
    """
    before = stored_adapter(link, base, name)
    made = add_classes(link, base, data, before, progress)
    used = made.is_better or force and made.identical
    if used:
        link.store_put(name, made.ela)
        link.store_activate(name)
    else:
        _use(link, before)
    return made, used


def remove_stored_class(link: Link, base: Base, label: str, name: str) -> bytes | None:
    """Removes a class from the adapter of that name in the store. Returns the rest, None if nothing is left."""
    before = stored_adapter(link, base, name)
    if before is None:
        raise InputError(f"the board's store has no adapter {name} for this base: see `edgelora store list`")
    left = remove_class(link, base, label, before)
    if left:
        link.store_put(name, left)
        link.store_activate(name)
    else:
        link.store_remove(name)
    return left


def stored_adapter(link: Link, base: Base, name: str) -> bytes | None:
    """The adapter of that name in the board's store, if it is for this base."""
    mine = (entry for entry in link.store_list().adapters if entry.name == name and entry.base_id == base.base_id)
    return link.store_get(name) if next(mine, None) else None


def without_classes(link: Link, base: Base, name: str) -> None:
    """InputError if that adapter in the board's store has added classes, which a newly trained one would lack."""
    before = stored_adapter(link, base, name)
    rows = [row for row in base.adapter(before).classes if not row.doubt] if before else []
    if rows:
        labels = ", ".join(row.name or base.model.labels[row.number] for row in rows)
        raise InputError(
            f"{name} on the board has added classes ({labels}), which a new adapter would lose",
            remedy="retrain with them: `edgelora consolidate`, or remove them: `edgelora remove-class`",
        )


def activate_stored(link: Link, bases: Iterable[Base], name: str | None) -> StoreState:
    """Activates an adapter of the board's store, also after a reset; None: the base alone.

    A store refuses adapters of another base than the open one, so the adapter's base is opened, if it is one of
    these.
    """
    ids = {entry.name: entry.base_id for entry in link.store_list().adapters}
    base = next((base for base in bases if base.base_id == ids.get(name or "")), None)
    if base and name:
        open_base(link, base, inference(adapter_ranks(base, link.store_get(name))))
    return link.store_activate(name)


def remove_class(link: Link, base: Base, name: str, before: bytes) -> bytes | None:
    """The board's adapter without a class; None if only the base is left."""
    _open(link, base, base.adapter(before).ranks(len(base.model.ops)), before)
    link.class_remove(name)
    return link.class_get() or None


def _open(link: Link, base: Base, ranks: bytes, before: bytes | None) -> None:
    open_base(link, base, inference(ranks))
    _use(link, before)


def _use(link: Link, adapter: bytes | None) -> None:
    if adapter:
        link.put(CLASS_PATH, adapter)
    link.use(CLASS_PATH if adapter else None)


def numbers_of(base: Base, adapter: bytes | None) -> dict[str, int]:
    """Numbers of classes by name: the base's, then those that an adapter adds."""
    return {name: number for number, name in enumerate(labels_of(base, adapter))}


def _right(session: Session, ela: bytes | None, x: NDArray[np.int8], y: NDArray[np.int64]) -> float:
    session.use(ela)
    return round(session.accuracy(x, y), 4)
