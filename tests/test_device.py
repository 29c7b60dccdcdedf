"""One device suite over all builds that run: in firmware (unix, rp2, Cortex-M33), native (x64, Arm, xtensawin)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import device_cases
import pytest
import wake_words

from edgelora import build, sim
from edgelora.boards import ROOT
from edgelora.link import Link

SUITE = Path(__file__).parent / "device" / "device_suite.py"
NATIVE = ROOT / ".build" / "natmod"
# Hides the firmware's own C module, so that the native module's code is what runs.
HIDE_BUILTIN = "import sys, nothing\nsys.modules['_edgelora'] = nothing\nsys.path.insert(0, '{path}')\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite and its cases, as they lie on a device."""
    folder = tmp_path_factory.mktemp("suite")
    device_cases.write_cases(folder / "cases.json", device_cases.CASES)
    device_cases.write_cases(folder / "graphs.json", device_cases.GRAPHS)
    shutil.copy(SUITE, folder)
    (folder / "nothing.py").write_text("")
    for name, content in wake_words.device_files().items():
        (folder / name).write_bytes(content)
    return folder


def check(output: str, least: int = 50) -> None:
    """The suite's own lines decide, not an exit status; it has at least so many checks."""
    failures = [line for line in output.splitlines() if line.startswith("FAIL")]
    assert not failures, failures
    ended = re.search(r"^SUITE (\d+) (\d+)", output, re.MULTILINE)
    assert ended, output[-2000:]
    assert (int(ended[1]), int(ended[2])) == (output.count("PASS"), 0)
    assert int(ended[1]) >= least


