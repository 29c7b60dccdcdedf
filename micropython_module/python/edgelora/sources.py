# SPDX-License-Identifier: MIT
"""Sources of samples. A source made with `scales` returns counts in these units, whatever the sensor's own are.

A source has `rate` (samples per second), `channels` (values per sample), `scales` (units per count of each channel, or
None), `overruns` (samples lost, or an estimate), `ended`, and `read_into(buffer)`: it copies the whole samples that are
available into an int16 buffer without waiting, allocates nothing (except for a .csv), and returns how many.

SENSORS names the drivers. Such a class is the one record of its sensor: requests, programs, commands and pages take its
`title`, `roles`, `usual` pins and `units` from here, and open it by `open_sensor`.
"""

import struct
import sys
import time
from array import array

from . import _core

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Sequence
    from typing import Any

_RADIANS = 0.017453292519943295  # per degree
_MILLI_G = 0.001
_UNIT = 4096  # a gain of 1
_KEPT = 8  # calls of a timer that MicroPython keeps while other code runs; more are lost
_COPY_MS = 8  # in which a driver copies a block that it has


class Source:
    """Attributes that all sources have."""

    rate: float  # samples per second
    channels: int  # values per sample
    scales: Sequence[float] | None  # units per count of each channel, where known
    overruns: int  # samples lost because they were not read in time; an estimate but for `Host`
    ended: bool  # no more samples will come
    title: str = ""  # of sensors, in a list
    roles: Sequence[str] = ()  # of sensors: what each pin is for; none: an analog input each
    usual: Sequence[int] = ()  # of sensors: pins of a Pico
    units: str = ""  # of sensors: of the channels' values, where known

    @classmethod
    def on_pins(cls, pins: Sequence[int], rate: float, scales: Sequence[float] | None, bus: int) -> "Source":
        """Opens a sensor at these pins. bus: its number, where the pins belong to a bus."""
        raise NotImplementedError

    def __init__(self, rate: float, channels: int, scales: Sequence[float] | None = None) -> None:
        self.rate = rate
        self.channels = channels
        self.scales = scales
        self.overruns = 0
        self.ended = False


class _Ring(Source):
    # A ring of samples. Only the writer moves `_in` and only the reader `_out`, so an interrupt may come anywhere.

    def __init__(self, rate, channels, scales, room):
        super().__init__(rate, channels, scales)
        self._ring = array("h", bytes(2 * room * channels))
        self._room = room
        self._in = self._out = 0  # samples, modulo twice the room

    def _count(self):
        return (self._in - self._out) % (2 * self._room)

    def read_into(self, buffer: Any) -> int:
        """Copies the whole samples that are available into an int16 buffer without waiting; returns how many."""
        channels, room = self.channels, self._room
        wanted = len(buffer) // channels
        done = 0
        while done < wanted:
            first = self._out % room
            part = min(wanted - done, self._count(), room - first)
            if not part:
                break
            _core.take(buffer, done * channels, self._ring, first * channels, 1, part * channels, 2)
            self._out = (self._out + part) % (2 * room)
            done += part
        return done


class Host(_Ring):
    """Samples passed to `put`, for example by the agent. room: how many samples can wait."""

    overruns: int

    def __init__(self, rate: float, channels: int, room: int = 256, scales: Sequence[float] | None = None) -> None:
        super().__init__(rate, channels, scales, room)

    def put(self, data: Any) -> int:
        """Adds samples, little-endian int16 in a buffer of any kind; returns how many there was room for."""
        channels, room = self.channels, self._room
        whole = len(data) // (2 * channels)
        done = 0
        while done < whole:
            last = self._in % room
            part = min(whole - done, room - self._count(), room - last)
            if not part:
                self.overruns += whole - done
                break
            _core.take(self._ring, last * channels, data, done * channels, 1, part * channels, 2)
            self._in = (self._in + part) % (2 * room)
            done += part
        return done


