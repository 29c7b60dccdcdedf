"""The surroundings of an emulated chip: a motion sensor and a microphone that play recordings, buttons, noise.

`world.json` in the board's state folder describes them: `{"motion": [RECORDING, serial] or null, "sound": likewise,
"presses": [[pin, seconds], ...], "oscillator": "free", "stuck" or seed}`. The board reads it a hundred times per second
of its own time. A recording with a new serial then starts from its first sample; presses are relative to that time, and
removed from the file. All times are on the board's clock.

`pins.json` next to it has the board's output pins: `{"PIN": 0 or 1}` with the last level of each.
"""

from __future__ import annotations

import json
import math
import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.board.virtual_boards import BoardClock, SimError
from edgelora.core.formats.files import write_atomic

from .console import POLL_SECONDS, log
from .microphone import RATE, Microphone
from .oscillator import FREE, RingOscillator, parse_oscillator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rp2040py.peripherals.i2c import RPI2C
    from rp2040py.rp2040 import RP2040

WORLD = "world.json"
PINS = "pins.json"
BUILT_IN = re.compile(r"demo(?::([\w-]+))?")
LOOK_SECONDS = 0.01
PRESS_SECONDS = 0.2
STANDS_SECONDS = 120.0  # of real time while the board's clock stands
USUAL_RATE = 50.0  # of recordings without a rate, in Hz
UNITS = ("g", "rad/s")
PER_DEGREE = (131.0, 65.5, 32.8, 16.4)  # counts per degree/s, by range
Clock = Callable[[], float]  # seconds on the board


def load_motion(motion: str) -> tuple[NDArray[np.float64], float]:
    """Acceleration in g and rotation in rad/s, [n, 6], and samples a second. InputError for other files.

    motion: a file's path, or one of `datasets.demo_motion` as `demo:NAME`. A file without units has these.
    """
    from edgelora.model.datasets.har import HAR_RATE, demo_motion
    from edgelora.model.datasets.recordings import (
        converted,
        load_capture,  # not needed by boards without a sensor
    )

    if built_in := BUILT_IN.fullmatch(motion):
        return demo_motion(built_in[1] or ""), HAR_RATE
    path = Path(motion)
    capture = load_capture(path)
    if capture.values.shape[1] != 6 or capture.counts:
        raise InputError(
            f"{path}: a motion sensor plays 6 channels: acceleration in g, then rotation in rad/s",
            remedy="give a .csv with six numbers per line, or another recording with these channels",
        )
    return converted(path, capture, UNITS), capture.rate or USUAL_RATE


def load_sound(path: Path) -> NDArray[np.int16]:
    """What a microphone hears: the first channel of a recording, at 16 kHz. InputError for another rate."""
    from edgelora.model.datasets.recordings import load_capture  # not needed by boards without a microphone

    capture = load_capture(path)
    if not capture.counts or capture.rate != RATE:
        raise InputError(f"{path}: a microphone plays a 16-bit .wav of {RATE} samples a second")
    return capture.values[:, 0].astype("int16")


def parse_press(text: str) -> list[tuple[int, float]]:
    """Parses `PIN`: press now, or `PIN@S,S,...`: at these seconds. InputError for other text."""
    pin, _, times = text.partition("@")
    try:
        presses = [(int(pin), float(at)) for at in (times.split(",") if times else ("0",))]
    except ValueError:
        presses = [(-1, 0.0)]
    if not all(0 <= pin <= 29 and 0 <= at < 1e6 for pin, at in presses):
        raise InputError(f"{text!r} is not a press: give PIN, or PIN@SECONDS,SECONDS; pins are 0 to 29")
    return presses


def set_world(
    state_dir: Path,
    motion: Path | str | None,
    presses: list[tuple[int, float]],
    oscillator: str | int | None = None,
    sound: Path | None = None,
) -> None:
    """Sets the recordings, button presses and noise of the board in this folder, running or not.

    motion, sound: see `load_motion`, `load_sound`. oscillator: see `oscillator.parse_oscillator`. None: unchanged.
    presses: added to those that the board has not taken yet.
    """
    playing = None
    if motion:
        load_motion(str(motion))
        where = motion if BUILT_IN.fullmatch(str(motion)) else Path(motion).resolve()
        playing = [str(where), time.time_ns()]
    if sound:
        load_sound(sound)
    state_dir.mkdir(parents=True, exist_ok=True)
    with _changing(state_dir / WORLD) as world:
        world["motion"] = playing or world.get("motion")
        world["sound"] = [str(sound.resolve()), time.time_ns()] if sound else world.get("sound")
        world["presses"] = [*world.get("presses", ()), *presses]
        world["oscillator"] = world.get("oscillator", FREE) if oscillator is None else oscillator


def driven_pins(state_dir: Path) -> dict[int, int]:
    """The level of each output pin of the board in this folder, 0 or 1; the last one if it is stopped."""
    levels = _read(state_dir / PINS)
    return {int(pin): int(bool(level)) for pin, level in sorted(levels.items(), key=_by_pin) if pin.isdecimal()}


