"""The signal of a network's input: a sensor's samples, their windows and normalization (SPEC.md, section 8).

Boards compute int8 inputs from int16 counts by the integers of `Normal.fixed`; the twin uses the same code.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .envelope import FormatError, Reader, require, require_zero
from .limits import MAX_CHANNELS, MAX_HOP, MAX_NORMAL_MULTIPLIER, MAX_NORMAL_OFFSET, MAX_NORMAL_SHIFT, MAX_WINDOW
from .network import Tensor

FRONTS = ("none", "audio", "spectral")
SIGNAL_VERSION = 1
MAX_RATE = (2**31 - 1) / 1000
MAX_UNITS = 65535  # bytes
_RECORD = struct.Struct("<2B H I 2I 2H")  # version, front, channels, rate, window, hop, values, size of units
_NORMAL = struct.Struct("<3f i h 2B")  # scale, mean, std, offset, multiplier, shift, 0


@dataclass(frozen=True)
class Normal:
    """Normalization of a value: `count * scale` is in units; the input is (units - mean) / std. All are float32."""

    scale: float
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            for name in ("scale", "mean", "std"):
                object.__setattr__(self, name, float(np.float32(getattr(self, name))))
        finite = all(map(math.isfinite, (self.scale, self.mean, self.std)))
        if not finite or self.scale == 0 or self.std <= 0:
            raise FormatError(
                f"normalization by scale {self.scale:g}, mean {self.mean:g}, std {self.std:g}: give float32 numbers, "
                "a scale that is not 0, a std above 0"
            )

    def fixed(self, tensor: Tensor) -> tuple[int, int, int]:
        """(multiplier, offset, shift): an int8 of `tensor` is clamp((count * multiplier + offset) >> shift).

        FormatError if a count is more steps than the integers can represent.
        """
        step = self.std * float(np.float32(tensor.scale))
        gain, middle = self.scale / step, tensor.zero_point + 0.5 - self.mean / step
        for shift in range(MAX_NORMAL_SHIFT, -1, -1):
            if max(abs(gain), abs(middle)) * 2.0**shift < 2.0**31:
                multiplier, offset = math.floor(gain * 2**shift + 0.5), math.floor(middle * 2**shift + 0.5)
                if abs(multiplier) <= MAX_NORMAL_MULTIPLIER and abs(offset) <= MAX_NORMAL_OFFSET:
                    return multiplier, offset, shift
        raise FormatError(
            f"a count is {gain:g} steps of the input and 0 is step {middle:g}: correct the normalization's scale, mean "
            "or std"
        )


@dataclass(frozen=True)
class Signal:
    """The signal of a network's input.

    rate: samples per second; channels: values of a sample; window, hop: samples of an input, and from one input
    to the next; units: of `count * scale`, as text. normals: of each channel or, with a front end, of each of
    its outputs (one: of all of them).
    """

    rate: float
    channels: int
    window: int
    hop: int
    normals: tuple[Normal, ...]
    front: str = "none"
    units: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "normals", tuple(self.normals))
        object.__setattr__(self, "rate", round(self.rate * 1000) / 1000)

    @property
    def values(self) -> int:
        """How many normalizations there are."""
        return len(self.normals)

    @property
    def scales(self) -> tuple[float, ...]:
        return tuple(normal.scale for normal in self.normals)

    def counts(self, inputs: ArrayLike) -> NDArray[np.int16]:
        """A sensor's counts for given real inputs of the network [..., values]; they saturate."""
        real = np.asarray(inputs, np.float64)
        std, mean = (np.array([getattr(n, name) for n in self.normals]) for name in ("std", "mean"))
        return self.counts_of_units(real * std + mean)

    def counts_of_units(self, units: ArrayLike) -> NDArray[np.int16]:
        """A sensor's counts for values in units [..., values]; they saturate."""
        counts = np.floor(np.asarray(units, np.float64) / np.array(self.scales) + 0.5)
        saturated: NDArray[np.int16] = np.clip(counts, -32768, 32767).astype(np.int16)
        return saturated

    def as_json(self) -> dict[str, Any]:
        """The input of `of_json`."""
        return asdict(self) | {"normals": [asdict(normal) for normal in self.normals]}

    @staticmethod
    def of_json(fields: Any) -> Signal:
        """A signal from its fields' names and values, also of each normal. FormatError for others."""
        try:
            return Signal(**fields | {"normals": tuple(Normal(**normal) for normal in fields["normals"])})
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise FormatError(
                f"a signal is rate, channels, window, hop, normals (of scale, mean, std each), front, units: {error}"
            ) from None

    def __str__(self) -> str:
        what = f"{self.channels} channel{'s' if self.channels > 1 else ''}" + (f" ({self.units})" if self.units else "")
        front = "" if self.front == "none" else f", front end {self.front}"
        seconds = f"windows of {self.window} ({self.window / self.rate:.3g} s), one every {self.hop}"
        return f"{self.rate:g} Hz, {what}, {seconds} ({self.hop / self.rate:.3g} s){front}"


