"""The core as a library for C and C++, without MicroPython."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

CORE, CRYPTO = (ROOT / "micropython_module" / name for name in ("core", "crypto"))
# Each public header, with a function that it declares.
PUBLIC = {
    "edgelora.h": "edgelora_init",
    "signal/frontend.h": "edgelora_audio_step",
    "fleet/fleet.h": "edgelora_member_begin",
    "crypto.h": "edgelora_sha512_end",
}
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
COMPILERS = [
    *(pytest.param((name, "-x", "c", "-std=c99"), id=f"{name} C99") for name in ("gcc", "clang-22")),
    *(pytest.param((name, "-std=c++17"), id=f"{name} C++17") for name in ("g++", "clang++-22", "arm-none-eabi-g++")),
    pytest.param(("g++", "-std=c++11"), id="g++ C++11"),
]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """The output of a command, which must succeed without a word to stderr."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
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
