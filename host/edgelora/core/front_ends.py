"""Front ends on the host: samples in, a row of features for each window out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError

from .formats.network import Tensor
from .formats.signal import Normal, Signal
from .twin.front_ends import FrontEnd

AUDIO_RATE, AUDIO_HOP, AUDIO_SPAN, AUDIO_SIZE = 16000, 160, 480, 40  # samples: 10 ms and 30 ms; values
AUDIO_UNIT = 5 / 128  # of a value
FRAME, FRAMES_OF_ENVELOPE = 512, 8
MOST_FRAMES, MOST_CHANNELS = 256, 16


class _Stream:
    """What front ends share: samples come in pieces of any length, and wait here until there are enough for a step."""

    channels = 1

    def __init__(self, core: FrontEnd, span: int, stride: int) -> None:
        """span: samples that an output is of; stride: from one to the next."""
        self._core, self.span, self.stride = core, span, stride
        self.window = self.hop = core.window // self.channels
        self.size, self.dtype, self.state_bytes = core.size, core.dtype, core.state_bytes
        self._rest = np.zeros(0, np.int16)

    def step(self, samples: NDArray[np.int16], out: NDArray[Any]) -> bool:
        """One step as on a board: int16 [window, channels] in; whether out, [size] of `dtype`, was written."""
        return self._core.step(samples, out)

    def feed(self, samples: NDArray[np.int16]) -> NDArray[Any]:
        """Takes int16 of any length, after those it took before; features [windows, size] that are complete with it.

        Samples of several channels are interleaved, or [n, channels]. Raises InputError for another type.
        """
        if samples.dtype != np.int16:
            raise InputError(f"samples are {samples.dtype}: give int16, sound of full scale is +-32767")
        waiting = np.concatenate([self._rest, samples.ravel()])
        taken = self.window * self.channels
        steps = len(waiting) // taken
        rows, row = [], np.zeros(self.size, self.dtype)
        for i in range(steps):
            if self._core.step(waiting[i * taken : (i + 1) * taken], row):
                rows.append(row.copy())
        self._rest = waiting[steps * taken :].copy()
        return np.array(rows, self.dtype).reshape(-1, self.size)

    def reset(self) -> None:
        """The next sample is the first of a stream; what waits is forgotten."""
        self._core.reset()
        self._rest = self._rest[:0]


def _grid(to: Tensor | None) -> tuple[float, int] | None:
    return None if to is None else (to.scale, to.zero_point)


class AudioFrontEnd(_Stream):
    """Sound of 16 kHz: 40 values for every 10 ms, of the last 30 (SPEC.md, section 15).

    Equal to TensorFlow Lite Micro's micro frontend as wake words use it, to the bit. to: None for values as they are
    (int16, in steps of 0.0390625), "firmware" for int8 as deployed firmware quantizes them, or a model's input tensor.
    Raises InputError for another word, TwinError for a scale that can't be.
    """

    def __init__(self, to: Tensor | str | None = None) -> None:
        if isinstance(to, str) and to != "firmware":
            raise InputError(f"features for {to!r}: give None, 'firmware' or a model's input tensor")
        core = FrontEnd("audio", AUDIO_SIZE, AUDIO_HOP, to if isinstance(to, str) else _grid(to))
        super().__init__(core, AUDIO_SPAN, AUDIO_HOP)


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

    channels: how many come interleaved, of which `channel` is taken. frames: of 512 samples, a multiple of 8 up to 256.
    to: None for int16 in 1/256 octave, or a model's input tensor for int8. Raises InputError for settings out of range,
    TwinError for a scale that can't be.
    """

    def __init__(self, channels: int = 1, channel: int = 0, frames: int = 8, to: Tensor | None = None) -> None:
        if not 1 <= channels <= MOST_CHANNELS or not 0 <= channel < channels:
            raise InputError(f"channel {channel} of {channels}: give 1 to {MOST_CHANNELS} channels, numbered from 0")
        if frames % FRAMES_OF_ENVELOPE or not 0 < frames <= MOST_FRAMES:
            raise InputError(
                f"{frames} frames per window: give a multiple of {FRAMES_OF_ENVELOPE}, at most {MOST_FRAMES}"
            )
        self.channels = channels
        core = FrontEnd("spectral", 68, FRAME * channels, _grid(to), (channels, channel, frames))
        super().__init__(core, FRAME * frames, FRAME * frames)
