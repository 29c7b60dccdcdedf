"""Commands that train, test and convert adapters."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base import streams
from edgelora.base.errors import InputError
from edgelora.base.streams import say
from edgelora.core.formats.ela import pack_adapter
from edgelora.core.formats.elm import base_id
from edgelora.core.formats.files import write_atomic
from edgelora.core.twin.session import Session
from edgelora.learn.personalize import personalize
from edgelora.learn.report.metrics import Metrics
from edgelora.learn.report.sections import write_report
from edgelora.learn.training.board.board_learner import BoardLearner
from edgelora.learn.training.board.board_run import Pace, RunOptions, Suspended
from edgelora.learn.training.data.base import Base, WorkflowError, adapter_ranks, is_named, load_adapter, load_base
from edgelora.learn.training.data.data_checks import Remarks, remarks
from edgelora.learn.training.judge.metrics import answers, measured
from edgelora.learn.training.recipe import LIMITS, Recipe, inference
from edgelora.learn.training.run.board_personalization import Task
from edgelora.learn.training.run.host_run import Trainer
from edgelora.learn.training.twin.qat import RECIPE, train_qat
from edgelora.model.floatnet import augment as floatnet_augment
from edgelora.model.floatnet.augment import AUGMENTATIONS
from edgelora.model.floatnet.files import load_net
from edgelora.model.floatnet.layers import FloatNet, Shape
from edgelora.model.quantization.fidelity import Fidelity
from edgelora.model.quantization.quantize import original_path

from . import console
from .arguments import add_port, connect, show, whole
from .command_line import Add
from .console import emit
from .exit_codes import ExitCode
from .recipe_arguments import DATA_HELP, add_peft, add_plan, add_recipe, data_part, data_parts, planned_recipe
from .runs import print_report

PERSONALIZE_EXAMPLES = """
A person's samples in mine.npz, a quarter held out for testing; the page is out/run/report.html:

  edgelora personalize base.elm --data mine.npz

With other test samples, within 16 KB of RAM by a plan:

  edgelora plan base.elm --data mine.npz --ram 16K -o plan.json
  edgelora personalize base.elm --data mine.npz --test later.npz --plan plan.json

The board trains on its own, and resumes after a reset or Ctrl-C:

  edgelora personalize base.elm --data mine.npz --on-board --budget-ms 60000
  edgelora personalize base.elm --data mine.npz --on-board --resume
