"""Front ends on the host: samples in, a row of features for each window out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError

from .formats.elm import pack_input
from .formats.network import Tensor
from .formats.signal import Normal, Signal
from .twin import device

_board = device.module("frontend")
AUDIO_RATE = 16000  # samples a second
AUDIO_HOP: int = _board.Audio.hop  # samples, 10 ms
AUDIO_SPAN: int = _board.Audio.span  # samples, 30 ms
AUDIO_SIZE: int = _board.Audio.size  # values
AUDIO_UNIT = 5 / 128  # of a value
SPECTRAL_FRAME: int = _board.Spectral.window  # samples


class _Stream:
    """A board's front end for samples in pieces of any length, which wait here until there are enough for a step."""

    def __init__(self, front: Any, channels: int = 1) -> None:
        self._front, self.channels = front, channels
        self.window, self.hop, self.span, self.stride = front.window, front.hop, front.span, front.stride
        self.size, self.dtype, self.state_bytes = front.size, np.dtype(front.typecode), len(front.state)
        self._rest = np.zeros(0, np.int16)

    def step(self, samples: NDArray[np.int16], out: NDArray[Any]) -> bool:
        """One step as on a board: int16 [window, channels] in; whether out, [size] of `dtype`, was written."""
        return bool(self._front.step(samples, out))

    def feed(self, samples: NDArray[np.int16]) -> NDArray[Any]:
        """Takes int16 of any length, after those it took before; features [windows, size] that are complete with it.

        Samples of several channels are interleaved, or [n, channels]. Raises InputError for another type.
        """
        if samples.dtype != np.int16:
            raise InputError(f"samples are {samples.dtype}: give int16, full-scale sound is +-32767")
        waiting = np.concatenate([self._rest, samples.ravel()])
        taken = self.window * self.channels
        steps = len(waiting) // taken
        rows, row = [], np.zeros(self.size, self.dtype)
        for i in range(steps):
            if self.step(waiting[i * taken : (i + 1) * taken], row):
                rows.append(row.copy())
        self._rest = waiting[steps * taken :].copy()
        return np.array(rows, self.dtype).reshape(-1, self.size)

    def reset(self) -> None:
        """The next sample is the first of a stream; buffered samples are dropped."""
        self._front.reset()
        self._rest = self._rest[:0]


def _grid(to: Tensor | str | None) -> Any:
    """What a board's front end takes for values in this form."""
    return SimpleNamespace(buffer=pack_input(to)) if isinstance(to, Tensor) else to


class AudioFrontEnd(_Stream):
    """Sound of 16 kHz: 40 values for every 10 ms, of the last 30 (SPEC.md, section 15).

    Equal to TensorFlow Lite Micro's micro frontend as wake words use it, bit for bit. to: None for values as they are
    (int16, in steps of 0.0390625), "firmware" for int8 as deployed firmware quantizes them, or a model's input tensor.
    Raises InputError for another word, TwinError for a scale that can't be.
    """

    def __init__(self, to: Tensor | str | None = None) -> None:
        with device.refusals():
            super().__init__(_board.Audio(_grid(to)))


def audio_signal(rows: int, every: int, normal: Normal) -> Signal:
    """The signal of inputs that are so many of the sound front end's rows, one input every `every` rows."""
    window = AUDIO_SPAN + (rows - 1) * AUDIO_HOP
    return Signal(AUDIO_RATE, 1, window, every * AUDIO_HOP, (normal,), "audio")


HEARD_AS = ("audio", "firmware")


def heard_as(kind: str, tensor: Tensor) -> Signal:
    """The signal of a streaming network that hears: an input is the rows that came since the last one.

    kind: "audio", values on the input's own scale; "firmware", int8 as `AudioFrontEnd("firmware")` makes them.
    InputError for inputs that are no rows, or whose int8 begin elsewhere than that firmware's.
    """
    rows = tensor.size // AUDIO_SIZE
    if not rows or tensor.size % AUDIO_SIZE:
        raise InputError(f"an input of {tensor.size} values is not rows of {AUDIO_SIZE}: omit --front")
    if kind == "audio":
        return audio_signal(rows, rows, Normal(AUDIO_UNIT))
    if tensor.zero_point != -128:
        raise InputError(f"silence is {tensor.zero_point} for this network, -128 for firmware: give --front audio")
    return audio_signal(rows, rows, Normal(tensor.scale * 256 / 666))


class SpectralFrontEnd(_Stream):
    """Vibration of one channel: 68 values of each window of `frames` frames (SPEC.md, section 15).

    channels: the number of interleaved channels, of which `channel` is used. frames: of 512 samples, a multiple of 8 up
    to 256. to: None for int16 in 1/256 octave, or a model's input tensor for int8. Raises TwinError for settings out of
    range and for an invalid scale.
    """

    def __init__(self, channels: int = 1, channel: int = 0, frames: int = 8, to: Tensor | None = None) -> None:
        super().__init__(_board.Spectral(channels, channel, frames, _grid(to)), channels)
