"""Builds: the core's include order, no mutable globals, kernels in RAM, build messages, apt."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import edgelora
from esp_images import BOARDS, image
from fresh import in_full_runs, some

from benchmarks.swap import layers_and_adapters
from edgelora.base.resources import ROOT
from edgelora.board import build, uf2
from edgelora.board import romfs as boards_romfs
from edgelora.board.flash.esp import check_image
from edgelora.board.profiles import load_board
from edgelora.core.formats.wake_manifest import WakeManifest

MODULE = ROOT / "micropython_module"
CORE = sorted(path for folder in ("core", "crypto") for path in (MODULE / folder).rglob("*.c"))
ARM = ("arm-none-eabi-gcc", "-mthumb")
STM32N6 = ("-mcpu=cortex-m55", "-mfpu=fpv5-d16", "-mfloat-abi=hard", "-mcmse")  # as MicroPython's stm32 port
COMPILERS = {
    "host": ("cc",),
    **{cpu: (*ARM, f"-mcpu={cpu}") for cpu in ("cortex-m0plus", "cortex-m33")},
    "stm32n6": (*ARM, *STM32N6),
}
OBJECTS = {  # the core's object files, by target
    "host": ".build/cmake/CMakeFiles/twin.dir/micropython_module",
    "cortex-m0plus": f".build/rp2/rpi_pico/CMakeFiles/firmware.dir{MODULE}",
    "cortex-m33": f".build/rp2/rpi_pico2/CMakeFiles/firmware.dir{MODULE}",
}
RP2_BOARDS = ("rpi_pico", "rpi_pico2")


def elf_of(board: str) -> Path:
    return ROOT / ".build" / "rp2" / board / "firmware.elf"


@pytest.mark.parametrize("target", some([*COMPILERS]))
def test_core_compiles_without_a_warning(target: str) -> None:
    flags = ["-std=c99", "-fsyntax-only", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
    include = [f"-I{MODULE / folder}" for folder in ("core", "crypto")]
    subprocess.run([*COMPILERS[target], *flags, *include, *CORE], check=True)


@pytest.mark.parametrize("target", OBJECTS)
def test_core_has_no_mutable_globals(target: str) -> None:
    """Checks the objects as built. Tables of function pointers only count as data on hosts that relocate them."""
    folder = ROOT / OBJECTS[target]
    objects = [folder / path.relative_to(MODULE).with_suffix(".c.o") for path in CORE]
    done = subprocess.run(["size", "-A", *objects], capture_output=True, text=True, check=True)
    places = re.split(r"^(\S+)  :$", done.stdout, flags=re.MULTILINE)[1:]
    assert len(places) == 2 * len(CORE) > 180
    for path, sections in zip(places[::2], places[1::2], strict=True):
        found = re.findall(r"^(\.(?:data|bss|tdata|tbss)(?!\.rel\.ro)\S*) +(\d+)", sections, re.MULTILINE)
        assert {".data", ".bss"} <= {name for name, _ in found} and not any(int(n) for _, n in found), (path, found)


def test_reference_kernels_include_no_packed_ones() -> None:
    """Reference kernels never include packed ones; only dispatch includes both."""
    floors = ("", "training", "kernels/reference", "kernels/packed", "kernels", "formats", "session")  # lowest first
    beside = {("kernels/packed", "kernels/reference")}
    upward = []
    for path in sorted((MODULE / "core").rglob("*.[ch]")):
        name = path.relative_to(MODULE / "core").as_posix()
        for included in re.findall(r'^#include "(.+)"', path.read_text(), re.MULTILINE):
            here, there = (max((f for f in floors if n.startswith(f)), key=len) for n in (name, included))
            operands = included in ("kernels/operands.h", "kernels/attention.h", "kernels/norm.h")  # what all share
            if not operands and (floors.index(there) > floors.index(here) or (here, there) in beside):
                upward.append((name, included))
    assert upward == []


@pytest.mark.parametrize("board", RP2_BOARDS)
def test_kernels_of_the_rp2_images_run_from_ram(board: str) -> None:
    """Except reference kernels that have a packed version, their parts, and kernels of rare operators and attention."""
    seldom = re.compile(
        "edgelora_(pair|lstm|svdf_features|svdf_time|softmax|gather|concatenate|slice|pad|lookup|norm|rotate|attend|stream"
        "|matmul|multiply)_(forward|backward|next)(_packed)?_s8|edgelora_(patch|branch_down|matrix_sum|has_least)_s8"
        "|edgelora_(attend_pass(_packed)?|norm_rows|norm_errors)_s8"  # backward, in two steps
    )
    ram = range(0x2000_0000, 0x2000_0000 + load_board(board).ram_bytes)
    done = subprocess.run(["arm-none-eabi-nm", elf_of(board)], capture_output=True, text=True, check=True)
    symbols = {line.split()[2]: int(line.split()[0], 16) for line in done.stdout.splitlines() if len(line.split()) == 3}
    ours = {
        name: at
        for name, at in symbols.items()
        if re.fullmatch(r"edgelora_\w+_s8|edgelora_(matrix_update|crc32)", name)
    }
    assert len(ours) > 30
    slow = {name for name, at in ours.items() if at not in ram}
    assert [one for one in slow if one.replace("_s8", "_packed_s8") not in ours and not seldom.fullmatch(one)] == []


def test_the_rp2350_image_uses_dsp_instructions() -> None:
    code = subprocess.run(
        ["arm-none-eabi-objdump", "-d", elf_of("rpi_pico2")], capture_output=True, text=True, check=True
    )
    assert {"smladx", "uxtab16", "smmlar", "pkhbt"} <= set(re.findall(r"\t([a-z0-9]+)\s", code.stdout))


def test_an_image_for_the_rp2350_holds_program_and_model(tmp_path: Path) -> None:
    flash = load_board("rpi_pico2").flash
    out = build.build_firmware("rpi_pico2", {"model.elm": bytes(range(256)) * 3000}, tmp_path / "fw.uf2")
    image = uf2.parse(out.read_bytes(), 0xE48BFF59)
    romfs = flash.base_address + flash.romfs_offset
    assert len(image.lead) == 512
    assert image.pages[romfs].startswith(b"\xd2\xcd\x31")
    assert romfs + 3000 * 256 < image.end <= romfs + flash.romfs_bytes


def test_a_wake_words_manifest_comes_along(tmp_path: Path) -> None:
    """Beside its base; another .json with the base's name does not."""
    elm, _ = layers_and_adapters((8, 2), 0)
    manifest = WakeManifest("Okay Nabu", "okay_nabu.tflite", 0.85, 5, 37000)
    for name, text in (("nabu", manifest.packed()), ("plain", b'{"mode": "frozen_a"}')):
        (tmp_path / f"{name}.elm").write_bytes(elm)
        (tmp_path / f"{name}.json").write_bytes(text)
        edgelora("build", "--board", "unix", "--model", tmp_path / f"{name}.elm", "-o", tmp_path / f"{name}.romfs")
    both, alone = ((tmp_path / f"{name}.romfs").read_bytes() for name in ("nabu", "plain"))
    assert manifest.packed() in both and b"nabu.json" in both and b"json" not in alone


