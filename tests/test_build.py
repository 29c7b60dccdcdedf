"""What builds promise: no mutable globals in the core, kernels from RAM on RP2040, ESP32 images with models in them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from esp_images import BOARDS, image

from edgelora import build
from edgelora.boards import ROOT, load_board
from edgelora.flash_esp import check_image

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


@pytest.mark.parametrize("board", BOARDS)
def test_esp32_images_take_a_model(board: str) -> None:
    profile, files = load_board(board), {"a.elm": bytes(range(256)) * 99}
    made = build.add_romfs(image(board, romfs=True), build.make_romfs(files), profile, "firmware.bin")
    romfs = next(part for part in check_image(made, profile, "made.bin") if part.label == "romfs")
    at = made.index(files["a.elm"]) + profile.flash.image_offset
    assert romfs.offset < at < romfs.offset + romfs.size and at % build.FILE_ALIGNMENT == 0
    with pytest.raises(build.BuildError, match="has no ROMFS partition"):
        build.add_romfs(image(board), b"", profile, "stock.bin")


@pytest.mark.parametrize("board", BOARDS)
def test_esp32_definitions_lead_to_micropythons(board: str, tmp_path: Path) -> None:
    """As far as it goes without ESP-IDF: files that are included are there, and say what they should."""
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
        with pytest.raises(build.BuildError, match=f"{message}.*MicroPython's own ESP32_GENERIC_C6 image"):
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
