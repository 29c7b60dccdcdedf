"""A sensor's samples in files of several formats, and their conversion to a base's signal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.core.formats.files import MAX_ARRAYS_BYTES, MAX_RECORDING_BYTES, write_atomic
from edgelora.core.formats.signal import Signal
from edgelora.core.twin import device

from .acquisition import load_acquisition, packed_acquisition
from .capture import Capture, load_csv, load_npz, load_wav, save_csv, save_npz, save_wav
from .dataset import Dataset

_pipeline = device.module("pipeline")
ENDS = 32767  # of counts, where they saturate
MUCH_BEYOND = 0.01  # of all values: a hard shake saturates briefly
SILENT = 7  # counts
FAR = 12.0  # ratio to the base's training data, up or down: gestures of other people are 0.6 to 2.5 times
MOST_TOLD = 6
PLAIN = {".csv": (load_csv, save_csv), ".wav": (load_wav, save_wav), ".npz": (load_npz, save_npz)}
SIGNED = (".json", ".cbor")  # formats with a signature
SAME = {  # units, and their conversion factors
    "m/s2": ("g", 1 / 9.80665),
    "m/s^2": ("g", 1 / 9.80665),
    "mg": ("g", 0.001),
    "g": ("m/s2", 9.80665),
    "dps": ("rad/s", math.pi / 180),
    "deg/s": ("rad/s", math.pi / 180),
    "rad/s": ("deg/s", 180 / math.pi),
}


def load_capture(path: Path, key: str | None = None) -> Capture:
    """Reads a recording; the file's suffix gives its format.

    key: of Edge Impulse's signature; a wrong signature raises InputError. Without a key it is not
    checked, see `signature` of the capture. Raises InputError for invalid files.
    """
    kind = _kind(path, key)
    if (size := path.stat().st_size) > MAX_RECORDING_BYTES:
        raise InputError(f"{path}: has {size} bytes, the limit is {MAX_RECORDING_BYTES}: split it")
    return load_acquisition(path, path.read_bytes(), key) if kind in SIGNED else PLAIN[kind][0](path)


def save_capture(capture: Capture, path: Path, key: str | None = None) -> None:
    """Writes a recording in the format of the file's suffix; key: signs it. InputError if the format can't store it."""
    kind = _kind(path, key)
    if kind in SIGNED:
        write_atomic(path, packed_acquisition(path, capture, key))
    else:
        PLAIN[kind][1](path, capture)


def with_rate(capture: Capture, rate: float) -> Capture:
    """The capture with a rate, in Hz, that its file lacks."""
    if not 0.001 <= rate <= 1e7:
        raise InputError(f"a rate of {rate:g}: give samples per second, 0.001 to 10000000")
    return replace(capture, rate=rate)


def _kind(path: Path, key: str | None) -> str:
    kind = path.suffix.lower()
    if kind not in PLAIN and kind not in SIGNED:
        raise InputError(
            f"{path}: {kind or 'no ending'} is not a recording format", remedy=f"give {', '.join((*PLAIN, *SIGNED))}"
        )
    if key is not None and kind not in SIGNED:
        raise InputError(f"{path}: a {kind} has no signature", remedy="omit the key, or give a .json or .cbor")
    return kind


# ---- for a base ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recording:
    """Samples in a sensor's counts, int16 [n, channels]; rate: in Hz, if known."""

    counts: NDArray[np.int16]
    rate: float | None = None
    signature: str = field(default="", compare=False)


class NotCounts(EdgeloraError, ValueError):
    """A recording without units has values that are not 16-bit counts."""


def load_recording(path: Path, signal: Signal, units: bool = False, key: str | None = None) -> Recording:
    """Reads samples that fit a signal.

    units: a .csv without a head has values in the signal's units instead of counts. key: see `load_capture`. Raises
    InputError for files that can't be used.
    """
    capture = load_capture(path, key)
    channels = capture.values.shape[1]
    if channels != signal.channels:
        raise InputError(f"{path}: has {channels} channels, the base takes {signal.channels}")
    if capture.rate and _pipeline.far(capture.rate, signal.rate):
        raise InputError(
            f"{path}: has {capture.rate:g} samples per second, the base takes {signal.rate:g}", remedy="resample it"
        )
    return Recording(_counts(path, capture, signal, units), capture.rate, capture.signature)


def _counts(path: Path, capture: Capture, signal: Signal, units: bool) -> NDArray[np.int16]:
    values = capture.values
    if (units or capture.units) and not capture.counts:
        if signal.values != signal.channels:
            raise InputError(f"{path}: this base does not record its samples' units", remedy="give counts")
        return signal.counts_of_units(converted(path, capture, re.split(r"[,;\s]+", signal.units)))
    if (values != np.round(values)).any() or values.min() < -32768 or values.max() > 32767:
        raise NotCounts(
            f"{path}: has values that are not 16-bit counts",
            remedy=f"give --units if they are in {signal.units or 'units'}",
        )
    return values.astype(np.int16)