@pytest.mark.parametrize("board", BOARDS)
def test_esp32_images_take_a_model(board: str) -> None:
    profile, files = load_board(board), {"a.elm": bytes(range(256)) * 99}
    made = build.add_romfs(image(board, romfs=True), boards_romfs.make_romfs(files), profile, "firmware.bin")
    romfs = next(part for part in check_image(made, profile, "made.bin") if part.label == "romfs")
    at = made.index(files["a.elm"]) + profile.flash.image_offset
    assert romfs.offset < at < romfs.offset + romfs.size and at % boards_romfs.FILE_ALIGNMENT == 0
    with pytest.raises(boards_romfs.BuildError, match="has no ROMFS partition"):
        build.add_romfs(image(board), b"", profile, "stock.bin")


@pytest.mark.parametrize("board", BOARDS)
def test_esp32_definitions_include_micropythons(board: str, tmp_path: Path) -> None:
    """As far as possible without ESP-IDF: the included files exist and have the expected settings."""
    port = build.MICROPYTHON / "ports/esp32"
    script = tmp_path / "settings.cmake"
    script.write_text(
        f"include({ROOT}/boards/{board}/mpconfigboard.cmake)\n"
        "foreach(file ${SDKCONFIG_DEFAULTS})\nfile(READ ${file} text)\nendforeach()\n"
        'message(STATUS "${IDF_TARGET} ${text}")\n'
    )
    run = {"cwd": port, "capture_output": True, "text": True, "check": True}
    said = subprocess.run(["cmake", "-P", script], **run).stdout
    assert board.removeprefix("esp32") in said and "partitions-4MiB-romfs.csv" in said
    header = ROOT / "boards" / board / "mpconfigboard.h"
    assert "define MICROPY_VFS_ROM (1)" in subprocess.run(["cc", "-E", "-dM", "-I.", header], **run).stdout