class Channel(Source):
    """One channel of another source, such as an axis of a motion sensor. batch: most samples per read."""

    overruns: int
    ended: bool

    def __init__(self, source: Source, channel: int, batch: int = 64) -> None:
        if not 0 <= channel < source.channels:
            raise ValueError("channel %d of %d" % (channel, source.channels))
        super().__init__(source.rate, 1, source.scales and [source.scales[channel]])
        self._source, self._channel = source, channel
        whole = memoryview(array("h", bytes(2 * batch * source.channels)))
        self._parts = [whole[: count * source.channels] for count in range(batch + 1)]

    def read_into(self, buffer: Any) -> int:
        """Copies the samples that are available into an int16 buffer without waiting; returns how many."""
        source, wanted, done = self._source, len(buffer), 0
        while done < wanted:
            part = self._parts[min(wanted - done, len(self._parts) - 1)]
            count = source.read_into(part)
            if not count:
                break
            _core.take(buffer, done, part, self._channel, source.channels, count, 2)
            done += count
        self.overruns, self.ended = source.overruns, source.ended
        return done


class ADC(_Ring):
    """Analog pins, sampled by a hardware timer (-1: a virtual timer, where the port has them).

    Counts are `read_u16` minus 32768: 0 is the middle of the range.
    """

    overruns: int
    title: str = "analog pins"
    usual: Sequence[int] = (26,)

    @classmethod
    def on_pins(cls, pins: Sequence[int], rate: float, scales: Sequence[float] | None, bus: int) -> "Source":
        return cls(pins, rate, scales=scales)

    def __init__(
        self, pins: Sequence[Any], rate: float, room: int = 256, timer: int = -1, scales: Sequence[float] | None = None
    ) -> None:
        import machine

        super().__init__(rate, len(pins), scales, room)
        self._adcs = [machine.ADC(pin) for pin in pins]
        self._period = max(1, int(1000000 / rate))
        self._late = 0  # microseconds that the samples are behind the clock
        self._then, self._left, self._counted = time.ticks_us(), 0, 0
        self._timer = machine.Timer(timer)
        self._timer.init(freq=rate, mode=machine.Timer.PERIODIC, callback=self._take)

    def _take(self, timer):
        if self._count() == self._room:
            self.overruns += 1
            return
        at = self._in % self._room * self.channels
        for adc in self._adcs:
            self._ring[at] = adc.read_u16() - 32768
            at += 1
        self._in = (self._in + 1) % (2 * self._room)

    def read_into(self, buffer: Any) -> int:
        """Copies the whole samples that are available into an int16 buffer without waiting; returns how many."""
        done = super().read_into(buffer)
        self._count_lost(done)
        return done

    def _count_lost(self, done):
        # Samples that are missing by the clock, but for those whose calls may still come.
        now, left, overruns = time.ticks_us(), self._count(), self.overruns
        came = done + left - self._left + overruns - self._counted
        late = self._late + time.ticks_diff(now, self._then) - came * self._period
        lost = max(0, late // self._period - _KEPT)
        self._late = max(0, late - lost * self._period)
        self.overruns = self._counted = overruns + lost
        self._then, self._left = now, left

    def close(self) -> None:
        self._timer.deinit()


class _Motion(Source):
    # A motion sensor on I2C with its own clock and a FIFO of samples: acceleration in g, then rotation in rad/s.

    roles: Sequence[str] = ("SDA", "SCL")
    usual: Sequence[int] = (4, 5)
    units: str = "g, rad/s"

    @classmethod
    def on_pins(cls, pins, rate, scales, bus):
        from machine import I2C, Pin

        sda, scl = pins
        return cls(I2C(bus, sda=Pin(sda), scl=Pin(scl), freq=400000), rate, scales=scales)

    def __init__(self, i2c, address, rate, own, scales, little, order, batch):
        if scales is None:
            scales = own
        super().__init__(rate, 6, scales)
        self._i2c, self._address = i2c, address
        self._gains = [round(_UNIT * mine / wanted) for mine, wanted in zip(own, scales)]
        if max(self._gains) > 8 * _UNIT or min(self._gains) < 1:
            raise ValueError("counts differ too much in size from what is wanted: choose another range of the sensor")
        self._low, self._high = (0, 1) if little else (1, 0)
        self._order = order  # position of each value in a sample of the FIFO
        self._one = bytearray(1)
        self._two = bytearray(2)
        self._bytes = bytearray(12 * batch)
        view = memoryview(self._bytes)
        self._parts = [view[: 12 * count] for count in range(batch + 1)]

    def _set(self, register, value):
        self._one[0] = value
        self._i2c.writeto_mem(self._address, register, self._one)

    def _get(self, register):
        self._i2c.readfrom_mem_into(self._address, register, self._one)
        return self._one[0]

    def _is(self, register, known, name):
        found = self._get(register)
        if found not in known:
            raise OSError("at address 0x%x is not a %s: its id is 0x%x" % (self._address, name, found))

    def read_into(self, buffer: Any) -> int:
        """Copies the whole samples that are available into an int16 buffer without waiting; returns how many."""
        wanted = len(buffer) // 6
        done = 0
        there = self._waiting()
        while done < wanted and there:
            count = min(wanted - done, there, len(self._parts) - 1)
            self._i2c.readfrom_mem_into(self._address, self._fifo, self._parts[count])
            self._decode(buffer, 6 * done, count)
            done += count
            there -= count
        return done

    def _decode(self, buffer, at, count):
        data, low, high = self._bytes, self._low, self._high
        for start in range(0, 12 * count, 12):
            for i in range(6):
                k = start + 2 * self._order[i]
                value = data[k + low] | data[k + high] << 8
                value = (((value ^ 32768) - 32768) * self._gains[i] + _UNIT // 2) // _UNIT
                buffer[at] = -32768 if value < -32768 else 32767 if value > 32767 else value
                at += 1


class MPU6050(_Motion):
    """InvenSense's MPU-6050 and compatible sensors, read by FIFO: acceleration in g, then rotation in rad/s.

    g, dps: the ranges to either side, in g and degrees per second. scales: units per count that the base expects
    (`model.signal.scales`); None: the sensor's own.
    """

    overruns: int
    title: str = "motion: MPU-6050"

    _fifo = 0x74

    def __init__(
        self,
        i2c: Any,
        rate: float = 50,
        g: int = 8,
        dps: int = 2000,
        scales: Sequence[float] | None = None,
        address: int = 104,
        batch: int = 8,
    ) -> None:
        divider = round(1000 / rate) - 1
        if not 0 <= divider <= 255 or g not in (2, 4, 8, 16) or dps not in (250, 500, 1000, 2000):
            raise ValueError("rate 4 to 1000, g 2, 4, 8, 16, dps 250, 500, 1000, 2000")
        rotation = _RADIANS / {250: 131, 500: 65.5, 1000: 32.8, 2000: 16.4}[dps]
        own = [g / 32768] * 3 + [rotation] * 3
        super().__init__(i2c, address, 1000 / (divider + 1), own, scales, False, b"\x00\x01\x02\x03\x04\x05", batch)
        self._is(0x75, (0x68, 0x70), "MPU-6050")
        self._set(0x6B, 0x80)  # reset
        time.sleep_ms(100)
        self._set(0x6B, 0x01)  # awake, clocked by the gyroscope
        self._set(0x1A, 1 if rate > 200 else 3 if rate > 80 else 4)  # low pass: 184, 44 or 21 Hz; then 1 kHz is divided
        self._set(0x19, divider)
        self._set(0x1B, (250, 500, 1000, 2000).index(dps) << 3)
        self._set(0x1C, (2, 4, 8, 16).index(g) << 3)
        self._set(0x23, 0x78)  # rotation and acceleration go into the FIFO, in the order of their registers
        self._restart()

    def _restart(self):
        self._set(0x6A, 0x04)
        self._set(0x6A, 0x40)

    def _waiting(self):
        if self._get(0x3A) & 0x10:  # overflow: the FIFO now begins within a sample
            self.overruns += 1024 // 12
            self._restart()
            return 0
        self._i2c.readfrom_mem_into(self._address, 0x72, self._two)
        return (self._two[0] << 8 | self._two[1]) // 12


class LSM6DS3(_Motion):
    """ST's LSM6DS3, LSM6DS3TR-C, LSM6DSL and LSM6DSM, read by FIFO; units and arguments as for `MPU6050`.

    rate: 13, 26, 52, 104, 208, 416 or 833.
    """

    overruns: int
    title: str = "motion: LSM6DS3"

    _fifo = 0x3E

    def __init__(
        self,
        i2c: Any,
        rate: float = 52,
        g: int = 8,
        dps: int = 2000,
        scales: Sequence[float] | None = None,
        address: int = 106,
        batch: int = 8,
    ) -> None:
        rates = (13, 26, 52, 104, 208, 416, 833)
        if rate not in rates or g not in (2, 4, 8, 16) or dps not in (250, 500, 1000, 2000):
            raise ValueError("rate 13, 26, 52, 104, 208, 416, 833, g 2, 4, 8, 16, dps 250, 500, 1000, 2000")
        own = [_MILLI_G * 0.061 * g / 2] * 3 + [_RADIANS * 0.00875 * dps / 250] * 3
        # The FIFO has rotation first.
        super().__init__(i2c, address, rate, own, scales, True, b"\x03\x04\x05\x00\x01\x02", batch)
        self._is(0x0F, (0x69, 0x6A), "LSM6DS3")
        self._set(0x12, 0x01)  # reset
        time.sleep_ms(10)
        self._set(0x12, 0x44)  # block data update; register addresses increment automatically
        code = rates.index(rate) + 1 << 4
        self._set(0x08, 0x09)  # acceleration and rotation go into the FIFO, every sample
        self._mode = code >> 1
        self._restart()
        self._set(0x10, code | {2: 0, 16: 4, 4: 8, 8: 12}[g])
        self._set(0x11, code | (250, 500, 1000, 2000).index(dps) << 2)

    def _restart(self):
        self._set(0x0A, self._mode)  # empties the FIFO
        self._set(0x0A, self._mode | 6)  # continuous

    def _waiting(self):
        self._i2c.readfrom_mem_into(self._address, 0x3A, self._two)
        if self._two[1] & 0x40:  # overrun: the FIFO now begins within a sample
            self.overruns += 4096 // 6
            self._restart()
            return 0
        return ((self._two[1] & 0x0F) << 8 | self._two[0]) // 6  # 6 words per sample


class I2S(Source):
    """A microphone on I2S, such as an INMP441: 16-bit words, or the upper 16 bits of 32-bit words.

    sck, ws, sd: pin numbers; an RP2's ws is the pin behind sck. id: of the peripheral; on an RP2 of the PIO, whose last
    state machine it takes, with two DMA channels. samples: size of a block that is read at once; ibuf: bytes of the
    driver's own buffer. A board may write its flash meanwhile.
    """

    overruns: int
    title: str = "microphone on I2S"
    roles: Sequence[str] = ("SCK", "WS", "SD")
    usual: Sequence[int] = (10, 11, 12)

    @classmethod
    def on_pins(cls, pins: Sequence[int], rate: float, scales: Sequence[float] | None, bus: int) -> "Source":
        sck, ws, sd = pins
        return cls(sck, ws, sd, rate, scales=scales)

    def __init__(
        self,
        sck: Any,
        ws: Any,
        sd: Any,
        rate: float = 16000,
        bits: int = 32,
        id: int = 0,
        samples: int = 256,
        ibuf: int = 8192,
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__(rate, 1, scales)
        if bits not in (16, 32):
            raise ValueError("bits 16 or 32")
        if sys.platform == "rp2":
            from ._rp2_i2s import Driver

            self._driver = Driver(sck, ws, sd, rate, id, ibuf)
        else:
            self._driver = _Blocks(sck, ws, sd, rate, bits, id, samples, ibuf)

    def read_into(self, buffer: Any) -> int:
        count = self._driver.read_into(buffer)
        self.overruns = self._driver.overruns
        return count

    def close(self) -> None:
        self._driver.close()


class _Blocks:
    # Of MicroPython's own driver: one block is read while it fills another one.

    def __init__(self, sck, ws, sd, rate, bits, id, samples, ibuf):
        import machine

        self.rate, self.overruns = rate, 0
        self._words = bits // 16  # int16 values per sample
        self._filling, self._full = bytearray(samples * bits // 8), bytearray(samples * bits // 8)
        self._samples = self._at = samples
        self._ready = False
        pins = {name: machine.Pin(pin) for name, pin in (("sck", sck), ("ws", ws), ("sd", sd))}
        self._i2s = machine.I2S(
            id, mode=machine.I2S.RX, bits=bits, format=machine.I2S.MONO, rate=rate, ibuf=ibuf, **pins
        )
        self._block_us = samples * 1000000 // rate
        self._slack_us = ibuf // 8 * 1000000 // rate  # the driver keeps both channels, of 32 bits
        self._due = time.ticks_add(time.ticks_us(), self._block_us)  # when the filling block is full, at the latest
        self._i2s.irq(self._filled)
        self._i2s.readinto(self._filling)

    def _filled(self, i2s):
        self._ready = True

    def read_into(self, buffer):
        wanted = len(buffer)
        done = 0
        while done < wanted:
            if self._at == self._samples:
                if not self._arrived():
                    break
                self._next()
            part = min(wanted - done, self._samples - self._at)
            words = self._words
            _core.take(buffer, done, self._full, self._at * words + words - 1, words, part, 2)
            self._at += part
            done += part
        return done

    def _arrived(self):
        # Whether a block is full. One that is long overdue waits in the driver, which copies a part at each interrupt.
        if not self._ready and time.ticks_diff(time.ticks_us(), self._due) > self._block_us // 4:
            for _ in range(_COPY_MS):
                time.sleep_ms(1)
                if self._ready:
                    return True
            self._due = time.ticks_add(time.ticks_us(), self._block_us)
        return self._ready

    def _next(self):
        # Swaps the blocks: the filled one is read while the driver fills the other one.
        self._ready = False
        self._full, self._filling = self._filling, self._full
        self._at = 0
        self._i2s.readinto(self._filling)
        now = time.ticks_us()
        late = time.ticks_diff(now, self._due)
        if late > self._slack_us:  # the driver's own buffer overflowed
            self.overruns += (late - self._slack_us) // 1000 * self.rate // 1000
            self._due = time.ticks_add(now, -self._slack_us)
        elif late < 0:
            self._due = now
        self._due = time.ticks_add(self._due, self._block_us)

    def close(self):
        self._i2s.deinit()


class Recording(Source):
    """A file on the board: 16-bit .wav, .csv with one sample per line, or raw little-endian int16.

    rate, channels: where the file doesn't give them. scales: units per count; with scales, a .csv contains units, else
    counts. Reading a .csv allocates memory on the heap.
    """

    ended: bool

    def __init__(
        self, path: str, rate: float | None = None, channels: int | None = None, scales: Sequence[float] | None = None
    ) -> None:
        self._file = open(path, "rb")
        self._left = None  # bytes of samples that are left; None: up to the end of the file
        self._text = path.endswith(".csv")
        if path.endswith(".wav"):
            rate, channels = self._wav(path)
        elif self._text:
            channels = len(self._file.readline().split(b","))
            self._file.seek(0)
        if not rate or not channels:
            raise ValueError(path + ": give its rate and channels")
        super().__init__(rate, channels, scales)

    def _wav(self, path):
        head = self._file.read(12)
        found = None
        if len(head) == 12 and head[:4] == b"RIFF" and head[8:] == b"WAVE":
            while True:
                head = self._file.read(8)
                if len(head) < 8:
                    break
                size = struct.unpack("<I", head[4:])[0]
                if head[:4] == b"fmt ":
                    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", self._file.read(size)[:16])
                    found = (rate, channels) if bits == 16 and kind in (1, 0xFFFE) else None
                elif head[:4] == b"data" and found:
                    self._left = size
                    return found
                else:
                    self._file.seek(size + size % 2, 1)
        raise ValueError(path + ": not a 16-bit PCM .wav")

    def read_into(self, buffer: Any) -> int:
        if self._text:
            return self._lines(buffer)
        count = self._file.readinto(buffer) or 0
        if count < 2 * len(buffer):
            self.ended = True
        if self._left is not None:
            count = min(count, self._left)  # what follows is not samples
            self._left -= count
            self.ended |= not self._left
        return count // (2 * self.channels)

    def _lines(self, buffer):
        channels = self.channels
        done = 0
        while done < len(buffer) // channels:
            line = self._file.readline()
            if not line:
                self.ended = True
                break
            if not line.strip():
                continue
            fields = line.split(b",")
            if len(fields) != channels:
                raise ValueError("a line has %d values, the first has %d" % (len(fields), channels))
            for i in range(channels):
                value = float(fields[i])
                if self.scales:
                    value /= self.scales[i]
                buffer[done * channels + i] = min(max(int((2 * value + 1) // 2), -32768), 32767)
            done += 1
        return done

    def close(self) -> None:
        self._file.close()


SENSORS: dict[str, type[Source]] = {"mpu6050": MPU6050, "lsm6ds3": LSM6DS3, "adc": ADC, "i2s": I2S}


def open_sensor(
    name: str, pins: Sequence[int], rate: float, scales: Sequence[float] | None = None, bus: int = 0
) -> Source:
    """Opens one of SENSORS. pins: in the order of its `roles`; rate: samples per second; bus: the number of its I2C."""
    return SENSORS[name].on_pins(pins, rate, scales, bus)
