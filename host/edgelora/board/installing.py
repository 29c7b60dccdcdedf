"""Installs EdgeLoRA on stock MicroPython: the native module for the board's core, and the agent that serves the link.

Both come from the same package that `mip` uses: a folder for each architecture with a package.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.progress import Progress, no_progress

from .build import NATIVE_ARCHES, native_package
from .link.client import Link
from .link.replies import DeviceError, Hello
from .link.serial_line import soft_reset
from .probe import native_arch

TARGET = "/lib"
PACKAGE = f"{TARGET}/edgelora"
MODULE = f"{PACKAGE}/__init__.mpy"
# Modules of earlier versions to remove, unless this version has them: from before the package, and in it.
OUTDATED = re.compile(rf"{TARGET}/edgelora(_(agent|store|training|update))?\.mpy|{PACKAGE}/\w+\.mpy")
THUMB = ("armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp")  # in order of imports
SPARE_BYTES = 16384  # reserve of the filesystem while files are replaced


class InstallError(EdgeloraError, RuntimeError):
    """The module can't be installed; the message says why and what to do. The board is unchanged."""


@dataclass(frozen=True)
class InstalledFile:
    """A file on the board; copied: False if it was there already."""

    path: str
    bytes: int
    copied: bool


@dataclass(frozen=True)
class Installation:
    """The result. arch: of the module; files: empty if the firmware has EdgeLoRA built in.

    free_heap: bytes left with the module and its agent loaded.
    """

    port: str
    board: str
    micropython: str
    arch: str
    edgelora: str
    files: tuple[InstalledFile, ...]
    free_heap: int


def install(port: str, packages: Path | None = None, progress: Progress = no_progress) -> Installation:
    """Copies missing files to the board, verifies them and soft-resets MicroPython to load them.

    packages: a folder with a package for each architecture, as `make natmods` makes it; None: that of this checkout,
    rebuilt if outdated. Each file is replaced atomically. Raises `InstallError`, or as `Link` does.
    """
    with Link.connect(port) as link:
        hello = link.hello()
        if hello.builtin:
            return Installation(port, hello.board, hello.micropython, "", hello.edgelora or "", (), hello.free)
        arch = choose_arch(hello, packages)
        version, contents = read_package(packages / arch if packages else native_package(arch))
        check_format(hello, contents[MODULE])
        _check_not_hidden(link, contents)
        there = (_files(link, TARGET) | _files(link, PACKAGE)).items()
        outdated = {path: size for path, size in there if OUTDATED.fullmatch(path) and path not in contents}
        missing = {path: content for path, content in contents.items() if not link.holds(path, content)}
        _replace(link, outdated, missing, progress)
    if outdated or missing or hello.edgelora != version:
        soft_reset(port)
        with Link.connect(port) as link:
            hello = link.hello()
    if hello.edgelora != version:
        raise InstallError(
            f"{PACKAGE} is in place, but the board imports edgelora {hello.edgelora}: it may lack memory "
            "(boot.py or main.py may use it), or have another edgelora on sys.path"
        )
    files = tuple(InstalledFile(path, len(content), path in missing) for path, content in contents.items())
    return Installation(port, hello.board, hello.micropython, arch, version, files, hello.free)


def choose_arch(hello: Hello, packages: Path | None = None) -> str:
    """The architecture of the module for a board: its own, or a compatible one."""
    name = native_arch(hello.mpy)
    if name is None:
        raise InstallError(
            f"{hello.board} loads no native modules, or an unknown kind (sys.implementation._mpy is {hello.mpy}): "
            "flash firmware with EdgeLoRA in it, see `edgelora build`"
        )
    there = {p.parent.name for p in packages.glob("*/package.json")} if packages else set(NATIVE_ARCHES)
    if arch := resolve(name, there):
        return arch
    where = f"in {packages}" if packages else "of EdgeLoRA"
    raise InstallError(f"{hello.board} needs a module for {name}; there are {', '.join(sorted(there))} {where}")


def resolve(name: str, there: Collection[str]) -> str | None:
    """The architecture among `there` whose modules run on the architecture `name`, the closest; None without one."""
    runs = THUMB[THUMB.index(name) :: -1] if name in THUMB else (name,)
    return next((arch for arch in runs if arch in there), None)


def read_package(folder: Path) -> tuple[str, dict[str, bytes]]:
    """The version of a package, and its files by path on the board."""
    try:
        package = json.loads((folder / "package.json").read_text())
        files = {f"{TARGET}/{name}": (folder / url).read_bytes() for name, url in package["urls"]}
        if len(files[MODULE]) < 3:
            raise InputError(f"{MODULE} is not a module")
        return package["version"], files
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InstallError(f"{folder} has no complete package ({error}); `make natmods` makes them") from None


def check_format(hello: Hello, module: bytes) -> None:
    """Raises InstallError unless the board's MicroPython loads native modules of this format."""
    ours, boards = (module[1], module[2] & 3), (hello.mpy & 255, hello.mpy >> 8 & 3)
    if ours != boards:
        older = "update the board's MicroPython" if boards < ours else "update EdgeLoRA"
        raise InstallError(
            f"MicroPython {hello.micropython} on {hello.board} loads native modules of format "
            f"{boards[0]}.{boards[1]}, this one is {ours[0]}.{ours[1]}: {older}"
        )


def _check_not_hidden(link: Link, contents: dict[str, bytes]) -> None:
    """Raises InstallError if the board would import another module: / precedes TARGET, and .py precedes .mpy."""
    hiding = {f"/{name}" for name in ("edgelora", "edgelora.py", "edgelora.mpy")}
    hiding |= {path.replace(".mpy", ".py") for path in contents}
    for path in sorted(hiding & (_files(link, "/") | _files(link, PACKAGE)).keys()):
        recursive = "" if "." in path else " -r"
        raise InstallError(f"the board has {path}, which would hide {PACKAGE}: `mpremote fs rm{recursive} :{path}`")


def _files(link: Link, folder: str) -> dict[str, int | None]:
    """Entries of a folder, as path and bytes (None for a folder); empty if the folder is missing."""
    try:
        return {f"{folder.rstrip('/')}/{entry.name}": entry.size for entry in link.list(folder)}
    except DeviceError:
        return {}


def _replace(link: Link, outdated: dict[str, int | None], files: dict[str, bytes], progress: Progress) -> None:
    """Replaces `outdated` files by `files`, if the filesystem has enough space."""
    total = sum(map(len, files.values()))
    free = link.space("/").free + sum(size or 0 for size in outdated.values())
    if files and free < total + SPARE_BYTES:
        raise InstallError(
            f"the board's filesystem has {free} bytes free, {total + SPARE_BYTES} are needed: "
            "remove files (`mpremote fs ls`, `mpremote fs rm`)"
        )
    for path in outdated:
        link.remove(path)
    done = 0

    def report(now: int, _: int, what: str) -> None:
        progress(done + now, total, what)

    for path, content in files.items():
        link.put(path, content, report)
        done += len(content)
