"""A sensor's samples in .wav, .csv and .npz files. Files are untrusted: values must be finite numbers, in rows of
one length."""

from __future__ import annotations

import csv
import io
import itertools
import re
import warnings
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.files import MAX_RECORDING_BYTES, write_atomic
from edgelora.core.formats.limits import MAX_CHANNELS
from edgelora.core.formats.npz import read_npz, write_npz

MAX_VALUES = MAX_RECORDING_BYTES // 2  # numbers of a recording: two bytes each, as counts or as the shortest text
TIME_NAMES = ("timestamp", "time", "t")  # of a .csv's first column, in milliseconds as in Edge Impulse's files


@dataclass(frozen=True)
class Capture:
    """A file's content: values, float64 [n, channels], and their metadata.

    rate: samples per second, None if unknown. units: of each channel; empty if unknown. counts: the
    values are a sensor's counts of 16 bits. signature: its status, in words; empty if the format has none.
    """

    values: NDArray[np.float64]
    rate: float | None = None
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    counts: bool = False
    signature: str = ""


def checked_values(path: Path, rows: Any) -> NDArray[np.float64]:
    """Values [n, channels] of rows of numbers, or of numbers. InputError for others."""
    remedy = "give rows of finite numbers, the same number in each"
    try:
        values = np.asarray(rows)
    except (ValueError, OverflowError):  # rows of several lengths
        raise InputError(f"{path}: its rows have different lengths", remedy=remedy) from None
    if values.size == 0:
        raise InputError(f"{path}: has no samples: give a recording, or rows of comma-separated numbers")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "iuf" or values.shape[1] > MAX_CHANNELS:
        raise InputError(f"{path}: has values of shape {values.shape}, type {values.dtype}", remedy=remedy)
    if values.size > MAX_VALUES:
        raise InputError(f"{path}: has {values.size} values, the limit is {MAX_VALUES}: split it")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: has values that are not finite", remedy=remedy)
    return values


def load_wav(path: Path) -> Capture:
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise InputError(f"{path}: has {8 * file.getsampwidth()}-bit samples", remedy="convert it to 16 bits")
            raw = file.readframes(file.getnframes())
            channels, rate = file.getnchannels(), file.getframerate()
    except (wave.Error, EOFError, RuntimeError) as error:  # the last where a chunk ends outside of its own
        raise InputError(f"{path}: can't be read as .wav ({error}): give 16-bit PCM") from error
    whole = len(raw) // (2 * channels)  # a truncated file may end within a sample
    values = np.frombuffer(raw[: 2 * channels * whole], "<i2").reshape(whole, channels)
    return Capture(checked_values(path, values), checked_rate(path, rate), counts=True)


def load_csv(path: Path) -> Capture:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        lines = (line for line in file if line.strip())
        first = next(lines, "")
        names = _head(first)
        rows = lines if names else itertools.chain([first], lines)
        try:
            with warnings.catch_warnings(action="ignore"):  # of NumPy, where there is nothing after the head
                values = np.loadtxt(rows, np.float64, delimiter=",", ndmin=2)
        except ValueError as error:
            raise InputError(f"{path}: {error}: give comma-separated numbers, one sample per line") from error
    values = checked_values(path, values)
    if names and len(names) != values.shape[1]:
        raise InputError(f"{path}: has {values.shape[1]} columns, its header names {len(names)}: correct the header")
    if not names or names[0].lower() not in TIME_NAMES:
        return Capture(values, names=tuple(names))
    steps = np.diff(values[:, 0])
    if not len(steps) or not (steps > 0).all() or values.shape[1] < 2:
        raise InputError(
            f"{path}: its time column {names[0]!r} does not increase, or is the only one: correct or remove it"
        )
    with np.errstate(over="ignore"):
        rate = float(1000 / np.median(steps))
    return Capture(values[:, 1:], checked_rate(path, rate), tuple(names[1:]))


def _head(line: str) -> list[str]:
    """Names of columns, if the line holds words rather than numbers."""
    try:
        fields = next(csv.reader([line]), [])
    except csv.Error:  # a field of more characters than a word has
        return []
    named = [text.strip() for text in fields]
    return named if named and all(re.match(r"[A-Za-z_]\w*$", name) for name in named) and len(named) > 1 else []


def load_npz(path: Path) -> Capture:
    remedy = "write it with numpy.savez(path, samples=..., rate=...)"
    arrays = read_npz(path, remedy, MAX_RECORDING_BYTES)
    if "samples" not in arrays:
        raise InputError(f"{path}: array 'samples' is missing: it is not a recording", remedy=remedy)
    rate = arrays.get("rate")
    if rate is not None and (rate.size != 1 or rate.dtype.kind not in "iuf"):
        raise InputError(f"{path}: rate is not a number", remedy=remedy)
    values = checked_values(path, arrays["samples"])
    names, units = (_texts(path, arrays.get(name, ()), values.shape[1], name) for name in ("names", "units"))
    counts = arrays["samples"].dtype == np.int16
    return Capture(values, checked_rate(path, rate.item()) if rate is not None else None, names, units, counts)


def _texts(path: Path, given: Any, channels: int, what: str) -> tuple[str, ...]:
    if np.size(given) not in (0, channels):
        raise InputError(f"{path}: has {np.size(given)} {what} for {channels} channels: correct them")
    return tuple(checked_text(text) for text in np.ravel(given))


def checked_text(given: Any) -> str:
    """A name or unit as text of at most 100 characters, valid in any file.

    Half a character, a lone surrogate, which JSON can say, becomes a question mark.
    """
    return str(given)[:100].encode(errors="replace").decode()


def checked_rate(path: Path, rate: Any) -> float:
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.001 <= rate <= 1e7:
        raise InputError(f"{path}: {str(rate)[:40]} is not a rate: give samples per second, 0.001 to 10000000")
    return float(rate)


def save_wav(path: Path, capture: Capture) -> None:
    whole = capture.values.astype(np.int16)
    if not capture.rate or not (whole == capture.values).all():
        raise InputError(f"{path}: a .wav holds 16-bit counts at a rate: give --rate, or write another format")
    if round(capture.rate) < 1:
        raise InputError(f"{path}: a .wav needs a rate of at least 1 Hz, not {capture.rate:g}: write another format")
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((whole.shape[1], 2, round(capture.rate), len(whole), "NONE", ""))
        file.writeframes(whole.astype("<i2").tobytes())
    write_atomic(path, made.getvalue())


def save_csv(path: Path, capture: Capture) -> None:
    """With names and a rate a head and a first column of milliseconds, as Edge Impulse has it; else values alone."""
    rows, made = capture.values, io.StringIO()
    if capture.names and capture.rate:
        made.write(",".join([TIME_NAMES[0], *(re.sub(r"\W", "_", name) for name in capture.names)]) + "\n")
        rows = np.column_stack([np.arange(len(rows)) * (1000 / capture.rate), rows])
    np.savetxt(made, rows, "%.9g", ",")
    write_atomic(path, made.getvalue().encode())


def save_npz(path: Path, capture: Capture) -> None:
    arrays: dict[str, NDArray[Any]] = {"samples": capture.values.astype(np.int16) if capture.counts else capture.values}
    if capture.rate:
        arrays["rate"] = np.array(capture.rate)
    for name in ("names", "units"):
        if getattr(capture, name):
            arrays[name] = np.array(getattr(capture, name), np.str_)
    write_npz(path, arrays)
