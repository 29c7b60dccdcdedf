"""Commands for firmware images, boards and their files."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, fields
from pathlib import Path

from edgelora.base.errors import InputError
from edgelora.base.streams import note, say
from edgelora.base.text import printable
from edgelora.board.build import SUFFIXES, build_firmware, program
from edgelora.board.devices import Device, survey
from edgelora.board.flash.write import flash
from edgelora.board.installing import Installation, install
from edgelora.board.probe import ask
from edgelora.board.profiles import Verified, board_name, list_boards, load_board
from edgelora.board.resetting import reset
from edgelora.board.virtual_boards import running
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.wake_manifest import manifest_beside
from edgelora.learn.training.board.board_paths import ADAPTER_PATH
from edgelora.learn.training.data.base import WorkflowError, load_base

from . import console
from .arguments import add_asking, add_board, add_port, connect, permit, port_of, show
from .command_line import Add
from .console import emit


def add_commands(add: Add) -> None:
    p = add("build", cmd_build)
    add_board(p, "rpi_pico", "see `edgelora boards` (%(default)s)")
    p.add_argument(
        "--model", type=Path, help="a .elm for the ROMFS, where it is used in place (not for stock firmware)"
    )
    p.add_argument(
        "-o", "--output", type=Path, help="the image (firmware.uf2, .bin, .elf or .romfs, depending on the board)"
    )
    p = add("sim", cmd_sim)
    p.add_argument("board", nargs="?", type=board_name, help="virtual-pico, virtual-pico-stock, virtual-riscv or unix")
    p.add_argument("--list", action="store_true", help="list running boards of all folders")
    p.add_argument("--firmware", type=Path, help="image to start with (the contents of the board's flash)")
    p.add_argument("--state", type=Path, help="folder of the board's flash (out/boards/BOARD)")
    p.add_argument(
        "--i2c",
        metavar="CHIP=FILE",
        help="mpu6050=FILE: the sensor on the Pico's I2C plays this recording in a loop (6 channels, g and "
        "rad/s: .csv, .npz, .json, .cbor), also while the board runs; demo:circle (wave, shake, knock, circle-later): "
        "those of a person's watch; demo: all of them",
    )
    p.add_argument(
        "--i2s",
        type=Path,
        metavar="FILE",
        help="a .wav of 16 kHz and 16 bits: the microphone on the Pico's I2S plays it once, from now on",
    )
    p.add_argument(
        "--press",
        action="append",
        default=[],
        metavar="PIN[@S,...]",
        help="press the button between a Pico's pin and ground: now, or at these seconds of the board's clock; "
        "returns when it was done, if the board runs",
    )
    p.add_argument(
        "--oscillator",
        metavar="free|stuck|SEED",
        help="what the noise of a Pico's ring oscillator is, from which it makes its secrets: this computer's (free, "
        "as it is at first), none (stuck), or what follows from a number",
    )
    p.add_argument("--read-pins", action="store_true", help="print the level of each output pin of a Pico")
    p.add_argument(
        "--stop", action="store_true", help="unplug the board; without BOARD and --state, all boards of this folder"
    )
    p = add("flash", cmd_flash)
    p.add_argument(
        "image",
        type=Path,
        nargs="?",
        help="an image from `edgelora build`, or MicroPython's own for the board (.uf2, or .bin for ESP32 chips)",
    )
    p.add_argument("--firmware", type=Path, help="the same as an option")
    p.set_defaults(stopped="stopped; the boot loader is intact: flash again")
    add_board(p, None, "refuse images for others; see `edgelora boards` (what the image says it is for)")
    p.add_argument(
        "--firmware-only", action="store_true", help="do not install EdgeLoRA on stock MicroPython afterwards"
    )
    p.add_argument("--read-back", action="store_true", help="compare all bytes in flash, not only hashes (ESP32 chips)")
    p.add_argument(
        "--drive", type=Path, help="the boot loader's volume, for a board without MicroPython (BOOTSEL held at plug-in)"
    )
    add_port(p)
    p = add("install", cmd_install)
    p.add_argument(
        "--from", dest="packages", type=Path, metavar="DIR", help="folder of an unpacked release (built here if needed)"
    )
    p.set_defaults(stopped="stopped; run it again to continue")
    add_port(p)
    p = add("devices", cmd_devices)
    add_asking(p)
    p.add_argument("--port", help="query only this board (all)")
    p = add("doctor", cmd_doctor)
    add_asking(p)
    p.add_argument("--port", help="check only this board (all)")
    add("boards", cmd_boards)
    p = add("reset", cmd_reset)
    p.add_argument(
        "--hard", action="store_true", help="reset the chip, not only MicroPython; USB ports disappear for a moment"
    )
    add_port(p)
    p = add("ls", cmd_ls)
    p.add_argument("path", nargs="?", default="/", help="a folder on the board (%(default)s)")
    add_port(p)
    p = add("push", cmd_push)
    p.add_argument("file", type=Path, help="a local file")
    p.add_argument("path", nargs="?", help="on the board (/NAME)")
    add_port(p)
    p = add("pull", cmd_pull)
    p.add_argument("path", nargs="?", default=ADAPTER_PATH, help="on the board (%(default)s)")
    p.add_argument("-o", "--output", type=Path, help="the local file to write (./NAME)")
    add_port(p)
    p = add("rm", cmd_rm)
    p.add_argument("path", nargs="+", help="files on the board")
    add_port(p)


def cmd_build(args: argparse.Namespace) -> None:
    """Builds firmware for a board, including a model.

    The model is put into ROMFS, where the board uses it in place, with a wake word's manifest (.json) that lies beside
    it. A checkout builds firmware for every board; an installed package includes firmware for some.
    """
    base = load_base(args.model) if args.model else None
    output = args.output or Path("firmware" + SUFFIXES.get(load_board(args.board).port, ""))
    files = {base.name: base.elm} if base else {}
    if base and (there := manifest_beside(args.model)):
        files[there[0]] = there[1].packed()
    path = build_firmware(args.board, files, output, lambda line: note(line, args.json))
    size = path.stat().st_size
    show(args, {"output": str(path), "bytes": size, "base_id": base and base.base_id}, f"{path}: {console.size(size)}")


def cmd_sim(args: argparse.Namespace) -> None:
    """Starts, stops or lists virtual boards.

    A virtual board runs until it is stopped, and keeps its flash in its folder. A Pico can have a motion sensor, a
    microphone, buttons and noise; these options also apply to a running one.
    """
    from edgelora.board.sim.oscillator import parse_oscillator
    from edgelora.board.sim.virtual_board import start
    from edgelora.board.sim.world import driven_pins, set_world, wait_pressed

    if args.list:
        return _list_running(args)
    if args.stop:
        return _stop(args)
    if args.board is None:
        names = ", ".join(name for name in list_boards() if load_board(name).is_virtual)
        raise InputError(f"which board? give one of {names}, or --list for those that run")
    state = args.state or Path("out") / "boards" / args.board
    if args.read_pins:
        levels = driven_pins(state)
        words = ", ".join(f"pin {pin} {'high' if level else 'low'}" for pin, level in levels.items())
        return show(args, {"pins": levels}, words or "it drives no pin")
    profile, firmware = load_board(args.board), args.firmware
    if args.i2c or args.i2s or args.press or args.oscillator:
        if not (profile.is_virtual and profile.port == "rp2"):
            raise InputError(
                f"{args.board} has no sensor, no buttons, no oscillator: give virtual-pico or virtual-pico-stock"
            )
        motion, presses = _around(args)
        noise = parse_oscillator(args.oscillator) if args.oscillator else None
        set_world(state, motion, presses, noise, args.i2s)
        if there := next((b for b in running() if b.state_dir == str(state.resolve())), None):
            if presses:
                with console.step("press", args.json):
                    wait_pressed(state, presses)
            return show(args, asdict(there), f"{args.board} on {there.port}: set")
    if firmware is None and profile.is_virtual and profile.stock and not state.exists():
        firmware = program(profile, lambda line: note(line, args.json))
    with console.step(f"start {args.board}", args.json):
        handle = start(args.board, firmware, state)
    show(args, asdict(handle), f"{args.board} on {handle.port}\nfirmware drive: {handle.drive}")
    if profile.port == "rp2" and any(Path(handle.drive).glob("*")):
        remedy = f"`edgelora build --board {args.board} --model MODEL.elm`, then `edgelora flash firmware.uf2 --drive"
        note(f"it is in its boot loader, as nothing was flashed yet: {remedy} {handle.drive}`", args.json)


def _stop(args: argparse.Namespace) -> None:
    """Unplugs the board in --state, or all below this folder, optionally of one kind."""
    folder = str(args.state.resolve()) if args.state else None
    boards = [b for b in running() if args.board in (None, b.board)]
    boards = [b for b in boards if (b.state_dir == folder if folder else b.belongs_to(Path.cwd()))]
    for board in boards:
        board.stop()
    show(args, {"stopped": [b.port for b in boards]}, f"stopped {len(boards)}")


def _around(args: argparse.Namespace) -> tuple[str | None, list[tuple[int, float]]]:
    """The recording of --i2c, and the button presses of --press."""
    from edgelora.board.sim.world import CHIPS, parse_press

    chip, _, file = (args.i2c or "").partition("=")
    if args.i2c and not (chip in CHIPS and file):
        raise InputError(f"--i2c {args.i2c}: give {' or '.join(CHIPS)}=FILE, or =demo")
    return file or None, [press for text in args.press for press in parse_press(text)]


def _list_running(args: argparse.Namespace) -> None:
    boards = running()
    if args.json:
        return emit([asdict(board) for board in boards])
    if not boards:
        return say("no virtual board runs: `edgelora sim BOARD` starts one")
    console.table(("board", "port", "folder"), [(board.board, board.port, board.state_dir) for board in boards])


def cmd_flash(args: argparse.Namespace) -> None:
    """Writes firmware to a board.

    A .uf2 is written through an RP2 board's boot loader, MicroPython's .bin to an ESP32 chip. Unless the firmware
    includes EdgeLoRA, it is installed afterwards, as by `edgelora install`.
    """
    image = args.image or args.firmware
    if image is None:
        raise WorkflowError("which image? `edgelora flash IMAGE`, and see `edgelora flash --help`")
    with console.progress("flash", args.json) as progress:
        port = flash(
            args.drive or port_of(args),
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
    """Installs EdgeLoRA on a board with stock MicroPython.

    Copies the native module for its core, the Python modules and the agent, unless they are there already.
    """
    result = _install(args, port_of(args), args.packages)
    if args.json:
        return emit(asdict(result))
    _print_installation(result)


def _install(args: argparse.Namespace, port: str, packages: Path | None) -> Installation:
    with console.progress("install", args.json) as progress:
        return install(port, packages, progress)


def _print_installation(result: Installation) -> None:
    for file in result.files:
        say(f"{file.path}: {file.bytes} bytes{'' if file.copied else ', already there'}")
    how = f"module for {result.arch}" if result.files else "built into the firmware"
    say(
        f"{printable(result.board)}, MicroPython {printable(result.micropython)}: edgelora {result.edgelora}, {how}; "
        f"{result.free_heap} bytes of heap left with its agent loaded"
    )


def cmd_devices(args: argparse.Namespace) -> None:
    """Lists connected boards and running virtual boards.

    Shows each board's type, firmware and EdgeLoRA version. Programs running on boards and ports in use are left
    alone; a board delays this by a few seconds at most. Ports of unknown devices are only opened with --probe, as that
    may reset the device.
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
    """Checks this computer and its boards, and suggests fixes.

    The exit code is 1 if there is anything to fix.
    """
    from edgelora.board.doctor import examine

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
        raise WorkflowError(f"{len(problems)} to fix: {', '.join(problems)}")
    but = [state for state in ("missing", "in use") if any(check.state == state for check in checks)]
    note("all is well" + (f", except what is {' or '.join(but)}" if but else ""), args.json)


