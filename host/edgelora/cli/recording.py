"""Commands for recordings of sensors."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgelora.base.errors import InputError
from edgelora.base.streams import note
from edgelora.board.link.client import Link
from edgelora.core.formats.signal import Signal
from edgelora.core.sensors import check_pins, named, pins_of
from edgelora.core.twin import device
from edgelora.learn.streaming.decisions import signal_of
from edgelora.learn.streaming.sample_windows import Takes, Window, windows_of
from edgelora.learn.training.data.base import load_base
from edgelora.model.datasets import recordings
from edgelora.model.datasets.dataset import load_dataset, save_dataset
from edgelora.model.datasets.recordings import (
    SIGNED,
    cut_windows,
    load_capture,
    load_recording,
    save_capture,
    with_rate,
)

from .arguments import add_frames, add_port, connect, show, whole
from .command_line import Add
from .recipe_arguments import labels

KEY_VARIABLE = "EDGELORA_HMAC_KEY"
ASK_SECONDS = 0.05  # seconds between requests to the board
TAKE_KEYS, UNDO_KEYS, END_KEYS = "\r\n ", "uU", "qQ\x04"


def add_commands(add: Add) -> None:
    _add_record(add)
    p = add("convert", cmd_convert)
    p.add_argument(
        "recording",
        type=Path,
        nargs="+",
        help="a .csv, .wav, .npz, or Edge Impulse's .json or .cbor; with --base several, named LABEL.what.ever",
    )
    p.add_argument(
        "-o", "--output", type=Path, required=True, help="another of these formats, or with --base a .npz for training"
    )
    p.add_argument("--base", type=Path, help="a .elm: cut windows according to its signal, labelled by file name")
    p.add_argument(
        "--window", type=whole(1, 1 << 20), metavar="N", help="without --base: cut windows of N samples, for training"
    )
    add_frames(p)
    p.add_argument(
        "--last",
        type=labels,
        default=[],
        metavar="CLASSES",
        help="with --base: classes A,B,... whose recordings give only the window that each ends with",
    )
    p.add_argument("--hop", type=whole(1), help="samples between window starts (the base's; half a window)")
    p.add_argument("--rate", type=float, help="sample rate in Hz, if the file has none")
    p.add_argument("--units", action="store_true", help="a .csv has values in the base's units, not counts")
    p.add_argument(
        "--hmac-key",
        help="HMAC key of .json and .cbor files: verifies input files, signs output files "
        f"(${KEY_VARIABLE}, which no list of processes shows)",
    )


def _add_record(add: Add) -> None:
    p = add("record", cmd_record)
    p.add_argument("model", type=Path, help="the base (.elm), whose signal defines windows")
    p.add_argument("--label", required=True, help="class of the samples")
    p.add_argument(
        "-o", "--output", type=Path, default=Path("samples.npz"), help="an existing file is appended to (%(default)s)"
    )
    p.add_argument("--source", default="mpu6050", help=f"{named()} or a module on the board with source()")
    p.add_argument("--pins", default="4,5", metavar="SDA,SCL", help="pins of the sensor (%(default)s)")
    p.add_argument("--bus", type=whole(0, 7), default=0, help="the I2C bus (%(default)s)")
    add_frames(p)
    p.add_argument("--count", type=whole(1), help="record this many automatically, one every --every seconds")
    p.add_argument(
        "--every",
        type=float,
        default=2.0,
        metavar="S",
        help="seconds between samples, by the sensor's clock (%(default)s)",
    )
    p.set_defaults(stopped="stopped")
    add_port(p)


def cmd_record(args: argparse.Namespace) -> None:
    """Records samples of one class from a board's sensor.

    Enter or space records the window that ends now, u undoes the last one, q or Ctrl-C quits and keeps all samples.
    With --count, windows are recorded on a timer, each announced one second before. Of a base with history, a window is
    several frames.
    """
    base = load_base(args.model)
    signal = signal_of(base)
    before = load_dataset(args.output) if args.output.exists() else None
    takes = Takes(Window.of(base, args.frames), before)
    if not 0.02 <= args.every <= 3600:
        raise InputError(f"--every {args.every:g}: give 0.02 to 3600 seconds")
    try:
        with connect(args) as link, contextlib.suppress(KeyboardInterrupt):
            _open(link, args, signal)
            _by_clock(link, takes, args) if args.count else _by_keys(link, takes, args)
    finally:  # a board that was unplugged takes nothing along
        if takes.taken:
            save_dataset(takes.data, args.output)
    result = {"output": str(args.output), "taken": takes.taken, "counts": takes.counts, "lost": takes.lost}
    result["frames"] = takes.window.frames
    words = ", ".join(f"{name} {count}" for name, count in takes.counts.items()) or "no samples"
    show(args, result, f"{args.output}: {words}; {takes.taken} new, {takes.lost} of the sensor's samples lost")


def _open(link: Link, args: argparse.Namespace, signal: Signal) -> None:
    pins = pins_of(args.pins)
    check_pins(args.source, pins)
    settings = {"pins": list(pins), "bus": args.bus, "rate": round(signal.rate)}
    scales = list(signal.scales) if signal.front == "none" else None  # a front end's outputs have others than counts
    rate, channels = link.sense(args.source, scales=scales, **settings)
    if channels != signal.channels or device.module("pipeline").far(rate, signal.rate):
        raise InputError(
            f"the source has {channels} channels at {rate:g} Hz, the base takes {signal.channels} at {signal.rate:g}"
        )


def _hear(link: Link, takes: Takes) -> None:
    takes.hear(*link.sensed())
    time.sleep(ASK_SECONDS)


def _by_clock(link: Link, takes: Takes, args: argparse.Namespace) -> None:
    """Counts the sensor's samples as the clock, so a busy computer records the same windows."""
    rate, due = takes.window.signal.rate, 0.0
    while takes.taken < args.count:
        _hear(link, takes)
        if not takes.ready:
            due = takes.heard + args.every * rate
            continue
        if takes.heard >= due - rate and due:
            note(f"{args.label} {takes.taken + 1}/{args.count}: now", args.json)
            while takes.heard < due:
                _hear(link, takes)
            takes.take(args.label)
            due = takes.heard + args.every * rate


