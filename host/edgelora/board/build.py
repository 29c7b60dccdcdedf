"""Firmware images: the program built by `make`, merged with a ROMFS image of the user's files."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from edgelora.base import resources
from edgelora.core.formats.files import write_atomic

from . import uf2
from .profiles import BoardProfile, list_boards, load_board
from .romfs import ROMFS_SUFFIX, BuildError, make_romfs

SUFFIXES = {"rp2": ".uf2", "esp32": ".bin", "qemu": ".elf", "unix": ROMFS_SUFFIX}  # of images, by MicroPython's port
MICROPYTHON = resources.ROOT / ".build/src/micropython"
PROGRAMS = {  # by MicroPython's port: output path of `make`, under `resources.programs()`
    "rp2": "rp2/{}/firmware.uf2",
    "esp32": "esp32/{}/firmware.bin",
    "qemu": "qemu/{}/firmware.elf",
    "unix": "unix/micropython",
}
DIST = resources.natmods()
NATIVE_ARCHES = ("armv6m", "armv7m", "armv7emsp", "rv32imc", "x64", "xtensawin")  # that `make natmods` builds
SIGN_OF_LIFE = 5.0  # seconds between progress lines of a step
Tell = Callable[[str], None]


def build_firmware(board: str, files: Mapping[str, bytes], out: Path, tell: Tell | None = None) -> Path:
    """Writes to `out` a firmware image whose ROMFS holds `files` (name -> content) and returns `out`.

    On the device the files are at /rom/NAME, mapped into memory at addresses that are multiples of `FILE_ALIGNMENT`.
    The image is a UF2 for RP2 boards, one for the whole flash for ESP32 chips, and a bare ROMFS image for `unix`. Stock
    firmware holds no files. In a checkout the program is built first unless it is up to date. tell: gets progress,
    at least one every few seconds. Raises `BuildError`; then `out` is unchanged.
    """
    profile = load_board(board)
    if profile.stock:
        if files:
            raise BuildError(f"{board} has stock firmware, which holds no files: `edgelora push` them to the board")
        write_atomic(out, program(profile, tell).read_bytes())
        return out
    romfs = make_romfs(files)
    if profile.flash is None:
        program(profile, tell)
        write_atomic(out, romfs)
        return out
    if len(romfs) > profile.flash.romfs_bytes:
        sizes = ", ".join(f"{name} {len(data)}" for name, data in files.items())
        raise BuildError(
            f"the files need a ROMFS of {len(romfs)} bytes, {profile.firmware} has {profile.flash.romfs_bytes} "
            f"({sizes}); use a smaller model"
        )
    path = program(profile, tell)
    if profile.port == "esp32":
        write_atomic(out, add_romfs(path.read_bytes(), romfs, profile, str(path)))
        return out
    assert profile.uf2_family_id is not None
    try:
        image = uf2.parse(path.read_bytes(), profile.uf2_family_id, str(path))
        if image.end > profile.flash.base_address + profile.flash.program_bytes:
            raise BuildError(f"{path}: the program overlaps the ROMFS partition; check boards/{profile.firmware}")
        image.put(profile.flash.base_address + profile.flash.romfs_offset, romfs)
    except uf2.Uf2Error as error:
        raise BuildError(f"{error}; remove {path} and build again") from None
    write_atomic(out, uf2.serialize(image, profile.uf2_family_id))
    return out


def add_romfs(image: bytes, romfs: bytes, profile: BoardProfile, name: str) -> bytes:
    """A complete ESP32 image with `romfs` in its ROMFS partition. The given image is checked first."""
    from .flash.esp import check_image  # esptool is slow to import

    assert profile.flash is not None
    layout = profile.flash
    partitions = check_image(image, profile, name)
    if ("romfs", layout.romfs_offset, layout.romfs_bytes) not in [(p.label, p.offset, p.size) for p in partitions]:
        raise BuildError(f"{name} has no ROMFS partition where boards/{profile.name} says; remove it and build again")
    return image.ljust(layout.romfs_offset - layout.image_offset, b"\xff") + romfs


def program(profile: BoardProfile, tell: Tell | None = None) -> Path:
    """The path of a board's MicroPython, with EdgeLoRA in it unless it is stock. tell: see above.

    It is built in a checkout. An installed wheel has the programs of some boards; BuildError for others.
    """
    if profile.port not in PROGRAMS:
        raise BuildError(
            f"`edgelora build` makes no firmware for {profile.name}: docs/guides/cortex-m55.md has the commands "
            f"that add EdgeLoRA to MicroPython's {profile.stock_board}; or flash its own image, then `edgelora install`"
        )
    if resources.installed():
        if not has_program(profile):
            raise BuildError(f"firmware for {profile.name} {_elsewhere(profile)}")
        return _program_path(profile)
    if profile.port == "esp32":
        check_esp_idf(profile)
    return _make(_program_path(profile), tell)


def has_program(profile: BoardProfile) -> bool:
    """Whether a board's program exists, or can be built here."""
    return profile.port in PROGRAMS and (not resources.installed() or _program_path(profile).exists())


