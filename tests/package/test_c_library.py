"""The core as a library for C and C++, without MicroPython: how it is built, used, and what its examples train.

The Zephyr module is configured by functions in place of Zephyr's; there is no Zephyr.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from documents import blocks
from fresh import in_full_runs, slow, some
from once import made_once

from edgelora.base.resources import ROOT
from edgelora.core.twin.binding import library as twin
from edgelora.core.twin.session import Session
from edgelora.learn.training.recipe import Recipe

sys.path.insert(0, str(ROOT / "tools"))

import c_library  # noqa: E402
import c_library_sizes  # noqa: E402
from cores import WARNINGS  # noqa: E402

PAGE = ROOT / "docs" / "guides" / "c-library.md"
FILES = ("gestures.elm", "owner.eld")  # of examples/train
STAND_INS = Path(__file__).with_name("c_library")
CORE, CRYPTO = (ROOT / "micropython_module" / name for name in ("core", "crypto"))
# Each public header, with a function that it declares.
PUBLIC = {
    "edgelora.h": "edgelora_init",
    "signal/frontend.h": "edgelora_audio_step",
    "fleet/fleet.h": "edgelora_member_begin",
    "crypto.h": "edgelora_sha512_end",
}
STRICT = (*WARNINGS, "-Wpedantic")
WARNED = " ".join(WARNINGS)
COMPILERS = [
    *(pytest.param((name, "-x", "c", "-std=c99"), id=f"{name} C99") for name in ("gcc", "clang-22")),
    *(pytest.param((name, "-std=c++17"), id=f"{name} C++17") for name in ("g++", "clang++-22", "arm-none-eabi-g++")),
    pytest.param(("g++", "-std=c++11"), id="g++ C++11"),
]


def run(*command: str | Path, cwd: Path | None = None, **settings: str) -> str:
    """The output of a command, which must succeed without a word to stderr. settings: of its environment."""
    environment = os.environ | {"MAKEFLAGS": ""} | settings  # tests/conftest.py lets make build nothing
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and not done.stderr, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("compiler", COMPILERS)
def test_public_headers_compile_alone_and_declare_c_functions(compiler: tuple[str, ...], tmp_path: Path) -> None:
    for number, (header, function) in enumerate(PUBLIC.items()):
        source, compiled = tmp_path / f"{number}.cpp", tmp_path / f"{number}.o"
        source.write_text(f'#include "{header}"\nextern void *const used;\nvoid *const used = (void *)&{function};\n')
        flags = [flag for flag in STRICT if flag != "-Wpedantic" or "c" not in compiler]  # casts a function's address
        run(*compiler, *flags, f"-I{CORE}", f"-I{CRYPTO}", "-c", source, "-o", compiled)
        undefined = run("nm", "-u", compiled).split()
        assert undefined == ["U", function], "no name of C++"


@pytest.mark.parametrize(("target", "reason"), [("avr", "int of 32 bits"), ("mips", "little-endian")])
def test_processors_that_cannot_run_it_are_refused(target: str, reason: str, tmp_path: Path) -> None:
    source = tmp_path / "user.c"
    source.write_text('#include "edgelora.h"\n')
    command = ["clang-22", f"--target={target}", "-ffreestanding", f"-I{CORE}", "-fsyntax-only", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode and reason in done.stderr, done.stderr


# ---- what is made


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library's folder, as `make c-library` makes it."""
    return made_once(tmp_path_factory, "c-library", c_library.make)


