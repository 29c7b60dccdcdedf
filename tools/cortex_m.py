"""The core on an emulated Cortex-M: QEMU's models of Arm's MPS2 boards, without an operating system.

Calls are collected, carried out together by cortex_m.c and answered in their order; names and arguments are those of
`twin.Session`. QEMU has no model of cycles: what `count` counts are instructions, exactly.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.boards import ROOT
from edgelora.twin import MODES

CORE = ROOT / "micropython_module" / "core"
RUNNER = Path(__file__).with_suffix(".c")
CALLS = ("open", "begin", "load", "use", "train", "flush", "save", "infer", "count")
RAM_BYTES = 0x400000
ROOM = 0x100000 - 4  # for calls, bytes
OPTIMIZATION = "-O3"  # as in firmware
TIMEOUT = 120.0  # seconds


@dataclass(frozen=True)
class Machine:
    """A core and the board that QEMU puts it on. code, ram: where memory is."""

    core: str
    machine: str
    code: int
    ram: int


CORTEX_M33 = Machine("cortex-m33", "mps2-an505", 0x10000000, 0x38000000)
CORTEX_M4 = Machine("cortex-m4", "mps2-an386", 0, 0x20000000)
CORTEX_M7 = Machine("cortex-m7", "mps2-an500", 0, 0x20000000)


def build(machine: Machine, folder: Path) -> Path:
    """Compiles the core and its runner to an executable in `folder`."""
    out = folder / f"{machine.core}.elf"
    flags = ["-std=gnu99", OPTIMIZATION, "-Wall", "-Wextra", "-Werror", f"-mcpu={machine.core}", "-mthumb"]
    link = [
        *("-nostartfiles", "--specs=nosys.specs", "-Wl,-emain", f"-Wl,--section-start=.vectors={machine.code:#x}"),
        *(f"-Wl,-Ttext={machine.code + 0x1000:#x}", f"-Wl,-Tdata={machine.ram:#x}"),
        f"-Wl,--defsym=stack_end={machine.ram + RAM_BYTES:#x}",
    ]
    sources = [RUNNER, *sorted(CORE.rglob("*.c"))]
    subprocess.run(["arm-none-eabi-gcc", *flags, f"-I{CORE}", *link, *sources, "-o", out], check=True)
    return out


class Calls:
    """Calls to the core, to be carried out by `run`."""

    def __init__(self) -> None:
        self._script = bytearray()
        self._names: list[str] = []

    def _call(self, name: str, *arguments: int | bytes | NDArray[np.int8]) -> None:
        self._script += struct.pack("<I", CALLS.index(name))
        for argument in arguments:
            if isinstance(argument, int | np.integer):
                self._script += struct.pack("<I", argument)
            else:
                data = bytes(argument)
                self._script += struct.pack("<I", len(data)) + data + bytes(-len(data) % 4)
        self._names.append(name)

    def open(
        self,
        model: bytes,
        ranks: bytes,
        mode: str = "frozen_a",
        micro_batch: int = 8,
        momentum: int = 0,
        threshold: int = 0,
        frames: int = 1,
        plain: bool = False,
    ) -> None:
        self._call("open", model, ranks, MODES.index(mode), micro_batch, momentum, threshold, frames, int(plain))

    def begin(self, seed: int) -> None:
        self._call("begin", seed)

    def load(self, adapter: bytes) -> None:
        self._call("load", adapter)

    def use(self, adapter: bytes | None) -> None:
        self._call("use", adapter or b"")

    def train(self, x: NDArray[np.int8], label: int | NDArray[np.int8], learning_rate: int) -> None:
        is_label = isinstance(label, int | np.integer)
        self._call("train", x, b"" if is_label else label, label if is_label else 0, learning_rate)

    def flush(self, learning_rate: int) -> None:
        self._call("flush", learning_rate)

    def save(self, state: bool = False) -> None:
        self._call("save", int(state))

    def infer(self, x: NDArray[np.int8]) -> None:
        self._call("infer", x)

    def count(self, x: NDArray[np.int8], start: int, end: int) -> None:
        """Instructions of ops [start, end) of an inference."""
        self._call("count", x, start, end)

    def run(self, machine: Machine, elf: Path) -> list[bytes | int]:
        """What each call answered: bytes of `infer` (all outputs) and `save`, else a number (a status, a loss).

        Raises `RuntimeError` for more calls than there is room for, `subprocess.SubprocessError` if the machine hangs
        or runs out of room for answers.
        """
        if len(self._script) > ROOM:
            raise RuntimeError(f"{len(self._script)} bytes of calls, {machine.machine} takes {ROOM}: run them in parts")
        folder = elf.parent
        (folder / "calls").write_bytes(struct.pack("<I", len(self._names)) + self._script)
        (folder / "answers").unlink(missing_ok=True)
        command: list[str | Path] = ["qemu-system-arm", "-machine", machine.machine, "-icount", "shift=6", "-nographic"]
        command += ["-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
        command += ["-kernel", elf]
        subprocess.run(command, cwd=folder, check=True, timeout=TIMEOUT)
        return list(self._answers((folder / "answers").read_bytes()))

    def _answers(self, data: bytes) -> Iterator[bytes | int]:
        for name in self._names:
            size = int.from_bytes(data[:4], "little")
            answer, data = data[4 : 4 + size], data[4 + size :]
            yield answer if name in ("infer", "save") else int.from_bytes(answer, "little", signed=True)
