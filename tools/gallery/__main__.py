"""Imports a gallery of networks and tells how many come in, why the others don't, and whether they compute the same.

`make gallery` runs it in the environment that has TensorFlow and PyTorch. Keras networks are quantized by TensorFlow's
converter, imported, and compared with TensorFlow Lite Micro (or with LiteRT, where TensorFlow Lite Micro lacks an
operator) on inputs that calibrated them and on noise, byte for byte. PyTorch modules go through `from_torch`, which
promises a quantized network: their outputs are compared with the module's.

    python tools/gallery [--only NAME...] [--json FILE] [--jobs N] [--files FOLDER]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

from judging import BOARDS, Verdict, judge, listed

WANTED = 0.9  # of the networks that fit a board


def _judged(names: list[str], files: str | None, jobs: int) -> Iterator[Verdict]:
    """Verdicts in order, from as many processes; one that a converter takes down with it is replaced."""
    pools = threading.local()

    def one(name: str) -> Verdict:
        if not hasattr(pools, "mine"):
            pools.mine = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        try:
            return pools.mine.submit(judge, name, files).result()
        except BrokenProcessPool:
            pools.mine.shutdown()
            del pools.mine
            return Verdict(name, reason="CRASH: the process ended, in a framework's own code")

    with ThreadPoolExecutor(jobs) as threads:
        yield from threads.map(one, names)


def _line(verdict: Verdict) -> str:
    on = "+".join(verdict.boards) or "too large"
    if not verdict.accepted:
        return f"{verdict.name:44} {on:13} refused   {verdict.reason}"
    message = f"{verdict.ops} ops, {verdict.arena} bytes of RAM; "
    if verdict.sqnr_db is not None:
        message += f"{verdict.sqnr_db} dB to the module"
    else:
        equal = verdict.compared - verdict.differing
        message += f"{equal} of {verdict.compared} outputs equal {verdict.reference}'s"
    return f"{verdict.name:44} {on:13} {'accepted ' if verdict.good else 'DIFFERENT'} {message}"


def _totals(verdicts: list[Verdict]) -> list[str]:
    lines = []
    for what, some in (
        ("all", verdicts),
        *((f"fit {board}", [v for v in verdicts if board in v.boards]) for board in BOARDS),
        ("fit a board", [v for v in verdicts if v.boards]),
    ):
        for framework in ("keras", "torch", ""):
            part = [v for v in some if v.name.startswith(framework)]
            if part:
                good = sum(v.accepted for v in part)
                lines.append(f"{what:12} {framework or 'both':6} {good:4} of {len(part):4}  {good / len(part):.1%}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="gallery", description="Import a gallery of networks; tell what is refused.")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="patterns of names")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="keep Keras' .tflite files, and use those there")
    args = parser.parse_args()
    if args.files:
        args.files.mkdir(parents=True, exist_ok=True)
    names = [n.name for n in listed() if any(fnmatch.fnmatch(n.name, pattern) for pattern in args.only)]
    verdicts = []
    for verdict in _judged(names, str(args.files) if args.files else None, args.jobs):
        verdicts.append(verdict)
        print(_line(verdict), flush=True)
    print(*_totals(verdicts), sep="\n")
    if args.json:
        args.json.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1) + "\n")
    fitting = [v for v in verdicts if v.boards]
    wrong = [v.name for v in verdicts if v.accepted and not v.good]
    if wrong:
        print(f"different: {', '.join(wrong)}", file=sys.stderr)
    return int(bool(wrong) or sum(v.accepted for v in fitting) < WANTED * len(fitting))


if __name__ == "__main__":
    sys.exit(main())
