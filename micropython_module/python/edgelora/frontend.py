# SPDX-License-Identifier: MIT
"""Integer features of sound and vibration: the inputs of audio and vibration models.

Both front ends have the same interface. A step takes a window of `window` samples, int16 of all channels; the next
window begins `hop` samples later. It returns whether it has written `out`: `size` values, array(typecode) or bytes,
computed from the last `span` samples, once every `stride` samples. `state` keeps what a step needs of older samples.
Steps allocate nothing. A `Pipeline` takes a front end whose values stay int16.

    sound = Audio(model)                           # values on the grid of the model's input
    features = array(sound.typecode, [0] * sound.size)
    while True:
        microphone.readinto(samples)               # array("h"), sound.window samples
        if sound.step(samples, features):          # allocates nothing
            model.infer(features)

`Audio` writes features of the last 30 ms every 10 ms; `Spectral` writes features every 512 * `frames` samples.

The C functions are in _core: a module of the firmware or, in the native module, a class that is already among the
globals of this module.
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
    """40 features of 16 kHz sound every 10 ms, bit-identical to TensorFlow Lite Micro's for wake words.

    to: None for the unscaled values (int16, a step of 0.0390625), "firmware" for int8 as in deployed firmware, or the
    model that takes them, for int8 with the scale and zero point of its input.
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
        """Processes 10 ms of sound. False until the first 30 ms are complete."""
        return _core.audio_step(self.state, samples, out)

    def reset(self) -> None:
        """Begins another stream: earlier samples no longer count."""
        _core.audio_reset(self.state)


class Spectral:
    """Vibration features of a channel: 40 bands, 24 of the envelope, rms, peak, crest, kurtosis in 1/256 octave.

    channels: how many are interleaved, of which `channel` is used; frames: frames of 512 samples per window, a multiple
    of 8. to: None (int16) or the model that takes the values (int8).
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
        """Processes a frame of 512 samples per channel. True if it was the last of its window."""
        return _core.spectral_step(self.state, samples, out)

    def reset(self) -> None:
        """Begins another stream: earlier samples no longer count."""
        _core.spectral_reset(self.state)
