"""Actions on boards: firmware, EdgeLoRA, bases. Each is a job that calls the library. No pages in here."""

from __future__ import annotations

import re
from pathlib import Path

from edgelora.base.errors import InputError
from edgelora.board.build import build_firmware, has_program
from edgelora.board.devices import Device, find_devices
from edgelora.board.flash.write import flash
from edgelora.board.installing import install
from edgelora.board.link.client import Link
from edgelora.board.link.replies import LinkError
from edgelora.board.profiles import list_boards, load_board
from edgelora.board.resetting import reset
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.files import write_atomic
from edgelora.core.twin.binding import check_model
from edgelora.learn.training.board.board_learner import base_path
from edgelora.learn.training.data.base import Base, load_base

from .board_session import BoardSession
from .job import Job
from .project import Project

BASE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,40}\.elm")
IMAGES = (".uf2", ".bin")
FIRMWARE = "firmware"  # the project's folder of firmware images


def keep_base(project: Project, name: str, content: bytes) -> Base:
    """Checks a given `.elm` and adds it to the project; never replaces a base of that name."""
    if not BASE_NAME.fullmatch(name):
        raise InputError(f"{name!r} is not a base name", remedy="give a NAME.elm of letters, digits, - _ and .")
    path = project.folder / "bases" / name
    unpack_model(content, name)
    check_model(content)
    if path.exists() and path.read_bytes() != content:
        raise InputError(f"the project has another base {name}", remedy="give the file another name")
    write_atomic(path, content)
    return load_base(path)


def put_base(session: BoardSession, base: Base) -> Job:
    """Copies a base to a board's ROMFS or file system unless it is there. The job's result is its path on the board."""

    def work(link: Link, job: Job) -> str:
        path = base_path(link, base)
        if path is None:
            path = base.paths[1]
            link.put(path, base.elm, job.progress)
        return path

    return session.submit(f"put {base.name} on the board", work)


def install_on(session: BoardSession) -> Job:
    """Installs EdgeLoRA on a board with stock MicroPython. The job's result is an `Installation`."""
    return session.submit_on_port("install EdgeLoRA", lambda port, job: install(port, None, job.progress))


def restart(project: Project, session: BoardSession) -> Job:
    """Restarts MicroPython on a board, as at power-up, even if it is busy. Power-cycles a virtual board that hangs."""
    session.interrupt()

    def work(port: str, job: Job) -> None:
        try:
            reset(port)
        except LinkError:
            if not project.is_own(session.device):
                raise
            job.tell("it does not answer: cutting its power")
            project.cut_power(session.device)

    return session.submit_on_port("reset", work)


def can_build() -> bool:
    """Whether firmware can be built here for any board."""
    return bool(flashed_kinds())


def flashed_kinds() -> list[str]:
    """Kinds of boards whose firmware can be built and flashed here."""
    profiles = map(load_board, list_boards())
    return [one.name for one in profiles if one.port == "rp2" and not one.stock and has_program(one)]


def keep_image(project: Project, name: str, content: bytes) -> Path:
    """Adds a given firmware image to the project."""
    suffix = Path(name).suffix
    if suffix not in IMAGES:
        raise InputError(f"{name!r} is not a firmware image", remedy="give a .uf2 file, or a .bin file for ESP32 chips")
    path = project.folder / FIRMWARE / f"given{suffix}"
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, content)
    return path


def built(project: Project, board: str, base: Base | None, job: Job) -> Path:
    """Builds a board's firmware, with an optional base in it, as part of a job."""
    job.tell("building the firmware: a few minutes the first time")
    output = project.folder / FIRMWARE / f"{board}.uf2"
    output.parent.mkdir(exist_ok=True)
    return build_firmware(board, {base.name: base.elm} if base else {}, output, job.tell)


def flash_place(
    project: Project, session: BoardSession, image: Path | None, board: str | None, base: Base | None
) -> Job:
    """Flashes a board by its port with an image or newly built firmware; installs EdgeLoRA if the image lacks it."""

    def work(port: str, job: Job) -> str:
        return _flash(port, image or built(project, str(board), base, job), job)

    return session.submit_on_port("flash", work)


def flash_device(project: Project, there: Device, image: Path | None, board: str | None, base: Base | None) -> Job:
    """The same for a board in its boot loader, which is connected afterwards."""

    def work(job: Job) -> BoardSession | None:
        port = _flash(there.port, image or built(project, str(board), base, job), job)
        device = next((device for device in find_devices() if device.port == port), None)
        return project.connect(device) if device else None

    return project.submit(f"flash the {there.description}", work)


def _flash(target: str, image: Path, job: Job) -> str:
    port = flash(target, image, job.progress)
    if port is None:
        raise InputError("the firmware is written, but the board shows no port", remedy="unplug and reconnect it")
    job.progress(0, 0, "checking for EdgeLoRA, installing it if missing")
    install(port, None, job.progress)
    return port
