# EdgeLoRA on the device: features of sound and vibration (SPEC.md, section 15). SPDX-License-Identifier: MIT
#
#     sound = Audio(model)                           # values on the grid of the model's input
#     features = array(sound.typecode, [0] * sound.size)
#     while True:
#         microphone.readinto(samples)               # array("h"), sound.window samples
#         if sound.step(samples, features):          # allocates nothing
#             model.infer(features)
#
# A step takes `window` samples, of all channels, and the next one begins `hop` further on; what is needed of older ones
# is kept here. It returns whether `out` was written, `size` values: array(typecode), or bytes. They are of the last
# `span` samples, and come every `stride`. The C functions are those of _core: a module of the firmware, or a class
# among the globals of this one where it is native.

if "_core" not in globals():
    import _edgelora_frontend as _core

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
    """Sound of 16 kHz: 40 values every 10 ms, of the last 30. to: None, "firmware" or a Model."""

    window = 160
    hop = 160
    stride = 160
    span = 480
    size = 40

    def __init__(self, to=None):
        kind = _how(to)
        self.typecode = "b" if kind[0] else "h"
        self.state = bytearray(_core.audio_state_size())
        _core.audio_begin(self.state, *kind)

    def step(self, samples, out):
        return _core.audio_step(self.state, samples, out)

    def reset(self):
        _core.audio_reset(self.state)


class Spectral:
    """Vibration: 68 values every `frames` steps, of one channel of those that come interleaved. to: None or a Model."""

    window = 512
    hop = 512
    size = 68

    def __init__(self, channels=1, channel=0, frames=8, to=None):
        kind = _how(to)
        self.typecode = "b" if kind[0] else "h"
        self.span = self.stride = 512 * frames
        self.state = bytearray(_core.spectral_state_size())
        _core.spectral_begin(self.state, channels, channel, frames, *kind)

    def step(self, samples, out):
        return _core.spectral_step(self.state, samples, out)

    def reset(self):
        _core.spectral_reset(self.state)
