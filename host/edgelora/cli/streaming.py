"""The command that streams a recording to a board."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.streams import note, say
from edgelora.board.link.replies import Decision
from edgelora.core.formats.network import QuantModel
from edgelora.learn.report.record import read_report
from edgelora.learn.streaming.decisions import Vote, listen_on_board, listen_on_twin, signal_of
from edgelora.learn.streaming.drift import Drifted, look
from edgelora.learn.training.data.base import Base, load_adapter, load_base
from edgelora.learn.training.heads.confidence import UNSURE, share
from edgelora.model.datasets.recordings import doubts, load_recording

from .arguments import add_port, connect, whole
from .command_line import Add
from .console import emit


def add_commands(add: Add) -> None:
    p = add("listen", cmd_listen)
    p.add_argument("model", type=Path, help="the base (.elm) on this computer; it is copied to the board if missing")
    p.add_argument(
        "--source",
        type=Path,
        required=True,
        help="a 16-bit .wav, a .csv with one sample per line, a .npz, or Edge Impulse's .json, .cbor",
    )
    p.add_argument("--units", action="store_true", help="the .csv has values in the base's units, not counts")
    p.add_argument(
        "--adapter",
        type=Path,
        action="append",
        default=[],
        help="an adapter (.ela; default: the base). Repeatable: --switch selects one, starting with the first",
    )
    p.add_argument(
        "--switch",
        type=switch,
        action="append",
        default=[],
        metavar="SECONDS=N",
        help="switch to adapter N (0: the base alone) at this time of the recording; repeatable",
    )
    p.add_argument(
        "--vote",
        type=vote,
        default=Vote(),
        metavar="K/N",
        help="decide on a class if K of the last N windows predict it (1/1)",
    )
    p.add_argument(
        "--sure",
        metavar="P|REPORT",
        help="say `unsure` where the class is less probable than P, 0 to 1, or than a run's report.json says",
    )
    p.add_argument(
        "--drift",
        type=Path,
        metavar="FILE",
        help="say when windows are unlike those before, without labels; FILE keeps what is usual, for the next time",
    )
    p.add_argument(
        "--drift-every",
        type=whole(1),
        metavar="SECONDS",
        help="from one window that --drift looks at to the next (a window's length)",
    )
    p.add_argument("--twin", action="store_true", help="run on the host twin instead of a board, with the same results")
    add_port(p)
    p.epilog = (
        "--drift learns what is usual from the first 128 windows that it looks at, over as many recordings as that "
        "takes. Let them be of every activity: a new one is as unlike as a sensor worn another way. Then it asks "
        "when 20 of the latest 32 are new. It looks at the recording on this computer, in the board's windows, and "
        "writes FILE when the recording has ended. Delete FILE to learn anew what is usual."
    )


def vote(text: str) -> Vote:
    """K of N windows."""
    least, slash, windows = text.partition("/")
    if not (slash and least.isdigit() and windows.isdigit() and 1 <= int(least) <= int(windows) <= 255):
        raise argparse.ArgumentTypeError(f"{text!r}: give K/N, for example 3/5, with N up to 255")
    return Vote(int(least), int(windows))


def switch(text: str) -> tuple[float, int]:
    """Seconds and the number of an adapter."""
    seconds, equals, number = text.partition("=")
    try:
        if equals and number.isdigit() and 0 <= float(seconds) < 1e6:
            return float(seconds), int(number)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: give SECONDS=N, for example 2.5=2")


def cmd_listen(args: argparse.Namespace) -> None:
    """Streams a recording to a board, and prints its decisions.

    The board gets raw counts, cuts them into windows, normalizes and infers according to the base's signal. Each output
    line has the time in the recording and the decision.
    """
    base, least = load_base(args.model), _least(args.sure) if args.sure else None
    signal = signal_of(base)
    recording = load_recording(args.source, signal, args.units)
    adapters = [load_adapter(path, base) for path in args.adapter]
    switches = [(round(seconds * signal.rate), number) for seconds, number in args.switch]
    note(f"signal: {signal}", args.json)
    if doubt := doubts(recording.counts, signal):
        note(f"{args.source}: {doubt}", args.json)
    drift = _looked(args, base, recording.counts)
    decisions: list[Decision] = []
    clipped = elapsed = 0
    with ExitStack() as stack:
        if args.twin:
            replies = listen_on_twin(base, adapters, recording.counts, args.vote, switches)
        else:
            link = stack.enter_context(connect(args))
            replies = listen_on_board(link, base, adapters, recording.counts, args.vote, switches)
        for reply in replies:
            clipped, elapsed = reply.clipped, elapsed + reply.elapsed_us
            decisions += reply.decisions
            if not args.json:
                for decision in reply.decisions:
                    say(_line(decision, base.model, signal.rate, least))
                    if drift and decision.end == drift.since:
                        say(_alarm(drift, signal.rate, args.drift))
    if drift:
        drift.save(args.drift)
    if not decisions:
        few = f"{len(recording.counts)} samples are too few for a decision, a window has {signal.window}"
        note(f"note: {few}: give a longer recording", args.json)
    where = "host twin" if args.twin else "board"
    if args.json:
        return emit(
            {
                "decisions": [_as_json(decision, base.model, signal.rate, least) for decision in decisions],
                "samples": len(recording.counts),
                "rate": signal.rate,
                "clipped": clipped,
                "elapsed_us": elapsed,
                "where": where,
                "adapters": list(map(str, args.adapter)),
                "drift": _drift_as_json(drift, signal.rate, args.drift) if drift else None,
            }
        )
    took = f", {elapsed / 1000 / len(decisions):.1f} ms each" if elapsed and decisions else ""
    say(f"{len(decisions)} decisions{took} of {len(recording.counts)} samples ({where}); {clipped} values clipped")
    if drift:
        say(_drift_line(drift, args.drift))


def _looked(args: argparse.Namespace, base: Base, counts: NDArray[np.int16]) -> Drifted | None:
    if args.drift is None:
        if args.drift_every:
            raise InputError("--drift-every: give --drift FILE, too")
        return None
    return look(base, counts, args.drift, args.drift_every or 0)


def _alarm(drift: Drifted, rate: float, path: Path) -> str:
    """The question when the alarm rises, and what to do."""
    at = (drift.since or 0) / rate
    return (
        f"{at:9.2f} s  windows are unlike those before: is the sensor worn another way? Then wear it as before. If it "
        f"stays so, or this is a new activity: delete {path}, to learn anew what is usual, and teach the board by "
        "`edgelora correct`"
    )


def _drift_line(drift: Drifted, path: Path) -> str:
    if drift.left:
        return f"drift: looked at {drift.windows} windows; {drift.left} more until {path} knows what is usual"
    alarm = ", an alarm" if drift.alarm else ""
    return f"drift: {drift.new} of the latest {drift.latest} windows are new{alarm}; looked at {drift.windows} ({path})"


def _drift_as_json(drift: Drifted, rate: float, path: Path) -> dict[str, Any]:
    return {
        "windows": drift.windows,
        "left": drift.left,
        "new": drift.new,
        "alarm": drift.alarm,
        "since": None if drift.since is None else round(drift.since / rate, 6),
        "file": str(path),
    }


def _name(model: QuantModel, label: int | None) -> str | None:
    if label is None:
        return None
    return model.labels[label] if label < len(model.labels) else str(label)


def _least(text: str) -> float:
    """The least probability of an answer that counts: given, or of a run's report."""
    try:
        given = float(text)
    except ValueError:
        report = read_report(Path(text))
        if report.confidence is None:
            raise InputError(f"{text}: there were too few samples to say from when on answers count: give P") from None
        return share(report.confidence.least)
    if not 0 <= given <= 1:
        raise InputError(f"--sure {text}: give 0 to 1, or a run's report.json")
    return given


def _is_unsure(decision: Decision, least: float | None) -> bool:
    return least is not None and decision.probability is not None and decision.probability < least


def _line(decision: Decision, model: QuantModel, rate: float, least: float | None) -> str:
    chance = "" if decision.probability is None else f"  {decision.probability:.2f}"
    window = UNSURE if (unsure := _is_unsure(decision, least)) else _name(model, decision.seen)
    said = UNSURE if unsure and decision.label == decision.seen else _name(model, decision.label) or "-"
    seen = "" if said == window else f"  (window: {window})"
    return f"{decision.end / rate:9.2f} s  {said}{chance}{seen}"


def _as_json(decision: Decision, model: QuantModel, rate: float, least: float | None) -> dict[str, Any]:
    return {
        "end": decision.end,
        "seconds": round(decision.end / rate, 6),
        "class": decision.label,
        "name": _name(model, decision.label),
        "seen": decision.seen,
        "probability": decision.probability,
        "unsure": _is_unsure(decision, least),
        "outputs": decision.outputs.tolist(),
    }