def test_building_for_esp32_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str) -> None:
        with pytest.raises(boards_romfs.BuildError, match=f"{message}.*MicroPython's own ESP32_GENERIC_C6 image"):
            build.build_firmware("esp32c6", {}, tmp_path / "out.bin")

    monkeypatch.delenv("IDF_PATH", raising=False)
    refused("IDF_PATH is not set: install ESP-IDF")
    monkeypatch.setenv("IDF_PATH", str(tmp_path))
    refused("which holds no tools/idf.py")
    tool = tmp_path / "tools/idf.py"
    tool.parent.mkdir()
    tool.write_text("#!/bin/false\n")
    tool.chmod(0o755)
    refused("idf.py is not on the path: source")
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    refused("lacks the submodules")
    assert not (tmp_path / "out.bin").exists()


@in_full_runs("compiles for a minute")
def test_the_module_compiles_in_micropythons_alif_port(tmp_path: Path) -> None:
    """With the port's own rules and options, and Helium; its submodules, which linking takes, are in no package."""
    sources = [*(MODULE / "binding").glob("*.c"), MODULE / "core/kernels/simd/helium.c"]
    names = [str(path.relative_to(MODULE).with_suffix("")) for path in sources]
    command = ["make", "-C", build.MICROPYTHON / "ports/alif", "-f", "alif.mk", "BOARD=OPENMV_AE3", "MCU_CORE=M55_HP"]
    command += [f"BUILD={tmp_path}", f"USER_C_MODULES={MODULE}", "FROZEN_MANIFEST=", "MICROPY_PY_OPENAMP=0"]
    command += [f"SRC_QSTR={' '.join(f'{name}.c' for name in names)}", *(tmp_path / f"{name}.o" for name in names)]
    environment = os.environ | {"MAKEFLAGS": ""}  # other tests build nothing
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    helium = subprocess.run(
        ["arm-none-eabi-nm", tmp_path / "core/kernels/simd/helium.o"], capture_output=True, text=True, check=True
    )
    assert "R edgelora_helium" in helium.stdout


@pytest.mark.parametrize("port", ["alif", "stm32"])
def test_the_manifest_for_helium_adds_the_device_modules_to_the_ports(port: str, tmp_path: Path) -> None:
    """As MicroPython's own tool reads it, with empty packages in place of micropython-lib."""
    for package in ("dht", "onewire", "neopixel", "bundle-networking"):
        (tmp_path / "micropython" / package).mkdir(parents=True)
        (tmp_path / "micropython" / package / "manifest.py").touch()
    places = {"MPY_DIR": build.MICROPYTHON, "PORT_DIR": build.MICROPYTHON / "ports" / port, "MPY_LIB_DIR": tmp_path}
    script = "import sys, manifestfile\nread = manifestfile.ManifestFile(manifestfile.MODE_FREEZE, eval(sys.argv[1]))\n"
    script += "read.execute(sys.argv[2])\nprint(*(file.target_path for file in read.files()))"
    variables = {name: str(path) for name, path in places.items()} | {"MCU_CORE": "hp"}
    command = [sys.executable, "-c", script, repr(variables), ROOT / "firmware/helium/manifest.py"]
    done = subprocess.run(command, cwd=build.MICROPYTHON / "tools", capture_output=True, text=True, check=True)
    ours = {f"edgelora/{path.name}" for path in (MODULE / "python/edgelora").glob("*.py")}
    assert ours | {"asyncio/core.py"} <= set(done.stdout.split())


@pytest.mark.parametrize("board", ["openmv_n6", "openmv_ae3"])
def test_boards_with_helium_are_left_to_micropythons_own_tools(board: str, tmp_path: Path) -> None:
    (tmp_path / "firmware.bin").write_bytes(bytes(99))
    assert "cortex-m55.md" in edgelora("build", "--board", board, code=1)
    assert "cortex-m55.md" in edgelora("flash", tmp_path / "firmware.bin", "--board", board, "--port", tmp_path, code=1)


