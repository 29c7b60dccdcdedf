"""The package without Python's Unix modules, as on Windows: everything except virtual boards works."""

import subprocess
import sys

import pytest

# Other packages have their own ways on Windows: they are imported first, with all modules.
WINDOWS = """
import contextlib, importlib, importlib.abc, io, os, pkgutil, signal, sys
import cryptography, esptool, mpremote.romfs, nicegui.ui, numpy, packaging.requirements, platformdirs, rich.progress
import serial.tools.list_ports, uvicorn
import asyncio, concurrent.futures.process, http.server, multiprocessing, pathlib, shutil, subprocess, tempfile

MISSING = {"fcntl", "termios", "pty", "tty", "grp", "pwd", "resource"}

class Windows(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in MISSING:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Windows())
for name in ("getuid", "geteuid", "getgid", "getpgid", "killpg", "fork", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
    delattr(os, name)
del signal.SIGKILL, signal.SIGHUP
sys.platform = "win32"
from edgelora.cli.main import main
"""
ALL_MODULES = """
import edgelora
OF_A_BOARDS_PROCESS = {f"edgelora.board.sim.{name}" for name in ("session", "pico", "qemu", "unix")}
for module in pkgutil.walk_packages(edgelora.__path__, "edgelora."):
    if module.name not in OF_A_BOARDS_PROCESS and not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert error.name not in MISSING, (module.name, error)
"""
COMMANDS = """
with contextlib.redirect_stdout(io.StringIO()) as out:
    for command in (["--help"], ["boards"], ["devices"]):
        try:
            assert not main(command), command
        except SystemExit as end:
            assert not end.code
assert "virtual-pico" in out.getvalue() and "COM3" not in out.getvalue()
from edgelora.board import virtual_boards
assert virtual_boards.running() == [] and virtual_boards.find("COM3") is None
with contextlib.redirect_stderr(io.StringIO()) as err:
    assert main(["sim", "unix"]) == 1
assert "need Linux or macOS" in err.getvalue(), err.getvalue()
"""


@pytest.mark.parametrize("code", [ALL_MODULES, COMMANDS], ids=["modules", "commands"])
def test_without_the_modules_of_unix(code: str, tmp_path) -> None:
    run = subprocess.run([sys.executable, "-c", WINDOWS + code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_port_is_a_name_and_no_path(tmp_path, monkeypatch) -> None:
    """A file or folder in the current folder with a port's name does not affect the port."""
    from edgelora.board import doctor, probe
    from edgelora.board.flash import esp as flash_esp
    from edgelora.board.flash import write
    from edgelora.board.flash import write as flash

    asked = []
    monkeypatch.setattr(flash_esp, "flash_esp", lambda target, *_, **__: asked.append(target))
    monkeypatch.setattr(flash, "wait_for_repl", lambda target, *_: asked.append(target))
    image = tmp_path / "fw.bin"
    image.write_bytes(b"\xe9")
    monkeypatch.chdir(tmp_path)
    for port in ("COM3", "socket://10.0.0.2:3333", "rfc2217://board:2217"):
        assert write.flash(port, image, board="esp32c3") == port
        assert probe.may_open(port) is None and doctor.check_access(port) == []
    assert asked == [port for port in ("COM3", "socket://10.0.0.2:3333", "rfc2217://board:2217") for _ in range(2)]
