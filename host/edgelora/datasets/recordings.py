"""A sensor's samples in files: .wav and .csv."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..formats import Signal

NEAR = 0.05  # how far a recording's rate may be from a signal's, as on boards


@dataclass(frozen=True)
class Recording:
    """Samples as a sensor counts them, int16 [n, channels]; rate: of a .wav, in Hz."""

    counts: NDArray[np.int16]
    rate: float | None = None


def load_recording(path: Path, signal: Signal, units: bool = False) -> Recording:
    """Reads a .wav of 16 bits, or a .csv with a sample a line, that fits a signal.

    units: the .csv has values in the signal's units instead of counts. Raises InputError for files that can't be used.
    """
    recording = _load_wav(path) if path.suffix.lower() == ".wav" else _load_csv(path, signal, units)
    channels = recording.counts.shape[1]
    if channels != signal.channels:
        raise InputError(f"{path}: has {channels} channels, the base takes {signal.channels}")
    if recording.rate and abs(recording.rate - signal.rate) > NEAR * signal.rate:
        raise InputError(
            f"{path}: has {recording.rate:g} samples a second, the base takes {signal.rate:g}", remedy="resample it"
        )
    return recording


def _load_wav(path: Path) -> Recording:
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise InputError(f"{path}: has samples of {8 * file.getsampwidth()} bits", remedy="make it 16 bits")
            raw = file.readframes(file.getnframes())
            return Recording(np.frombuffer(raw, "<i2").reshape(-1, file.getnchannels()), file.getframerate())
    except (wave.Error, EOFError) as error:
        raise InputError(f"{path}: is no .wav that can be read ({error}): give one of 16 bits PCM") from error


def _load_csv(path: Path, signal: Signal, units: bool) -> Recording:
    lines = path.read_bytes().splitlines()
    if not any(line.strip() for line in lines):
        raise InputError(f"{path}: has no samples")
    try:
        values = np.loadtxt(lines, np.float64, delimiter=",", ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: {error}: give numbers with commas between them, a sample a line") from error
    if values.shape[1] != signal.channels:
        raise InputError(f"{path}: has {values.shape[1]} channels, the base takes {signal.channels}")
    if not np.isfinite(values).all():
        raise InputError(f"{path}: has values that are not finite")
    if units:
        if len(signal.normals) != signal.channels:
            raise InputError(f"{path}: this base says nothing of its samples' units", remedy="give counts")
        return Recording(signal.counts_of_units(values))
    if (values != np.round(values)).any() or values.min() < -32768 or values.max() > 32767:
        raise InputError(
            f"{path}: has values that are no counts of 16 bits",
            remedy=f"say --units if they are in {signal.units or 'units'}",
        )
    return Recording(values.astype(np.int16))
