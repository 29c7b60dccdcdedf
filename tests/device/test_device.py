"""The device suite on all builds that run here: in firmware (unix, rp2, Cortex-M33) and native (all but armv7m)."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import device_cases
import numpy as np
import pytest
import random_models
import wake_words
from fresh import FULL, fresh_seeds, in_full_runs, slow, some

from edgelora.base.resources import ROOT
from edgelora.board import build, installing, romfs, virtual_boards
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.board.sim.virtual_board import UNIX_BINARY
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin.session import Session

SUITE = Path(__file__).parent / "programs" / "device_suite.py"
NATIVE = ROOT / ".build" / "natmod"  # native modules only


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite and its cases, as on a device's filesystem."""
    folder = tmp_path_factory.mktemp("suite")
    device_cases.write_cases(folder / "cases.json", device_cases.CASES)
    device_cases.write_cases(folder / "graphs.json", device_cases.GRAPHS)
    device_cases.write_cases(folder / "few.json", device_cases.CASES if FULL else device_cases.CASES[::3])
    shutil.copy(SUITE, folder)
    for name, content in wake_words.device_files().items():
        (folder / name).write_bytes(content)
    return folder


def check(output: str, least: int = 50) -> None:
    """Checks the suite's own lines, not an exit status; `least`: the minimum number of checks."""
    failures = [line for line in output.splitlines() if line.startswith("FAIL")]
    assert not failures, failures
    ended = re.search(r"^SUITE (\d+) (\d+)", output, re.MULTILINE)
    assert ended, output[-2000:]
    assert (int(ended[1]), int(ended[2])) == (output.count("PASS"), 0)
    assert int(ended[1]) >= least


