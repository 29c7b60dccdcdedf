"""Commands about recordings: what sensors measured, before it is anybody's input."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets
from ..errors import InputError
from ..training import load_base, signal_of
from .common import Add, show

KEY_VARIABLE = "EDGELORA_HMAC_KEY"


def add_commands(add: Add, commands: Any) -> None:
    p = add("convert", cmd_convert)
    p.add_argument(
        "recording",
        type=Path,
        nargs="+",
        help="a .csv, .wav, .npz, or Edge Impulse's .json or .cbor; with --base several, named LABEL.what.ever",
    )
    p.add_argument("-o", "--output", type=Path, required=True, help="another of these, or with --base a .npz to train")
    p.add_argument("--base", type=Path, help="a .elm: cut windows as its signal says, labelled by the files' names")
    p.add_argument("--hop", type=int, help="samples from a window to the next (the base's)")
    p.add_argument("--rate", type=float, help="samples a second, if the file doesn't say")
    p.add_argument("--units", action="store_true", help="a .csv has values in the base's units, not counts")
    p.add_argument(
        "--hmac-key",
        help="what .json and .cbor files are signed with: checks those that are read, signs one that is written "
        f"(${KEY_VARIABLE}, which no list of processes shows)",
    )


def cmd_convert(args: argparse.Namespace) -> None:
    """Makes recordings into other files, or into samples.

    Edge Impulse's acquisition format is read and written, as JSON and as CBOR. Its signature is checked if there is a
    key, else what it is is said. With --base the result has x, y, labels and the base's signal.
    """
    key = args.hmac_key or os.environ.get(KEY_VARIABLE)
    if args.base:
        return _windows(args, key)
    if len(args.recording) > 1:
        raise InputError("several recordings become samples with --base MODEL; convert others one by one")
    [path] = args.recording
    capture = datasets.load_capture(path, key if path.suffix.lower() in datasets.SIGNED else None)
    if args.rate:
        capture = datasets.with_rate(capture, args.rate)
    datasets.save_capture(capture, args.output, key if args.output.suffix.lower() in datasets.SIGNED else None)
    samples, channels = capture.values.shape
    told = {"output": str(args.output), "samples": samples, "channels": channels, "rate": capture.rate}
    told |= {"names": capture.names, "units": capture.units, "signature": capture.signature}
    rate = f", {capture.rate:g} a second" if capture.rate else ""
    signed = f"; {path.name}: {capture.signature}" if capture.signature else ""
    show(args, told, f"{args.output}: {samples} samples of {channels} channels{rate}{signed}")


def _windows(args: argparse.Namespace, key: str | None) -> None:
    if args.output.suffix.lower() != ".npz":
        raise InputError(f"{args.output}: samples are a .npz: end its name so")
    if args.hop is not None and args.hop < 1:
        raise InputError(f"--hop {args.hop}: give 1 or more")
    signal = signal_of(load_base(args.base))
    found = []
    for path in args.recording:
        signed = key if path.suffix.lower() in datasets.SIGNED else None
        found.append((path.name.split(".")[0], datasets.load_recording(path, signal, args.units, signed)))
    data = datasets.windows_of(found, signal, args.hop)
    datasets.save_dataset(data, args.output)
    counts = np.bincount(data.y, minlength=len(data.labels)).tolist()
    told = {"output": str(args.output), "windows": dict(zip(data.labels, counts, strict=True))}
    told["signatures"] = {str(p): r.signature for p, (_, r) in zip(args.recording, found, strict=True) if r.signature}
    words = ", ".join(f"{name} {count}" for name, count in zip(data.labels, counts, strict=True))
    show(args, told, f"{args.output}: {len(data)} windows: {words}" + _signatures(told["signatures"]))


def _signatures(said: Any) -> str:
    return "".join(f"\n{path}: {words}" for path, words in said.items())