def converted(path: Path, capture: Capture, wanted: Sequence[str]) -> NDArray[np.float64]:
    """A capture's values [n, channels], each channel in one of these units.

    InputError for a unit that can't be converted; a file without units is assumed to have them.
    """
    factors = []
    for i, unit in enumerate(capture.units):
        name = capture.names[i] if capture.names else str(i)
        other, factor = SAME.get(unit, ("", 1.0))
        if unit in wanted:
            factor = 1.0
        elif other not in wanted:
            raise InputError(f"{path}: channel {name} is in {unit!r}, not in {' or '.join(wanted)}: convert it")
        factors.append(factor)
    values: NDArray[np.float64] = capture.values * np.array(factors or 1.0)
    return values


def doubts(counts: NDArray[np.int16], signal: Signal) -> str:
    """Why counts [..., channels] are unlikely for a signal, in words; "" if they are plausible.

    Examples: units mistaken for counts, counts mistaken for units, other units, a missing sensor.
    """
    counts = counts.reshape(-1, counts.shape[-1])
    if not counts.any():
        return "all values are 0: is the sensor connected?"
    if (counts == counts[0]).all() and len(counts) > 1:
        return "no value ever changes: is the sensor connected?"
    beyond = float((np.abs(counts.astype(np.int32)) >= ENDS).mean())
    if beyond > MUCH_BEYOND:
        return f"{beyond:.0%} of the values are at the limits of 16 bits: {_expected(signal)}"
    if signal.front != "none" or signal.values != signal.channels:
        quiet = int(np.abs(counts.astype(np.int32)).max())
        return f"no value is beyond {quiet}: is the microphone connected?" if quiet <= SILENT else ""
    mean, std = (np.array([getattr(normal, name) for normal in signal.normals]) for name in ("mean", "std"))
    usual = np.hypot(mean, std)
    rms = np.sqrt(((counts * np.array(signal.scales)) ** 2).mean(axis=0)) / usual
    far = int(rms.argmax())
    if rms[far] > FAR:
        return f"channel {far + 1} is {rms[far]:.0f} times as large as in the base's training data: {_expected(signal)}"
    if rms.max() < 1 / FAR:
        return f"the values are less than {1 / FAR:.0%} of those in the base's training data: {_expected(signal)}"
    return ""


def _expected(signal: Signal) -> str:
    scales = ", ".join(dict.fromkeys(f"{scale:.4g}" for scale in signal.scales[:MOST_TOLD]))
    return f"are they in {signal.units or 'its units'}, or counts of {scales}?"


def check_windows(count: int, window: int, values: int) -> None:
    """InputError unless there are windows of so many samples, of so many values each, that memory holds."""
    if not count:
        raise InputError(f"no recording is as long as a window, {window} samples: give longer ones")
    size = 4 * count * values
    if size > MAX_ARRAYS_BYTES:
        raise InputError(
            f"{count} windows of {window} samples need {size} bytes, the limit is {MAX_ARRAYS_BYTES}",
            remedy="give a larger --hop, or fewer recordings at once",
        )


def cut_windows(captures: Sequence[tuple[str, Capture]], window: int, hop: int | None = None) -> Dataset:
    """Labelled captures as windows of their own values, [N, 1, window, channels]; classes in order of names.

    For training a network, in any framework. hop: samples from a window to the next (half a window).
    InputError for captures with other channels, units or rates than the first, and if all are too short
    or make more windows than memory is to hold.
    """
    first_name, first = captures[0]
    for name, capture in captures[1:]:
        for what, mine, its in (
            ("channels", first.values.shape[1], capture.values.shape[1]),
            ("units", first.units, capture.units),
        ):
            if mine != its:
                raise InputError(f"{name} has {what} {its}, {first_name} {mine}: convert or leave out one of them")
        if first.rate and capture.rate and _pipeline.far(capture.rate, first.rate):
            raise InputError(
                f"{name} has {capture.rate:g} samples per second, {first_name} {first.rate:g}: resample one"
            )
    hop, channels = hop or max(1, window // 2), first.values.shape[1]
    starts = [range(0, len(capture.values) - window + 1, hop) for _, capture in captures]
    check_windows(sum(map(len, starts)), window, window * channels)
    labels = sorted({label for label, _ in captures})
    cuts = list(zip(captures, starts, strict=True))
    x = [capture.values[at : at + window] for (_, capture), each in cuts for at in each]
    y = [labels.index(label) for (label, _), each in cuts for _ in each]
    return Dataset(np.array(x, np.float32)[:, None], np.array(y, np.int64), labels)


def inputs_of(counts: NDArray[np.int16], signal: Signal) -> NDArray[np.float32]:
    """A sensor's counts [..., channels] as the real inputs of a network without a front end."""
    scale, mean, std = (np.array([getattr(n, name) for n in signal.normals]) for name in ("scale", "mean", "std"))
    real: NDArray[np.float32] = ((counts * scale - mean) / std).astype(np.float32)
    return real
