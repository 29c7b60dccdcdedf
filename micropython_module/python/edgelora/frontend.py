# SPDX-License-Identifier: MIT
"""Features of sound and vibration, in integers: the inputs of models that listen or feel.

Both front ends are used alike. A step takes `window` samples, int16 of all channels, of which the next step's begin
`hop` further on, and returns whether it has written `out`: `size` values, array(typecode) or their bytes. They are of
the last `span` samples, and come every `stride`. What a step needs of older samples is kept in `state`. A front end
that is made allocates nothing. A `Pipeline` takes one whose values stay int16.

    sound = Audio(model)                           # values on the grid of the model's input
    features = array(sound.typecode, [0] * sound.size)
    while True:
        microphone.readinto(samples)               # array("h"), sound.window samples
        if sound.step(samples, features):          # allocates nothing
            model.infer(features)

A step takes `window` samples, of all channels, and the next one begins `hop` further on; what is needed of older ones
is kept here. It returns whether `out` was written, `size` values: array(typecode), or bytes. They are of the last
`span` samples, and come every `stride`. The C functions are those of _core: a module of the firmware, or a class
among the globals of this one where it is native.
"""

if "_core" not in globals():
    import _edgelora_frontend as _core

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from array import array
    from typing import Literal

    from . import Model
    from ._types import Buffer

_RAW, _FIRMWARE, _SCALED = 0, 1, 2


def _how(to):
    # (kind, bits of the scale, zero point) of values for `to`
    if to is None:
        return _RAW, 0, 0
    if to == "firmware":
        return _FIRMWARE, 0, 0
    if isinstance(to, str):
        raise ValueError('features for %r: give None, "firmware" or a Model' % to)
    data = to.buffer  # the model's first tensor is its input
    at = int.from_bytes(data[28:32], "little")
    return _SCALED, int.from_bytes(data[at + 8 : at + 12], "little"), (data[at + 6] ^ 128) - 128


class Audio:
    """Sound of 16 kHz, 40 values every 10 ms: the micro frontend of wake words, to the bit.

    to: None for values as they are (int16, a step of 0.0390625), "firmware" for int8 as deployed firmware has them, or
    the model that takes them, on the grid of its input.
    """

    window: int
    hop: int
    stride: int
    span: int
    size: int
    typecode: str
    state: bytearray

    window = 160
    hop = 160
    stride = 160
    span = 480
    size = 40

    def __init__(self, to: Literal["firmware"] | Model | None = None) -> None:
        kind = _how(to)
        self.typecode = "b" if kind[0] else "h"
        self.state = bytearray(_core.audio_state_size())
        _core.audio_begin(self.state, *kind)

    def step(self, samples: Buffer, out: bytearray | memoryview | array[int]) -> bool:
        """10 ms of sound. False while the first 30 ms are not there."""
        return _core.audio_step(self.state, samples, out)

    def reset(self) -> None:
        """The next sample is the first of a stream."""
        _core.audio_reset(self.state)


class Spectral:
    """Vibration of one channel: 40 bands, 24 of the envelope, rms, peak, crest and kurtosis in 1/256 octave.

    channels: how many come interleaved, of which `channel` is taken; frames: of 512 samples, before values come, a
    multiple of 8. to: None (int16) or the model that takes them (int8).
    """

    window: int
    hop: int
    stride: int
    span: int
    size: int
    typecode: str
    state: bytearray

    window = 512
    hop = 512
    size = 68

    def __init__(self, channels: int = 1, channel: int = 0, frames: int = 8, to: Model | None = None) -> None:
        kind = _how(to)
        self.typecode = "b" if kind[0] else "h"
        self.span = self.stride = 512 * frames
        self.state = bytearray(_core.spectral_state_size())
        _core.spectral_begin(self.state, channels, channel, frames, *kind)

    def step(self, samples: Buffer, out: bytearray | memoryview | array[int]) -> bool:
        """A frame of 512 samples a channel. True if it was the last of its window."""
        return _core.spectral_step(self.state, samples, out)

    def reset(self) -> None:
        """The next sample is the first of a stream."""
        _core.spectral_reset(self.state)