def run_desktop(micropython: Path, code: str, folder: Path) -> str:
    done = subprocess.run(
        [micropython, "-c", code], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    return done.stdout + done.stderr


def frames() -> list[str]:
    """The cases of a real streaming network."""
    return [name for name in wake_words.device_files() if name.endswith(".frames")]


def test_unix_firmware(folder: Path) -> None:
    check(run_desktop(UNIX_BINARY, "import device_suite; device_suite.main('cases.json', 'graphs.json')", folder))


def test_wake_word_on_unix(folder: Path) -> None:
    code = f"import device_suite; device_suite.main(*{frames()})"
    check(run_desktop(UNIX_BINARY, code, folder), 4)


def test_threads_on_one_session_get_an_error_and_no_garbage(tmp_path: Path) -> None:
    model = random_models.random_model(3, "medium", ("conv", "conv", "dense"), edges=False)
    (tmp_path / "base.elm").write_bytes(pack_model(model))
    shutil.copy(SUITE.parent / "two_threads.py", tmp_path)
    assert run_desktop(UNIX_BINARY, "import two_threads; two_threads.main([2, 2, 2])", tmp_path) == "EQUAL\n"


def interrupted(micropython: Path, folder: Path, times: int, before: str = "", heap: bool = True) -> tuple[int, bytes]:
    """The number of samples learned, and the adapter, of a program interrupted by Ctrl-C at `times` random moments."""
    shutil.copy(SUITE.parent / "interrupted.py", folder)
    code = f"{before}import interrupted; interrupted.main([2, 2, 2], {times}, {heap})"
    rng = np.random.default_rng(fresh_seeds(1)[0])
    with subprocess.Popen([micropython, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(times):
            assert process.stdout.readline() == "READY\n"
            time.sleep(rng.uniform(0, 0.003))
            process.send_signal(signal.SIGINT)
        samples, adapter = process.stdout.read().split()
    return int(samples), bytes.fromhex(adapter)


def interruptible(folder: Path) -> bytes:
    """The base of the interrupted program."""
    model = random_models.random_model(3, "medium", ("conv", "conv", "dense"), edges=False)
    data = pack_model(model)
    (folder / "base.elm").write_bytes(data)
    return data


def learned(data: bytes, samples: list[int]) -> bytes:
    """The adapter after these samples, given by number, without interrupts; a sample's class is its number's parity."""
    session = Session(data, bytes([2, 2, 2]), "trainable_a", 2, momentum=2)
    session.begin(1)
    size = session.sample_size
    for k in samples:
        x = ((np.arange(size) * 37 + k) & 255).astype(np.uint8).view(np.int8)
        session.train(x, k % 2, 20000)
    return session.save()


def test_ctrl_c_comes_between_calls_of_the_core(tmp_path: Path) -> None:
    """No session stays locked and no sample is learned in part: the adapter is that of a run without interrupts."""
    data = interruptible(tmp_path)
    samples, adapter = interrupted(UNIX_BINARY, tmp_path, 300)
    assert samples > 300 and learned(data, [done % 4 for done in range(samples)]) == adapter


def test_ctrl_c_waits_for_calls_of_the_native_module(tmp_path: Path) -> None:
    """Released MicroPython would jump out of C code; the signal is held back until the call returns."""
    data = interruptible(tmp_path)
    shutil.copytree(build.DIST / "x64", tmp_path / "x64")
    before = "import sys; sys.path.insert(0, 'x64'); "
    samples, adapter = interrupted(Path(sys.executable).parent / "micropython", tmp_path, 300, before, heap=False)
    assert samples > 300 and learned(data, [0] * samples) == adapter


def test_x64_native_module(folder: Path) -> None:
    shutil.copytree(build.DIST / "x64", folder / "x64")
    code = "import sys; sys.path.insert(0, 'x64'); import device_suite; device_suite.main('cases.json', 'graphs.json')"
    check(run_desktop(Path(sys.executable).parent / "micropython", code, folder))


@contextlib.contextmanager
def running(board: str, state: Path) -> Iterator[virtual_boards.SimHandle]:
    """A virtual board, started from its own image with an empty filesystem."""
    handle = virtual_board.start(board, build.build_firmware(board, {}, state / "image"), state, die_with_parent=True)
    try:
        yield handle
    finally:
        handle.stop()


def run_board(port: str, code: str) -> str:
    command = [sys.executable, "-m", "mpremote", "connect", port, "exec", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    return done.stdout + done.stderr


def run_suite(board: virtual_boards.SimHandle, folder: Path, *cases: str) -> str:
    """Runs the suite on a board; also prints the path of the module, which begins with a slash if it is a file."""
    models = [name.replace(".frames", ".elm") for name in cases if name.endswith(".frames")]
    with Link.connect(board.port) as link:
        for name in (SUITE.name, *cases, *models):
            link.put(f"/{name}", (folder / name).read_bytes())
    code = f"import edgelora, device_suite; print('FROM', edgelora.__file__); device_suite.main(*{cases})"
    return run_board(board.port, code)


def test_rp2_firmware(folder: Path, tmp_path: Path) -> None:
    with running("virtual-pico", tmp_path) as board:
        output = run_suite(board, folder, "few.json", *frames())
    check(output, least=50 if FULL else 25)
    assert "FROM /" not in output


@pytest.mark.parametrize(
    ("name", "cases"), some([("virtual-pico-stock", ["few.json"]), ("virtual-riscv", ["cases.json", "graphs.json"])])
)
@slow
def test_stock_firmware_with_the_module_installed(name: str, cases: list[str], folder: Path, tmp_path: Path) -> None:
    with running(name, tmp_path) as board:
        assert all(file.copied for file in installing.install(board.port).files)
        output = run_suite(board, folder, *cases)
    check(output, least=50 if FULL else 25)  # half of the cases
    assert "FROM /lib/edgelora/__init__.mpy" in output


@contextlib.contextmanager
def cortex_m(core: str, machine_name: str, rom: Path, files: dict[str, bytes]) -> Iterator[str]:
    """The port of an emulated Cortex-M with the files in ROMFS at 0x80000000."""
    rom.write_bytes(romfs.make_romfs(files))
    command = ["qemu-system-arm", "-machine", machine_name, "-nographic", "-monitor", "none", "-semihosting"]
    command += ["-serial", "pty", "-device", f"loader,file={rom},addr=0x80000000,force-raw=on"]
    command += ["-kernel", str(ROOT / ".build" / core / "firmware.elf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as machine:
        assert machine.stdout is not None
        told = re.search(r"redirected to (\S+)", machine.stdout.readline())
        assert told
        try:
            yield told[1]
        finally:
            machine.kill()


def suite_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("cases.json", "graphs.json", "device_suite.py")}


@pytest.fixture(scope="module")
def cortex_m33(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """With the native module beside the suite."""
    files = suite_files(folder) | {"edgelora.mpy": (NATIVE / "armv7emsp" / "edgelora.mpy").read_bytes()}
    with cortex_m("cortex_m33", "mps2-an505", tmp_path_factory.mktemp("cortex_m33") / "suite.romfs", files) as port:
        yield port


MOUNT = "import sys, uctypes, vfs\nvfs.mount(vfs.VfsRom(uctypes.bytearray_at(0x80000000, 1 << 20)), '/rom')\n"
RUN_FROM_ROM = "import device_suite\ndevice_suite.main('/rom/cases.json', '/rom/graphs.json')\nvfs.umount('/rom')\n"


def test_cortex_m33_firmware(cortex_m33: str) -> None:
    check(run_board(cortex_m33, MOUNT + "sys.path[:] = ['.frozen', '/rom']\n" + RUN_FROM_ROM))


@in_full_runs("builds firmware of its own; test_cores.py compares Helium's kernels")
def test_cortex_m55_firmware(folder: Path, tmp_path: Path) -> None:
    """With Helium's kernels, which work in memory behind the arena."""
    model = random_models.random_model(1)
    elm = pack_model(model)
    planned = Session(elm, bytes(len(model.ops)), "infer", 1).arena_bytes
    told = "import edgelora, device_suite\nroom = len(edgelora.Model('/rom/base.elm', 0, 'infer', 1).arena)\n"
    told += f"device_suite.ROOM = room - {planned}\nprint('ROOM', device_suite.ROOM)\n"
    files = suite_files(folder) | {"base.elm": elm}
    with cortex_m("cortex_m55", "mps3-an547", tmp_path / "suite.romfs", files) as port:
        output = run_board(port, MOUNT + "sys.path[:] = ['.frozen', '/rom']\n" + told + RUN_FROM_ROM)
    check(output)
    room = re.search(r"ROOM (\d+)", output)
    assert room and int(room[1]) > 32768


NATIVE_FIRST = "sys.path[:] = ['/rom']\nimport edgelora, _edgelora\nassert edgelora._core is not _edgelora\n"


def test_armv7emsp_native_module(cortex_m33: str) -> None:
    check(run_board(cortex_m33, MOUNT + NATIVE_FIRST + RUN_FROM_ROM))


@in_full_runs("the tests above run the module on an M33, and the M55")
def test_armv7emsp_native_module_on_a_cortex_m55(folder: Path, tmp_path: Path) -> None:
    """As stock firmware of an STM32N6 or an Ensemble E3 loads it, without Helium."""
    files = suite_files(folder) | {"edgelora.mpy": (NATIVE / "armv7emsp" / "edgelora.mpy").read_bytes()}
    with cortex_m("cortex_m55", "mps3-an547", tmp_path / "suite.romfs", files) as port:
        arch = "assert sys.implementation._mpy >> 10 == 8  # armv7emdp, as the boards' profiles say\n"
        check(run_board(port, MOUNT + arch + NATIVE_FIRST + RUN_FROM_ROM))


# Modules from Espressif's compiler have instructions that no emulated core implements.
emulated_xtensa = pytest.mark.skipif(
    bool(shutil.which("xtensa-esp32s2-elf-gcc")), reason="made by Espressif's compiler"
)


def run_xtensa(files: dict[str, bytes], image: Path, program: str = "micropython") -> str:
    """Runs main.py of the files on an emulated windowed Xtensa core."""
    image.write_bytes(romfs.make_romfs(files))
    command = ["qemu-xtensa", "-cpu", "dc233c", ROOT / ".build" / "xtensa" / program, image]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    return done.stdout + done.stderr


@emulated_xtensa
@pytest.mark.parametrize("program", some(["micropython", "micropython-s3"]))  # without vectors, and with an ESP32-S3's
def test_xtensawin_native_module(folder: Path, program: str) -> None:
    files = {name: (folder / name).read_bytes() for name in ("cases.json", "graphs.json", "device_suite.py")}
    files["edgelora.mpy"] = (NATIVE / "xtensawin" / "edgelora.mpy").read_bytes()
    files["main.py"] = b"import device_suite; device_suite.main('/rom/cases.json', '/rom/graphs.json')"
    check(run_xtensa(files, folder / f"{program}.romfs", program))


@emulated_xtensa
def test_xtensawin_module_with_constants_among_its_code_is_refused(tmp_path: Path) -> None:
    """An ESP32 can't read such constants."""
    link = "import mpy_ld; mpy_ld.ARCH_DATA['xtensawin'].separate_rodata = False; mpy_ld.main()"
    made, linked = NATIVE / "xtensawin" / "build", tmp_path / "linked.mpy"
    options = ["--arch", "xtensawin", "--qstrs", made / "edgelora.config.h", "-o", linked, made / "all.o"]
    tools = {"PYTHONPATH": str(ROOT / ".build" / "src" / "micropython" / "tools")}
    subprocess.run([sys.executable, "-c", link, *options], env=tools, check=True, timeout=60)
    files = {"edgelora.mpy": linked.read_bytes(), "main.py": b"import edgelora; print('imported')"}
    output = run_xtensa(files, tmp_path / "linked.romfs")
    assert "ImportError: constants_in_instruction_memory" in output and "imported" not in output
