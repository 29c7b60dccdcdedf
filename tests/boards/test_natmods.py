"""Native modules for stock MicroPython, as packaged by `make natmods`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fresh import in_full_runs

from edgelora import __version__
from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import natmods  # noqa: E402

ARCHES = {"x64": 2, "armv6m": 4, "armv7m": 5, "armv7emsp": 7, "xtensawin": 10, "rv32imc": 11}  # their codes in .mpy


def test_packages_are_complete_and_without_variables() -> None:
    for arch, number in ARCHES.items():
        package = json.loads((natmods.DIST / arch / "package.json").read_text())
        assert package["version"] == __version__
        files = {target: (natmods.DIST / arch / url).read_bytes() for target, url in package["urls"]}
        assert {name: (data[0], data[1], data[2] >> 2) for name, data in files.items()} == {
            **{name: (ord("M"), 6, number) for name in natmods.NATIVE},
            **{name: (ord("M"), 6, 0) for name in natmods.pure_modules()},
        }
        for name, least in zip(natmods.NATIVE, (20_000, 5_000, 8_000), strict=True):
            linked = natmods.linked(arch, name).read_bytes()
            text, rodata, bss = natmods.sizes(linked)
            held = arch == "x64" and name == next(
                iter(natmods.NATIVE)
            )  # the flag by which signals are held back (natmod/signals.h)
            assert bss == held and least < text + rodata < len(linked)


@in_full_runs("builds modules")
@pytest.mark.parametrize("name", ["frontend", "edgelora", "_fleet"])
def test_two_checkouts_make_the_same_bytes(name: str, tmp_path: Path) -> None:
    """A module contains no path of the sources or of the build; one makefile builds all modules."""
    shutil.copytree(ROOT / "micropython_module", tmp_path / "elsewhere" / "micropython_module")
    done = subprocess.run(
        ["make", "-C", tmp_path / "elsewhere" / "micropython_module" / "natmod", "-j2", "ARCH=armv6m", f"MOD={name}"]
        + [f"MPY_DIR={ROOT / '.build/src/micropython'}", f"PYTHON={sys.executable}"],
        env=os.environ | {"MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "elsewhere" / ".build" / "natmod" / "armv6m"
    made = (out / "edgelora.mpy" if name == "edgelora" else out / name / f"{name}.mpy").read_bytes()
    face = "__init__" if name == "edgelora" else name
    assert made == (natmods.DIST / "armv6m" / "edgelora" / f"{face}.mpy").read_bytes()


def test_modules_contain_no_path_of_their_build() -> None:
    for path in natmods.DIST.rglob("*.mpy"):
        assert str(ROOT).encode() not in path.read_bytes(), path


def test_a_native_module_can_be_one_source(tmp_path: Path) -> None:
    """For Xtensa, all files of a module are compiled as one: no two files may define the same name."""
    module = ROOT / "micropython_module"
    signal, fleet, crypto = ([*(module / part).rglob("*.c")] for part in ("core/signal", "core/fleet", "crypto"))
    rest = [path for path in (module / "core").rglob("*.c") if path not in (*signal, *fleet)]
    flags = ["-std=c99", "-fsyntax-only", "-Werror", "-DEDGELORA_NO_SIMD", f"-I{module}/core", f"-I{module}/crypto"]
    for name, sources in (("edgelora", [*rest, *crypto]), ("frontend", signal), ("_fleet", [*fleet, *crypto])):
        one = tmp_path / f"{name}.c"
        one.write_text("".join(f'#include "{path}"\n' for path in sorted(sources)))
        made = subprocess.run(["cc", *flags, str(one)], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
