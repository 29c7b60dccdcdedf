"""Looks for what keeps a computer and its boards from working with EdgeLoRA, and says how to fix it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edgelora import __version__
from edgelora.base import resources
from edgelora.core.twin.binding import library

from .build import MICROPYTHON, NATIVE_ARCHES
from .devices import Device, Permit, survey
from .probe import Answer, ask, may_open
from .profiles import load_board

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# Program, Debian package, purpose.
TOOLS = (
    ("picotool", "picotool", "flashing RP2 boards whose volume is not mounted"),
    ("qemu-system-riscv32", "qemu-system-riscv", "the board virtual-riscv"),
)
# Build tools of a checkout, which `make` installs automatically.
BUILD_TOOLS = (
    ("make", "make", "building anything"),
    ("cc", "gcc", "the host twin"),
    ("cmake", "cmake", "the host twin and firmware for RP2 boards"),
    ("arm-none-eabi-gcc", "gcc-arm-none-eabi", "firmware and native modules for RP2 boards"),
    ("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf", "the native module for ESP32-C3 and C6"),
    ("clang-22", "clang-22", "the native module for ESP32, S2 and S3"),
)
EXTRAS = {"": "", "sim": " (needed by virtual boards)", "demo": " (needed by the demonstration)"}
OLDEST_MICROPYTHON = (1, 25)


@dataclass(frozen=True)
class Check:
    """The result of one check. remedy: "" if it is ok.

    state: "ok"; "missing", if only some uses need it; "in use", a board that another program has open; "problem".
    """

    what: str
    state: str
    detail: str
    remedy: str = ""


def examine(port: str | None = None, interrupt: bool = False, permit: Permit = lambda device: False) -> list[Check]:
    """All checks: of Python packages, tools, access to ports, and every board (or the one on `port`).

    permit: as for `survey`.
    """
    checks = [*check_packages(), *check_tools()]
    if port is None:
        boards = survey(interrupt, permit)
        real = [device for device, _ in boards if not device.virtual and not device.boot_loader]
        checks += [check for device in real for check in check_access(device.port)]
        if not boards:
            checks.append(Check("board", "missing", "none found", "connect one, or `edgelora sim virtual-pico`"))
    else:
        checks += check_access(port)
        boards = [(Device(port, port, virtual=False), ask(port, interrupt))]
    return checks + [check for device, answer in boards for check in check_board(device, answer)]


def check_packages() -> list[Check]:
    """Checks the Python packages that this version needs, without those for its development."""
    from packaging.requirements import Requirement  # slow to import

    checks = []
    for requirement in map(Requirement, metadata.requires("edgelora") or []):
        extra = next((name for name in EXTRAS if _applies(requirement, name)), None)
        if extra is None or (extra == "sim" and resources.emulator()):
            continue
        what, remedy = (
            f"Python package {requirement.name}",
            f"`pip install '{requirement.name}{requirement.specifier}'`",
        )
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            checks.append(Check(what, "missing" if extra else "problem", "not installed" + EXTRAS[extra], remedy))
            continue
        if requirement.specifier.contains(found, prereleases=True):
            checks.append(Check(what, "ok", found))
        else:
            checks.append(Check(what, "problem", f"{found} is installed, not {requirement.specifier}", remedy))
    return checks


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def check_tools() -> list[Check]:
    """Checks programs and built parts."""
    checks = [_check_twin()]
    for program, package, use in TOOLS if resources.installed() else (*BUILD_TOOLS, *TOOLS):
        path = shutil.which(program)
        if path:
            checks.append(Check(program, "ok", path))
        else:
            checks.append(Check(program, "missing", f"needed for {use}", f"`apt-get install {package}`"))
    return checks + (_check_native_modules() if resources.installed() else _check_sources())


def _check_twin() -> Check:
    try:
        return Check("host twin", "ok", library()._name)
    except OSError as error:
        return Check("host twin", "problem", str(error), resources.twin_remedy())


def _check_native_modules() -> list[Check]:
    lacking = [arch for arch in NATIVE_ARCHES if not (resources.natmods() / arch / "package.json").exists()]
    if not lacking:
        return [Check("native modules", "ok", ", ".join(NATIVE_ARCHES))]
    return [Check("native modules", "problem", f"none for {', '.join(lacking)}", "install a release of EdgeLoRA")]


def _check_sources() -> list[Check]:
    """Checks the sources of firmware."""
    if (MICROPYTHON / "py").exists():
        checks = [Check("MicroPython sources", "ok", str(MICROPYTHON))]
    else:
        remedy = "`make sources` (only to build firmware)"
        checks = [Check("MicroPython sources", "missing", "missing", remedy)]
    idf = os.environ.get("IDF_PATH")
    if idf and Path(idf, "tools/idf.py").exists():
        return [*checks, Check("ESP-IDF", "ok", idf)]
    detail = f"IDF_PATH is {idf}, which has no tools/idf.py" if idf else "IDF_PATH is not set"
    remedy = "install ESP-IDF and source its export.sh (only to build ESP32 firmware; not needed for stock images)"
    return [*checks, Check("ESP-IDF", "missing", detail, remedy)]


def check_access(port: str) -> list[Check]:
    """Whether this user may open a serial port."""
    what = f"access to {port}"
    may = may_open(port)
    if may is None:
        return []
    if may:
        return [Check(what, "ok", "accessible")]
    try:
        group = Path(port).group()
    except KeyError:
        group = str(os.stat(port).st_gid)
    remedy = f"`sudo usermod -aG {group} $USER`, then log out and in again"
    return [Check(what, "problem", f"only its owner and the group {group} may open it", remedy)]


def check_board(device: Device, answer: Answer) -> list[Check]:
    """Checks a board's firmware and its EdgeLoRA module."""
    what = f"board on {device.port}"
    board = device.board or answer.board
    if answer.state == "boot loader":
        return [Check(what, "missing", "in its boot loader, without running firmware", "`edgelora flash IMAGE`")]
    if answer.state == "not asked":
        return [Check(what, "missing", f"{device.description}: not asked", answer.detail)]
    if answer.state == "in use":
        return [Check(what, "in use", "another program has it open", answer.detail)]
    if answer.micropython is None:
        return [Check(what, "problem", answer.state, answer.detail)]
    name = f"{answer.machine}, MicroPython {answer.micropython}"
    old = tuple(int(part) for part in answer.micropython.split(".")[:2]) < OLDEST_MICROPYTHON
    newest = ".".join(map(str, OLDEST_MICROPYTHON))
    remedy = f"flash MicroPython {newest} or later: `edgelora flash --help`"
    checks = [Check(what, "problem", f"{name}: too old", remedy) if old else Check(what, "ok", name)]
    if board and answer.native_arch and answer.native_arch != load_board(board).native_arch:
        wanted = load_board(board).native_arch
        detail = f"its firmware loads native modules for {answer.native_arch}, {board} needs {wanted}"
        checks.append(Check(f"firmware of {device.port}", "problem", detail, f"flash firmware for {board}"))
    checks.append(_check_module(device, answer))
    return checks


def _check_module(device: Device, answer: Answer) -> Check:
    what = f"EdgeLoRA on {device.port}"
    again = "`edgelora install`, or `edgelora flash` firmware with it (`edgelora build`)"
    if answer.detail:
        return Check(what, "problem", answer.detail, again)
    if answer.edgelora is None:
        return Check(what, "problem", "not on the board", again)
    if answer.edgelora != __version__:
        return Check(what, "problem", f"version {answer.edgelora}, this computer has {__version__}", again)
    return Check(what, "ok", answer.edgelora)
