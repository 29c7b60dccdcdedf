"""Looks for what keeps a computer and its boards from working with EdgeLoRA, and says how to mend it."""

from __future__ import annotations

import grp
import os
import re
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgelora import __version__
from edgelora.boards import ROOT, load_board
from edgelora.devices import Device, find_devices, survey
from edgelora.probe import Answer, ask
from edgelora.twin import LIBRARY

# What `make` installs by itself: program, Debian package, what it is for.
TOOLS = (
    ("make", "make", "building anything"),
    ("cc", "gcc", "the host twin"),
    ("arm-none-eabi-gcc", "gcc-arm-none-eabi", "firmware and native modules for RP2 boards"),
    ("cmake", "cmake", "firmware for RP2 boards"),
    ("picotool", "picotool", "flashing RP2 boards whose volume is not mounted"),
    ("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf", "the native module for ESP32-C3 and C6"),
    ("qemu-system-riscv32", "qemu-system-riscv", "the board virtual-riscv"),
    ("clang-22", "clang-22", "the native module for ESP32, S2 and S3"),
)
EXTRAS = {None: "", "sim": " (needed by virtual boards)", "demo": " (needed by the demonstration)"}
OLDEST_MICROPYTHON = (1, 25)


@dataclass(frozen=True)
class Check:
    """One thing looked at. state: "ok"; "missing", where only some uses need it; "problem". remedy: "" if it is ok."""

    what: str
    state: str
    detail: str
    remedy: str = ""


def examine(port: str | None = None, interrupt: bool = False) -> list[Check]:
    """All checks: of Python packages, tools, access to ports, and every board (or the one on `port`)."""
    checks = [*check_packages(), *check_tools()]
    if port is None:
        boards = survey(interrupt)
        checks += [check for device in find_devices() if not device.virtual for check in check_access(device.port)]
        if not boards:
            checks.append(Check("board", "missing", "none found", "connect one, or `edgelora sim virtual-pico`"))
    else:
        checks += check_access(port)
        boards = [(Device(port, port, virtual=False), ask(port, interrupt))]
    return checks + [check for device, answer in boards for check in check_board(device, answer)]


def check_packages() -> list[Check]:
    """The Python packages that this version is pinned to, but for those of its own development."""
    checks = []
    for requirement in metadata.requires("edgelora") or []:
        pin = re.fullmatch(r"([\w.-]+)==([\w.]+)(?:; *extra == .(\w+).)?", requirement)
        if pin is None or pin[3] not in EXTRAS:
            continue
        name, wanted, extra = pin.groups()
        what, remedy = f"Python package {name}", f"`pip install {name}=={wanted}`"
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            checks.append(Check(what, "missing" if extra else "problem", "not installed" + EXTRAS[extra], remedy))
            continue
        if found == wanted:
            checks.append(Check(what, "ok", found))
        else:
            checks.append(Check(what, "problem", f"{found} is installed, {wanted} was tested", remedy))
    return checks


def check_tools() -> list[Check]:
    """Programs and built parts."""
    checks = []
    for program, package, use in TOOLS:
        path = shutil.which(program)
        if path:
            checks.append(Check(program, "ok", path))
        else:
            checks.append(Check(program, "missing", f"needed for {use}", f"`apt-get install {package}`"))
    sources = ROOT / ".build/src/micropython/py"
    for what, built, worst, remedy in (
        ("host twin", LIBRARY, "problem", "`make twin`"),
        ("MicroPython sources", sources, "missing", "`make sources` (only to build firmware)"),
    ):
        there = built.exists()
        checks.append(Check(what, "ok", str(built)) if there else Check(what, worst, "not there", remedy))
    idf = os.environ.get("IDF_PATH")
    if idf and Path(idf, "tools/idf.py").exists():
        checks.append(Check("ESP-IDF", "ok", idf))
    else:
        detail = f"IDF_PATH is {idf}, which has no tools/idf.py" if idf else "IDF_PATH is not set"
        remedy = "install ESP-IDF and source its export.sh (only to build ESP32 firmware; stock images need none of it)"
        checks.append(Check("ESP-IDF", "missing", detail, remedy))
    return checks


def check_access(port: str) -> list[Check]:
    """Whether this user may open a serial port."""
    what = f"access to {port}"
    if "://" in port or not os.path.exists(port):
        return []
    if os.access(port, os.R_OK | os.W_OK):
        return [Check(what, "ok", "may be opened")]
    status = os.stat(port)
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    remedy = f"`sudo usermod -aG {group} $USER`, then log out and in again"
    return [Check(what, "problem", f"only its owner and the group {group} may open it", remedy)]


def check_board(device: Device, answer: Answer) -> list[Check]:
    """What a board says of its firmware and of the EdgeLoRA module on it."""
    what = f"board on {device.port}"
    board = device.board or answer.board
    if answer.state == "boot loader":
        return [Check(what, "missing", "in its boot loader, without firmware that runs", "`edgelora flash IMAGE`")]
    if answer.micropython is None:
        return [Check(what, "problem", answer.state, answer.detail)]
    name = f"{answer.machine}, MicroPython {answer.micropython}"
    old = tuple(int(part) for part in answer.micropython.split(".")[:2]) < OLDEST_MICROPYTHON
    newest = ".".join(map(str, OLDEST_MICROPYTHON))
    remedy = f"flash MicroPython {newest} or later: `edgelora flash --help`"
    checks = [Check(what, "problem", f"{name}: too old", remedy) if old else Check(what, "ok", name)]
    if board and answer.native_arch and answer.native_arch != load_board(board).native_arch:
        wanted = load_board(board).native_arch
        detail = f"its firmware loads native modules for {answer.native_arch}, {board} should take {wanted}"
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
