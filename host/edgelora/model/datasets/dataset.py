"""Labelled data sets for pretraining, calibration and personalization, their `.npz` files, and the demo's data.

The demo is the smartwatch set shipped with seglearn (D. Burns et al., "Shoulder physiotherapy exercise recognition:
machine learning the inertial signals from a smartwatch", 2018, arXiv:1802.01489): seven exercises, both arms, a
six-axis wrist sensor at 50 Hz.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.limits import MAX_CLASSES
from edgelora.core.formats.npz import read_npz, write_npz
from edgelora.core.formats.signal import Signal
from edgelora.core.twin import device

_training = device.module("training")
HELD_OUT: int = _training.HELD_OUT  # one sample in this many of each class is held out for testing
LEAST_TESTED = 4  # samples
SPLIT_SEED = 0


@dataclass
class Dataset:
    """Samples x, float32 [N, height, width, channels], and their labels y, int64 [N], which index `labels`.

    signal: of the samples, if known; a base quantized on them gets it.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    labels: list[str] = field(default_factory=list)
    signal: Signal | None = None

    @staticmethod
    def of(x: NDArray[Any], y: NDArray[Any], labels: Sequence[str] = (), name: str = "data") -> Dataset:
        """A data set of x, float [N, height, width, channels], and y, int [N]. InputError for invalid arrays."""
        if problem := _problem(x, y, len(labels)):
            raise InputError(f"{name}: {problem}")
        return Dataset(x.astype(np.float32), y.astype(np.int64), list(labels))

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"<Dataset of {len(self)} samples of {self.x.shape[1:]}, {self.classes} classes>"

    def only(self, labels: Sequence[str]) -> Dataset:
        """The samples of the given classes, renumbered in their order."""
        number = {self.labels.index(label): i for i, label in enumerate(labels)}
        chosen = np.isin(self.y, list(number))
        y = np.array([number[int(label)] for label in self.y[chosen]], np.int64)
        return Dataset(self.x[chosen], y, list(labels), self.signal)

    @property
    def classes(self) -> int:
        """The number of classes of a network for this set."""
        return len(self.labels) or int(self.y.max()) + 1


def by_name(data: Dataset, names: Sequence[str], whose: str) -> Dataset:
    """`data` with its classes renumbered to a network's class `names`; `whose` is the network's name.

    Without names on either side, or if `names` are only numbers or not unique, numbers are kept.
    InputError for samples of a class that is not among the names.
    """
    if not data.labels or len(set(names)) < max(len(names), 1) or list(names) == [str(i) for i in range(len(names))]:
        return data
    unknown = [data.labels[label] for label in np.unique(data.y) if data.labels[label] not in names]
    if unknown:
        raise InputError(
            f"{whose} has no class {_some(unknown)}; its classes are {_some(names)}",
            remedy="name the data's labels as the network does, leave these samples out, or write the data without "
            "class names, to match by number",
        )
    number = {name: i for i, name in enumerate(names)}
    numbers = np.array([number.get(name, 0) for name in data.labels], np.int64)  # 0: a class without samples
    return Dataset(data.x, numbers[data.y], list(names), data.signal)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:12])) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def channels_last(x: NDArray[Any]) -> NDArray[Any]:
    """Samples in this project's layout, [N, height, width, channels], from PyTorch's [N, C, H, W], [N, C, W] or [N, C].

    Raises ValueError for other numbers of axes.
    """
    if not 2 <= x.ndim <= 4:
        raise InputError(f"samples are {x.shape}; give [N, C, H, W], [N, C, W] or [N, features]")
    spread = x.reshape(*x.shape[:2], *(1, 1, *x.shape[2:])[-2:])
    return np.ascontiguousarray(np.moveaxis(spread, 1, -1))


# ---- samples to test on ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """Training and test data. tested_on: a description of the test samples that follows "tested on"; seen: how
    many of them are also training samples."""

    train: Dataset
    test: Dataset
    tested_on: str
    seen: int = 0


def parts(train: Dataset, test: Dataset, tested_on: str) -> Parts:
    """Training and test data, with a remark on samples in both; test's classes are renumbered to train's."""
    if train.labels and set(test.labels) <= set(train.labels):
        test = by_name(test, train.labels, tested_on)
    trained = {row.tobytes() for row in train.x}
    seen = sum(row.tobytes() in trained for row in test.x)
    if seen == len(test):
        tested_on += ": all of them were also trained on, so this says nothing about new samples"
    elif seen:
        tested_on += f": {seen} of the {len(test)} were also trained on"
    return Parts(train, test, tested_on, seen)


def split(whole: Dataset, name: str, otherwise: str = "") -> Parts:
    """One sample in `HELD_OUT` of each class to test on, the others to train on; `name` is where they are from.

    Deterministic. InputError if there are too few samples. otherwise: the alternative to name in the message.
    """
    held = _drawn(whole.y)
    count = int(held.sum())
    if count < LEAST_TESTED:
        raise InputError(
            f"{name}: {len(whole)} samples are too few to hold some out to test on",
            remedy=f"give {otherwise}{HELD_OUT} or more of each class, {HELD_OUT * LEAST_TESTED} in all",
        )
    tested_on = f"{count} samples of {name} held out from training, 1 in {HELD_OUT} of each class (seed {SPLIT_SEED})"
    rare = sorted(set(whole.y.tolist()) - set(whole.y[held].tolist()))
    if rare:
        names = ", ".join(whole.labels[label] if whole.labels else str(label) for label in rare[:4])
        tested_on += f", none of {names}{', ...' if len(rare) > 4 else ''}, of which there are fewer than {HELD_OUT}"
    kept, tested = (Dataset(whole.x[mask], whole.y[mask], whole.labels, whole.signal) for mask in (~held, held))
    return parts(kept, tested, tested_on)


def held_out(y: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which samples boards hold out to validate by, of labels y [N]: the last ones, one in `HELD_OUT` of each class."""
    held = np.zeros(len(y), bool)
    held[np.array(_training.apart(y.tolist())[1], np.int64)] = True
    return held


