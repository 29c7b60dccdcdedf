"""Commands that blend adapters, and merge an adapter into the network's weights."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgelora.base.errors import InputError
from edgelora.base.streams import note, say
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elm import base_id
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.wake_manifest import (
    MAX_WINDOW,
    WakeManifest,
    load_manifest,
    manifest_beside,
    model_beside,
)
from edgelora.learn.training.data.base import is_named, load_adapter, load_base
from edgelora.learn.training.twin import adapter_sum
from edgelora.model.datasets.dataset import load_inputs
from edgelora.model.importers.tflite.merge import check_suffix, find_source, merge_elm, merge_tflite

from . import console
from .arguments import whole
from .command_line import Add
from .console import emit
from .recipe_arguments import data_part

LARGE_ERROR = 0.02  # share of an adapter's contribution that is lost, from which --refit is suggested


def add_commands(add: Add) -> None:
    p = add("blend", cmd_blend)
    p.add_argument("model", type=Path, help="the base (.elm) of the adapters")
    p.add_argument("adapters", type=Path, nargs="+", help="2 to 8 .ela files")
    p.add_argument("--weights", type=weights, help="one weight per adapter, such as 0.7,0.3 (the mean)")
    p.add_argument(
        "--to-train",
        action="store_true",
        help="keep B's training step size; otherwise B uses the full int8 resolution, which further training would "
        "hardly move",
    )
    p.add_argument("-o", "--output", type=Path, default=Path("blend.ela"), help="the adapter (%(default)s)")
    p.set_defaults(stopped="stopped; no adapter was written")
    p = add("merge", cmd_merge)
    p.add_argument(
        "base", type=Path, help="the .tflite that the base was imported from, a wake word's .json, or the .elm"
    )
    p.add_argument("adapter", type=Path, help="a .ela file")
    p.add_argument(
        "-o", "--output", type=Path, default=Path("merged.tflite"), help="the network, .tflite or .elm (%(default)s)"
    )
    p.add_argument("--elm", type=Path, help="the imported base, if imported with --labels, --loss or --data")
    p.add_argument(
        "--data", help="inputs for measurements and --refit: a .npz with x, real or int8, or data by name (noise)"
    )
    p.add_argument(
        "--refit",
        action="store_true",
        help="optimize scales, rounding and biases: closer to the unmerged adapter than what boards merge",
    )
    p.add_argument("--cutoff", type=float, help="of a wake word's probabilities, 0 to 1 (its .json's)")
    p.add_argument("--window", type=whole(1, MAX_WINDOW), help="how many of them are averaged (its .json's)")
    p.set_defaults(stopped="stopped; no network was written")


def weights(text: str) -> list[float]:
    """Comma-separated numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: give comma-separated numbers, such as 0.7,0.3") from None


def cmd_blend(args: argparse.Namespace) -> None:
    """Computes a weighted sum of adapters.

    If all adapters have the same A (frozen A from one seed), their B's are added and the rank stays. Otherwise ranks
    are concatenated: 4 and 4 make 8, up to 32. Boards do the same: Model.blend.
    """
    base = load_base(args.model)
    files = [load_adapter(path, base) for path in args.adapters]
    result = adapter_sum.blend(base, files, args.weights, not args.to_train)
    write_atomic(args.output, result.ela)
    if args.json:
        result_json = {"output": str(args.output), "bytes": len(result.ela), "base_id": base.base_id}
        return emit(result_json | {"a_stored": result.a_stored, "layers": [asdict(row) for row in result.layers]})
    console.table(
        ("op", "rank", "made by", "rounding"),
        [(row.op, row.rank, "adding B" if row.adds else "joining ranks", f"{row.error:.2%}") for row in result.layers],
    )
    say(f"\n{args.output}: {len(result.ela)} bytes")


