"""Features of sound and vibration, in integers: the inputs of models that listen or feel.

Both front ends are used alike. A step takes `window` samples, int16 of all channels, of which the next step's begin
`hop` further on, and returns whether it has written `out`: `size` values, array(typecode) or their bytes. They are of
the last `span` samples, and come every `stride`. What a step needs of older samples is kept in `state`. A front end
that is made allocates nothing. A `Pipeline` takes one whose values stay int16.
"""

from array import array
from typing import Literal, Union

from edgelora import Model

_Buffer = Union[bytes, bytearray, memoryview, array[int]]

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

    def __init__(self, to: Union[None, Literal["firmware"], Model] = None) -> None: ...
    def step(self, samples: _Buffer, out: Union[bytearray, memoryview, array[int]]) -> bool:
        """10 ms of sound. False while the first 30 ms are not there."""

    def reset(self) -> None:
        """The next sample is the first of a stream."""

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

    def __init__(
        self, channels: int = 1, channel: int = 0, frames: int = 8, to: Union[None, Model] = None
    ) -> None: ...
    def step(self, samples: _Buffer, out: Union[bytearray, memoryview, array[int]]) -> bool:
        """A frame of 512 samples a channel. True if it was the last of its window."""

    def reset(self) -> None:
        """The next sample is the first of a stream."""
