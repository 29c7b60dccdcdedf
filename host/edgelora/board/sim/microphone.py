"""A microphone on an emulated Pico's I2S, such as an INMP441, which plays a recording.

EdgeLoRA's own driver, and MicroPython's `machine.I2S`, read it by a program of a PIO state machine: the upper half of
the left word of 32 bits, or both words of a frame, which DMA takes from there. Emulating each bit would be thirty times
slower than real time, so a state machine with such a program rests, and its queue gets the words at the program's own
rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rp2040py.peripherals.pio import RPPIO, StateMachine
    from rp2040py.rp2040 import RP2040

RATE = 16000  # of recordings, in Hz
CYCLES = 128  # of a program a frame: two for each of 64 bits
FRAMES = 2  # at once: as many as fill the queue
NEVER = 1 << 61  # a state machine's next cycle while it rests


@dataclass(frozen=True)
class _Program:
    """A program for input. reads: its instructions at address 0; jumps: those that name an address.

    right: where its second word of a frame begins, None if it reads one; shift: of a sample in a word.
    """

    reads: tuple[int, ...]
    jumps: tuple[int, ...]
    right: int | None
    shift: int

    def at(self, first: int) -> list[int]:
        """The instructions from address `first` on."""
        return [op + (first if i in self.jumps else 0) for i, op in enumerate(self.reads)]


_UPPER = (57390, 18433, 65, 18433, 57390, 43074, 69, 47170, 61502, 47170, 4169, 43074)  # _rp2_i2s.py
_WHOLE = (57406, 18433, 65, 22529, 61502, 22529, 4165, 18433)  # MicroPython's
PROGRAMS = (_Program(_UPPER, (2, 6, 10), None, 0), _Program(_WHOLE, (2, 6), 4, 16))


class Microphone:
    """Plays int16 samples, once, into the left channel; silence before and after them."""

    def __init__(self, mcu: RP2040) -> None:
        self._mcu = mcu
        self._sound: Sequence[int] = ()
        self._feeds = [_Feed(mcu, self, pio, machine) for pio in mcu.pio for machine in pio.machines]
        self._at = 0.0  # position in the sound, in its samples

    def play(self, sound: Sequence[int]) -> None:
        """Begins with a recording of `RATE`."""
        self._sound, self._at = sound, 0.0

    def next(self, rate: float) -> int:
        """The sample of the next frame of a bus with `rate` frames a second, as 16 bits."""
        at = int(self._at)
        self._at += RATE / rate
        return int(self._sound[at]) & 0xFFFF if at < len(self._sound) else 0

    def look(self) -> None:
        """Begins to feed state machines that read a microphone since the last look."""
        for feed in self._feeds:
            feed.look()


class _Feed:
    """The words for one state machine."""

    def __init__(self, mcu: RP2040, microphone: Microphone, pio: RPPIO, machine: StateMachine) -> None:
        self._mcu, self._microphone, self._pio, self._machine = mcu, microphone, pio, machine
        self._alarm = mcu.clock.create_alarm(self._frame)
        self._program = PROGRAMS[0]
        self._runs = False

    def look(self) -> None:
        if self._machine.enabled and not self._runs and (program := self._read_by()):
            self._program, self._runs = program, True
            if self._rest():
                self._push(0)  # the frame's other word
            self._schedule()

    def _read_by(self) -> _Program | None:
        """Its program for input, wherever that lies."""
        first, end = self._machine.wrap_bottom, self._machine.wrap_top + 1
        loaded = self._pio.instructions[first:end]
        return next((program for program in PROGRAMS if loaded == program.at(first)), None)

    def _rest(self) -> bool:
        """Stops it where it is, enabled; returns whether it is in a frame's second word."""
        self._machine.next_due_fp = NEVER
        self._pio.recompute_due()
        if sum(machine.enabled for machine in self._pio.machines) == 1:
            self._pio.stopped = True  # the emulator's loop is several times faster then
        right = self._program.right
        return right is not None and bool(self._machine.pc - self._machine.wrap_bottom >= right)

    @property
    def _rate(self) -> float:
        return float(self._mcu.clk_sys * 256 / self._machine.div_fp / CYCLES)

    def _schedule(self) -> None:
        self._alarm.schedule(FRAMES * 1e9 / self._rate)

    def _frame(self) -> None:
        if not self._machine.enabled:
            self._runs = False
            return
        if self._machine.next_due_fp != NEVER:  # it was restarted
            self._rest()
        for _ in range(FRAMES):
            self._push(self._microphone.next(self._rate) << self._program.shift)
            if self._program.right is not None:
                self._push(0)
        self._schedule()

    def _push(self, word: int) -> None:
        self._machine.rx_fifo.push(word)
        self._mcu.dma.set_dreq(self._machine.dreq_rx)
