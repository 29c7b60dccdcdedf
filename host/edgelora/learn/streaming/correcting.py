"""Corrections teach at once, as on a board: the device's `Teacher` on this computer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.board.link.client import Link
from edgelora.core.formats.signal import Signal
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base, adapter_ranks
from edgelora.learn.training.data.samples import Samples, Source
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.on_twin import board_model
from edgelora.model.datasets.dataset import Dataset

from .sample_windows import Takes, Window


@dataclass(frozen=True)
class Taught:
    """What samples and denied windows make: an adapter with own rows of the base's classes, or None, the base alone.

    hinted: how many denied windows it is made of, too.
    """

    adapter: bytes | None
    hinted: int


def check_teachable(base: Base) -> None:
    """InputError for a base whose rows can't be made anew."""
    model = base.model
    if model.class_stats is None or model.has_history or model.learns_values or not model.labels:
        raise InputError(
            f"{base.name} can't be corrected: that takes a classifier without history, with class names and statistics",
            remedy="quantize it from its float network, with its training data",
        )


def taught(base: Base, samples: Samples, denied: Samples | None = None) -> Taught:
    """Teaches a base. denied: windows, and the classes that they are not of."""
    check_teachable(base)
    model = board_model(base.elm, Recipe().resolved(base.elm, max(1, len(samples))).session)
    nothing = Source(samples.part(samples.y < 0))
    with device.refusals():
        teacher: Any = device.module("teaching").Teacher(model, Source(samples), Source(denied) if denied else nothing)
    return Taught(bytes(model.used.buffer) if teacher.doubt else None, int(teacher.hinted))


def use_on_board(link: Link, name: str, made: Taught) -> None:
    """Puts the adapter into a board's store by this name and activates it; the base alone takes that name's place."""
    if made.adapter:
        link.store_put(name, made.adapter)
        link.store_activate(name)
    elif link.store_list().active == name:
        link.store_activate(None)


@dataclass(frozen=True)
class Correction:
    """What a person says of the window of a recording that ended at `seconds`.

    label: its class; None for "no": it is not what was said.
    """

    seconds: float
    label: str | None


@dataclass(frozen=True)
class Told:
    """Samples with labels, and denied windows with the classes that they are not of; None for none."""

    samples: Dataset | None
    denied: Dataset | None

    def taught(self, base: Base) -> Taught:
        """What they make of a base."""
        if self.samples is None:
            return Taught(None, 0)
        return taught(base, base.samples(self.samples), base.samples(self.denied) if self.denied else None)


def told(
    base: Base,
    adapter: bytes | None,
    counts: NDArray[np.int16],
    corrections: Sequence[Correction],
    before: Told = Told(None, None),
) -> Told:
    """Adds windows of a recording, int16 [n, channels], to what was told before.

    adapter: which one said what "no" denies; None: the base alone. InputError for a time without a whole window, and
    for a class that the base does not have.
    """
    check_teachable(base)
    window = Window.of(base)
    takes, denied = Takes(window, before.samples), Takes(window, before.denied)
    at = 0
    for one in sorted(corrections, key=lambda correction: correction.seconds):
        if one.label is not None and one.label not in base.model.labels:
            raise InputError(f"{one.label!r} is no class of {base.name}: it has {', '.join(base.model.labels)}")
        end = _window_end(one.seconds, len(counts), window.signal)
        for each in (takes, denied):
            each.hear(counts[at:end], 0)
        at = end
        if one.label is None:
            denied.take(base.model.labels[_said(base, adapter, counts[:end])])
        else:
            takes.take(one.label)
    return Told(*(each.data if each.counts else None for each in (takes, denied)))


def _window_end(seconds: float, samples: int, signal: Signal) -> int:
    """Where the window ends that a board decided on at this time."""
    last = (samples - signal.window) // signal.hop
    number = round((seconds * signal.rate - signal.window) / signal.hop)
    if not 0 <= number <= last:
        first, end = (signal.window / signal.rate, (signal.window + last * signal.hop) / signal.rate)
        have = f"its windows end at {first:.2f} to {end:.2f} s" if last >= 0 else "it is shorter than a window"
        raise InputError(f"{seconds:g} s: no window of the recording ends there: {have}")
    return signal.window + number * signal.hop


def _said(base: Base, adapter: bytes | None, counts: NDArray[np.int16]) -> int:
    """The class of the base that the last window is taken for."""
    takes = Takes(Window.of(base))
    takes.hear(counts, 0)
    takes.take("")
    session = Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
    session.use(adapter)
    label: int = session.infer(base.model.input.quantize(takes.data.x)[0])
    return label