"""
BOARDS_OWN = {  # settings that --qat has no use for
    "learning_rate": "--learning-rate",
    "momentum": "--momentum",
    "threshold": "--threshold",
    "cache": "--cache",
    "ram": "--ram",
}


def add_commands(add: Add) -> None:
    p = add("personalize", cmd_personalize)
    p.add_argument("model", type=Path, help="the base (.elm) on this computer; it is copied to the board if missing")
    p.add_argument("--data", required=True, help="the person's samples: " + DATA_HELP)
    p.add_argument("--test", help="test samples (held out from --data if not given)")
    p.add_argument("--net", type=Path, help="float network for a float LoRA baseline in the report")
    p.add_argument("-o", "--output", type=Path, default=Path("out/run"), help="folder of the report (%(default)s)")
    p.add_argument("--resume", action="store_true", help="resume from the board's last checkpoint")
    p.add_argument("--force", action="store_true", help="activate the adapter even if validation says it is no better")
    p.epilog = inspect.cleandoc(PERSONALIZE_EXAMPLES)
    _add_on_board(p)
    add_recipe(p)
    add_plan(p)
    add_port(p)
    p = add("train-adapter", cmd_train_adapter)
    p.add_argument("model", type=Path, help="a .elm file")
    p.add_argument("--data", required=True, help="the person's samples: " + DATA_HELP)
    p.add_argument("--test", help="test samples (held out from --data if not given)")
    p.add_argument("-o", "--output", type=Path, default=Path("user.ela"), help="the adapter (%(default)s)")
    p.add_argument("--save-state", action="store_true", help="include the training state, to resume training")
    p.add_argument(
        "--qat",
        action="store_true",
        help="quantization-aware training, longer than on a board; helps at low ranks, especially with --augment "
        f"(epochs {RECIPE.epochs}, micro-batch {RECIPE.micro_batch})",
    )
    p.add_argument(
        "--augment",
        choices=AUGMENTATIONS,
        help="with --qat: augment samples as if worn (six axes) or recorded (cepstra) differently",
    )
    p.add_argument(
        "--tries",
        type=whole(1, 10000),
        default=1,
        metavar="N",
        help="number of seeds and rates to try; validation chooses one (%(default)s)",
    )
    add_recipe(p)
    add_plan(p)
    p.set_defaults(stopped="stopped; no adapter was written")
    p = add("import-adapter", cmd_import_adapter)
    p.add_argument("model", type=Path, help="the base (.elm) of the network it was trained on")
    p.add_argument("checkpoint", type=Path, help="a folder with adapter_model.safetensors, or such a file")
    p.add_argument("-o", "--output", type=Path, default=Path("user.ela"), help="the adapter (%(default)s)")
    p.add_argument("--data", help="samples to optimize rounding and measure the accuracy loss: " + DATA_HELP)
    p.add_argument("--text", type=Path, help="the same of a language model: a text, read by the .elt beside the base")
    p.add_argument("--rank", type=whole(*LIMITS["rank"]), help="largest rank of the result (that of the checkpoint)")
    add_peft(p)
    p.set_defaults(stopped="stopped; no adapter was written")
    p = add("export-adapter", cmd_export_adapter)
    p.add_argument("model", type=Path, help="the base (.elm) of the adapter")
    p.add_argument("adapter", type=Path, help="a .ela file")
    p.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="a folder, or a .safetensors file with the configuration next to it",
    )
    p.add_argument("--conv1d", action="store_true", help="write kernels of height 1 as Conv1d")
    add_peft(p)
    p.set_defaults(stopped="stopped; the checkpoint may be incomplete: export it again")
    p = add("eval", cmd_eval)
    p.add_argument("model", type=Path, help="the base (.elm) on this computer")
    p.add_argument("--data", required=True, help="test samples, all of a file: " + DATA_HELP)
    p.add_argument(
        "--held-out", action="store_true", help="only the samples of a .npz that training without --test holds out"
    )
    p.add_argument("--adapter", type=Path, help="an adapter (.ela); default: the base alone")
    p.add_argument("--twin", action="store_true", help="run on the host twin instead of a board, with the same results")
    add_port(p)


def _add_on_board(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training on the board alone, which can sleep and survives resets")
    group.add_argument(
        "--on-board",
        action="store_const",
        const=True,
        help="the board gets the samples as a file and trains alone; Ctrl-C suspends it, --resume continues",
    )
    group.add_argument("--clock", type=float, metavar="MHZ", help="core clock during training (unchanged)")
    group.add_argument("--sleep-ms", type=int, default=0, metavar="MS", help="pause after every update (%(default)s)")
    group.add_argument("--budget-ms", type=int, metavar="MS", help="suspend after this time, pauses included")
    group.add_argument(
        "--budget-mj", type=float, metavar="MJ", help="suspend after this energy, estimated from the data sheet"
    )
    group.add_argument(
        "--commit-every",
        type=int,
        default=Pace.commit_every,
        metavar="N",
        help="updates between checkpoints in flash; a power cut loses at most these (%(default)s)",
    )


def _pace(args: argparse.Namespace) -> Pace:
    clock_hz = None if args.clock is None else round(args.clock * 1e6)
    return Pace(clock_hz, args.sleep_ms, args.budget_ms, args.budget_mj, args.commit_every)


def cmd_personalize(args: argparse.Namespace) -> ExitCode:
    """Trains an adapter on a board, and writes a report.

    The report compares the network before and after on held-out samples, by accuracy, or by mean squared error for a
    network that learns values, such as an autoencoder. metrics.jsonl has the progress (edgelora watch); an interrupted
    run can be continued (--resume).
    """
    base = load_base(args.model)
    if args.net and base.model.learns_values:
        raise WorkflowError(f"{base.name} learns values, and float LoRA here learns classes: omit --net")
    recipe, pace = planned_recipe(args, base), _pace(args)
    if pace != Pace() and not recipe.on_board:
        raise InputError("--clock, --sleep-ms, --budget-ms, --budget-mj and --commit-every are for --on-board: add it")
    parts = data_parts(args, args.test)
    task = Task.of(base, parts, args.data)
    args.output.mkdir(parents=True, exist_ok=True)
    with (
        connect(args) as link,
        console.progress("personalize", args.json) as progress,
        Metrics(args.output / "metrics.jsonl", fresh=not args.resume) as metrics,
    ):
        options = RunOptions(metrics, progress, note=streams.note, resume=args.resume, pace=pace, force=args.force)
        try:
            done = personalize(base, task, recipe, link, options, args.output)
        except Suspended as suspended:
            metrics.ended = "suspended"
            if suspended.interrupted:
                args.stopped = str(suspended)
                raise KeyboardInterrupt from None
            show(args, asdict(suspended.reply), str(suspended))
            return ExitCode.OK
    if args.net:
        with console.step("float LoRA, for comparison", args.json):
            done.add_float_lora(load_net(args.net), base.numbered(parts.train), base.numbered(parts.test))
    return print_report(args, done.report, write_report(done.report, args.output))


def cmd_eval(args: argparse.Namespace) -> None:
    """Measures accuracy on a board or on the host twin.

    For a network that learns values, such as an autoencoder, this is the mean squared error, in squared units of the
    data.
    """
    base = load_base(args.model)
    parts = data_parts(args, None) if args.held_out else None
    test = base.samples(parts.test if parts else data_part(args, args.data, "test"))
    tested_on = parts.tested_on if parts else _tested_on(args)
    adapter = load_adapter(args.adapter, base) if args.adapter else None
    ranks = adapter_ranks(base, adapter)
    if args.twin:
        args.stopped = "stopped"
        with console.step("eval", args.json):
            session = Session(base.elm, ranks, "infer", 1, frames=test.frames)
            session.use(adapter)
            found = measured(base, answers(base, session, test), test)
    else:
        with connect(args) as link, console.progress("eval", args.json) as progress:
            board = BoardLearner(link, base, inference(ranks), progress, test.frames)
            board.use(adapter)
            found = measured(base, board.answers(test), test)
    where = "host twin" if args.twin else "board"
    notes = remarks(base, adapter, test)
    result = {
        found.name: found.rounded,
        "samples": len(test),
        "tested_on": tested_on,
        "where": where,
        "signal": asdict(base.model.signal) if base.model.signal else None,
        "adapter": str(args.adapter) if adapter else None,
    } | asdict(notes)
    _tell(args, notes)
    if base.model.signal:
        streams.note(f"signal: {base.model.signal}", args.json)
    show(args, result, f"{found.name} {found} on {len(test)} windows ({where}), {tested_on}")


def _tested_on(args: argparse.Namespace) -> str:
    if is_named(args.data):
        return f"the test samples of {args.data}"
    seen = ": it may have memorized its training samples; --held-out excludes them" if args.adapter else ""
    return f"all samples of {args.data}{seen}"


def cmd_train_adapter(args: argparse.Namespace) -> ExitCode:
    """Trains an adapter on this computer.

    The host twin trains the same adapter as a board, byte for byte; with --qat it trains better than a board can.
    """
    from edgelora.learn.training.run.host_run import as_board, train_adapter

    base = load_base(args.model)
    recipe = planned_recipe(args, base)
    trainer: Trainer = as_board
    if args.qat:
        recipe, trainer = _qat(args, recipe, base.model.input.shape)
    elif args.augment:
        raise InputError("a board does not augment: give --qat too, or omit --augment")
    parts = data_parts(args, args.test)
    samples, test = base.samples(parts.train), base.samples(parts.test)
    with console.progress("train-adapter", args.json) as progress:
        result = train_adapter(base, samples, test, recipe, args.tries, progress, trainer)
    content = result.run.state if args.save_state else result.run.adapter
    remarked = remarks(base, result.run.adapter, test, samples)
    _tell(args, remarked)
    write_atomic(args.output, content)
    before, after = (measured(base, answered, test) for answered in (result.before, result.after))
    summary = {
        "output": str(args.output),
        "bytes": len(content),
        "base_id": base.base_id,
        f"{before.name}_before": before.rounded,
        f"{after.name}_after": after.rounded,
        "samples": len(samples),
        "test_samples": len(test),
        "tested_on": parts.tested_on,
        "tested_on_seen": parts.seen,
        "judged": result.run.verdict,
        "seed": result.recipe.seed,
        "learning_rate": result.recipe.initial_rate,
        "tries": [asdict(one) for one in result.tries],
        "losses": result.run.losses,
        "epoch_losses": result.run.epoch_losses,
    } | asdict(remarked)
    note_of_tries = f"; seed {summary['seed']}, rate {summary['learning_rate']}" if result.tries else ""
    text = f"{before.name} {before} -> {after} on {len(test)} windows"
    message = f"{args.output}: {len(content)} bytes, {text}{note_of_tries}\ntested on {parts.tested_on}"
    if result.run.verdict:
        message += f"\n{result.run.verdict}: {result.run.said}"
    show(args, summary, message)
    good = result.run.verdict is None or result.run.verdict.is_for_use
    return ExitCode.OK if good else ExitCode.NOT_ACTIVATED


def _tell(args: argparse.Namespace, found: Remarks) -> None:
    for line in found.notes:
        streams.note(f"note: {line}", args.json)


def _qat(args: argparse.Namespace, recipe: Recipe, shape: Shape) -> tuple[Recipe, Trainer]:
    """The recipe with the host's own settings, and the trainer. ValueError for settings of on-board training."""
    given = [option for name, option in BOARDS_OWN.items() if getattr(args, name) is not None]
    if args.mode == "frozen_a" or args.plan and recipe.mode == "frozen_a":
        given.append("frozen A")
    if given:
        raise InputError(f"--qat trains A and B in its own way: not with {', '.join(given)}")
    epochs, micro_batch = (getattr(args, name) or getattr(RECIPE, name) for name in ("epochs", "micro_batch"))
    augment = floatnet_augment.augmentation(args.augment, shape) if args.augment else None
    recipe = replace(recipe, mode="trainable_a", epochs=epochs, micro_batch=micro_batch, cache="none")
    return recipe, partial(train_qat, augment=augment)


