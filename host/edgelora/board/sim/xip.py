"""The emulated RP2040's flash: its cache, the time that reads, erases and programs take, and reads by DMA.

The emulator's own loop answers reads of flash at once. Here the cache's registers, and the serial interface's as far as
firmware uses them, set what `tools/emulator/xip.h` counts. Sources: RP2040 Datasheet, 2.6.3 (XIP) and 4.10 (SSI);
W25Q16JV data sheet, 9.6 (typical times).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rp2040py.native._simulator import pass_time  # type: ignore[attr-defined]
from rp2040py.peripherals.dma import DREQChannel
from rp2040py.peripherals.peripheral import BasePeripheral
from rp2040py.peripherals.ssi import RPSSI

from edgelora.board.virtual_boards import SimError

if TYPE_CHECKING:
    from rp2040py.rp2040 import RP2040

    from .clock import SystemClock

FLASH_PAGE = 1  # address >> 28
CYCLE_NS = 8.0  # of the emulator's clock
FLUSH_CYCLES = 1024
# Words of `xip_t` in tools/emulator/xip.h.
CONTROL, HITS, ACCESSES, MISS_CYCLES, STALLED, TAKEN, CONFLICTS, TABLES = range(8)

# Commands of the Pico's flash chip, and how long they typically take: seconds.
PROGRAM, ERASE_SECTOR, ERASE_BLOCK = 0x02, 0x20, 0xD8
LENGTHS = {PROGRAM: 256, ERASE_SECTOR: 4096, ERASE_BLOCK: 65536}  # bytes
BUSY = {PROGRAM: 0.4e-3, ERASE_SECTOR: 45e-3, ERASE_BLOCK: 150e-3}

CTRL, FLUSH, STAT, CTR_HIT, CTR_ACC, STREAM_ADDR, STREAM_CTR, STREAM_FIFO = range(0, 0x20, 4)
FLUSH_READY, FIFO_EMPTY, FIFO_FULL = 2, 4, 8
ENABLE, ERR_BADWRITE, POWER_DOWN = 1, 2, 8
STREAM_DEPTH = 2  # words: "a small FIFO"; its depth is not documented
AUX = 0x50400  # address / 4096: the FIFO again, on a bus of its own

CTRLR0, CTRLR1, SSIENR, BAUDR, SR, DMACR, DMARDLR, DR0, SPI_CTRLR0 = 0x0, 0x4, 0x8, 0x14, 0x28, 0x4C, 0x54, 0x60, 0xF4
SR_BUSY = 1
EEPROM_READ, QUAD = 3, 2  # transfer modes and frame formats
RECEIVE_DMA = 1
FIFO_FRAMES = 16


def words(mcu: RP2040) -> array[int]:
    """The state that `xip.h` reads and writes."""
    shared: array[int] = mcu.xip  # type: ignore[attr-defined]
    return shared


class XipControl(BasePeripheral):
    """Registers of the cache, and the stream that reads flash in the background, a word a read."""

    def __init__(self, mcu: RP2040) -> None:
        super().__init__(mcu, "XIP_CTRL_BASE")
        self._words = words(mcu)
        self._fifo: list[int] = []
        self._alarm = mcu.clock.create_alarm(self._read_word)
        self.reset()

    def reset(self) -> None:
        self._words[CONTROL] = ENABLE | ERR_BADWRITE
        self._address = self._left = 0
        self._reading = False
        self._alarm.cancel()
        self._fifo.clear()
        self._flush()

    def _flush(self) -> None:
        self._words[TABLES:] = array("I", bytes(4 * (len(self._words) - TABLES)))

    def read_uint32(self, offset: int) -> int:
        if offset == CTRL:
            return self._words[CONTROL]
        if offset == STAT:
            fifo = FIFO_FULL if len(self._fifo) == STREAM_DEPTH else 0 if self._fifo else FIFO_EMPTY
            return FLUSH_READY | fifo
        if offset in (CTR_HIT, CTR_ACC):
            return self._words[HITS if offset == CTR_HIT else ACCESSES]
        if offset in (STREAM_ADDR, STREAM_CTR):
            return self._address if offset == STREAM_ADDR else self._left
        return self.pop() if offset == STREAM_FIFO else 0

    def write_uint32(self, offset: int, value: int) -> None:
        if offset == CTRL:
            off = 0 if value & POWER_DOWN else value & ENABLE
            self._words[CONTROL] = value & (ERR_BADWRITE | POWER_DOWN) | off
        elif offset == FLUSH:
            self._flush()
            self._words[STALLED] = FLUSH_CYCLES  # the next access would wait for it
        elif offset in (CTR_HIT, CTR_ACC):
            self._words[HITS if offset == CTR_HIT else ACCESSES] = 0
        elif offset == STREAM_ADDR:
            self._address = value & ~3
        elif offset == STREAM_CTR:
            self._left = value & 0x3FFFFF
            self._next_word()

    # The stream

    def _next_word(self) -> None:
        if self._left and len(self._fifo) < STREAM_DEPTH and not self._reading:
            self._reading = True
            self._alarm.schedule(self._words[MISS_CYCLES] * CYCLE_NS)

    def _read_word(self) -> None:
        self._reading = False
        if not self._left:
            return
        at = self._address & 0xFFFFFF
        self._fifo.append(int.from_bytes(self.rp2040.flash[at : at + 4], "little"))
        self._address, self._left = self._address + 4, self._left - 1
        self._next_word()
        self.rp2040.dma.set_dreq(DREQChannel.DREQ_XIP_STREAM)

    def pop(self) -> int:
        word = self._fifo.pop(0) if self._fifo else 0
        if not self._fifo:
            self.rp2040.dma.clear_dreq(DREQChannel.DREQ_XIP_STREAM)
        self._next_word()
        return word


class _Aux(BasePeripheral):
    """The stream's FIFO on the bus that DMA reads without waiting for the cache."""

    def __init__(self, mcu: RP2040, control: XipControl) -> None:
        super().__init__(mcu, "XIP_AUX_BASE")
        self._control = control

    def read_uint32(self, offset: int) -> int:
        return self._control.pop()

    def write_uint32(self, offset: int, value: int) -> None:
        pass


