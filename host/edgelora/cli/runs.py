"""Commands for current and finished runs: metrics and reports."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from edgelora.base import streams
from edgelora.base.errors import InputError
from edgelora.base.streams import note, say
from edgelora.base.text import plain
from edgelora.learn.report.compare import comparison, differences, write_comparison
from edgelora.learn.report.metrics import End, follow
from edgelora.learn.report.record import Report, read_report
from edgelora.learn.report.sections import write_report

from . import console
from .command_line import Add
from .console import emit
from .exit_codes import ExitCode

WATCH_HEAD = f"{'epoch':>5} {'update':>7} {'loss':>8} {'rate':>6} {'ms/sample':>10}"


def add_commands(add: Add) -> None:
    p = add("watch", cmd_watch)
    p.add_argument("folder", type=Path, metavar="RUN", help="folder of a run, or its metrics.jsonl")
    p = add("report", cmd_report)
    p.add_argument("folder", type=Path, metavar="RUN", help="folder with report.json")
    p = add("compare", cmd_compare)
    p.add_argument("runs", type=Path, metavar="RUN", nargs="+", help="folders with report.json, or such files")
    p.add_argument("-o", "--output", type=Path, default=Path("out/compare.html"), help="the page (%(default)s)")


def cmd_watch(args: argparse.Namespace) -> None:
    """Follows the updates of a run in progress.

    Ends with the run. With --json, prints one JSON object per line.
    """
    path = args.folder / "metrics.jsonl" if args.folder.is_dir() else args.folder
    if not path.exists():
        remedy = "give the folder that a run writes to (-o of personalize), once it has begun"
        raise InputError(f"{path} is not there", remedy=remedy)
    if not args.json:
        say(WATCH_HEAD)
    heard, updates = time.monotonic(), 0
    for event in follow(path):
        if event is None:
            if time.monotonic() - heard >= console.LINE_SECONDS:
                heard = time.monotonic()
                note("no update yet; Ctrl-C stops watching", args.json)
            continue
        heard = time.monotonic()
        if args.json:
            say(json.dumps(plain(asdict(event)), allow_nan=False))
        elif isinstance(event, End):
            say(f"{event.state} after {updates} updates")
        else:
            loss = "-" if event.loss is None else f"{event.loss:.4f}"
            took = "-" if event.us is None else f"{event.us / 1000 / max(event.samples, 1):.2f}"
            say(f"{event.epoch:>5} {event.step:>7} {loss:>8} {event.learning_rate:>6} {took:>10}")
        updates += not isinstance(event, End)
        streams.flush()


def cmd_report(args: argparse.Namespace) -> None:
    """Renders the HTML page of a run from its report.json."""
    report = read_report(args.folder / "report.json")
    print_report(args, report, write_report(report, args.folder))


def cmd_compare(args: argparse.Namespace) -> None:
    """Compares the reports of runs, in a table and on a page.

    Accuracies have Wilson's 95% confidence intervals; errors of networks that learn values have the interval of the
    paired change.
    """
    runs = [(str(path), read_report(path / "report.json" if path.is_dir() else path)) for path in args.runs]
    write_comparison(args.output, runs)
    if args.json:
        rows = [
            {"run": name}
            | asdict(report)
            | {
                "base_interval": report.measure.interval(report.measure.before),
                "adapted_interval": report.measure.interval(report.measure.after),
            }
            for name, report in runs
        ]
        return emit({"page": str(args.output), "differences": differences(runs), "runs": rows})
    head, rows_ = comparison(runs)
    console.table(head, [tuple(row) for row in rows_])
    for line in differences(runs):
        say(line)
    say(f"page: {args.output}")


def exit_code(identical: bool | None, activated: bool | None) -> ExitCode:
    """The exit code of a run: the adapter differs from the twin's, is not active, or all is well."""
    if identical is False:
        return ExitCode.DIFFERS
    return ExitCode.NOT_ACTIVATED if activated is False else ExitCode.OK


def print_report(args: argparse.Namespace, report: Report, path: Path) -> ExitCode:
    """Prints a run's report; returns whether the board uses the adapter, as an exit code."""
    code, conclusion = exit_code(report.host_twin_identical, report.activated), report.conclusion
    if args.json:
        said = {"state": conclusion.state, "title": conclusion.title, "text": conclusion.text}
        emit(asdict(report) | {"verdict": report.verdict, "conclusion": said, "report": str(path)})
        return code
    baseline = (
        "" if report.float_lora_accuracy is None else f"  (float LoRA on the host {report.float_lora_accuracy:.1%})"
    )
    say(f"{report.message}: {conclusion.short}{baseline}")
    say(conclusion.text)
    if report.activated is False and code is ExitCode.NOT_ACTIVATED:
        say("the adapter is saved; --force activates it")
    if report.tested_on:
        say(f"tested on {report.tested_on}")
    say(f"host twin identical: {'yes' if report.host_twin_identical else 'NO'}")
    heap = "" if report.free_heap_bytes is None else f", {report.free_heap_bytes} bytes of heap left"
    say(f"arena {report.arena_bytes} bytes, adapter {report.adapter_bytes} bytes{heap}")
    for what, us, predicted in (
        ("inference", report.infer_us, report.predicted_infer_us),
        ("training step", report.train_step_us, report.predicted_train_step_us),
        ("swap", report.swap_us, None),
        ("swap from flash", report.swap_flash_us, None),
    ):
        if us is not None:
            say(f"{what}: {us:.0f} us" + ("" if predicted is None else f" (predicted: {predicted:.0f} us)"))
    if report.update_joules is not None:
        say(f"energy of an update: about {1000 * report.update_joules:.1f} mJ, from the chip's data sheet")
    if report.energy:
        rows = [f"{1000 * row.update_joules:.1f} mJ at {row.clock_mhz:g} MHz" for row in report.energy]
        say(f"energy of an update by clock: {', '.join(rows)}")
    if report.checkpoint_bytes is not None:
        say(f"checkpoint: {report.checkpoint_bytes} bytes")
    for line in report.notes[1:]:
        say(f"note: {line}")
    say(f"report: {path}")
    return code
