"""Runs that start from an adapter, as in a fleet's rounds (SPEC.md, section 13), and the vectors that they share."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.twin import device
from edgelora.learn.training.board.board_run import NAME
from edgelora.learn.training.data.samples import Samples, Source

from .on_twin import UNCOMMITTED, board_store


def fleet_vector(adapter: bytes) -> NDArray[np.int16]:
    """The vector [n] that a fleet shares of a `.ela` with training state (SPEC.md, 17): masters; if A trains, scales.

    Both layer by layer, A's if it trains, then B's; one scale per matrix.
    """
    with device.refusals():
        return np.frombuffer(device.module("training").fleet_vector(adapter), np.int16)


def scale_of(shared: int) -> tuple[int, int]:
    """The scale `(vm, vx)` of a shared scale value, to 1/256 octave; (0, 0) for 0."""
    return (0x8000 + ((shared & 255) << 7), (shared >> 8) - 16) if shared else (0, 0)


def restarted(adapter: bytes, draws: int) -> bytes:
    """The `.ela` that a run starts from: same masters and scales, fresh momentum and counts, draws from `draws` on."""
    with device.refusals():
        return bytes(device.module("training").restarted(adapter, draws))


def fleet_training(
    model: bytes, start: bytes, samples: Samples, seed: int, epochs: int, rate: int = 0
) -> NDArray[np.int16]:
    """A board's run of one round, by its own Python. Returns the vector [n] at its end.

    model: `.elm`; start: the global `.ela`, with training state; seed: the board's own for this round; rate 0:
    the mode's.
    """
    with device.refusals():
        opened = fleet_model(model, start, samples.frames)
        settings = epochs, seed, rate, UNCOMMITTED
        run = device.module("training").Run(
            opened, Source(samples), board_store(opened), NAME, *settings, start=start, keep_state=True
        )
        while not run.done:
            run.step()
        return fleet_vector(bytes(run.state))


def fleet_model(model: bytes, start: bytes, frames: int) -> Any:
    """The device's model for boards that train from an adapter, reused within a thread. frames: of a sample."""
    return _opened(model, start, frames, threading.get_ident())


@functools.lru_cache(maxsize=8)
def _opened(model: bytes, start: bytes, frames: int, thread: int) -> Any:
    return device.module("fleet").open_model(start, model, frames=frames)
