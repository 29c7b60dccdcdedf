"""A monitored machine: the body of an adapter's monitor record (SPEC.md, sections 9 and 16)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .envelope import FormatError, require
from .network import QuantModel

STEPS = 32  # int8 steps of input and reconstruction for one spread of a value
MAX_MONITORED = 256  # outputs
MAX_VALUES = 1024  # with separate means and spreads
MAX_WINDOWS = 16383  # of a calibration stage
MAX_VOTES = 16  # windows of a vote
MAX_GAIN, MAX_RESIDUAL_GAIN = 32767, 16384
MAX_RESIDUAL = 16 * 255  # of a mean residual, 1/16 step
_HEAD = struct.Struct("<3H2B2I")  # values, outputs, threshold, least, votes, one_in, windows


@dataclass(frozen=True)
class Monitor:
    """The record of one machine.

    means [values], int16, and gains [values], 2^17 / spread: of values of the front end or the sensor.
    residual_means [outputs], 1/16 step, and residual_gains [outputs], 2^14 / spread in steps: of the network's
    reconstruction minus its input. threshold: the highest normal score, 1/1024; `least` of the last
    `votes` windows above it raise an alarm. It was chosen from `windows` normal windows so that one in `one_in`
    exceeds it.
    """

    means: NDArray[np.int16]
    gains: NDArray[np.uint16]
    residual_means: NDArray[np.int16]
    residual_gains: NDArray[np.uint16]
    threshold: int
    least: int
    votes: int
    one_in: int
    windows: int


def pack_monitor(monitor: Monitor, name: str = "monitor") -> bytes:
    """The body of the record. FormatError if it breaks a limit of SPEC.md."""
    _check(monitor, name)
    sizes = (len(monitor.means), len(monitor.residual_means))
    head = _HEAD.pack(*sizes, monitor.threshold, monitor.least, monitor.votes, monitor.one_in, monitor.windows)
    pairs = ((monitor.means, monitor.gains), (monitor.residual_means, monitor.residual_gains))
    return head + b"".join(np.stack([mean.astype("<u2"), gain.astype("<u2")], 1).tobytes() for mean, gain in pairs)


def unpack_monitor(body: bytes, model: QuantModel | None = None, name: str = "monitor") -> Monitor:
    """The record with this body. FormatError if it is invalid, or of another model."""
    require(len(body) >= _HEAD.size, f"{name}: its record of {len(body)} bytes is truncated: calibrate again")
    values, outputs, *rest = _HEAD.unpack_from(body)
    size = _HEAD.size + 4 * (values + outputs)
    require(len(body) == size, f"{name}: its record has {len(body)} bytes, its counts need {size}: calibrate again")
    table = np.frombuffer(body, "<u2", offset=_HEAD.size).reshape(-1, 2)
    means, gains = table[:, 0].astype(np.int16), table[:, 1].astype(np.uint16)
    monitor = Monitor(means[:values], gains[:values], means[values:], gains[values:], *rest)
    _check(monitor, name)
    if model is not None:
        check_monitored(model, name)
        fits = model.input.size % values == 0 and model.output.size == outputs
        there = f"{model.input.size} inputs and {model.output.size} outputs"
        require(
            fits,
            f"{name}: it is for {values} values and {outputs} outputs, the model has {there}: use the monitor's model",
        )
    return monitor


def check_monitored(model: QuantModel, name: str = "model") -> None:
    """Raises FormatError unless a monitor can use this model: an autoencoder on the monitor's grids."""
    grid = all(t.scale == 1 / STEPS and t.zero_point == 0 for t in (model.input, model.output))
    size = model.input.size
    require(
        model.learns_values and size == model.output.size and size <= MAX_MONITORED and grid,
        f"{name}: a monitor needs an autoencoder of at most {MAX_MONITORED} values, input and output with "
        f"{STEPS} steps for 1.0 and zero point 0: make it with quantization.quantize_autoencoder",
    )


def _check(monitor: Monitor, name: str) -> None:
    values, outputs = len(monitor.means), len(monitor.residual_means)
    within = 1 <= values <= MAX_VALUES and 1 <= outputs <= MAX_MONITORED
    require(within, f"{name}: {values} values and {outputs} outputs, the limits are {MAX_VALUES} and {MAX_MONITORED}")
    for gains, most, what in (
        (monitor.gains, MAX_GAIN, "gain"),
        (monitor.residual_gains, MAX_RESIDUAL_GAIN, "residual gain"),
    ):
        low, high = int(gains.min()), int(gains.max())
        require(1 <= low <= high <= most, f"{name}: a {what} is {low if low < 1 else high}, must be 1 to {most}")
    worst = int(np.abs(monitor.residual_means.astype(np.int32)).max())
    require(worst <= MAX_RESIDUAL, f"{name}: a mean residual of {worst}, the limit is {MAX_RESIDUAL}")
    votes = 1 <= monitor.least <= monitor.votes <= MAX_VOTES
    require(votes, f"{name}: {monitor.least} of {monitor.votes} windows, must be 1 to {MAX_VOTES}")
    counted = monitor.one_in >= 2 and monitor.one_in - 1 <= monitor.windows <= MAX_WINDOWS
    if not counted or not 0 <= monitor.threshold <= 65535:
        raise FormatError(
            f"{name}: a threshold of {monitor.threshold} for one window in {monitor.one_in}, from {monitor.windows} "
            f"windows, is invalid: give one in 2 or more, {monitor.one_in - 1} to {MAX_WINDOWS} windows, "
            "and a threshold up to 65535"
        )
