"""Makes an emulated RP2040's timer follow its system clock.

rp2040py counts 8 ns for each cycle of the core, regardless of the clock that firmware sets. Here the timer, from which
MicroPython takes its time, counts a cycle's duration at that clock; everything else stays in cycles.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from rp2040py.peripherals.peripheral import BasePeripheral

if TYPE_CHECKING:
    from rp2040py.clock.clock import IAlarm
    from rp2040py.rp2040 import RP2040

COUNTED_HZ = 125e6
XOSC_HZ, ROSC_HZ, PLL_USB_HZ = 12e6, 6.5e6, 48e6
CLK_REF_CTRL, CLK_SYS_DIV = 0x30, 0x40  # the range of registers that set the system clock
PLL_SYS = 0x40028  # address / 4096
CS, FBDIV_INT, PRIM = 0x0, 0x8, 0xC
LOCK = 1 << 31


class _Pll(BasePeripheral):
    """The system PLL's registers; it locks at once."""

    def __init__(self, mcu: RP2040, on_write: Callable[[], None]) -> None:
        super().__init__(mcu, "PLL_SYS_BASE")
        self._registers = {CS: 1}
        self._on_write = on_write

    def read_uint32(self, offset: int) -> int:
        return self._registers.get(offset, 0) | (LOCK if offset == CS else 0)

    def write_uint32(self, offset: int, value: int) -> None:
        self._registers[offset] = value
        self._on_write()

    @property
    def hz(self) -> float:
        post = self._registers.get(PRIM, 0)
        divider = (self._registers[CS] & 63) * (post >> 16 & 7) * (post >> 12 & 7)
        return XOSC_HZ * (self._registers.get(FBDIV_INT, 0) & 0xFFF) / divider if divider else 0


class _Alarm:
    """An alarm of the timer, due at a time instead of after a number of cycles."""

    def __init__(self, time: SystemClock, alarm: IAlarm) -> None:
        self._time, self._alarm = time, alarm
        self._due: float | None = None

    def schedule(self, delta_nanos: float) -> None:
        self._due = self._time.nanos + delta_nanos
        self.follow()

    def cancel(self) -> None:
        self._due = None
        self._alarm.cancel()

    def follow(self) -> None:
        """Recomputes the cycles, at the current clock."""
        if self._due is not None:
            self._alarm.schedule(max(0.0, self._due - self._time.nanos) / self._time.scale)


class SystemClock:
    """Time since the chip's creation, for its timer: replaces rp2040py's clock."""

    def __init__(self, mcu: RP2040) -> None:
        self._cycles, self._clocks = mcu.clock, mcu.clocks
        self.scale = 1.0  # nanoseconds per nanosecond counted by rp2040py
        self._then = self._counted = 0.0
        self._line = getattr(mcu.timer, "line", array("d", bytes(32)))  # polled by the emulator's loop
        self._pll = mcu.peripherals[PLL_SYS] = _Pll(mcu, self._follow)
        write = self._clocks.write_uint32

        def write_and_follow(offset: int, value: int) -> None:
            write(offset, value)
            if CLK_REF_CTRL <= offset <= CLK_SYS_DIV:
                self._follow()

        self._clocks.write_uint32 = write_and_follow  # type: ignore[method-assign]
        mcu.timer.clock = self  # type: ignore[assignment]
        self._alarms = [_Alarm(self, alarm.clock_alarm) for alarm in mcu.timer.alarms]
        for alarm, timed in zip(mcu.timer.alarms, self._alarms, strict=True):
            alarm.clock_alarm = timed

    def create_alarm(self, callback: Callable[[], None]) -> _Alarm:
        """An alarm by this clock's time."""
        self._alarms.append(_Alarm(self, self._cycles.create_alarm(callback)))
        return self._alarms[-1]

    @property
    def nanos(self) -> float:
        return self._then + (self._cycles.nanos - self._counted) * self.scale

    @property
    def hz(self) -> float:
        """The core's clock, from the clock registers; 0 while its PLL has no dividers."""
        reference = ROSC_HZ if self._clocks.ref_ctrl & 3 == 0 else XOSC_HZ
        others = (self._pll.hz, PLL_USB_HZ, ROSC_HZ, XOSC_HZ)
        source = others[min(self._clocks.sys_ctrl >> 5 & 7, 3)] if self._clocks.sys_ctrl & 1 else reference
        return source * 256 / (self._clocks.sys_div or 256)

    def _follow(self) -> None:
        if self.hz:
            self._then, self._counted = self.nanos, self._cycles.nanos
            self.scale = COUNTED_HZ / self.hz
            self._line[:3] = array("d", [self._then, self._counted, self.scale])
            for alarm in self._alarms:
                alarm.follow()