def _by_keys(link: Link, takes: Takes, args: argparse.Namespace) -> None:
    note("Enter or space: take; u: undo the last; q: end", args.json)
    with keys() as read:
        while (key := read()) not in tuple(END_KEYS):
            _hear(link, takes)
            if key and key in TAKE_KEYS:
                took = takes.take(args.label)
                note(_counted(takes) if took else "wait: no complete window has come yet", args.json)
            elif key and key in UNDO_KEYS:
                note(_counted(takes) if takes.undo() else "no sample to undo", args.json)


def _counted(takes: Takes) -> str:
    return ", ".join(f"{name} {count}" for name, count in takes.counts.items()) or "none left"


@contextlib.contextmanager
def keys() -> Iterator[Callable[[], str]]:
    """Gives what reads a key without waiting: "" if none was pressed, Ctrl-D at the end of what a script sends."""
    try:
        import termios
        import tty
    except ImportError:
        raise InputError("keys are read on Linux and macOS: use --count here") from None
    descriptor = sys.stdin.fileno()
    kept = termios.tcgetattr(descriptor) if sys.stdin.isatty() else None

    def read() -> str:
        if not select.select([descriptor], [], [], 0)[0]:
            return ""
        return os.read(descriptor, 1).decode(errors="replace") or END_KEYS[-1]

    try:
        if kept:
            tty.setcbreak(descriptor)
        yield read
    finally:
        if kept:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, kept)