def run_desktop(micropython: Path, code: str, folder: Path) -> str:
    done = subprocess.run(
        [micropython, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


def wake_words_at(folder: str) -> str:
    """Code for the device: a real streaming network, with plain and with fast kernels."""
    paths = [f"{folder}{name}" for name in wake_words.device_files() if name.endswith(".frames")]
    return f"device_suite.main(*{paths})"


def test_unix_firmware(folder: Path) -> None:
    check(run_desktop(sim.UNIX_BINARY, "import device_suite; device_suite.main('cases.json', 'graphs.json')", folder))


def test_wake_word_on_unix(folder: Path) -> None:
    check(run_desktop(sim.UNIX_BINARY, "import device_suite; " + wake_words_at(""), folder), 4)


def test_x64_native_module(folder: Path) -> None:
    native = folder / "x64"
    native.mkdir()
    shutil.copy(NATIVE / "x64" / "edgelora.mpy", native)
    code = "import sys; sys.path.insert(0, 'x64'); import device_suite; device_suite.main('cases.json', 'graphs.json')"
    check(run_desktop(Path(sys.executable).parent / "micropython", code, folder))


@pytest.fixture(scope="module")
def pico(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sim.SimHandle]:
    """A virtual Pico with the suite, its cases and the native module in its flash."""
    image = build.build_firmware("virtual-pico", {}, folder / "firmware.uf2")
    handle = sim.start("virtual-pico", image, tmp_path_factory.mktemp("pico"), die_with_parent=True)
    with Link.connect(handle.port) as link:
        for name in ("cases.json", "device_suite.py", "nothing.py", *wake_words.device_files()):
            link.put("/" + name, (folder / name).read_bytes())
        link.put("/edgelora.mpy", (NATIVE / "armv6m" / "edgelora.mpy").read_bytes())
    yield handle
    handle.stop()


def run_board(port: str, code: str) -> str:
    command = [sys.executable, "-m", "mpremote", "connect", port, "exec", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.stdout + done.stderr


def test_rp2_firmware(pico: sim.SimHandle) -> None:
    code = "import sys; sys.path[:] = ['.frozen', '/']; import device_suite; device_suite.main('/cases.json')"
    check(run_board(pico.port, code))


def test_wake_word_on_rp2(pico: sim.SimHandle) -> None:
    code = "import sys; sys.path[:] = ['.frozen', '/']; import device_suite; "
    check(run_board(pico.port, code + wake_words_at("/")), 4)


def test_armv6m_native_module(pico: sim.SimHandle) -> None:
    code = (
        HIDE_BUILTIN.format(path="/") + "import edgelora, device_suite\nprint(edgelora.__name__, edgelora.core_infer)\n"
    )
    output = run_board(pico.port, code + "device_suite.main('/cases.json')")
    check(output)


@pytest.fixture(scope="module")
def cortex_m33(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The port of an emulated Cortex-M33 with the suite and the native module in ROMFS, as at 0x80000000."""
    names = ("cases.json", "graphs.json", "device_suite.py", "nothing.py")
    files = {name: (folder / name).read_bytes() for name in names}
    files["edgelora.mpy"] = (NATIVE / "armv7emsp" / "edgelora.mpy").read_bytes()
    rom = tmp_path_factory.mktemp("cortex_m33") / "suite.romfs"
    rom.write_bytes(build.make_romfs(files))
    command = [
        "qemu-system-arm",
        "-machine",
        "mps2-an505",
        "-nographic",
        "-monitor",
        "none",
        "-semihosting",
        "-serial",
        "pty",
    ]
    command += ["-device", f"loader,file={rom},addr=0x80000000,force-raw=on"]
    command += ["-kernel", str(ROOT / ".build" / "cortex_m33" / "firmware.elf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as machine:
        assert machine.stdout is not None
        told = re.search(r"redirected to (\S+)", machine.stdout.readline())
        assert told
        try:
            yield told[1]
        finally:
            machine.kill()


MOUNT = "import sys, uctypes, vfs\nvfs.mount(vfs.VfsRom(uctypes.bytearray_at(0x80000000, 1 << 20)), '/rom')\n"
RUN_FROM_ROM = "import device_suite\ndevice_suite.main('/rom/cases.json', '/rom/graphs.json')\nvfs.umount('/rom')\n"


def test_cortex_m33_firmware(cortex_m33: str) -> None:
    check(run_board(cortex_m33, MOUNT + "sys.path[:] = ['.frozen', '/rom']\n" + RUN_FROM_ROM))


def test_armv7emsp_native_module(cortex_m33: str) -> None:
    path = "sys.path[:] = ['/rom']\nimport nothing\nsys.modules['_edgelora'] = nothing\n"
    check(run_board(cortex_m33, MOUNT + path + RUN_FROM_ROM))


# A module of Espressif's compiler has instructions that no emulated core has.
emulated_xtensa = pytest.mark.skipif(
    bool(shutil.which("xtensa-esp32s2-elf-gcc")), reason="made by Espressif's compiler"
)


def run_xtensa(files: dict[str, bytes], image: Path) -> str:
    """Runs main.py of the files on an emulated windowed Xtensa core."""
    image.write_bytes(build.make_romfs(files))
    command = ["qemu-xtensa", "-cpu", "dc233c", ROOT / ".build" / "xtensa" / "micropython", image]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


@emulated_xtensa
def test_xtensawin_native_module(folder: Path) -> None:
    files = {name: (folder / name).read_bytes() for name in ("cases.json", "graphs.json", "device_suite.py")}
    files["edgelora.mpy"] = (NATIVE / "xtensawin" / "edgelora.mpy").read_bytes()
    files["main.py"] = b"import device_suite; device_suite.main('/rom/cases.json', '/rom/graphs.json')"
    check(run_xtensa(files, folder / "xtensa.romfs"))


@emulated_xtensa
def test_xtensawin_module_with_constants_among_its_code_is_refused(tmp_path: Path) -> None:
    """An ESP32 could not read them."""
    link = "import mpy_ld; mpy_ld.ARCH_DATA['xtensawin'].separate_rodata = False; mpy_ld.main()"
    made, linked = NATIVE / "xtensawin" / "build", tmp_path / "linked.mpy"
    options = ["--arch", "xtensawin", "--qstrs", made / "edgelora.config.h", "-o", linked, made / "all.o"]
    tools = {"PYTHONPATH": str(ROOT / ".build" / "src" / "micropython" / "tools")}
    subprocess.run([sys.executable, "-c", link, *options], env=tools, check=True, timeout=60)
    files = {"edgelora.mpy": linked.read_bytes(), "main.py": b"import edgelora; print('imported')"}
    output = run_xtensa(files, tmp_path / "linked.romfs")
    assert "ImportError: constants_in_instruction_memory" in output and "imported" not in output