def check_signal(signal: Signal, tensor: Tensor, name: str) -> None:
    """Raises FormatError unless a network with this input can have this signal."""
    where = f"{name}: signal"
    require(signal.front in FRONTS, f"{where}: front end {signal.front!r}, must be one of {', '.join(FRONTS)}")
    require(1 <= signal.channels <= MAX_CHANNELS, f"{where}: {signal.channels} channels, must be 1 to {MAX_CHANNELS}")
    require(0.001 <= signal.rate <= MAX_RATE, f"{where}: {signal.rate:g} Hz, must be 0.001 to {MAX_RATE:g}")
    most = MAX_WINDOW // signal.channels
    require(1 <= signal.window <= most, f"{where}: windows of {signal.window} samples, must be 1 to {most}")
    require(1 <= signal.hop <= MAX_HOP, f"{where}: a hop of {signal.hop} samples, must be 1 to {MAX_HOP}")
    values = signal.values
    if signal.front == "none":
        require(
            signal.window * signal.channels == tensor.size,
            f"{where}: {signal.window} samples of {signal.channels} are not the {tensor.size} values of the input",
        )
        fits = values == signal.channels
        require(fits, f"{where}: {values} normalizations for {signal.channels} channels, must be one for each")
    else:
        fits = 1 <= values <= 65535 and tensor.size % values == 0
        require(fits, f"{where}: {values} normalizations, must divide the {tensor.size} values of the input")
    size = len(signal.units.encode())
    require(size <= MAX_UNITS, f"{where}: units of {size} bytes, the limit is {MAX_UNITS}")


def pack_signal(signal: Signal, tensor: Tensor, name: str) -> bytes:
    """The record of a checked signal, padded to a multiple of 4 bytes."""
    units = signal.units.encode()
    fields = (signal.channels, round(signal.rate * 1000), signal.window, signal.hop, signal.values, len(units))
    record = _RECORD.pack(SIGNAL_VERSION, FRONTS.index(signal.front), *fields)
    for i, normal in enumerate(signal.normals):
        try:
            multiplier, offset, shift = normal.fixed(tensor)
        except FormatError as error:
            raise FormatError(f"{name}: signal, channel {i}: {error}") from None
        record += _NORMAL.pack(normal.scale, normal.mean, normal.std, offset, multiplier, shift, 0)
    record += units
    return record + bytes(-len(record) % 4)


def read_signal(reader: Reader, at: int, header: int, tensor: Tensor) -> Signal:
    """The signal at an offset of a file. FormatError unless `pack_signal` could have written it."""
    name = reader.name
    require(at >= header, f"{name}: the signal is at {at}, in the header: make the file again")
    version, front, channels, rate, window, hop, values, size = _RECORD.unpack(
        reader.span(at, _RECORD.size, "the signal")
    )
    require(
        version == SIGNAL_VERSION,
        f"{name}: the signal's version is {version}, must be {SIGNAL_VERSION}: update edgelora, or make it again",
    )
    require(front < len(FRONTS), f"{name}: front end {front} is unknown: a newer host made the file")
    records = reader.records(_NORMAL, at + _RECORD.size, values, "the signal's normalizations")
    end = at + _RECORD.size + values * _NORMAL.size
    try:
        units = bytes(reader.span(end, size, "the signal's units")).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}: the signal's units are not UTF-8 ({error}): make the file again") from None
    normals = [_normal(record, name, i) for i, record in enumerate(records)]
    signal = Signal(rate / 1000, channels, window, hop, tuple(normals), FRONTS[front], units)
    check_signal(signal, tensor, name)
    for i, (record, normal) in enumerate(zip(records, normals, strict=True)):
        scale, mean, std, offset, multiplier, shift, reserved = record
        within = multiplier >= -MAX_NORMAL_MULTIPLIER and abs(offset) <= MAX_NORMAL_OFFSET and shift <= MAX_NORMAL_SHIFT
        require(within, f"{name}: signal, channel {i}: integers are out of range: make the file again")
        require_zero(reserved, name, f"the last byte of the signal's channel {i}")
        derived = normal.fixed(tensor)
        require(
            (multiplier, offset, shift) == derived,
            f"{name}: the signal's integers of channel {i} don't match its scale, mean and std, which give "
            f"{derived}: make the file again",
        )
    return signal


def _normal(record: Sequence[Any], name: str, channel: int) -> Normal:
    try:
        return Normal(*record[:3])
    except FormatError as error:
        raise FormatError(f"{name}: signal, channel {channel}: {error}") from None
