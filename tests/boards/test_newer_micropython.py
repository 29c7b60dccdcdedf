"""Firmware whose `.mpy` files have flags of the core, as MicroPython after 1.25 builds it.

The tree is Debian's 1.25, changed to read and tell flags as the newer ones do. `make test-all` builds it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fresh import FULL

from edgelora.base.resources import ROOT
from edgelora.board import installing, virtual_boards
from edgelora.board.build import DIST
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board

pytestmark = pytest.mark.skipif(not FULL, reason="builds firmware: `make test-all`")
BOARD = "virtual-riscv"
ZBA = 1  # flags of RV32, as MicroPython numbers them
ZCMP = 2
FEATURE = 0x40  # of a file's third byte: flags follow the header
# What newer trees have: the place in 1.25, and what is there then.
CHANGES = {
    "py/persistentcode.h": (
        "#define MPY_FEATURE_DECODE_ARCH(feat) ((feat) >> 2)",
        f"#define MPY_FEATURE_DECODE_ARCH(feat) (((feat) >> 2) & 0x2F)\n#define CORE_FLAGS {ZBA}",
    ),
    "py/modsys.c": ("MP_ROM_INT(MPY_FILE_HEADER_INT)", "MP_ROM_INT(MPY_FILE_HEADER_INT | CORE_FLAGS << 16)"),
    "py/persistentcode.c": (
        "    size_t n_qstr = read_uint(reader);\n",
        f"    if ((header[2] & {FEATURE}) && (read_uint(reader) & ~CORE_FLAGS)) {{\n"
        '        mp_raise_ValueError(MP_ERROR_TEXT("incompatible .mpy file"));\n'
        "    }\n"
        "    size_t n_qstr = read_uint(reader);\n",
    ),
}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[virtual_boards.SimHandle]:
    """A RISC-V machine with such firmware, without EdgeLoRA, and an empty filesystem."""
    folder = tmp_path_factory.mktemp("newer")
    tree = folder / "micropython"
    shutil.copytree(ROOT / ".build" / "src" / "micropython", tree, symlinks=True)
    for name, (old, new) in CHANGES.items():
        text = (tree / name).read_text()
        assert text.count(old) == 1, name
        (tree / name).write_text(text.replace(old, new))
    build = folder / "build"
    command = ["make", "-C", tree / "ports" / "qemu", f"BUILD={build}", f"BOARD={BOARD}"]
    command += [f"BOARD_DIR={ROOT / 'boards' / BOARD}", f"-j{os.cpu_count()}"]
    settings = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    handle = virtual_board.start(BOARD, build / "firmware.elf", folder / "state", die_with_parent=True)
    yield handle
    handle.stop()


def run(board: virtual_boards.SimHandle, *command: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mpremote", "connect", board.port, *map(str, command)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def with_flags(content: bytes, flags: int) -> bytes:
    """A native `.mpy` file that says which flags its code needs."""
    return bytes([*content[:2], content[2] | FEATURE, content[3], flags]) + content[4:]


def test_the_package_is_chosen_installed_and_imported(board: virtual_boards.SimHandle) -> None:
    with Link.connect(board.port) as link:
        assert link.hello().mpy >> 16 == ZBA
    installed = installing.install(board.port, DIST)
    assert installed.arch == "rv32imc" and installed.edgelora
    with Link.connect(board.port) as link:
        assert link.hello().edgelora == installed.edgelora


def test_a_module_loads_if_the_core_has_what_it_needs(board: virtual_boards.SimHandle, tmp_path: Path) -> None:
    """The firmware tells flags apart: a file that needs Zba is imported, one that needs Zcmp is not."""
    content = (DIST / "rv32imc" / "edgelora" / "__init__.mpy").read_bytes()
    for flags, error in ((ZBA, ""), (ZBA | ZCMP, "incompatible .mpy file")):
        (tmp_path / "core.mpy").write_bytes(with_flags(content, flags))
        assert run(board, "fs", "cp", tmp_path / "core.mpy", ":core.mpy").returncode == 0
        done = run(board, "exec", "import core; print(core.Model)")
        assert ("Model" in done.stdout) == (not error) and error in done.stdout + done.stderr
