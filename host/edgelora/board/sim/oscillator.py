"""The RP2040's ring oscillator: a bit of noise per read, the source of `os.urandom`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from edgelora.base.errors import InputError

if TYPE_CHECKING:
    from rp2040py.peripherals.peripheral import Peripheral
    from rp2040py.rp2040 import RP2040

PAGE = 0x40060  # of its registers: their address / 2^12
RANDOM_BIT = 0x1C  # register
FREE, STUCK = "free", "stuck"


def parse_oscillator(text: str) -> str | int:
    """`free`, `stuck` or a seed. InputError for others."""
    if text in (FREE, STUCK):
        return text
    if text.isascii() and text.isdecimal():
        return int(text)
    raise InputError(f"{text!r} is not an oscillator: give {FREE}, {STUCK}, or a seed")


class RingOscillator:
    """Replaces the emulator's, whose bit is always 1. Its other registers are unchanged.

    Free, its bits are the computer's entropy: unbiased, unlike a chip's. With a seed they are the same at every
    power-up. Stuck, they are 1, like those of a broken chip.
    """

    def __init__(self, mcu: RP2040) -> None:
        self._others: Peripheral = mcu.peripherals[PAGE]
        self.mode: str | int | None = None
        self.become(FREE)
        mcu.peripherals[PAGE] = self

    def become(self, mode: str | int) -> None:
        """Sets the mode: free, stuck, or a seed, from its first bit; no change if it has that mode already."""
        if mode != self.mode:
            self.mode = mode
            self._random = random.Random(mode) if isinstance(mode, int) else random.SystemRandom()

    def read_uint32(self, offset: int) -> int:
        if offset == RANDOM_BIT:
            return 1 if self.mode == STUCK else self._random.getrandbits(1)
        return self._others.read_uint32(offset)

    def write_uint32(self, offset: int, value: int) -> None:
        self._others.write_uint32(offset, value)

    def write_uint32_atomic(self, offset: int, value: int, atomic_type: int) -> None:
        self._others.write_uint32_atomic(offset, value, atomic_type)

    def reset(self) -> None:
        self._others.reset()
