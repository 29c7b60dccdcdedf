"""Desktop MicroPython as a board."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

from edgelora.base import resources
from edgelora.board.profiles import BoardProfile
from edgelora.board.romfs import check_romfs
from edgelora.board.virtual_boards import SimError
from edgelora.core.formats.files import write_atomic

from .console import POLL_SECONDS
from .session import SETTLE_SECONDS, Session
from .virtual_board import UNIX_BINARY

# Stock MicroPython lacks the module and the board's part. Both are imported before the board's own files can hide
# them, like built-in modules.
START = """
import sys
try:
    import edgelora_unix
except ImportError:
    sys.path[:0] = {folders}
    import edgelora
    sys.modules["_edgelora"] = edgelora
    for name in {modules}:
        __import__("edgelora." + name)
    import edgelora_unix
edgelora_unix.run("flash", "rom")
"""


UNREAD_SECONDS = 0.3  # time that input waits for a program which does not read it
CTRL_C = b"\x03"


def _waiting(terminal: int) -> int:
    """Bytes of unread input."""
    return int.from_bytes(fcntl.ioctl(terminal, termios.FIONREAD, bytes(4)), sys.byteorder)


def _hears_ctrl_c(process: int) -> bool:
    """Whether Ctrl-C interrupts programs, as set by `micropython.kbd_intr`. A board's USB detects it in the input;
    desktop MicroPython leaves it in the input, where a program that does not read never sees it. Linux only.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)


class Unix:
    """Desktop MicroPython on its terminal, started again whenever it ends."""

    def __init__(self, profile: BoardProfile, state_dir: Path, session: Session) -> None:
        self.heap_bytes = profile.ram_bytes
        self.state_dir, self.session, self.terminal = state_dir, session, session.terminal
        self.drive, self.rom = state_dir / "drive", state_dir / "rom"
        self.drive.mkdir(exist_ok=True)

    def install(self, romfs: Path) -> None:
        """Installs the ROMFS image to mount at /rom from the next start on."""
        image = romfs.read_bytes()
        check_romfs(image, romfs.name)
        write_atomic(self.rom, image)

    def run(self) -> None:
        """Runs the board until the session ends. Raises `SimError` if MicroPython repeatedly exits immediately."""
        device = resources.device_file("edgelora_unix.py").parent
        package = resources.natmods() / "x64"
        modules = sorted({path.stem for path in package.glob("edgelora/*.mpy")} - {"__init__", "_rp2_i2s"})
        code = START.format(folders=[str(package), str(device)], modules=modules)
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
            short = time.monotonic() - started < SETTLE_SECONDS
            failures = failures + 1 if short and process.returncode else 0  # 0: a host said goodbye early
        raise SimError("MicroPython ends as soon as it is started")

    def _look_for_ctrl_c(self, process: subprocess.Popen[bytes]) -> None:
        """Interrupts the program if the input has a Ctrl-C, and drops the input before it."""
        _, ctrl_c, rest = (data := os.read(self.terminal.fd, 4096)).rpartition(CTRL_C)
        if left := rest if ctrl_c else data:
            self.terminal.put_back(left)
        if ctrl_c:
            process.send_signal(signal.SIGINT)

    def _watch(self, process: subprocess.Popen[bytes], started: float) -> None:
        """Returns when MicroPython ended, or must be restarted with a new ROMFS image."""
        unread = 0.0
        while process.poll() is None:
            self.session.check(POLL_SECONDS)
            unread = unread + POLL_SECONDS if _waiting(self.terminal.fd) else 0.0
            if unread > UNREAD_SECONDS and _hears_ctrl_c(process.pid):
                self._look_for_ctrl_c(process)
                unread = 0.0
            if time.monotonic() - started > SETTLE_SECONDS:
                self.session.announce()
            for path in self.drive.glob("*.romfs"):
                self.install(path)
                path.unlink()
                return
            time.sleep(POLL_SECONDS)
