"""Simulated boards of a fleet: their samples, by the name of a data set or by folder, and their updates in a round.

`har`: eight boards, on which the figures are measured: left and right arm of people 3 to 6; the base is pretrained on
people 1 and 2. `har-choosing`: people 7 to 10 and the same base, used to choose settings. With more than eight boards,
board i has `FEW` randomly drawn training windows of arm i modulo 8. A folder: one board for each of its `.npz` files,
in order of their names.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.twin.fleet_update import clip_update, gaussian_noise
from edgelora.learn.training.data.base import Base, pretrained
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.twin.warm_start import fleet_training, fleet_vector
from edgelora.model.datasets import dataset
from edgelora.model.datasets.dataset import Dataset, load_dataset
from edgelora.model.datasets.har import ARMS, load_har_arm, load_har_people
from edgelora.model.quantization.quantize import quantize

from .averaging import board_seed
from .client_training import learner_of
from .plan import Plan

BASE_PEOPLE = (1, 2)
PEOPLE: dict[str, tuple[int, ...]] = {"har": (3, 4, 5, 6), "har-choosing": (7, 8, 9, 10)}
FEW = 40  # training windows of a board, if there are more boards than recordings


def fleet_base(seed: int = 0, progress: Progress = no_progress, people: tuple[int, ...] = BASE_PEOPLE) -> Base:
    """A base pretrained on these people's data, by default that of `har` and `har-choosing`; cached."""
    windows = load_har_people(people)
    name = "-".join(["har-fleet", *map(str, people if people != BASE_PEOPLE else ())])
    net = pretrained(name, lambda: windows, seed, progress)
    model = quantize(net, windows.x)
    model.labels = windows.labels
    return Base("har.elm", pack_model(model), model)


@dataclass(frozen=True)
class BoardData:
    """A board's training samples and test samples."""

    train: Samples
    test: Samples


class Boards:
    """`count` boards with their data. spec: the name of a data set, a folder, or people's numbers."""

    def __init__(self, spec: str | tuple[int, ...], base: Base, count: int) -> None:
        self.base, self.count = base, count
        self._parts: list[tuple[Dataset, Dataset]] = []
        if isinstance(spec, str):
            spec = PEOPLE.get(spec, spec)
        if isinstance(spec, tuple):
            arms = [(person, arm) for person in spec for arm in ARMS]
            self._parts = [load_har_arm(person, arm) for person, arm in arms]
        elif Path(spec).is_dir():
            files = sorted(Path(spec).glob("*.npz"))
            if len(files) < count:
                raise InputError(f"{spec}: {len(files)} .npz files for {count} boards: give a file for each")
            for path in files[:count]:
                whole = dataset.split(load_dataset(path), path.name)
                self._parts.append((whole.train, whole.test))
        else:
            raise InputError(
                f"data of boards {spec!r}: give one of {', '.join(PEOPLE)}, or a folder of .npz files, one per board"
            )
        self._samples = [BoardData(base.samples(train), base.samples(test)) for train, test in self._parts]

    def __len__(self) -> int:
        return self.count

    def of(self, index: int) -> BoardData:
        """The data of a board, the same on each call."""
        one = self._samples[index % len(self._samples)]
        if self.count <= len(self._samples):
            return one
        chosen = np.zeros(len(one.train), bool)
        rng = np.random.default_rng((index, 1))
        chosen[rng.choice(len(chosen), min(FEW, len(chosen)), replace=False)] = True
        return BoardData(one.train.part(chosen), one.test)


@functools.lru_cache(maxsize=2)
def boards_of(spec: str | tuple[int, ...], elm: bytes, name: str, count: int) -> Boards:
    """`Boards`, cached in each process."""
    return Boards(spec, Base(name, elm, unpack_model(elm, name)), count)


def sum_of(
    plan: Plan, elm: bytes, adapter: bytes, rate: int, seed: int, boards: Boards, asked: Iterable[int]
) -> NDArray[np.int64]:
    """The sum [n] of the updates of the boards that are asked."""
    total = np.zeros(len(fleet_vector(adapter)), np.int64)
    for index in asked:
        total += update_of(plan, elm, adapter, rate, seed, index, boards.of(index).train)
    return total


def update_of(
    plan: Plan, elm: bytes, adapter: bytes, rate: int, seed: int, index: int, samples: Samples
) -> NDArray[np.int32]:
    """A board's update [n]: the change by its training run, clipped to the plan's norm, with the board's noise."""
    own = board_seed(seed, index)
    return private_update(
        fleet_vector(adapter), fleet_training(elm, adapter, samples, own, plan.epochs, rate), plan, own
    )


def private_update(before: NDArray[np.int16], after: NDArray[np.int16], plan: Plan, seed: int) -> NDArray[np.int32]:
    """Clips an update exactly, then adds discrete noise, both by the boards' own C.

    A simulation's noise comes from the round's seed, so that it is reproducible; a real board's from its random
    generator.
    """
    update = clip_update(before, after, plan.clip)
    if not plan.sigma:
        return update
    key = hashlib.sha256(b"edgelora simulated noise" + seed.to_bytes(4, "little")).digest()
    return update + gaussian_noise(key, plan.sigma, len(update))


def accuracies(plan: Plan, elm: bytes, adapter: bytes | None, boards: Boards, indices: list[int]) -> list[float]:
    """Accuracy on each board's test samples with an adapter; None: with the base alone."""
    learner = learner_of(elm, plan.rank, plan.mode)
    learner.use(adapter)
    tests = [boards.of(index).test for index in indices]
    return [float(np.mean(learner.predict(test.x) == test.y)) for test in tests]