def cmd_convert(args: argparse.Namespace) -> None:
    """Converts recordings to other formats or to samples.

    Reads and writes Edge Impulse's acquisition format as JSON and CBOR; signatures are verified if there is a key,
    otherwise only reported. With --base, the result has x, y, labels and the base's signal: windows as a board would
    take them, with the base's front end, and of several frames for a base with history. With --window, windows in the
    recordings' own units, for training a network. A file's class is its name up to the first dot: wave.1.json is of
    class wave.
    """
    key = args.hmac_key or os.environ.get(KEY_VARIABLE)
    if args.base:
        return _windows(args, key)
    if args.frames or args.last:
        raise InputError("--frames and --last are for windows of a base: give --base MODEL")
    if args.window:
        return _plain_windows(args, key)
    if len(args.recording) > 1 or args.hop:
        raise InputError("recordings become samples with --base MODEL or --window N; convert others one by one")
    [path] = args.recording
    capture = load_capture(path, _key_of(path, key))
    if args.rate:
        capture = with_rate(capture, args.rate)
    save_capture(capture, args.output, key if args.output.suffix.lower() in SIGNED else None)
    samples, channels = capture.values.shape
    result = {"output": str(args.output), "samples": samples, "channels": channels, "rate": capture.rate}
    result |= {"names": capture.names, "units": capture.units, "signature": capture.signature}
    rate = f", {capture.rate:g} per second" if capture.rate else ""
    signed = f"; {path.name}: {capture.signature}" if capture.signature else ""
    show(args, result, f"{args.output}: {samples} samples of {channels} channels{rate}{signed}")


def _windows(args: argparse.Namespace, key: str | None) -> None:
    _check_samples(args)
    if args.window:
        raise InputError("the base defines a window's length: omit --window")
    window = Window.of(load_base(args.base), args.frames)
    signal = window.signal
    found = [(_class_of(path), load_recording(path, signal, args.units, _key_of(path, key))) for path in args.recording]
    if unknown := set(args.last) - {label for label, _ in found}:
        raise InputError(f"--last {', '.join(sorted(unknown))}: no recording has this class, which is its file's name")
    data = windows_of(found, window, args.hop, args.last)
    save_dataset(data, args.output)
    doubted = {
        str(path): recordings.doubts(r.counts, signal) for path, (_, r) in zip(args.recording, found, strict=True)
    }
    for name, doubt in doubted.items():
        if doubt:
            note(f"{name}: {doubt}", args.json)
    counts = np.bincount(data.y, minlength=len(data.labels)).tolist()
    result: dict[str, Any] = {"output": str(args.output), "windows": dict(zip(data.labels, counts, strict=True))}
    result |= {"frames": window.frames, "seconds": window.span / signal.rate}
    result["doubts"] = {name: doubt for name, doubt in doubted.items() if doubt}
    result["signatures"] = {str(p): r.signature for p, (_, r) in zip(args.recording, found, strict=True) if r.signature}
    words = ", ".join(f"{name} {count}" for name, count in zip(data.labels, counts, strict=True))
    frames = "" if window.frames == 1 else f" of {window.frames} frames ({window.span / signal.rate:.3g} s)"
    show(args, result, f"{args.output}: {len(data)} windows{frames}: {words}" + _signatures(result["signatures"]))


def _plain_windows(args: argparse.Namespace, key: str | None) -> None:
    _check_samples(args)
    if args.units:
        raise InputError("--units is for --base: windows without a base keep the recordings' own units")
    found = []
    for path in args.recording:
        capture = load_capture(path, _key_of(path, key))
        found.append((path, with_rate(capture, args.rate) if args.rate else capture))
    data = cut_windows([(_class_of(path), capture) for path, capture in found], args.window, args.hop)
    save_dataset(data, args.output)
    counts = np.bincount(data.y, minlength=len(data.labels)).tolist()
    windows = dict(zip(data.labels, counts, strict=True))
    signatures = {str(path): capture.signature for path, capture in found if capture.signature}
    first = found[0][1]
    result: dict[str, Any] = {"output": str(args.output), "windows": windows, "shape": list(data.x.shape[1:])}
    result |= {"rate": first.rate, "units": first.units, "signatures": signatures}
    words = ", ".join(f"{name} {count}" for name, count in windows.items())
    show(args, result, f"{args.output}: {len(data)} windows: {words}" + _signatures(signatures))


def _check_samples(args: argparse.Namespace) -> None:
    if args.output.suffix.lower() != ".npz":
        raise InputError(f"{args.output}: samples are saved as .npz: give a name with that ending")


def _class_of(path: Path) -> str:
    return path.name.split(".")[0]


def _key_of(path: Path, key: str | None) -> str | None:
    return key if path.suffix.lower() in SIGNED else None


def _signatures(said: Any) -> str:
    return "".join(f"\n{path}: {words}" for path, words in said.items())