def _program_path(profile: BoardProfile) -> Path:
    if profile.port == "unix":
        return resources.micropython()
    name = profile.stock_board if profile.stock and profile.port == "rp2" else profile.firmware
    return resources.programs() / PROGRAMS[profile.port].format(name)


def _elsewhere(profile: BoardProfile) -> str:
    """How to get firmware for a board that this wheel has none for."""
    if profile.port == "unix":
        return f"is missing: {resources.micropython_remedy()}"
    known = ", ".join(name for name in list_boards() if has_program(load_board(name))) or "no board"
    stock = (
        ""
        if profile.is_virtual
        else f"; or flash MicroPython's own {profile.stock_board} image, then `edgelora install`"
    )
    return f"needs a checkout of EdgeLoRA: this package has firmware for {known}{stock}"


def native_package(arch: str) -> Path:
    """The folder of an architecture's package.json. In a checkout its native module is rebuilt if outdated."""
    manifest = DIST / arch / "package.json"
    if not resources.installed():
        return _make(manifest).parent
    if not manifest.exists():
        raise BuildError(f"this EdgeLoRA was packaged without native modules for {arch}: install a release of it")
    return manifest.parent


def _make(path: Path, tell: Tell | None = None) -> Path:
    """Builds a file by `make` if outdated."""
    try:
        make = ["make", "-C", str(resources.ROOT), "--no-print-directory", str(path)]
        status, said = _run(make, tell or (lambda line: None))
    except FileNotFoundError:
        if path.exists():
            return path
        raise BuildError("`make` is not installed; install it (`apt-get install make`) and try again") from None
    if status:
        raise BuildError(f"`make {path.relative_to(resources.ROOT)}` failed:\n{said}")
    return path


def _run(command: list[str], tell: Tell) -> tuple[int, str]:
    """Runs a build without input; returns its status and output. tell: gets progress lines."""
    said, step, started = "", "", time.monotonic()
    pieces: queue.Queue[bytes] = queue.Queue()
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, bufsize=0, **pipes) as process:
        threading.Thread(target=_pump, args=(process.stdout, pieces), daemon=True).start()
        while True:
            try:
                piece = pieces.get(timeout=SIGN_OF_LIFE)
            except queue.Empty:
                tell(f"{step.strip() or 'make'} ... {time.monotonic() - started:.0f} s")
                continue
            if not piece:
                break
            said += piece.decode(errors="replace")
            *whole, step = (step + piece.decode(errors="replace")).split("\n")
            for line in whole:
                if not line.startswith("make"):  # `make` reports that nothing was to be done
                    tell(line)
    return process.returncode, said.strip()


def _pump(output: IO[bytes], pieces: queue.Queue[bytes]) -> None:
    """Queues a process's output as it comes, then b""."""
    while piece := output.read(4096):
        pieces.put(piece)
    pieces.put(b"")


def check_esp_idf(profile: BoardProfile) -> None:
    """Raises `BuildError` unless ESP-IDF and a complete MicroPython are installed, for building ESP32 firmware."""
    stock = f"or flash MicroPython's own {profile.stock_board} image, and then `edgelora install`"
    idf = os.environ.get("IDF_PATH")
    if not idf:
        raise BuildError(f"IDF_PATH is not set: install ESP-IDF and source its export.sh; {stock}")
    if not Path(idf, "tools/idf.py").is_file():
        raise BuildError(f"IDF_PATH is {idf}, which holds no tools/idf.py: name ESP-IDF's folder; {stock}")
    if not shutil.which("idf.py"):
        raise BuildError(f"idf.py is not on the path: source {idf}/export.sh; {stock}")
    if not (MICROPYTHON / "lib/berkeley-db-1.xx/README").exists():
        raise BuildError(
            f"{MICROPYTHON} lacks the submodules that ESP32 firmware needs (Debian's source package has none): "
            f"`rm {resources.ROOT}/.build/stamps/sources`, set MICROPYTHON_DIR to a checkout after "
            f"`make -C ports/esp32 submodules`, and build again; {stock}"
        )
