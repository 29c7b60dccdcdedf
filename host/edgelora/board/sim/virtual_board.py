"""Virtual boards behind a pseudo-terminal: an emulated Raspberry Pi Pico or RISC-V machine, or desktop MicroPython.

`start` runs a board as a background process (`python -m edgelora.board.sim`) which outlives the caller. Its state
folder has the state that a real board keeps without power, so starting it again there is a power cycle:

    flash.bin   the flash chip (Pico), written through at every erase and program command
    flash, rom  the filesystem's flash and the ROMFS image (unix)
    memory.bin  the machine's memory with the firmware's flash (RISC-V); firmware.elf is the program
    world.json  a Pico's sensor input, button presses and noise source (see `world`)
    clock       the board's time
    port        link to the board's serial port; stays valid across resets
    drive/      the volume for firmware. A Pico has it only in its boot loader
    sim.log     errors
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from edgelora.base import resources
from edgelora.base.errors import MissingPackage
from edgelora.board.profiles import load_board
from edgelora.board.virtual_boards import SUPPORTED, BoardClock, SimError, SimHandle, entry_of, is_held, send

UNIX_BINARY = resources.micropython()
QEMU = "qemu-system-riscv32"

POLL_SECONDS = 0.2
REAL_SECONDS = 600.0  # for a board to come up on the slowest computer
_children: list[subprocess.Popen[bytes]] = []  # kept to reap ended boards


def start(
    board: str,
    firmware: Path | None,
    state_dir: Path,
    *,
    bootloader: bool = False,
    ideal_flash: bool = False,
    die_with_parent: bool = False,
    timeout: float = 20.0,
) -> SimHandle:
    """Powers up a virtual board and returns once its port, or its drive, exists.

    firmware: the image to write to its flash first (.uf2; .romfs for unix, .elf for RISC-V); None keeps the current
    content.
    A Pico with an empty flash, or started with `bootloader`, shows its drive and waits for firmware.
    ideal_flash: a Pico's reads of flash never stall, as on no real one.
    die_with_parent: end the board when the calling process ends.
    Raises `SimError` with the end of the board's log if it does not come up within `timeout` seconds of its own time,
    and as `check_can_run` does.
    """
    check_can_run(board)
    if firmware is not None and not firmware.is_file():
        raise SimError(f"{firmware}: no such firmware file")
    state_dir = state_dir.resolve()
    state_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "edgelora.board.sim", board, str(state_dir)]
    command += ["--firmware", str(firmware.resolve())] if firmware else []
    command += ["--bootloader"] if bootloader else []
    command += ["--ideal-flash"] if ideal_flash else []
    command += ["--parent", str(os.getpid())] if die_with_parent else []
    with open(state_dir / "sim.log", "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    assert process.stdout is not None
    try:
        with process.stdout as ready:
            if _wait(ready, BoardClock(state_dir), timeout) and (line := ready.readline()):
                _children.append(process)
                return SimHandle(**json.loads(line))
    except BaseException:
        _cut(process)
        raise
    _cut(process)
    tail = (state_dir / "sim.log").read_text(errors="replace").strip().splitlines()[-15:]
    raise SimError(f"{board} did not start:\n  " + "\n  ".join(tail or [f"no answer within {timeout:g} s"]))


def check_can_run(board: str) -> None:
    """Raises `SimError` or `MissingPackage` if this computer can't run a virtual board."""
    profile = load_board(board)
    if not SUPPORTED:
        raise SimError("virtual boards need Linux or macOS")
    if not profile.is_virtual:
        raise SimError(f"{board} is real hardware; connect it by USB, or use virtual-pico")
    if profile.port == "unix" and not UNIX_BINARY.exists():
        raise SimError(f"{UNIX_BINARY} is missing: {resources.micropython_remedy()}")
    if profile.port == "rp2" and resources.emulator() is None and find_spec("rp2040py") is None:
        raise MissingPackage(
            f"{board} runs on the emulator rp2040py, which is not installed", remedy="pip install 'edgelora[sim]'"
        )
    if profile.port == "qemu" and shutil.which(QEMU) is None:
        raise SimError(f"{QEMU} is missing; install it (`apt-get install qemu-system-riscv`)")


def discard(state_dir: Path) -> None:
    """Deletes a virtual board with its state, if there is one. Raises as `check_unplugged` does."""
    check_unplugged(state_dir)
    if state_dir.exists():
        shutil.rmtree(state_dir)


def check_unplugged(state_dir: Path) -> None:
    """Raises `SimError` unless a folder's virtual board may be deleted, or the folder is missing."""
    state_dir = state_dir.resolve()
    if is_held(entry_of(state_dir)):
        remedy = f"`edgelora sim --stop --state {state_dir}` unplugs it"
        raise SimError(f"the virtual board in {state_dir} is plugged in", remedy=remedy)
    if state_dir.exists() and not (state_dir / "sim.log").is_file():
        raise SimError(f"{state_dir} is not a virtual board's folder: remove it, or choose another one")


def _wait(ready: IO[bytes], clock: BoardClock, timeout: float) -> bool:
    """Whether there is input, or the board has ended, within `timeout` seconds of its time."""
    end, real_end = clock() + timeout, time.monotonic() + REAL_SECONDS
    while not select.select([ready], [], [], POLL_SECONDS)[0]:
        if clock() > end or time.monotonic() > real_end:
            return False
    return True


def _cut(process: subprocess.Popen[bytes]) -> None:
    """Ends a board that did not come up, with its child processes."""
    with contextlib.suppress(ProcessLookupError):
        send(process.pid, signal.SIGKILL)
    process.wait()