def cmd_boards(args: argparse.Namespace) -> None:
    """Lists supported boards and what was verified on each.

    --board also takes aliases. --json prints the complete profiles.
    """
    boards = [load_board(name) for name in list_boards()]
    if args.json:
        return emit([asdict(board) for board in boards])
    verified = [field.name for field in fields(Verified)]
    console.table(
        ("board", "aliases", "chip", "core", "arena", *(name.replace("_", " ") for name in verified)),
        [
            (
                b.name,
                " ".join(b.aliases),
                b.chip,
                b.core,
                console.size(b.arena_bytes),
                *(getattr(b.verified, name) for name in verified),
            )
            for b in boards
        ],
    )


def cmd_push(args: argparse.Namespace) -> None:
    """Copies a file to a board, atomically."""
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
    """The local name for a file of the board."""
    name = path.rpartition("/")[2]
    if name in ("", ".", "..") or not name.isprintable():
        raise WorkflowError(f"{path!r} does not end in a file name: give one, `edgelora pull PATH -o FILE`")
    return name


def cmd_pull(args: argparse.Namespace) -> None:
    """Copies a file from a board."""
    with connect(args) as link, console.progress("pull", args.json) as progress:
        content = link.get(args.path, progress)
    target = args.output or Path(_file_name(args.path))
    write_atomic(target, content)
    show(args, {"file": str(target), "bytes": len(content)}, f"{target}: {len(content)} bytes")


def cmd_reset(args: argparse.Namespace) -> None:
    """Stops the program on a board, and restarts it.

    Files and the store are kept; an open model is closed. boot.py and main.py run as at power-up.
    """
    port = port_of(args)
    with console.step("reset", args.json):
        reset(port, args.hard)
    show(args, {"port": port, "hard": args.hard}, f"{port}: reset")


def cmd_ls(args: argparse.Namespace) -> None:
    """Lists a folder on a board, and its free space."""
    with connect(args) as link:
        entries, space = link.list(args.path), link.space(args.path)
    if args.json:
        return emit({"path": args.path, "entries": [asdict(entry) for entry in entries], "free": space.free})
    rows = [(entry.name + ("/" if entry.size is None else ""), entry.size) for entry in entries]
    console.table(("name", "bytes"), [(name, "" if size is None else size) for name, size in sorted(rows)])
    say(f"{console.size(space.free)} of {console.size(space.total)} free")


def cmd_rm(args: argparse.Namespace) -> None:
    """Deletes files on a board."""
    removed: list[str] = []
    with connect(args) as link:
        for path in args.path:
            link.remove(path)
            removed.append(path)
    show(args, {"removed": removed}, "\n".join(f"removed {path}" for path in removed))