def cmd_merge(args: argparse.Namespace) -> None:
    """Merges an adapter into the INT8 network.

    The resulting .tflite runs wherever the base's does. TensorFlow Lite Micro computes the same bytes as a board that
    has merged the adapter; with --refit it is closer to the unmerged adapter instead. Of a wake word's manifest
    (.json), the result is a .tflite and a .json beside it, for ESPHome and Home Assistant's voice devices.
    """
    x = _inputs(args)
    check_suffix(args.output.name)
    manifest = _manifest(args)
    ela = args.adapter.read_bytes()
    adapter = unpack_adapter(ela, name=args.adapter.name)
    with console.step("merge", args.json):
        if args.base.suffix == ".elm":
            if args.elm:
                raise InputError("--elm is for a .tflite: omit it, or give the .tflite first")
            base = load_base(args.base)
            merged = merge_elm(base.elm, load_adapter(args.adapter, base), x, args.refit)
        else:
            elm = load_base(args.elm).elm if args.elm else None
            path = model_beside(args.base, manifest) if manifest else args.base
            labels = manifest.labels if manifest else ()
            source = find_source(path.read_bytes(), adapter.base_id, path.name, elm, x, labels)
            merged = merge_tflite(source, ela, x, args.refit)
        content = merged.file(args.output.name)
    write_atomic(args.output, content)
    merging = merged.merging
    if manifest:
        manifest = replace(manifest.with_rule(args.cutoff, args.window), model=args.output.name)
        manifest.save(args.output.with_suffix(".json"))
    if args.json:
        told = {"inputs": 0 if x is None else len(x), "manifest": manifest and manifest.as_json()}
        return emit(_result(args, content, merging) | told)
    console.table(
        ("op", "rank", "clamped", "lost as boards merge", "lost here", "new scales"),
        [
            (row.op, row.rank, row.clamped, f"{row.board_error:.2%}", f"{row.error:.2%}", row.rescaled)
            for row in merging.layers
        ],
    )
    far = merging.distance
    same = "" if far.same is None else f", the same class for {far.same:.1%}"
    signal = merging.model.signal
    on = f"{far.samples} samples of {args.data or ('babble' if signal and signal.front == 'audio' else 'noise')}"
    say(f"\n{args.output}: {len(content)} bytes")
    if manifest:
        rule = f"{manifest.wake_word!r} is heard where {manifest.window} probabilities have a mean above"
        say(f"{args.output.with_suffix('.json')}: {rule} {manifest.cutoff:g}")
    say(f"against the adapter in use, on {on}: outputs up to {far.steps} steps apart, {far.mean:.2f} on average{same}")
    if not args.refit and any(row.error > LARGE_ERROR for row in merging.layers):
        note("int8 weights lose a part of the adapter: --refit, with --data like its real inputs, loses less")


def _manifest(args: argparse.Namespace) -> WakeManifest | None:
    """The base's manifest, if it is a wake word's; checked with the rule that the result will have."""
    if args.base.suffix != ".json":
        if args.cutoff is not None or args.window is not None:
            raise InputError("--cutoff and --window are of a wake word's .json: give that in place of the network")
        return None
    if args.output.suffix != ".tflite":
        raise InputError(f"{args.output}: a wake word's .json is for a .tflite: give a name with that ending")
    if args.output.with_suffix(".json").resolve() == args.base.resolve():
        raise InputError(f"{args.output} would replace the wake word that it is made of: give another name")
    manifest = load_manifest(args.base)
    if learned := manifest_beside(args.adapter):  # `wake learn` has chosen a rule with the adapter
        manifest = manifest.with_rule(learned[1].cutoff, learned[1].window)
    manifest.with_rule(args.cutoff, args.window)
    return manifest


def _inputs(args: argparse.Namespace) -> Any:
    if args.data is None:
        return None
    if is_named(args.data):
        return data_part(args, args.data, "train").x
    return load_inputs(args.data)


def _result(args: argparse.Namespace, content: bytes, merging: Any) -> dict[str, Any]:
    return {
        "output": str(args.output),
        "bytes": len(content),
        "base_id": base_id(merging.elm).hex(),
        "refit": args.refit,
        "distance": asdict(merging.distance),
        "layers": [asdict(row) for row in merging.layers],
    }
