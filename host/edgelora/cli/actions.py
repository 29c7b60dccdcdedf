"""The command for boards that act on their own."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgelora.base.errors import InputError
from edgelora.base.streams import note, say
from edgelora.board import virtual_boards
from edgelora.board.resetting import reset
from edgelora.core.formats.files import write_atomic
from edgelora.core.sensors import named, pins_of
from edgelora.learn.streaming.main_program import (
    MAIN_PATH,
    RULE_PATH,
    Acting,
    Sense,
    Wish,
    acting_of,
    check_keys,
    parse_act,
    save_acting,
)
from edgelora.learn.training.board.board_run import NAME
from edgelora.learn.training.data.base import load_base
from edgelora.model.datasets.dataset import load_dataset

from . import console
from .arguments import add_port, connect, port_of, show, whole
from .command_line import Add
from .streaming import vote


def add_commands(add: Add) -> None:
    p = add("act", cmd_act)
    p.add_argument("model", type=Path, help="the base (.elm) on this computer")
    p.add_argument(
        "--do",
        action="append",
        required=True,
        metavar="CLASS=ACTION",
        help="action of a class, repeatable: 'wave=hold 15' sets a pin high while wave is detected; high, low, toggle "
        "PIN, pulse PIN MS, print TEXT, key KEY, get URL, post URL TEXT, mqtt HOST/TOPIC TEXT; PIN may be LED, CLASS "
        "nothing",
    )
    p.add_argument(
        "--data", type=Path, help="samples (.npz): windows that resemble none of them are 'nothing' (not checked)"
    )
    p.add_argument("--name", default=NAME, help="adapter name in the board's store, - for the base alone (%(default)s)")
    p.add_argument("--source", default="mpu6050", help=f"{named()} or a module on the board with source()")
    p.add_argument(
        "--pins", default="4,5", help="pins of the sensor: SDA,SCL, or SCK,WS,SD, or analog pins (%(default)s)"
    )
    p.add_argument("--bus", type=whole(0, 7), default=0, help="the I2C bus (%(default)s)")
    p.add_argument(
        "--vote",
        type=vote,
        default="2/3",
        metavar="K/N",
        help="detect a class if K of N windows predict it (%(default)s)",
    )
    p.add_argument("-o", "--output", type=Path, help="write main.py here instead, with main.json; no board is needed")
    p.add_argument("--adapter", type=Path, help="with -o: the adapter (.ela) of that name")
    p.set_defaults(stopped="stopped; the board runs its previous program, or the new one")
    add_port(p)


def cmd_act(args: argparse.Namespace) -> None:
    """Lets a board act on its own when it detects a class.

    Writes main.py, which the board runs after each reset, without a computer. It holds the sensor, the adapter in the
    store, the vote, and the action of each class. With --data, windows that resemble no sample are "nothing".
    """
    base = load_base(args.model)
    wish = Wish(tuple(map(parse_act, args.do)), _sense(args), "" if args.name == "-" else args.name, args.vote)
    data = load_dataset(args.data) if args.data else None
    if args.output:
        adapter = args.adapter.read_bytes() if args.adapter else None
        made = acting_of(base, base.paths[1], adapter, data, wish)
        write_atomic(args.output, made.main.encode())
        if made.rule:
            write_atomic(args.output.with_suffix(".json"), made.rule.encode())
        return _show(args, made, {"main": str(args.output)}, f"{args.output}: {len(made.main)} bytes")
    if args.adapter:
        raise InputError("--adapter is for -o: a board has its adapter in its store", remedy="give --name")
    check_keys(wish.acts, virtual_boards.find(port_of(args)) is not None)
    with connect(args) as link, console.step("save", args.json):
        made = save_acting(link, base, data, wish)
    port = port_of(args)
    reset(port)
    result = {"port": port, "main": MAIN_PATH, "kept": made.kept}
    _show(args, made, result, f"{MAIN_PATH}: {len(made.main)} bytes; {port} runs it now")
    if made.kept:
        note(f"the board's own main.py was renamed to {made.kept}", args.json)


def _show(args: argparse.Namespace, made: Acting, result: dict[str, Any], words: str) -> None:
    shares = asdict(made.shares) if made.shares else None
    show(args, result | {"bytes": len(made.main), "rule": RULE_PATH if made.rule else None, "shares": shares}, words)
    if args.json:
        return
    if made.shares:
        say(made.shares.words)
    elif args.data:
        note("there is no class 'nothing': too few samples", args.json)


def _sense(args: argparse.Namespace) -> Sense:
    return Sense(args.source, pins_of(args.pins), args.bus)