def _by_pin(entry: tuple[str, Any]) -> tuple[int, str]:
    return len(entry[0]), entry[0]


def wait_pressed(state_dir: Path, presses: list[tuple[int, float]]) -> None:
    """Waits until a running board in this folder got all these presses; SimError if its clock stops."""
    clock, path = BoardClock(state_dir), state_dir / WORLD
    end: float | None = None
    while end is None or clock() < end:
        if end is None and not _read(path).get("presses"):
            end = clock() + max(at for _, at in presses) + 2 * PRESS_SECONDS
        if clock.stood > STANDS_SECONDS:
            raise SimError(f"the board in {state_dir} has stopped: start it again")
        time.sleep(POLL_SECONDS)


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, Any]]:
    """The world to change, then writes it. Several processes change it: each waits until the one before has written."""
    import fcntl  # virtual boards run only on systems that have it

    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        world = _read(path)
        yield world
        write_atomic(path, json.dumps(world).encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        world = json.loads(path.read_bytes())
    except (OSError, ValueError):
        world = None
    return world if isinstance(world, dict) else {}


class World:
    """Simulates a chip's surroundings; call `look` often."""

    def __init__(self, mcu: RP2040, clock: Clock, state_dir: Path) -> None:
        self._mcu, self._clock, self._path = mcu, clock, state_dir / WORLD
        self._next, self._seen = 0.0, 0
        self._playing: Any = None
        self._sounding: Any = None
        self._due: list[tuple[float, int, bool]] = []  # when a pin is pressed or released
        self._chips = [make(clock) for make in CHIPS.values()]
        self._microphone = Microphone(mcu)
        self._oscillator = RingOscillator(mcu)
        self._pins = state_dir / PINS
        self._driven: dict[int, int] | None = None
        for bus in mcu.i2c:
            _Wire(mcu, bus, self._chips)

    def look(self) -> None:
        """Performs the actions that are due."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        self._follow(now)
        self._tell_pins()
        self._microphone.look()
        while self._due and self._due[0][0] <= now:
            _, pin, pressed = self._due.pop(0)
            if pressed:
                self._mcu.gpio[pin].set_input_value(False)  # a button is between its pin and ground
            else:
                self._mcu.gpio[pin].release_input()

    def _tell_pins(self) -> None:
        """Publishes the levels that the board's programs drive, as an LED or a relay would see them."""
        from rp2040py.gpio_pin import FUNCTION_SIO, GPIOPinState

        levels = {
            pin: int(gpio.value is GPIOPinState.HIGH)
            for pin, gpio in enumerate(self._mcu.gpio)
            if gpio.function_select == FUNCTION_SIO and gpio.value in (GPIOPinState.HIGH, GPIOPinState.LOW)
        }
        if levels != self._driven:
            self._driven = levels
            write_atomic(self._pins, json.dumps(levels).encode())

    def _follow(self, now: float) -> None:
        try:
            changed = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if changed == self._seen:
            return
        world = _read(self._path)
        try:
            if (motion := world.get("motion")) and motion != self._playing:
                for chip in self._chips:
                    chip.play(*load_motion(motion[0]))
                self._playing = motion
            if (sound := world.get("sound")) and sound != self._sounding:
                self._microphone.play(load_sound(Path(sound[0])).tolist())
                self._sounding = sound
            self._oscillator.become(parse_oscillator(str(world.get("oscillator", FREE))))
            presses = [(int(pin), now + float(at)) for pin, at in world.get("presses", ())]
        except (EdgeloraError, OSError, TypeError, ValueError, IndexError) as error:
            log(f"{self._path.name}: {error}")
            presses = []
        self._seen = changed
        if presses:
            with _changing(self._path) as world:
                world["presses"] = world.get("presses", [])[len(presses) :]
        self._due = sorted(
            self._due + [(at + PRESS_SECONDS * (not down), pin, down) for pin, at in presses for down in (True, False)]
        )


class _Wire:
    """Connects devices to one of the chip's I2C buses. A byte takes the time of nine bits at the bus's clock."""

    def __init__(self, mcu: RP2040, bus: RPI2C, devices: Sequence[Mpu6050]) -> None:
        self._bus, self._devices = bus, {device.address: device for device in devices}
        self._device = devices[0]  # the one that was addressed last
        self._then: Callable[[], None] = bus.complete_stop
        self._alarm = mcu.clock.create_alarm(lambda: self._then())
        bus.on_connect = self._connect
        bus.on_write_byte = self._write
        bus.on_read_byte = self._read

    def _later(self, then: Callable[[], None]) -> None:
        self._then = then
        cycles = 9 * (self._bus.scl_high_period + self._bus.scl_low_period)
        self._alarm.schedule(8.0 * cycles)

    def _connect(self, address: int, mode: int) -> None:
        mine = address in self._devices
        if mine:
            self._device = self._devices[address]
            self._device.begin(writing=not mode)
        self._later(lambda: self._bus.complete_connect(mine))

    def _write(self, value: int) -> None:
        self._device.write(value)
        self._later(lambda: self._bus.complete_write(True))

    def _read(self, _ack: bool) -> None:
        value = self._device.read()
        self._later(lambda: self._bus.complete_read(value))


class Mpu6050:
    """The commonly used registers of InvenSense's MPU-6050, and its FIFO, with its own sample clock.

    It plays a recording in a loop, or rest: 1 g upwards. Filter, self-test and temperature are not simulated.
    """

    address = 0x68
    DIVIDER, CONFIG, GYRO, ACCEL, FIFO_EN = 0x19, 0x1A, 0x1B, 0x1C, 0x23
    STATUS, VALUES, USER, POWER, COUNT, FIFO, WHO = 0x3A, 0x3B, 0x6A, 0x6B, 0x72, 0x74, 0x75
    ASLEEP, RESET, OVERFLOW, FIFO_ON, FIFO_RESET = 0x40, 0x80, 0x10, 0x40, 0x04
    ROOM = 1024

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._motion: Sequence[Sequence[float]] | NDArray[np.float64] = [[0, 0, 1, 0, 0, 0]]
        self._motion_rate, self._since = USUAL_RATE, 0.0
        self._at = 0
        self._awaits_register = False
        self._reset()

    def _reset(self) -> None:
        self._registers = bytearray(128)
        self._registers[self.POWER] = self.ASLEEP
        self._registers[self.WHO] = self.address
        self._fifo = bytearray()
        self._taken = self._clock()  # time up to which samples are in the FIFO

    def play(self, motion: NDArray[np.float64], rate: float) -> None:
        """Sets the recording to play: g and rad/s, [n, 6], at `rate` samples per second."""
        self._fill()
        self._motion, self._motion_rate, self._since = motion, rate, self._clock()

    @property
    def _period(self) -> float:
        base = 1000 if 1 <= self._registers[self.CONFIG] & 7 <= 6 else 8000
        return (1 + self._registers[self.DIVIDER]) / base

    def _counts(self, at: float) -> bytes:
        """Registers 0x3B to 0x48 at a time: big-endian acceleration, temperature, rotation."""
        if self._registers[self.POWER] & self.ASLEEP:
            return bytes(14)
        row = self._motion[int(max(at - self._since, 0.0) * self._motion_rate + 1e-6) % len(self._motion)]
        per_g = 16384 >> (self._registers[self.ACCEL] >> 3 & 3)
        per_rad = math.degrees(PER_DEGREE[self._registers[self.GYRO] >> 3 & 3])
        units = (*(value * per_g for value in row[:3]), 0, *(value * per_rad for value in row[3:]))
        return struct.pack(">7h", *(min(max(round(value), -32768), 32767) for value in units))

    def _fill(self) -> None:
        """Adds the samples since the last access to the FIFO."""
        registers, now, period = self._registers, self._clock(), self._period
        running = registers[self.USER] & self.FIFO_ON and not registers[self.POWER] & self.ASLEEP
        if not running:
            self._taken = now
            return
        enabled = registers[self.FIFO_EN]
        missed = int((now - self._taken) / period)
        first = max(0, missed - 2 * self.ROOM)  # would be dropped anyway
        for i in range(first, missed):
            counts = self._counts(self._taken + (i + 1) * period)
            parts = ((0x08, 0, 6), (0x80, 6, 8), (0x40, 8, 10), (0x20, 10, 12), (0x10, 12, 14))
            self._fifo += b"".join(counts[start:end] for bit, start, end in parts if enabled & bit)
        self._taken += missed * period
        if len(self._fifo) > self.ROOM:
            del self._fifo[: len(self._fifo) - self.ROOM]
            registers[self.STATUS] |= self.OVERFLOW

    def begin(self, writing: bool) -> None:
        """The bus has addressed the chip."""
        self._awaits_register = writing

    def write(self, value: int) -> None:
        """A byte from the bus: first the register's number, then what goes there."""
        if self._awaits_register:
            self._at, self._awaits_register = value & 127, False
            return
        self._fill()
        register, self._at = self._at, self._at + 1 & 127
        if register == self.POWER and value & self.RESET:
            return self._reset()
        if register == self.USER and value & self.FIFO_RESET:
            self._fifo.clear()
            self._taken = self._clock()
            value &= ~self.FIFO_RESET
        if register not in (self.WHO, self.STATUS, self.COUNT, self.COUNT + 1):
            self._registers[register] = value

    def read(self) -> int:
        """A byte for the bus."""
        register = self._at
        if register == self.FIFO:
            self._fill()
            return self._fifo.pop(0) if self._fifo else 0xFF
        self._at = register + 1 & 127
        if register == self.STATUS:
            self._fill()
            value, self._registers[register] = self._registers[register], 0
            return value
        if register == self.COUNT:
            self._fill()
            self._registers[self.COUNT : self.COUNT + 2] = len(self._fifo).to_bytes(2, "big")
        if register == self.VALUES:
            self._registers[self.VALUES : self.VALUES + 14] = self._counts(self._clock())
        return self._registers[register]


CHIPS = {"mpu6050": Mpu6050}  # on every I2C bus of an emulated chip, by the name of their driver