def _drawn(y: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which samples to test on, as many as `held_out` has, of each class neighbours at a position that is drawn."""
    rng, last = np.random.default_rng(SPLIT_SEED), held_out(y)
    held = np.zeros(len(y), bool)
    for label in np.unique(y):
        mine, count = np.flatnonzero(y == label), int(last[y == label].sum())
        start = int(rng.integers(len(mine) - count + 1))
        held[mine[start : start + count]] = True
    return held


# ---- files -----------------------------------------------------------------------------------------------------------


def save_dataset(data: Dataset, path: str | Path) -> None:
    """Writes `data` as an `.npz` file of the arrays x, y, labels and, if known, signal."""
    arrays: dict[str, NDArray[Any]] = {"x": data.x, "y": data.y, "labels": np.array(data.labels, np.str_)}
    if data.signal:
        arrays["signal"] = np.array(json.dumps(data.signal.as_json()))
    write_npz(path, arrays)


def load_dataset(path: str | Path) -> Dataset:
    """Reads an `.npz` file with x, float [N, height, width, channels], y, int [N], and optionally the names `labels`.

    An x of three axes, such as time series and flat images, has height 1. The file may also have, as `signal`, the
    samples' signal: the text of a JSON object (`Signal.of_json`).

    Raises ValueError, naming the file and the remedy, for missing arrays, wrong shapes or types, values that are not
    finite and labels out of range. Nothing in the file is unpickled.
    """
    arrays = _load_arrays(path, ("x", "y"))
    names = arrays.get("labels", np.array([], np.str_))
    if problem := _problem_of_names(names):
        raise InputError(f"{path}: {problem}")
    x = arrays["x"][:, None] if arrays["x"].ndim == 3 else arrays["x"]
    data = Dataset.of(x, arrays["y"], [str(name) for name in np.atleast_1d(names)], str(path))
    data.signal = _signal(arrays, path)
    return data


def load_inputs(path: str | Path) -> NDArray[Any]:
    """Only the array x of an `.npz` file, of any shape and type. ValueError if it is missing."""
    return _load_arrays(path, ("x",))["x"]


def load_signal(path: str | Path) -> Signal | None:
    """The signal of an `.npz` file's samples, if it has one."""
    return _signal(_load_arrays(path, ("x",)), path)


def _signal(arrays: dict[str, NDArray[Any]], path: str | Path) -> Signal | None:
    if "signal" not in arrays:
        return None
    try:
        return Signal.of_json(json.loads(str(arrays["signal"])))
    except (json.JSONDecodeError, FormatError) as error:
        raise InputError(f"{path}: signal is not the text of a valid JSON object: {error}") from error


def load_classes(path: str | Path) -> NDArray[np.int64] | None:
    """The array y of an `.npz` file, int [N], if it has one."""
    arrays = _load_arrays(path, ("x",))
    problem = _problem_of_classes(arrays["y"], len(arrays["x"]), 0) if "y" in arrays else ""
    if problem:
        raise InputError(f"{path}: {problem}")
    return arrays["y"].astype(np.int64) if "y" in arrays else None


def _load_arrays(path: str | Path, needed: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    remedy = f"write it with numpy.savez(path, {', '.join(f'{name}=...' for name in needed)})"
    arrays = read_npz(path, remedy)
    for name in needed:
        if name not in arrays:
            has = ", ".join(sorted(arrays)[:8]) or "none"
            raise InputError(f"{path}: array {name!r} is missing, it has {has}; {remedy}")
        if not arrays[name].ndim:
            raise InputError(f"{path}: array {name!r} is a single value, one for each sample is needed; {remedy}")
    return arrays


def _problem(x: NDArray[Any], y: NDArray[Any], labels: int) -> str:
    """The fault of a data set's arrays, for `labels` labels, or ""."""
    if x.ndim != 4:
        return f"x has shape {x.shape}; it must be [samples, height, width, channels], with height 1 for time series"
    if not np.issubdtype(x.dtype, np.floating):
        return f"x has type {x.dtype}; it must be a float type, in the units that the network is trained on"
    if x.size == 0:
        return f"x is empty, with shape {x.shape}"
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(x.astype(np.float32, copy=False)).all(axis=(1, 2, 3))
    if not finite.all():
        first, count = finite.argmin(), len(x) - finite.sum()
        return f"x has values that are not finite in float32, first in sample {first}; remove {count} samples"
    return _problem_of_classes(y, len(x), labels)


def _problem_of_classes(y: NDArray[Any], samples: int, labels: int) -> str:
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        return f"y has shape {y.shape} and type {y.dtype}; it must be [samples] of an integer type"
    if len(y) != samples:
        return f"x has {samples} samples and y has {len(y)}"
    if not samples:
        return "x and y are empty"
    if y.min() < 0 or y.max() >= (labels or MAX_CLASSES):
        there = f"{labels} labels" if labels else f"no labels and at most {MAX_CLASSES} classes"
        return f"y ranges from {y.min()} to {y.max()}; there are {there}, counted from 0"
    return ""


def _problem_of_names(names: NDArray[Any]) -> str:
    if names.ndim > 1 or names.dtype.kind not in "Uiu":
        return f"labels have shape {names.shape} and type {names.dtype}; they must be a list of text"
    return ""
