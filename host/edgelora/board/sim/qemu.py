"""MicroPython on a 32-bit RISC-V machine emulated by QEMU."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from edgelora.base import resources
from edgelora.board.virtual_boards import SimError

from .console import POLL_SECONDS
from .session import SETTLE_SECONDS, Session
from .virtual_board import QEMU

CPU = "rv32,zkr=on"  # with a source of entropy
QEMU_FIRMWARE = resources.programs() / "qemu/virtual-riscv/firmware.elf"
MEMORY_BYTES = 16 << 20  # program, RAM and flash


class Qemu:
    """The machine's process. Its memory is a file, so the firmware's flash persists."""

    def __init__(self, state_dir: Path, session: Session, firmware: Path | None) -> None:
        self.session = session
        (state_dir / "drive").mkdir(exist_ok=True)
        kept = state_dir / "firmware.elf"
        if not (firmware or kept.exists() or QEMU_FIRMWARE.exists()):
            remedy = "give one with --firmware" if resources.installed() else "run `make firmware-qemu`"
            raise SimError(f"there is no firmware for this board: {remedy}")
        if firmware or not kept.exists():
            shutil.copyfile(firmware or QEMU_FIRMWARE, kept)
        memory = f"memory-backend-file,id=memory,size={MEMORY_BYTES},share=on,mem-path={state_dir / 'memory.bin'}"
        self.command = [QEMU, "-machine", "virt,memory-backend=memory", "-object", memory, "-m", f"{MEMORY_BYTES}b"]
        self.command += ["-cpu", CPU, "-bios", "none", "-kernel", str(kept)]
        self.command += ["-nographic", "-monitor", "none", "-serial", "pty"]

    def run(self) -> None:
        """Runs the board until the session ends. Raises `SimError` if the machine exits."""
        process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
        assert process.stdout is not None
        try:
            if said := re.search(r"redirected to (\S+)", process.stdout.readline()):
                self.session.terminal.attach(said[1])
                time.sleep(SETTLE_SECONDS)
                self.session.announce()
                while process.poll() is None:
                    self.session.check(POLL_SECONDS)
                    time.sleep(POLL_SECONDS)
            raise SimError(f"{QEMU} ended: {process.wait()}")
        finally:
            process.kill()
            process.wait()
