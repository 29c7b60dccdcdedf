"""EdgeLoRA on stock MicroPython: `edgelora install`, and `mip` with the same packages."""

from __future__ import annotations

import functools
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fresh import slow
from programs import running

from edgelora.base.resources import ROOT
from edgelora.board import installing, virtual_boards
from edgelora.board.build import DIST, NATIVE_ARCHES, program
from edgelora.board.installing import InstallError, check_format, choose_arch, read_package
from edgelora.board.link.client import Link
from edgelora.board.link.replies import Hello
from edgelora.board.profiles import load_board
from edgelora.cli.main import main

sys.path.insert(0, str(ROOT / "tools"))

import natmods  # noqa: E402

MODULE = "/lib/edgelora/__init__.mpy"
NATIVE = [f"/lib/{name}" for name in natmods.NATIVE]  # native modules come first
PURE = [f"/lib/{name}" for name in natmods.pure_modules()]  # pure Python modules


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[virtual_boards.SimHandle]:
    """A RISC-V machine with stock firmware and an empty filesystem."""
    firmware = program(load_board("virtual-riscv"))
    with running("virtual-riscv", firmware, tmp_path_factory.mktemp("riscv")) as handle:
        yield handle


def run(board: virtual_boards.SimHandle, *command: str) -> str:
    line = [sys.executable, "-m", "mpremote", "connect", board.port, *command]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install_by_command(board: virtual_boards.SimHandle, capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    assert main(["install", "--port", board.port, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@slow
def test_mip_installs_from_a_release(board: virtual_boards.SimHandle, capsys: pytest.CaptureFixture[str]) -> None:
    """The board then has the files that `edgelora install` copies."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=DIST)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        run(board, "mip", "install", f"http://127.0.0.1:{server.server_port}/rv32imc/")
        server.shutdown()
    assert run(board, "exec", "import edgelora; print(edgelora.__file__)").strip() == MODULE
    with Link.connect(board.port) as link:
        assert link.hello().edgelora
    files = install_by_command(board, capsys)["files"]
    assert [(file["path"], file["copied"]) for file in files] == [(path, False) for path in (*NATIVE, *PURE)]


def test_repairs_and_leaves_alone(board: virtual_boards.SimHandle, capsys: pytest.CaptureFixture[str]) -> None:
    """On an empty board, or after mip, if its test was drawn."""
    first = install_by_command(board, capsys)
    assert first["arch"] == "rv32imc" and first["free_heap"] > 0
    assert [file["path"] for file in first["files"]] == [*NATIVE, *PURE]
    with Link.connect(board.port) as link:
        damaged = bytearray(link.get(MODULE))
        damaged[20000] ^= 1
        link.put(MODULE, bytes(damaged))
        link.remove(PURE[-1])
    again = install_by_command(board, capsys)
    copied = [file["path"] for file in again["files"] if file["copied"]]
    assert copied == [MODULE, PURE[-1]] and again["edgelora"] == first["edgelora"]


@pytest.mark.parametrize("path", ["/edgelora.py", "/edgelora/notes.txt", "/lib/edgelora/store.py"])
def test_files_that_would_shadow_the_package_are_refused(path: str, board: virtual_boards.SimHandle) -> None:
    with Link.connect(board.port) as link:
        link.put(path, b"__version__ = 'old'\n")
    hiding = path if path.endswith(".py") else "/edgelora"
    with pytest.raises(InstallError, match=rf"the board has {hiding}, .*: `mpremote fs rm.* :{hiding}`"):
        installing.install(board.port, DIST)
    run(board, "fs", "rm", "-r", f":{hiding}")


def test_modules_of_earlier_versions_are_removed(board: virtual_boards.SimHandle) -> None:
    old = ["/lib/edgelora.mpy", "/lib/edgelora_store.mpy", "/lib/edgelora/_work.mpy", "/lib/edgelora/_own.mpy"]
    with Link.connect(board.port) as link:
        for path in (*old, "/lib/edgelora_mine.mpy"):
            link.put(path, b"old")
    assert installing.install(board.port, DIST).edgelora
    with Link.connect(board.port) as link:
        assert {entry.name for entry in link.list("/lib")} == {"edgelora", "edgelora_mine.mpy"}
        assert {f"/lib/edgelora/{entry.name}" for entry in link.list("/lib/edgelora")} == {*NATIVE, *PURE}
        link.remove("/lib/edgelora_mine.mpy")


@slow
def test_a_full_filesystem_is_told_before_anything_is_copied(board: virtual_boards.SimHandle) -> None:
    with Link.connect(board.port) as link:
        link.remove(MODULE)
        blocks = (link.space("/").free - 50_000) // 4096
    run(board, "exec", f"with open('/big', 'wb') as f:\n for _ in range({blocks}): f.write(bytes(4096))")
    with pytest.raises(InstallError, match=r"\d+ bytes free, \d+ are needed: remove files"):
        installing.install(board.port, DIST)
    with Link.connect(board.port) as link:
        assert {f"/lib/edgelora/{entry.name}" for entry in link.list("/lib/edgelora")} == {*NATIVE[1:], *PURE}
        link.remove("/big")
    assert installing.install(board.port, DIST).files[0].copied


def test_firmware_that_has_edgelora_needs_nothing(tmp_path: Path) -> None:
    with running("unix", None, tmp_path) as handle:
        done = installing.install(handle.port, tmp_path)
        assert done.edgelora and not done.files


HELLO = Hello(1, None, "a board", "1.25.0", 0, 100_000, "", 8256, False, 0, False, 0, 0)


def on(arch: int, version: int = 6, sub: int = 3) -> Hello:
    return replace(HELLO, mpy=version | sub << 8 | arch << 10)


def test_architectures() -> None:
    assert choose_arch(on(4)) == "armv6m"
    assert choose_arch(on(6)) == "armv7m"  # an M4 without FPU runs code for an M3
    assert choose_arch(on(8)) == "armv7emsp"
    assert choose_arch(on(11)) == "rv32imc"
    with pytest.raises(InstallError, match="a board needs a module for xtensa; there are armv6m, "):
        choose_arch(on(9))
    for unknown in (0, 15):
        with pytest.raises(InstallError, match=r"loads no native modules, .*_mpy is \d+"):
            choose_arch(on(unknown))
    made = re.search(r"^NATIVE_ARCHES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert made and tuple(made[1].split()) == NATIVE_ARCHES


def test_formats_and_packages(tmp_path: Path) -> None:
    _, files = read_package(DIST / "armv6m")
    check_format(on(4), files[MODULE])
    with pytest.raises(InstallError, match=r"format 6\.2, this one is 6\.3: update the board's MicroPython"):
        check_format(on(4, sub=2), files[MODULE])
    with pytest.raises(InstallError, match=r"format 7\.0, this one is 6\.3: update EdgeLoRA"):
        check_format(on(4, 7, 0), files[MODULE])
    with pytest.raises(InstallError, match="no complete package"):
        read_package(tmp_path)