def test_the_same_checkout_gives_the_same_bytes(library: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    c_library.make(again)
    archives = [tmp_path / name / "edgelora-c.zip" for name in ("one", "two")]
    for folder, archive in zip((library, again), archives, strict=True):
        archive.parent.mkdir()
        c_library.make_zip(folder, archive)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    names = zipfile.ZipFile(archives[0]).namelist()
    assert names == sorted(names) and "edgelora-c/library.properties" in names


def test_sources_are_the_cores_but_for_includes(library: Path) -> None:
    for folder, place in ((CORE, "src"), (CRYPTO, "src/crypto")):
        for path in folder.rglob("*.[ch]"):
            made = (library / place / path.relative_to(folder)).read_text().splitlines()
            lines = path.read_text().splitlines()
            changed = [new for old, new in zip(lines, made, strict=True) if old != new]
            assert all(line.startswith('#include "') for line in changed), path
    for path in library.rglob("src/**/*.[ch]"):
        included = re.findall(r'^ *# *include "(.+)"', path.read_text(), re.MULTILINE)
        assert all((path.parent / name).exists() for name in included), path
    listed = re.findall(r"src/\S+\.c", (library / "cmake" / "sources.cmake").read_text())
    assert listed == sorted(path.relative_to(library).as_posix() for path in library.rglob("src/**/*.c"))


# ---- the examples, as the host twin trains them


@dataclass(frozen=True)
class Trained:
    """What the examples should print and save."""

    adapter: bytes
    losses: list[int]  # mean of each epoch, in 1/4096 nat
    right: list[int]  # of the test samples: by the base, and by the adapter


@pytest.fixture(scope="module")
def trained(library: Path) -> Trained:
    """The examples' run on the host twin: their settings, order and samples."""
    base, parts = c_library.example()
    session = Session(base.elm, *Recipe().settings(base.elm))
    assert (library / "examples" / "train" / "gestures.elm").read_bytes() == base.elm
    x, y, test = parts["train"].x, parts["train"].y, parts["test"]
    before = int((session.predict(test.x) == test.y).sum())
    session.begin(1)
    losses = []
    for epoch in range(16):
        order = [twin().edgelora_order(1, epoch, len(y), place) for place in range(len(y))]
        losses.append(sum(session.train(x[i], int(y[i]), 6000) for i in order) // len(y))
    session.flush(6000)
    adapter = session.save()
    session.use(adapter)
    return Trained(adapter, losses, [before, int((session.predict(test.x) == test.y).sum())])


def test_the_examples_owner_gains(trained: Trained) -> None:
    assert trained.losses[-1] < trained.losses[0] / 10
    assert trained.right[0] < 30 < 54 <= trained.right[1], "of 60"


def test_the_page_counts_main(library: Path) -> None:
    [body] = re.findall(
        r"^int main\(.*?^}\n", (library / "examples/train/train.c").read_text(), re.MULTILINE | re.DOTALL
    )
    assert f"The {body.count(chr(10))} lines of `main`" in PAGE.read_text()


# ---- CMake


USER = """
#include <edgelora.h>
#include <signal/frontend.h>
#include <fleet/fleet.h>
#include <crypto/crypto.h>
#include <vector>

int main() {
    const uint32_t size = edgelora_audio_state_size();
    std::vector<uint64_t> front(size / 8 + 1);
    uint8_t digest[64];
    edgelora_sha512_t hash;
    edgelora_sha512_begin(&hash);
    edgelora_sha512_end(&hash, digest);
    return edgelora_audio_begin(front.data(), size, EDGELORA_FEATURES_RAW, 0, 0) != EDGELORA_OK ||
        edgelora_member_size(1) == 0 || digest[0] != 0xcf;
}
"""
USERS_CMAKE = """
cmake_minimum_required(VERSION 3.16)
project(user LANGUAGES CXX)
find_package(EdgeLoRA 0.1 REQUIRED)
add_executable(user user.cpp)
target_link_libraries(user PRIVATE edgelora::edgelora)
"""


def cmake(source: Path, build: Path, *options: str) -> None:
    run("cmake", "-G", "Unix Makefiles", "-S", source, "-B", build, *options)
    run("cmake", "--build", build, "-j2")


def test_cmake_package(library: Path, trained: Trained, tmp_path: Path) -> None:
    """Built by GCC and installed; used by the example in C and by a C++ program in an empty folder."""
    place = tmp_path / "installed"
    compiler = ["-DCMAKE_C_COMPILER=gcc", "-DCMAKE_BUILD_TYPE=Debug", f"-DCMAKE_C_FLAGS={WARNED}"]
    cmake(library, tmp_path / "build", *compiler)
    run("cmake", "--install", tmp_path / "build", "--prefix", place)
    headers = {path.relative_to(place / "include").as_posix() for path in place.rglob("*.h")}
    assert headers == {f"edgelora/{name}" for name in c_library.PUBLIC}
    installed = f"-DCMAKE_PREFIX_PATH={place}"

    example = tmp_path / "example"
    example.mkdir()
    for name in ("train.c", "CMakeLists.txt"):  # without the library around it
        (example / name).write_bytes((library / "examples" / "train" / name).read_bytes())
    cmake(example, tmp_path / "train", installed, f"-DCMAKE_C_FLAGS={WARNED}")
    run(tmp_path / "train" / "train", *(library / "examples/train" / n for n in FILES), tmp_path / "me.ela")
    assert (tmp_path / "me.ela").read_bytes() == trained.adapter

    user = tmp_path / "user"
    user.mkdir()
    (user / "user.cpp").write_text(USER)
    (user / "CMakeLists.txt").write_text(USERS_CMAKE)
    cmake(user, tmp_path / "used", installed, f"-DCMAKE_CXX_FLAGS={WARNED}")
    run(tmp_path / "used" / "user")


@slow
def test_cmake_subdirectory(library: Path, trained: Trained, tmp_path: Path) -> None:
    """The page's own commands: the example builds the library around it, here by clang."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "c").symlink_to(library)
    [script] = blocks(PAGE, "sh", "tested: c library")
    settings = {"CC": "clang-22", "CFLAGS": WARNED, "CMAKE_BUILD_TYPE": "Debug"}
    said = run("bash", "-euc", script, cwd=tmp_path, **settings)
    assert (tmp_path / "me.ela").read_bytes() == trained.adapter
    [printed] = [text for text in blocks(PAGE, "") if "loss" in text]
    assert said.endswith(printed)


def test_cmake_options(library: Path, tmp_path: Path) -> None:
    off = [f"-DEDGELORA_{name}=OFF" for name in ("ATTENTION", "RECURRENT", "SIMD")]
    for options, defined in (
        ([], {"EDGELORA_ATTENTION=1", "EDGELORA_RECURRENT=1"}),
        (off, {"EDGELORA_ATTENTION=0", "EDGELORA_RECURRENT=0", "EDGELORA_NO_SIMD"}),
    ):
        run("cmake", "-S", library, "-B", tmp_path, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *options)
        told = json.loads((tmp_path / "compile_commands.json").read_text())
        assert all({*re.findall(r"-D(\S+)", one["command"])} >= defined and " -O3 " in one["command"] for one in told)


# ---- Arduino


@dataclass(frozen=True)
class Emulated:
    """A board for sketches: compilers' prefix and flags, how its program is linked, its emulator."""

    prefix: str
    flags: tuple[str, ...]
    link: tuple[str, ...]
    emulator: tuple[str, ...]


MICROBIT = Emulated(
    "arm-none-eabi-",
    ("-mcpu=cortex-m0", "-mthumb"),
    ("--specs=nano.specs", "--specs=nosys.specs", "-nostartfiles", f"-T{STAND_INS / 'microbit.ld'}"),
    ("qemu-system-arm", "-machine", "microbit"),
)
MEMORY = {"flash": 0x80000000, "flash_size": 0x400000, "ram": 0x80400000, "ram_size": 0x100000, "stack_size": 0x1000}
RISCV = Emulated(
    "riscv64-unknown-elf-",
    ("-march=rv32imc_zicsr", "-mabi=ilp32", "--specs=picolibc.specs"),
    tuple(f"-Wl,--defsym=__{name}={value:#x}" for name, value in MEMORY.items()),
    ("qemu-system-riscv32", "-machine", "virt", "-bios", "none"),
)


def build_sketch(board: Emulated, library: Path, sketch: Path, folder: Path) -> Path:
    """Builds a sketch as Arduino does: all files below src, one include path, the sketch as C++, no unused code."""
    common = (*board.flags, "-Os", "-ffunction-sections", "-fdata-sections", f"-I{library / 'src'}", *WARNED.split())
    sources = sorted(path for path in (library / "src").rglob("*") if path.suffix in (".c", ".cpp", ".S"))
    assert sources and all(path.suffix == ".c" for path in sources)
    objects = [folder / f"{i}.o" for i in range(len(sources))]

    def compiled(source: Path, made: Path) -> None:
        run(f"{board.prefix}gcc", "-std=gnu11", *common, "-c", source, "-o", made)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compiled, sources, objects))
    cpp = ("-std=gnu++17", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", f"-I{STAND_INS}")
    program = f'-DSKETCH="{sketch}"'
    run(f"{board.prefix}g++", *cpp, *common, program, "-c", STAND_INS / "board.cpp", "-o", folder / "sketch.o")
    link = ("-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments", *board.link)
    run(f"{board.prefix}gcc", *board.flags, *link, folder / "sketch.o", *objects, "-o", folder / "sketch.elf")
    return folder / "sketch.elf"


@pytest.mark.parametrize("board", some([pytest.param(MICROBIT, id="Cortex-M0"), pytest.param(RISCV, id="RV32")]))
@slow
def test_arduino_sketch(board: Emulated, library: Path, trained: Trained, tmp_path: Path) -> None:
    """On an emulated micro:bit, with its 16 KB of RAM, and on an RV32: the twin's losses, classes and adapter."""
    program = build_sketch(board, library, library / "examples" / "Personalize" / "Personalize.ino", tmp_path)
    options = ["-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
    done = subprocess.run(
        [*board.emulator, *options, "-kernel", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    before, after = trained.right
    losses = [float(line.removeprefix("loss ")) for line in lines if line.startswith("loss ")]
    assert losses == pytest.approx([loss / 4096 for loss in trained.losses], abs=0.001)
    assert [lines[0], lines[-2]] == [f"base: {before} of 60", f"adapter: {after} of 60"]
    assert lines[-1] == "circle", "the first test sample's class"
    assert (tmp_path / "adapter.ela").read_bytes() == trained.adapter


def test_arduino_properties(library: Path) -> None:
    """All fields that Arduino's library specification requires; library.json has the same version."""
    lines = (library / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    needed = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert needed <= fields.keys() and re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert (library / "src" / fields["includes"]).exists()
    assert json.loads((library / "library.json").read_text())["version"] == fields["version"]


# ---- Zephyr


def test_zephyr_module(library: Path, tmp_path: Path) -> None:
    """Its CMake file, with functions in place of Zephyr's: sources, include path and options; one file is compiled."""
    module = dict(re.findall(r"(cmake|kconfig): (\S+)", (library / "zephyr" / "module.yml").read_text()))
    assert (library / module["cmake"] / "CMakeLists.txt").exists()
    symbols = re.findall(r"^config (\w+)", (library / module["kconfig"]).read_text(), re.MULTILINE)
    used = re.findall(r"CONFIG_(\w+)", (library / "zephyr" / "CMakeLists.txt").read_text())
    assert set(used) == set(symbols)

    def commands(*chosen: str) -> list[list[str]]:
        build = tmp_path / "-".join(["build", *chosen])
        configured = [f"-DCONFIG_{name}=y" for name in chosen]
        options = ["-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DCMAKE_C_COMPILER=gcc", f"-DMODULE={library / 'zephyr'}"]
        run("cmake", "-S", STAND_INS / "zephyr", "-B", build, *options, *configured)
        told = json.loads((build / "compile_commands.json").read_text())
        return [shlex.split(one["command"]) for one in told if "/src/" in one["file"]]

    plain, full = commands("EDGELORA"), commands(*symbols)
    assert len(plain) == len(full) == len(list(library.rglob("src/**/*.c")))
    assert {"-DEDGELORA_ATTENTION=0", "-DEDGELORA_RECURRENT=0"} <= {*plain[0]} and "-O3" not in plain[0]
    assert not [flag for flag in full[0] if flag.startswith("-DEDGELORA")] and "-O3" in full[0]
    [train] = [command for command in full if command[-1].endswith("session/train.c")]
    run(*train, "-fsyntax-only")
    assert not commands()


# ---- sizes


@in_full_runs("compiles for minutes")
@pytest.mark.parametrize(
    "target",
    c_library_sizes.TARGETS,
    ids=lambda target: target.name.split()[0],
)
def test_documented_sizes(target: c_library_sizes.Target) -> None:
    assert c_library_sizes.row(target) in PAGE.read_text(), (
        "`.venv/bin/python tools/c_library_sizes.py` prints the rows"
    )
