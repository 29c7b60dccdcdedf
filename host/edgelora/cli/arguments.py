"""Arguments and output that commands share."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgelora.base.streams import confirmed, say
from edgelora.base.text import printable
from edgelora.board.profiles import board_name

from . import console
from .console import emit

if TYPE_CHECKING:
    from edgelora.board.devices import Device, Permit
    from edgelora.board.link.client import Link

log = logging.getLogger(__name__)


def port_of(args: argparse.Namespace) -> str:
    """The port from the command line or settings, or that of the only board."""
    from edgelora.board.devices import pick_port  # takes a while to import

    port = pick_port(args.port or args.usual_port)
    log.info("port %s", port)
    return port


def connect(args: argparse.Namespace) -> Link:
    from edgelora.board.link.client import Link

    port = port_of(args)
    with console.step(f"connect to {port}", args.json):
        return Link.connect(port)


def size(text: str) -> int:
    """Bytes, or K for 1024."""
    number = text.upper().removesuffix("B").removesuffix("K")
    if not number.isdigit() or not int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: give bytes, or 48K")
    return int(number) * (1024 if number != text.upper().removesuffix("B") else 1)


def whole(low: int, high: int = 2**31 - 1) -> Callable[[str], int]:
    """A whole number from `low` to `high`, as an argument's type."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            most = f"from {low} to {high}" if high < 2**31 - 1 else f"of {low} or more"
            raise argparse.ArgumentTypeError(f"{text[:20]!r}: give a whole number {most}")
        return value

    return number


def show(args: argparse.Namespace, result: Any, text: str) -> None:
    if args.json:
        emit(result)
    else:
        say(text)


def permit(args: argparse.Namespace) -> Permit:
    """Whether ports of unknown devices may be opened: by --probe, or by asking on a terminal."""

    def asked(device: Device) -> bool:
        what = printable(f"{device.port} ({device.description})")
        return confirmed(f"Open {what}? It may reset what is connected. [y/N] ")

    if args.probe or args.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return lambda device: args.probe
    return asked


def add_asking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probe", action="store_true", help="also open ports of unknown devices, which may reset them")
    parser.add_argument(
        "--interrupt", action="store_true", help="stop programs running on boards in order to query them"
    )


def add_board(parser: argparse.ArgumentParser, default: str | None, help: str) -> None:
    parser.add_argument("--board", type=board_name, default=default, help=help)


def add_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", help="serial port (EDGELORA_PORT, or that of the only board)")
    if not parser.get_default("stopped"):
        parser.set_defaults(stopped="stopped; the board is usable and keeps its last good adapter")


def add_frames(p: argparse.ArgumentParser) -> None:
    """--frames, of a sample."""
    p.add_argument(
        "--frames",
        type=whole(1, 65535),
        metavar="N",
        help="frames of a sample, for a base with history (as many as its output depends on)",
    )