def step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Puts a script on the path in place of `make`."""
    make = tmp_path / "bin" / "make"
    make.parent.mkdir(exist_ok=True)
    make.write_text(f"#!/bin/sh\n{script}\n")
    make.chmod(0o755)
    monkeypatch.setenv("PATH", f"{make.parent}:{os.environ['PATH']}")


def test_builds_report_slow_steps_and_failures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Slow steps and failures are reported; no step waits for input."""
    monkeypatch.setattr(build, "SIGN_OF_LIFE", 0.2)
    told: list[str] = []
    step(monkeypatch, tmp_path, "printf 'cross compiler  '; sleep 1; echo 'ok 1 s'; echo 'make: up to date'; cat")
    build.program(load_board("unix"), told.append)
    assert told[0].startswith("cross compiler ... 0 s") and told[-1] == "cross compiler  ok 1 s"
    step(monkeypatch, tmp_path, "echo 'no such compiler'; exit 2")
    with pytest.raises(boards_romfs.BuildError, match="unix/micropython` failed:\nno such compiler"):
        build.program(load_board("unix"))


@pytest.fixture
def nobody(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who is not root, on a Debian without packages; apt-get and sudo calls are recorded."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in {
        "id": "echo 1000",
        "dpkg-query": "exit 1",
        "sudo": f"echo sudo $* >> {tmp_path}/done",
        "apt-get": f"echo apt-get $* >> {tmp_path}/done",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


APT = ROOT / "tools" / "apt_install.sh"


def test_sudo_is_never_run_unasked(nobody: dict[str, str], tmp_path: Path) -> None:
    run: dict[str, Any] = {"env": nobody, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run([APT, "cmake", "g++"], start_new_session=True, **run)
    assert done.returncode == 1 and "\n  sudo apt-get install --no-install-recommends cmake g++\n" in done.stdout
    assert not (tmp_path / "done").exists()
    (tmp_path / "bin" / "id").write_text("#!/bin/sh\necho 0\n")
    assert subprocess.run([APT, "cmake"], **run).returncode == 0  # root gets no question
    updated, installed = (tmp_path / "done").read_text().splitlines()
    assert updated.endswith(" -qq update") and installed.endswith(" -qq install --no-install-recommends cmake")


BUSY = """
echo "apt-get $*" >> {done}
[ $(wc -l < {done}) -gt {times} ] && exit 0
echo "E: {why}" >&2
exit 100
"""


@pytest.mark.parametrize(
    ("why", "times", "tried", "status"),
    [
        ("Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)", 3, 4, 0),
        ("Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt-get)", 999, 151, 100),
        ("Unable to locate package cmake", 999, 1, 100),
    ],
    ids=["held", "held for good", "another error"],
)
def test_apt_waits_for_its_locks(
    why: str, times: int, tried: int, status: int, nobody: dict[str, str], tmp_path: Path
) -> None:
    """For 5 minutes, every 2 seconds; other errors are not retried."""
    script = BUSY.format(done=tmp_path / "done", times=times, why=why)
    (tmp_path / "bin" / "apt-get").write_text(f"#!/bin/sh\n{script}")
    (tmp_path / "bin" / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sleep").chmod(0o755)
    command = [ROOT / "tools" / "apt.sh", "-qq", "update"]
    done = subprocess.run(command, env=nobody, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status and (why in done.stderr) is bool(status)
    assert len((tmp_path / "done").read_text().splitlines()) == tried


def test_builds_run_apt_only_by_the_script_that_waits() -> None:
    """Only tools/apt.sh runs apt-get."""
    scripts = [ROOT / "Makefile", *(ROOT / ".ci").iterdir(), *(ROOT / "tools").rglob("*.sh")]
    runs = re.compile(r"apt-get [-\"]")
    assert [path.name for path in scripts if runs.search(path.read_text())] == ["apt.sh"]


@pytest.mark.parametrize(("answer", "installs"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_users_without_root_are_asked_on_a_terminal(
    answer: bytes, installs: bool, nobody: dict[str, str], tmp_path: Path
) -> None:
    """Even if the output goes to a log, as in `make`."""
    child, terminal = pty.fork()
    if not child:
        os.execvpe("sh", ["sh", "-c", f"exec {APT} cmake > {tmp_path}/log 2>&1"], nobody)
    asked = b""
    while b"[y/N] " not in asked:
        asked += os.read(terminal, 1024)
    os.write(terminal, answer)
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert b"missing: cmake" in asked
    assert os.waitstatus_to_exitcode(status) == (0 if installs else 1)
    assert (tmp_path / "done").exists() is installs
    assert installs or "sudo apt-get install" in (tmp_path / "log").read_text()
