# SPDX-License-Identifier: MIT
"""Types that annotations of the device's modules name and boards have no classes for. Read by tools/stubs.py alone."""

from array import array
from collections.abc import Sequence
from typing import Any, Protocol

Buffer = bytes | bytearray | memoryview | array[int]  # bytes or int8: of an array those of "b" and "B"

class Samples(Protocol):
    """What `Run` learns from. If it also has `crc(count)`, a run that goes on knows its samples again."""

    count: int
    def read(self, i: int, buffer: bytearray) -> int | memoryview: ...

class AnySource(Protocol):
    """Where samples come from: those of `edgelora.sources`, or one of your own."""

    rate: float  # samples a second
    channels: int  # values of a sample
    scales: Sequence[float] | None  # units a count, of each channel
    overruns: int  # samples lost
    ended: bool
    def read_into(self, buffer: Any) -> int:
        """Puts whole samples that are there into an int16 buffer, waits for none; returns how many."""

class FrontEnd(Protocol):
    """What makes rows of values of samples, such as those of `edgelora.frontend`.

    Rows are int16, which the base's normalizations make int8, or, where `typecode` says "b", int8 of the input. A front
    end may have a `span`, the samples that an output is of, where that is not `window`, and a `stride`, from one output
    to the next, where that is not `hop`.
    """

    window: int  # samples a step takes
    hop: int  # samples from a step to the next
    size: int  # values it gives
    def step(self, samples: Any, out: Any) -> Any:
        """Samples in, int16, a row out; False or 0 says that there is none yet."""
    def reset(self) -> None: ...

class BlockDevice(Protocol):
    """What MicroPython calls a block device with the extended interface: rp2.Flash, esp32.Partition."""

    def readblocks(self, block: int, buffer: Any, offset: int = 0) -> Any: ...
    def writeblocks(self, block: int, buffer: Any, offset: int = 0) -> Any: ...
    def ioctl(self, op: int, arg: int) -> Any: ...
