"""The pretrained base for machines, and simulated machines as windows of features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.monitor import STEPS
from edgelora.core.formats.network import Op, QuantModel, Tensor
from edgelora.core.formats.signal import Normal as Normalization
from edgelora.core.front_ends import SpectralFrontEnd
from edgelora.learn.training.data.base import CACHE, Base
from edgelora.learn.training.recipe import Recipe
from edgelora.model.datasets import machines
from edgelora.model.datasets.machines import FAULTS, MACHINE_FRAMES, SEVERITIES, machine_signal
from edgelora.model.floatnet.autoencoder import pretrain_autoencoder
from edgelora.model.quantization.autoencoder import quantize_autoencoder

from .machine_monitor import Normal, Phases, Watch

MACHINE_RECIPE = Recipe(rank=16, epochs=40)
PRETRAINED_MACHINES = range(40)  # for pretraining the base
CHOOSING_MACHINES = range(100, 110)  # for choosing settings
REPORTED_MACHINES = range(200, 210)  # for reported figures
NORMAL_SEED, TEST_SEED = 0, 1  # of streams: to calibrate on, to test on
_WINDOWS = 200  # of each machine for pretraining
_SCALED_BY = 48  # of these, for mean and spread
_HIDDEN, _EPOCHS = (24, 6, 24), 30
_VERSION = 2  # of the base: part of its file name in the cache


def features_of(counts: NDArray[np.int16]) -> NDArray[np.int16]:
    """The front end's values [windows, 68] of a stream of counts."""
    found: NDArray[np.int16] = SpectralFrontEnd(frames=MACHINE_FRAMES).feed(counts)
    return found


def normal_windows(number: int, count: int, seed: int = NORMAL_SEED) -> NDArray[np.int16]:
    """Features of a machine's normal operation, int16 [count, 68]."""
    return features_of(machines.vibration(machines.machine(number), count, seed))


def fault_windows(number: int, count: int) -> dict[tuple[str, int], NDArray[np.int16]]:
    """Features [count, 68] of each fault at each severity."""
    of = machines.machine(number)
    return {
        (fault, severity): features_of(machines.vibration(of, count, TEST_SEED, fault, severity))
        for fault in FAULTS
        for severity in SEVERITIES
    }


def scaled_inputs(values: NDArray[np.int16], by: int) -> NDArray[np.float32]:
    """Values [N, n] in spreads of the first `by` windows, the input of a monitor's network."""
    elm = pack_model(_giving_nothing(values.shape[1]))
    watch = Watch(Base("values.elm", elm, unpack_model(elm)), None, Phases())
    rows = watch.learn(Normal(values[:by], values, values[:0], values[:0])).x
    return rows.reshape(values.shape).astype(np.float32) / np.float32(STEPS)


def _giving_nothing(values: int) -> QuantModel:
    """A placeholder for a monitor's base, whose outputs are 0."""
    grid = Tensor((1, 1, values), 1 / STEPS, 0)
    op = Op(
        "dense",
        0,
        1,
        weights=np.zeros((values, 1, 1, values), np.int8),
        bias=np.zeros(values, np.int32),
        multiplier=np.full(values, 1 << 30, np.int32),
        shift=np.zeros(values, np.int8),
    )
    return QuantModel([grid, grid], [op], loss="mean_squared_error")


def pretrained_autoencoder(
    rows: NDArray[np.float32], hidden: tuple[int, ...], epochs: int, seed: int = 0, progress: Progress = no_progress
) -> QuantModel:
    """An INT8 autoencoder of rows [N, n] in spreads."""
    net = pretrain_autoencoder(rows, hidden, epochs, seed, progress)
    return quantize_autoencoder(net, rows.reshape(len(rows), 1, 1, -1))


def machine_base(seed: int = 0, progress: Progress = no_progress, cache: Path = CACHE) -> Base:
    """The base that all machines share, pretrained on simulated ones, from the cache if it is there."""
    path = cache / f"machine-{seed}-{_VERSION}.elm"
    if not path.exists():
        rows = []
        for done, number in enumerate(PRETRAINED_MACHINES, 1):
            rows.append(scaled_inputs(normal_windows(number, _WINDOWS), _SCALED_BY))
            progress(done, len(PRETRAINED_MACHINES), "machines simulated")
        model = pretrained_autoencoder(np.concatenate(rows), _HIDDEN, _EPOCHS, seed, progress)
        model.signal = machine_signal(Normalization(1 / 256))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, pack_model(model, path.name))
    elm = path.read_bytes()
    return Base("machine.elm", elm, unpack_model(elm, path.name))
