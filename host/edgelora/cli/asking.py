"""Commands that make the most of a person's few labels: which windows to label, and corrections that teach at once."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from edgelora.base.errors import InputError
from edgelora.core.formats.files import write_atomic
from edgelora.core.store_names import store_name
from edgelora.learn.streaming.correcting import Correction, Told, told, use_on_board
from edgelora.learn.streaming.decisions import signal_of
from edgelora.learn.training.data.base import load_adapter, load_base
from edgelora.learn.training.heads.asking import windows_to_label
from edgelora.model.datasets.dataset import Dataset, load_dataset, save_dataset
from edgelora.model.datasets.recordings import load_recording

from . import console
from .arguments import add_port, connect, show, whole
from .command_line import Add
from .recipe_arguments import DATA_HELP, data_part


def add_commands(add: Add) -> None:
    p = add("ask", cmd_ask)
    p.add_argument("model", type=Path, help="the base (.elm) on this computer")
    p.add_argument("--data", required=True, help="windows, whose labels are not looked at: " + DATA_HELP)
    p.add_argument("--labelled", help="the person's samples that have labels already: " + DATA_HELP)
    p.add_argument("-n", "--count", type=whole(1, 1000), default=10, help="how many to name (%(default)s)")
    p.set_defaults(stopped="stopped")
    p = add("correct", cmd_correct)
    p.add_argument("model", type=Path, help="the base (.elm) on this computer")
    p.add_argument("--source", type=Path, required=True, help="the recording that was listened to, as for `listen`")
    p.add_argument("--units", action="store_true", help="the .csv has values in the base's units, not counts")
    p.add_argument(
        "--was",
        type=_was,
        action="append",
        default=[],
        metavar="SECONDS=CLASS",
        help="the window that `listen` told at this time was of this class; repeatable",
    )
    p.add_argument(
        "--not",
        dest="denied",
        type=_seconds,
        action="append",
        default=[],
        metavar="SECONDS",
        help="the window at this time was not what was said; repeatable",
    )
    p.add_argument("--adapter", type=Path, help="the adapter (.ela) that said it (the base alone)")
    p.add_argument(
        "--samples",
        type=Path,
        default=Path("mine.npz"),
        help="where windows with labels are kept; denied ones beside it (%(default)s)",
    )
    p.add_argument("-o", "--output", type=Path, default=Path("corrected.ela"), help="the adapter (%(default)s)")
    p.add_argument("--name", help="put the adapter into a board's store by this name, too, and activate it")
    add_port(p)


def _seconds(text: str) -> float:
    try:
        if 0 <= (found := float(text)) < 1e6:
            return found
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: give seconds, as `listen` prints them")


def _was(text: str) -> Correction:
    seconds, equals, label = text.partition("=")
    if not equals or not label:
        raise argparse.ArgumentTypeError(f"{text!r}: give SECONDS=CLASS, for example 12.5=wave")
    return Correction(_seconds(seconds), label)


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


def cmd_correct(args: argparse.Namespace) -> None:
    """Teaches corrections at once: "no, that was wave".

    From these windows and those given before, own rows of the base's classes are made as on a board
    (`edgelora.teaching`), and judged by leaving out each sample with a label in turn. "No" alone is a hint: it counts
    only where such samples are named better for it. Give a window of each class first.
    """
    base, stored = load_base(args.model), store_name(args.name) if args.name else None
    corrections = [*args.was, *(Correction(seconds, None) for seconds in args.denied)]
    if not corrections:
        raise InputError("nothing is corrected: give --was SECONDS=CLASS, --not SECONDS, or both")
    adapter = load_adapter(args.adapter, base) if args.adapter else None
    recording = load_recording(args.source, signal_of(base), args.units)
    denied = args.samples.with_suffix(f".not{args.samples.suffix}")
    now = told(base, adapter, recording.counts, corrections, Told(_there(args.samples), _there(denied)))
    made = now.taught(base)
    for data, path in ((now.samples, args.samples), (now.denied, denied)):
        if data:
            save_dataset(data, path)
    if made.adapter:
        write_atomic(args.output, made.adapter)
    if stored:
        with connect(args) as link:
            use_on_board(link, stored, made)
    counts = {
        name: 0 if data is None else len(data) for name, data in (("samples", now.samples), ("denied", now.denied))
    }
    result = counts | {"taught": made.adapter is not None, "hinted": made.hinted}
    kept = f"{args.samples}: {counts['samples']} windows with a label, {counts['denied']} denied"
    words = f"{args.output}: {len(made.adapter or b'')} bytes, learned from them"
    if made.adapter is None:
        words = "the base alone is as good on these: give a window of each class, also of those that it knows"
        if args.output.exists():
            words += f"; {args.output} is from before, without these corrections"
    show(args, result | {"output": str(args.output) if made.adapter else None}, f"{kept}\n{words}")


def _there(path: Path) -> Dataset | None:
    return load_dataset(path) if path.exists() else None
