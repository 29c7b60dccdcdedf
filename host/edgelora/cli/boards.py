"""Commands that build images, and reach boards and their files."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, fields
from pathlib import Path

from ..boards import (
    SUFFIXES,
    Device,
    Installation,
    Verified,
    ask,
    build_firmware,
    install,
    list_boards,
    load_board,
    pick_port,
    program,
    survey,
)
from ..boards.flash import flash
from ..formats import write_atomic
from ..streams import note, say
from ..text import printable
from ..training import ADAPTER_PATH, WorkflowError, load_base
from ..virtual_boards import running
from . import console
from .common import Add, add_asking, add_port, connect, permit, show
from .console import emit


def add_commands(add: Add) -> None:
    p = add("build", cmd_build)
    p.add_argument("--board", default="rpi_pico", help="see `edgelora boards` (%(default)s)")
    p.add_argument(
        "--model", type=Path, help="a .elm to put into ROMFS, where it is used in place (not for stock firmware)"
    )
    p.add_argument(
        "-o", "--output", type=Path, help="the image (firmware.uf2, .bin, .elf or .romfs, as the board takes)"
    )
    p = add("sim", cmd_sim)
    p.add_argument("board", help="virtual-pico, virtual-pico-stock, virtual-riscv or unix")
    p.add_argument("--firmware", type=Path, help="image to start with; else what the board's flash holds")
    p.add_argument("--state", type=Path, help="folder of the board's flash (out/boards/BOARD)")
    p.add_argument("--stop", action="store_true", help="unplug it")
    p = add("flash", cmd_flash)
    p.add_argument(
        "image",
        type=Path,
        nargs="?",
        help="what `edgelora build` made, or MicroPython's own image for the board (.uf2, or .bin for ESP32 chips)",
    )
    p.add_argument("--firmware", type=Path, help="the same, by name")
    p.set_defaults(stopped="stopped; the boot loader takes no harm: flash again")
    p.add_argument("--board", help="refuse images for others; see `edgelora boards` (what the image says it is for)")
    p.add_argument("--firmware-only", action="store_true", help="do not install EdgeLoRA onto stock MicroPython next")
    p.add_argument("--read-back", action="store_true", help="compare all bytes in flash, not only hashes (ESP32 chips)")
    p.add_argument(
        "--drive", type=Path, help="the boot loader's volume, for a board without MicroPython (BOOTSEL held at plug-in)"
    )
    add_port(p)
    p = add("install", cmd_install)
    p.add_argument(
        "--from", dest="packages", type=Path, metavar="DIR", help="folder of an unpacked release (made here if need be)"
    )
    p.set_defaults(stopped="stopped; run it again, it goes on where it was")
    add_port(p)
    p = add("devices", cmd_devices)
    add_asking(p)
    p.add_argument("--port", help="ask only the board there (all that are found)")
    p = add("doctor", cmd_doctor)
    add_asking(p)
    p.add_argument("--port", help="examine only the board there (all that are found)")
    add("boards", cmd_boards)
    p = add("push", cmd_push)
    p.add_argument("file", type=Path)
    p.add_argument("path", nargs="?", help="on the board (/NAME)")
    add_port(p)
    p = add("pull", cmd_pull)
    p.add_argument("path", nargs="?", default=ADAPTER_PATH, help="on the board (%(default)s)")
    p.add_argument("file", nargs="?", type=Path, help="here (./NAME)")
    add_port(p)


def cmd_build(args: argparse.Namespace) -> None:
    """Firmware with the model in ROMFS."""
    base = load_base(args.model) if args.model else None
    output = args.output or Path("firmware" + SUFFIXES[load_board(args.board).port])
    files = {base.name: base.elm} if base else {}
    path = build_firmware(args.board, files, output, lambda line: note(line, args.json))
    size = path.stat().st_size
    show(args, {"output": str(path), "bytes": size, "base_id": base and base.base_id}, f"{path}: {console.size(size)}")


def cmd_sim(args: argparse.Namespace) -> None:
    """Starts or stops a virtual board."""
    from ..sim import start

    state = args.state or Path("out") / "boards" / args.board
    if args.stop:
        boards = [
            b
            for b in running()
            if b.board == args.board
            and (b.state_dir == str(state.resolve()) if args.state else b.belongs_to(Path.cwd()))
        ]
        for board in boards:
            board.stop()
        return show(args, {"stopped": [b.port for b in boards]}, f"stopped {len(boards)}")
    profile, firmware = load_board(args.board), args.firmware
    if firmware is None and profile.is_virtual and profile.stock and not state.exists():
        firmware = program(profile, lambda line: note(line, args.json))
    handle = start(args.board, firmware, state)
    show(args, asdict(handle), f"{args.board} on {handle.port}\nfirmware drive: {handle.drive}")


def cmd_flash(args: argparse.Namespace) -> None:
    """Writes firmware to a board: a .uf2 through an RP2 board's boot loader, MicroPython's .bin to an ESP32 chip.

    Where the firmware has no EdgeLoRA in it, that is installed next, as by `edgelora install`.
    """
    image = args.image or args.firmware
    if image is None:
        raise WorkflowError("which image? `edgelora flash IMAGE`, and see `edgelora flash --help`")
    with console.progress("flash", args.json) as progress:
        port = flash(
            args.drive or pick_port(args.port),
            image,
            progress,
            board=args.board,
            read_back=args.read_back,
        )
    note(f"{port}: flashed {image}", args.json)
    if args.firmware_only or port is None:
        return show(args, {"port": port, "installed": None}, f"{port}: firmware only")
    result = _install(args, port, None)
    if args.json:
        return emit({"port": port, "installed": asdict(result)})
    _print_installation(result)


def cmd_install(args: argparse.Namespace) -> None:
    """Puts EdgeLoRA onto a board that runs stock MicroPython: the native module for its core, and the agent."""
    result = _install(args, pick_port(args.port), args.packages)
    if args.json:
        return emit(asdict(result))
    _print_installation(result)


def _install(args: argparse.Namespace, port: str, packages: Path | None) -> Installation:
    with console.progress("install", args.json) as progress:
        return install(port, packages, progress)


def _print_installation(result: Installation) -> None:
    for file in result.files:
        say(f"{file.path}: {file.bytes} bytes{'' if file.copied else ', was there'}")
    how = f"module for {result.arch}" if result.files else "built into the firmware"
    say(
        f"{printable(result.board)}, MicroPython {printable(result.micropython)}: edgelora {result.edgelora}, {how}; "
        f"{result.free_heap} bytes of heap left with its agent loaded"
    )


def cmd_devices(args: argparse.Namespace) -> None:
    """Boards that are plugged in and virtual ones that run: what they are, their firmware, and EdgeLoRA on them.

    Programs that run on a board are left alone, and ports that others use; no board holds this up for more than
    a few seconds. A port that may be anything's is opened only if you say so: that may reset what is connected.
    """
    if args.port:
        found = [(Device(args.port, args.port, virtual=False), ask(args.port, args.interrupt))]
    else:
        found = survey(args.interrupt, permit(args))
    if args.json:
        return emit(
            [asdict(device) | asdict(answer) | {"board": device.board or answer.board} for device, answer in found]
        )
    if not found:
        return say("no board found: plug one in, or start a virtual one with `edgelora sim virtual-pico`")
    console.table(
        ("port", "board", "state", "MicroPython", "native modules", "EdgeLoRA", ""),
        [
            (
                device.port,
                device.board or answer.board or "?",
                answer.state,
                answer.micropython or "-",
                answer.native_arch or "-",
                answer.edgelora or "-",
                answer.detail or answer.machine or device.description,
            )
            for device, answer in found
        ],
    )


def cmd_doctor(args: argparse.Namespace) -> None:
    """Checks this computer and its boards, and says how to mend what is wrong; fails if anything is."""
    from ..boards import examine

    checks = examine(args.port, args.interrupt, permit(args))
    problems = [check.what for check in checks if check.state == "problem"]
    if args.json:
        emit([asdict(check) for check in checks])
    else:
        for check in checks:
            say(f"{check.state:8} {printable(check.what)}: {printable(check.detail)}")
            if check.remedy:
                say(f"{'':8} -> {printable(check.remedy)}")
    if problems:
        raise WorkflowError(f"{len(problems)} to mend: {', '.join(problems)}")
    note(
        "all is well, but for what is missing" if any(c.state == "missing" for c in checks) else "all is well",
        args.json,
    )


def cmd_boards(args: argparse.Namespace) -> None:
    """Boards this project knows, and what was verified on each, and where; --json has all of their profiles."""
    boards = [load_board(name) for name in list_boards()]
    if args.json:
        return emit([asdict(board) for board in boards])
    verified = [field.name for field in fields(Verified)]
    console.table(
        ("board", "chip", "core", "arena", *(name.replace("_", " ") for name in verified)),
        [
            (b.name, b.chip, b.core, console.size(b.arena_bytes), *(getattr(b.verified, name) for name in verified))
            for b in boards
        ],
    )


def cmd_push(args: argparse.Namespace) -> None:
    """Copies a file to the board, whole or not at all."""
    content = args.file.read_bytes()
    path = args.path or "/" + args.file.name
    with connect(args) as link, console.progress("push", args.json) as progress:
        started = time.monotonic()
        link.put(path, content, progress)
        seconds = time.monotonic() - started
    show(
        args,
        {"path": path, "bytes": len(content), "seconds": round(seconds, 3)},
        f"{path}: {len(content)} bytes in {seconds:.2f} s",
    )


def _file_name(path: str) -> str:
    """What a file of the board is called here."""
    name = path.rpartition("/")[2]
    if name in ("", ".", "..") or not name.isprintable():
        raise WorkflowError(f"{path!r} ends in no name for a file: give one, `edgelora pull PATH FILE`")
    return name


def cmd_pull(args: argparse.Namespace) -> None:
    """Copies a file from the board."""
    with connect(args) as link, console.progress("pull", args.json) as progress:
        content = link.get(args.path, progress)
    target = args.file or Path(_file_name(args.path))
    write_atomic(target, content)
    show(args, {"file": str(target), "bytes": len(content)}, f"{target}: {len(content)} bytes")
