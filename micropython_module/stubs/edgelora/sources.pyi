"""Where samples come from. Sources that are made with `scales` count in these units, whatever the sensor's own are."""

from typing import Any, Optional, Sequence

class Source:
    """What all have in common."""

    rate: float  # samples a second
    channels: int  # values of a sample
    scales: Optional[Sequence[float]]  # units a count, of each channel, where known
    overruns: int  # samples lost because nobody read in time; of sensors with a FIFO and I2S as many as must have been
    ended: bool  # nothing more will come

    def __init__(self, rate: float, channels: int, scales: Optional[Sequence[float]] = None) -> None: ...

class _Ring(Source):
    def read_into(self, buffer: Any) -> int:
        """Puts whole samples that are there into an int16 buffer, waits for none; returns how many."""

class _Motion(Source):
    def read_into(self, buffer: Any) -> int:
        """Puts whole samples that are there into an int16 buffer, waits for none; returns how many."""

class Host(_Ring):
    """Samples that somebody hands over; the link's end on the board does. room: samples that can wait."""

    overruns: int
    def __init__(
        self, rate: float, channels: int, room: int = 256, scales: Optional[Sequence[float]] = None
    ) -> None: ...
    def put(self, data: Any) -> int:
        """Samples, int16 with the low byte first, in a buffer of any kind; returns how many there was room for."""

class Channel(Source):
    """One channel of another source, such as an axis of a sensor of motion. batch: samples read at once at most."""

    overruns: int
    ended: bool
    def __init__(self, source: Source, channel: int, batch: int = 64) -> None: ...
    def read_into(self, buffer: Any) -> int:
        """Puts samples that are there into an int16 buffer, waits for none; returns how many."""

class ADC(_Ring):
    """Analog pins, sampled by a timer of the chip (-1: a virtual one, where the port has those).

    Counts are `read_u16` less 32768: 0 is the middle of the range.
    """

    overruns: int
    def __init__(
        self,
        pins: Sequence[Any],
        rate: int,
        room: int = 256,
        timer: int = -1,
        scales: Optional[Sequence[float]] = None,
    ) -> None: ...
    def close(self) -> None: ...

class MPU6050(_Motion):
    """InvenSense's MPU-6050 and what has its registers, by its FIFO: acceleration in g, then rotation in rad/s.

    g, dps: the ranges to either side. scales: units a count as the base wants them (`model.signal.scales`); without,
    the sensor's own.
    """

    overruns: int
    def __init__(
        self,
        i2c: Any,
        rate: float = 50,
        g: int = 8,
        dps: int = 2000,
        scales: Optional[Sequence[float]] = None,
        address: int = 0x68,
        batch: int = 8,
    ) -> None: ...

class LSM6DS3(_Motion):
    """ST's LSM6DS3, LSM6DS3TR-C, LSM6DSL, LSM6DSM, by their FIFO; units and arguments as of `MPU6050`.

    rate: 13, 26, 52, 104, 208, 416 or 833.
    """

    overruns: int
    def __init__(
        self,
        i2c: Any,
        rate: float = 52,
        g: int = 8,
        dps: int = 2000,
        scales: Optional[Sequence[float]] = None,
        address: int = 0x6A,
        batch: int = 8,
    ) -> None: ...

class I2S(Source):
    """A microphone on I2S, such as an INMP441: the upper 16 bits of its words of 32, or words of 16.

    sck, ws, sd: numbers of pins. samples: of a block that is read at once; ibuf: bytes of the driver's own buffer.
    """

    overruns: int
    def __init__(
        self,
        sck: Any,
        ws: Any,
        sd: Any,
        rate: int = 16000,
        bits: int = 32,
        id: int = 0,
        samples: int = 256,
        ibuf: int = 8192,
        scales: Optional[Sequence[float]] = None,
    ) -> None: ...
    def read_into(self, buffer: Any) -> int: ...
    def close(self) -> None: ...

class Recording(Source):
    """A file on the board: .wav of 16 bits, .csv with a sample a line, or bare int16 with the low byte first.

    rate, channels: where the file doesn't say. scales: units a count; a .csv then holds units, else counts. Reading a
    .csv takes memory from the heap.
    """

    ended: bool
    def __init__(
        self,
        path: str,
        rate: Optional[float] = None,
        channels: Optional[int] = None,
        scales: Optional[Sequence[float]] = None,
    ) -> None: ...
    def read_into(self, buffer: Any) -> int: ...
    def close(self) -> None: ...
