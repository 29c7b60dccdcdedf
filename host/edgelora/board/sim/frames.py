"""Starts of USB frames, which a host sends each millisecond, at an emulated RP2040.

rp2040py's host sends none. The interrupt comes where firmware has enabled it: TinyUSB does so while it sends, and light
sleep ends by it. Source: RP2040 Datasheet, 4.1.4 (SOF_RD, INTR: "cleared by reading SOF_RD").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rp2040py.peripherals.usb import INTE, INTR, INTR_DEV_SOF, SIE_CONNECTED, SIE_STATUS, SOF_RD

if TYPE_CHECKING:
    from rp2040py.rp2040 import RP2040

    from .clock import SystemClock

FRAME_NS = 1_000_000
CYCLE_NS = 8.0  # at most so much behind its start a frame is noticed, as an alarm may come a rounding too early
NUMBERS = 1 << 11


class Frames:
    """The frames of the bus. Without an enabled interrupt they cost nothing: the number is that of the time."""

    def __init__(self, mcu: RP2040, time: SystemClock) -> None:
        self._usb, self._time = mcu.usb_ctrl, time
        self._alarm = time.create_alarm(self._look)
        self._read_frame = 0  # the last whose number firmware read, which clears the interrupt
        self._read, self._write = self._usb.read_uint32, self._usb.write_uint32
        self._usb.read_uint32 = self._read_register  # type: ignore[method-assign]
        self._usb.write_uint32 = self._write_register  # type: ignore[method-assign]

    def _read_register(self, offset: int) -> int:
        if offset == INTR:
            self._look()
        if offset != SOF_RD:
            return self._read(offset)
        self._read_frame = self._frame
        self._usb._int_raw &= ~INTR_DEV_SOF
        self._look()
        return self._read_frame % NUMBERS

    def _write_register(self, offset: int, value: int) -> None:
        self._write(offset, value)
        if offset in (INTE, SIE_STATUS):  # the latter at a reset by the host, after which frames come
            self._look()

    @property
    def _frame(self) -> int:
        return int(self._time.nanos // FRAME_NS)

    def _look(self) -> None:
        """Tells of a frame that began since the last one read; waits for the next if its interrupt is enabled."""
        usb, frame = self._usb, self._frame
        if not self._read(SIE_STATUS) & SIE_CONNECTED:
            return
        if frame != self._read_frame:
            usb._int_raw |= INTR_DEV_SOF
        elif self._read(INTE) & INTR_DEV_SOF:
            self._alarm.schedule((frame + 1) * FRAME_NS - self._time.nanos + CYCLE_NS)
        usb.check_interrupts()
