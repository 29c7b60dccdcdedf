"""What the compiled code promises: no mutable globals in the core, and kernels that run from RAM on RP2040."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from edgelora.boards import ROOT

CORE = sorted((ROOT / "micropython_module" / "core").glob("*.c"))
ELF = ROOT / ".build" / "rp2" / "rpi_pico" / "firmware.elf"
RAM = range(0x2000_0000, 0x2004_2000)


@pytest.mark.parametrize("source", CORE, ids=lambda path: path.name)
@pytest.mark.parametrize("compiler", ["cc", "arm-none-eabi-gcc"])
def test_core_has_no_mutable_globals(source: Path, compiler: str, tmp_path: Path) -> None:
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
    flags += ["-mcpu=cortex-m0plus", "-mthumb"] if compiler.startswith("arm") else []
    out = tmp_path / "core.o"
    subprocess.run([compiler, *flags, "-c", source, "-o", out], check=True)
    size = compiler.replace("gcc", "size") if compiler.startswith("arm") else "size"
    done = subprocess.run([size, out], capture_output=True, text=True, check=True)
    _, data, bss = map(int, done.stdout.splitlines()[1].split()[:3])
    assert (data, bss) == (0, 0)


def test_kernels_of_the_rp2_image_run_from_ram() -> None:
    done = subprocess.run(["arm-none-eabi-nm", ELF], capture_output=True, text=True, check=True)
    symbols = {line.split()[2]: int(line.split()[0], 16) for line in done.stdout.splitlines() if len(line.split()) == 3}
    ours = {
        name: at
        for name, at in symbols.items()
        if re.fullmatch(r"edgelora_\w+_s8|edgelora_(matrix_update|crc32)", name)
    }
    assert len(ours) > 30
    assert [name for name, at in ours.items() if at not in RAM] == []
