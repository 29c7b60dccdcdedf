"""The command that says which windows to label."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from edgelora.learn.training.asking import windows_to_label
from edgelora.learn.training.base import load_base

from . import console
from .arguments import show, whole
from .command_line import Add
from .recipe_arguments import DATA_HELP, data_part


def add_commands(add: Add) -> None:
    p = add("ask", cmd_ask)
    p.add_argument("model", type=Path, help="the base (.elm) on this computer")
    p.add_argument("--data", required=True, help="windows, whose labels are not looked at: " + DATA_HELP)
    p.add_argument("--labelled", help="the person's samples that have labels already: " + DATA_HELP)
    p.add_argument("-n", "--count", type=whole(1, 1000), default=10, help="how many to name (%(default)s)")
    p.set_defaults(stopped="stopped")


def cmd_ask(args: argparse.Namespace) -> None:
    """Names the windows whose labels would help most.

    The network is unsure of these, and they are unlike each other and unlike what has labels. A board asks by itself:
    `edgelora.asking`.
    """
    base = load_base(args.model)
    windows = base.samples(data_part(args, args.data, "train"))
    labelled = base.samples(data_part(args, args.labelled, "train")) if args.labelled else None
    with console.progress("ask", args.json) as progress:
        found = windows_to_label(base, windows, labelled, args.count, progress)
    lines = [f"{one.number:6}  {one.predicted}, by {one.margin:.1%}" for one in found]
    show(args, {"windows": [asdict(one) for one in found]}, "\n".join(["window  taken for", *lines]))