def cmd_import_adapter(args: argparse.Namespace) -> ExitCode | None:
    """Converts a PEFT checkpoint to an adapter (.ela).

    The checkpoint must have been trained on the base's float network. With --data, the adapter is compared with that
    network and its LoRA; the exit code is 5 if much accuracy was lost.
    """
    from edgelora.model.importers import peft

    base = load_base(args.model)
    net, compared_with = _original(args, base)
    part = base.numbered(data_part(args, args.data, "train")) if args.data else None
    if part:
        base.samples(part)
    modules, x, y = peft.load_checkpoint(args.checkpoint), part.x if part else None, part.y if part else None
    if args.text:
        x, y = _text(args, base)
    with console.step("round", args.json):
        result = peft.import_adapter(base.elm, modules, dict(args.map), args.flatten, args.rank, x, y, net)
    content = pack_adapter(result.adapter, args.output.name)
    write_atomic(args.output, content)
    if net is None:
        streams.note(f"note: {_NO_NET.format(original_path(args.model).name, args.model.name)}", args.json)
    found = result.fidelity
    if args.json:
        fits = [asdict(fit) for fit in result.fits]
        comparison = {"compared_with": compared_with, "lost": found.lost} | asdict(found) if found else {}
        emit({"output": args.output, "bytes": len(content), "agreement": None} | comparison | {"layers": fits})
    else:
        console.table(
            ("op", "module", "rank", "t_shift", "branch_shift", "factors", "error of weights", "of sums", "largest t"),
            [
                (f.op, f.module, f.rank, f.t_shift, f.branch_shift, f.factors, f"{f.weight_error:.2%}", *_on_data(f))
                for f in result.fits
            ],
        )
        say(f"\n{args.output}: {len(content)} bytes" + (f"\n{found.message(compared_with)}" if found else ""))
    if found is None or not found.lost:
        return ExitCode.OK
    streams.note(f"loss: {_why_lost(found, net is not None)}", args.json)
    return ExitCode.LOST


