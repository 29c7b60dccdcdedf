"""Commands that add classes to a network on a board, and remove them."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from edgelora.base.streams import note
from edgelora.core.formats.classes import ClassRow
from edgelora.core.store_names import store_name
from edgelora.learn.training.data.base import Base, load_base
from edgelora.learn.training.heads.new_classes import add_stored_classes, remove_stored_class
from edgelora.learn.training.run.retrain import consolidate_stored

from . import console
from .arguments import add_port, connect, show
from .command_line import Add
from .exit_codes import ExitCode
from .recipe_arguments import DATA_HELP, data_part
from .runs import exit_code

NAME = "personal"  # of the adapter in the store
STOPPED = "stopped; the store has its previous adapter, or the new one: `edgelora store list`"


def add_commands(add: Add) -> None:
    p = add("add-class", cmd_add_class)
    p.add_argument("model", type=Path, help="the base (.elm) on this computer")
    p.add_argument("--data", required=True, help="samples of the classes, with their names: " + DATA_HELP)
    p.add_argument(
        "--force", action="store_true", help="activate the classes even if validation accuracy does not improve"
    )
    p.epilog = (
        "Every class in the data is added. A class that the base knows by name gets a row for this person, so that it "
        "is not confused with new classes: provide about ten samples of each. A quarter of each class is held out for "
        "validation, if that is at least 6 samples of two classes."
    )
    c = add("consolidate", cmd_consolidate)
    c.add_argument("model", type=Path, help="the base (.elm) on this computer")
    c.add_argument("--data", required=True, help="all samples, including those of added classes: " + DATA_HELP)
    c.epilog = (
        "Training runs on this computer, byte for byte as on the board, with the adapter's own mode and ranks. The "
        "board gets the result if it scores better on the held-out quarter of the samples. Only classes in the data "
        "count; other classes of the base may be forgotten."
    )
    q = add("remove-class", cmd_remove_class)
    q.add_argument("model", type=Path, help="the base (.elm) on this computer")
    q.add_argument("label", metavar="CLASS", help="name of the class")
    for parser in (p, c, q):
        parser.add_argument("--name", default=NAME, help="adapter name in the board's store (%(default)s)")
        parser.set_defaults(stopped=STOPPED)
        add_port(parser)


def cmd_add_class(args: argparse.Namespace) -> ExitCode:
    """Adds classes to a board's network, from a few samples.

    Nothing is trained: the board computes a row for each class and stores it in the adapter. The classes are not
    activated if they lower the accuracy on held-out samples.
    """
    base, name = load_base(args.model), store_name(args.name)
    data = data_part(args, args.data, "train")
    with connect(args) as link, console.progress("add classes", args.json) as progress:
        made, used = add_stored_classes(link, base, data, name, progress, args.force)
    classes = [{"number": row.number, "name": _named(base, row), "samples": row.samples} for row in made.classes]
    judged = "too few held-out samples to validate"
    if len(set(data.y.tolist())) < 2:
        judged = "not validated: the samples are of one class; give some of other classes, too"
    if made.before is not None:
        judged = f"accuracy on {made.judged_by} held-out samples: {made.before:.1%} -> {made.after:.1%}"
    result = {
        "name": name,
        "bytes": len(made.ela),
        "classes": classes,
        "before": made.before,
        "after": made.after,
        "judged_by": made.judged_by,
        "judged": judged,
        "identical": made.identical,
        "activated": used,
    }
    names = ", ".join(f"{row['name']} ({row['samples']})" for row in classes)
    show(args, result, f"{name}: {names}\n{judged}\nhost twin identical: {'yes' if made.identical else 'NO'}")
    if not made.identical:
        note("the board made another adapter than its host twin: not used; install or flash its EdgeLoRA again")
    elif not used:
        note("not better than the active adapter, which stays: provide more samples, or --force")
    return exit_code(made.identical, used)


def cmd_consolidate(args: argparse.Namespace) -> ExitCode:
    """Retrains a board's adapter together with added classes.

    Layers and class rows are trained together, from all samples. The result must score better than the board's
    adapter to replace it.
    """
    base, name = load_base(args.model), store_name(args.name)
    data = data_part(args, args.data, "train")
    with connect(args) as link, console.step("retrain", args.json):
        found = consolidate_stored(link, base, data, name)
    message = f"{name}: correct of {found.judged_by} held-out samples: {found.before} -> {found.after}"
    show(args, {"name": name} | asdict(found), message)
    if found.said:
        note(found.said)
    if not found.better:
        note("not better than the active adapter, which stays: provide more samples")
    return ExitCode.OK if found.better else ExitCode.NOT_ACTIVATED


def cmd_remove_class(args: argparse.Namespace) -> None:
    """Removes a class from a board's adapter.

    The rest of the adapter is byte for byte what it was without the class.
    """
    base, name = load_base(args.model), store_name(args.name)
    with connect(args) as link:
        left = remove_stored_class(link, base, args.label, name)
    size = len(left or b"")
    result = {"name": name, "bytes": size, "removed": args.label}
    show(
        args,
        result,
        f"{name}: {size} bytes without {args.label}" if left else f"{name}: removed, as nothing else was in it",
    )


def _named(base: Base, row: ClassRow) -> str:
    return row.name or base.model.labels[row.number]