class Ssi(RPSSI):
    """The serial interface to the flash chip, which takes its time."""

    def __init__(
        self, mcu: RP2040, clock: SystemClock, on_written: Callable[[int, int], None], ideal: bool = False
    ) -> None:
        """on_written: called with offset and length after each erase or program. ideal: reads never stall."""
        super().__init__(mcu, "SSI")
        self._clock, self._on_written, self._ideal = clock, on_written, ideal
        self._alarm = mcu.clock.create_alarm(self._receive)
        self._words = words(mcu)
        self._dmacr = self._dmardlr = self._frames = self._next = 0

    def reset(self) -> None:
        super().reset()
        self._alarm.cancel()
        self._dmacr = self._dmardlr = self._frames = 0
        self._words[TAKEN] = self._words[CONFLICTS] = 0

    # Frames of 32 bits: a read by the cache, or many by software

    @property
    def _reads_words(self) -> bool:
        """Whether a word written is a command and an address, and what follows is read."""
        return bool(self._ssienr) and self._crtlr0 >> 8 & 3 == EEPROM_READ and self._crtlr0 >> 16 & 31 == 31

    @property
    def _frame_cycles(self) -> int:
        lines = 4 if self._crtlr0 >> 21 & 3 == QUAD else 1
        return ((self._crtlr0 >> 16 & 31) + 1) // lines * self._baudr

    @property
    def _address_cycles(self) -> int:
        """Of the command, the address with its mode bits, and the bits to wait."""
        command = (0, 4, 8, 16)[self._spictlr0 >> 8 & 3]
        address = (self._spictlr0 >> 2 & 15) * 4
        kind, quad = self._spictlr0 & 3, self._crtlr0 >> 21 & 3 == QUAD
        command = command // 4 if quad and kind == 2 else command
        address = address // 4 if quad and kind else address
        return (command + address + (self._spictlr0 >> 11 & 31)) * self._baudr

    def write_uint32(self, offset: int, value: int) -> None:
        if offset == CTRLR1:
            self._crtlr1 = value & 0xFFFF
        elif offset == DMACR:
            self._dmacr = value
        elif offset == DMARDLR:
            self._dmardlr = value & (FIFO_FRAMES - 1)
        elif offset == DR0 and self._reads_words:
            self._next, self._frames = value >> 8, self._crtlr1 + 1
            self._words[TAKEN] = int(self._frames > 1)  # the second boot stage reads one, in flash here
            self._rx_queue.clear()
            self._alarm.schedule((self._address_cycles + self._frame_cycles) * CYCLE_NS)
        else:
            super().write_uint32(offset, value)
        if offset == SSIENR and not value:
            if self._words[CONFLICTS]:
                raise SimError("flash was read by its cache while software read it by the serial interface")
            self._words[TAKEN] = self._frames = 0
            self._alarm.cancel()
            self._rx_queue.clear()
            self.rp2040.dma.clear_dreq(DREQChannel.DREQ_XIP_SSIRX)
        if offset in (CTRLR0, BAUDR, SPI_CTRLR0, SSIENR) and self._reads_words and not self._ideal:
            self._words[MISS_CYCLES] = self._address_cycles + self._frame_cycles

    def read_uint32(self, offset: int) -> int:
        if offset in (DMACR, DMARDLR):
            return self._dmacr if offset == DMACR else self._dmardlr
        value = super().read_uint32(offset) | (SR_BUSY if offset == SR and self._frames else 0)
        if offset == DR0 and len(self._rx_queue) <= self._dmardlr:
            self.rp2040.dma.clear_dreq(DREQChannel.DREQ_XIP_SSIRX)
        return value

    def _receive(self) -> None:
        """A frame is in; frames of software have their first byte on top."""
        if len(self._rx_queue) == FIFO_FRAMES:
            raise SimError("the flash interface's FIFO has overflowed: nothing read it")
        self._rx_queue.append(int.from_bytes(self.rp2040.flash[self._next : self._next + 4], "big"))
        self._next, self._frames = self._next + 4, self._frames - 1
        if self._frames:
            self._alarm.schedule(self._frame_cycles * CYCLE_NS)
        if self._dmacr & RECEIVE_DMA and len(self._rx_queue) > self._dmardlr:
            self.rp2040.dma.set_dreq(DREQChannel.DREQ_XIP_SSIRX)

    # Erase and program

    def _apply_command(self) -> None:
        command, enabled = bytes(self._tx_buffer[:4]), self._write_enabled
        super()._apply_command()
        if len(command) == 4 and enabled and command[0] in BUSY:
            length = LENGTHS[command[0]]
            self._on_written(int.from_bytes(command[1:], "big") // length * length, length)
            self._wait(BUSY[command[0]])

    def _wait(self, seconds: float) -> None:
        """Firmware polls for the end in RAM or ROM with interrupts masked: the time passes at once.

        Core 1 runs on meanwhile, if it is awake. Whoever reads flash would get anything: that ends the emulation.
        """
        mcu, accesses = self.rp2040, self._words[ACCESSES]
        self._words[ACCESSES] = 0
        pass_time(mcu, seconds * 1e9 / self._clock.scale)
        core0: Any = mcu.core0  # type: ignore[attr-defined]
        in_flash = mcu.core is not core0 and not core0.waiting and core0.registers[15] >> 28 == FLASH_PAGE
        if self._words[ACCESSES] or in_flash:
            raise SimError("flash was read while it was erased or programmed: the other core has to be kept in RAM")
        self._words[ACCESSES] = accesses


def attach(mcu: RP2040, clock: SystemClock, on_written: Callable[[int, int], None], ideal: bool = False) -> None:
    """Puts the flash's timing into an emulated chip; see `Ssi`."""
    control = mcu.peripherals[0x14000] = XipControl(mcu)
    mcu.xip_ctrl = control  # type: ignore[assignment]
    mcu.peripherals[AUX] = _Aux(mcu, control)
    mcu.ssi = mcu.peripherals[0x18000] = Ssi(mcu, clock, on_written, ideal)