def _text(args: argparse.Namespace, base: Base) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Windows of a text for a language model, and the symbols behind theirs."""
    from edgelora.model.datasets.text import windows
    from edgelora.model.importers.tokenizers import encode

    table = args.model.with_suffix(".elt")
    if args.data or not base.model.learns_sequences:
        raise InputError("--text is for language models, in place of --data")
    length = base.model.input.shape[1]
    found = windows(encode(table.read_bytes(), args.text.read_text("utf-8", "ignore")), length, length)
    if not len(found):
        raise InputError(f"{args.text} has fewer than {length + 1} symbols: give a longer text")
    step = -(-len(found) // WINDOWS)
    return found.x[::step], found.y[::step]


WINDOWS = 128  # of a text, evenly spaced
_NO_NET = (
    "no float network ({}) is next to {}, so the adapter is compared with the INT8 base. If batch normalization "
    "was folded into an adapted layer, its LoRA is wrong by that factor: save what from_torch returns, or give --net"
)


def _original(args: argparse.Namespace, base: Base) -> tuple[FloatNet | None, str]:
    """The float network of --net, or the one next to the base, and its name with LoRA."""
    beside = original_path(args.model)
    if args.net is None and not beside.exists():
        return None, "INT8 base with LoRA unrounded"
    net = load_net(args.net or beside)
    if args.net is None and net.base_id != base_id(base.elm):
        raise InputError(
            f"{beside} is the float network of another base than {base.name}: save both again, or give with --net the "
            "network that the LoRA was trained on"
        )
    return net, "float with LoRA"


def _why_lost(found: Fidelity, known: bool) -> str:
    """Advice for an adapter that lost much accuracy."""
    if found.full:
        ops = ", ".join(f"op {op} ({share:.1%})" for op, share in found.full)
        return (
            f"the adapter saturates outputs of the base: {ops} more than without it. Make the base again "
            "with headroom, from_torch(..., loras=[checkpoint]) with samples like these, or train LoRA with a lower "
            "rate or alpha"
        )
    if not known:
        return "the LoRA may be for another network than the base's; see the note"
    return "integers can't represent this LoRA well: try it without --rank, or train it with a lower rate or alpha"


def _on_data(fit: Any) -> tuple[object, object]:
    return ("", "") if fit.branch_error is None else (f"{fit.branch_error:.2%}", fit.t_peak)


def cmd_export_adapter(args: argparse.Namespace) -> None:
    """Converts an adapter (.ela) to a PEFT checkpoint.

    The checkpoint is in float32.
    """
    from edgelora.model.importers import peft

    base = load_base(args.model)
    adapter = base.adapter(args.adapter.read_bytes(), args.adapter.name)
    net, _ = _original(args, base)
    path = peft.export_adapter(adapter, base.model, args.output, dict(args.map), args.flatten, args.conv1d, net)
    layers = [layer.op for layer in adapter.layers]
    show(args, {"output": str(path), "ops": layers}, f"{path}: {len(layers)} layers")
