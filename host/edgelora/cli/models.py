"""Commands from data to a planned model."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelora.base.errors import InputError
from edgelora.base.streams import note, say
from edgelora.board.profiles import BoardProfile, load_board
from edgelora.core.formats import limits
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.network import LOSSES, QuantModel
from edgelora.core.formats.signal import Signal
from edgelora.core.formats.wake_manifest import WakeManifest, load_manifest, model_beside
from edgelora.core.front_ends import HEARD_AS, heard_as
from edgelora.core.twin.binding import check_model
from edgelora.learn.planning.choose import Budget, Candidate, Choice, choose
from edgelora.learn.planning.plan import Plan, plan
from edgelora.learn.planning.plan_file import save_plan
from edgelora.learn.planning.sensitivity import METHODS
from edgelora.learn.training.data.base import Base, WorkflowError, load_base
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import LIMITS, MODES, Recipe
from edgelora.model.datasets.dataset import load_classes, load_inputs, load_signal
from edgelora.model.datasets.text import WINDOW
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet import pretraining
from edgelora.model.floatnet.epochs import ENCODER_EPOCHS, MOTION_EPOCHS, NETWORKS, SPEECH_EPOCHS
from edgelora.model.floatnet.files import load_net, save_net

from . import console
from .arguments import add_board, add_frames, show, size, whole
from .command_line import Add
from .console import emit
from .recipe_arguments import (
    DATA_HELP,
    add_plan,
    add_recipe,
    data_part,
    data_parts,
    labels,
    planned_recipe,
    recipe_of,
)

if TYPE_CHECKING:
    from edgelora.model.quantization.quantize import Quantized
    from edgelora.model.quantization.report import QuantReport


def add_commands(add: Add) -> None:
    p = add("pretrain", cmd_pretrain)
    p.add_argument("data", help=DATA_HELP)
    p.add_argument("-o", "--output", type=Path, default=Path("base.npz"), help="the float network (%(default)s)")
    p.add_argument(
        "--seed",
        type=whole(0, LIMITS["seed"][1]),
        default=0,
        help="seed of weights, order and augmentation (%(default)s)",
    )
    p.add_argument(
        "--epochs",
        type=whole(*LIMITS["epochs"]),
        help=f"epochs of training ({MOTION_EPOCHS} for time series, {SPEECH_EPOCHS} for words, {ENCODER_EPOCHS} of an "
        "encoder)",
    )
    p.add_argument(
        "--network",
        choices=NETWORKS,
        default=NETWORKS[0],
        help="what is trained; an encoder is a transformer (%(default)s)",
    )
    p.set_defaults(stopped="stopped; no network was written")
    p = add("quantize", cmd_quantize)
    p.add_argument("net", type=Path, help="a float network made by pretrain")
    p.add_argument("--data", required=True, help="calibration windows: " + DATA_HELP)
    p.add_argument("-o", "--output", type=Path, default=Path("base.elm"), help="the INT8 model (%(default)s)")
    p.set_defaults(stopped="stopped; no model was written")
    p = add("import", cmd_import)
    p.add_argument(
        "model",
        type=Path,
        help="an INT8 .tflite file; a wake word's manifest (.json) beside its .tflite; or a .keras or .h5 file, with "
        "edgelora[keras]; or a language model's folder with config.json and model.safetensors",
    )
    p.add_argument("-o", "--output", type=Path, default=Path("base.elm"), help="the INT8 model (%(default)s)")
    p.add_argument("--data", type=Path, help="a .npz with inputs x, real or int8, to calibrate adapters on (noise)")
    p.add_argument("--text", type=Path, help="of a language model: a text like those that it will see, in UTF-8")
    p.add_argument(
        "--length",
        type=whole(2, limits.MAX_ATTENDED),
        help=f"of a language model: symbols that it sees at a time ({WINDOW})",
    )
    p.add_argument(
        "--fused",
        action="store_true",
        help="attention, normalization and embeddings of a Keras model become one op each, quantized by edgelora",
    )
    p.add_argument("--labels", type=labels, default=[], help="class names A,B,..., or a file with one per line")
    p.add_argument("--loss", choices=LOSSES, help="training loss (derived from the network's last layer)")
    p.add_argument(
        "--front",
        choices=HEARD_AS,
        help="inputs are rows of 40 sound features, in the network's own scale or in that of deployed wake words' "
        "firmware",
    )
    p.set_defaults(stopped="stopped; no model was written")
    p = add("plan", cmd_plan)
    p.add_argument("model", type=Path, help="a .elm file")
    add_board(p, "rpi_pico", "see `edgelora boards` (%(default)s)")
    p.add_argument("--data", help="choose ranks and mode on these samples: " + DATA_HELP)
    p.add_argument("--test", help="test samples, not used for choosing (held out from --data)")
    add_frames(p)
    p.add_argument("--adapter", type=size, metavar="SIZE", help="largest adapter file, e.g. 4K (no limit)")
    p.add_argument(
        "--method", choices=METHODS, default=METHODS[0], help="how the value of layers is measured (%(default)s)"
    )
    p.add_argument("-o", "--output", type=Path, help="save the plan, for --plan of personalize and train-adapter")
    p.add_argument("--report", type=Path, help="write the choice as an HTML page")
    add_recipe(p)
    p.set_defaults(stopped="stopped; no plan was written")
    p = add("export", cmd_export)
    p.add_argument("model", type=Path, help="a .elm file")
    p.add_argument("-o", "--output", type=Path, required=True, help="a header (.h), or a file of samples (.eld)")
    p.add_argument("--data", help="samples to train on: " + DATA_HELP)
    p.add_argument("--test", help="samples to test with (held out from --data)")
    add_frames(p)
    add_plan(p)
    add_recipe(p)
    p.set_defaults(stopped="stopped; nothing was written")


def cmd_pretrain(args: argparse.Namespace) -> None:
    """Trains a float network on many people or voices.

    It uses all people of the data except those reserved for personalization.
    """
    part = data_part(args, args.data, "pretrain")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with console.progress("pretrain", args.json) as progress:
        net = pretraining.pretrain(part, args.seed, args.epochs, progress, network=args.network)
    save_net(net, args.output)
    with console.step("test", args.json):
        accuracy = floatnet_layers.accuracy(net, part.x, part.y)
    result = {
        "output": str(args.output),
        "windows": len(part),
        "macs": floatnet_layers.macs(net),
        "train_accuracy": round(accuracy, 4),
    }
    show(
        args,
        result,
        f"{args.output}: {len(part)} windows, {floatnet_layers.macs(net):,} MACs, accuracy on them {accuracy:.3f}",
    )


def cmd_quantize(args: argparse.Namespace) -> None:
    """Quantizes a float network to an INT8 model (.elm).

    Quantization is post-training, calibrated on --data.
    """
    from edgelora.model.quantization.quantize import quantize_on
    from edgelora.model.quantization.report import report  # takes a while to import

    net = load_net(args.net)
    part = data_part(args, args.data, "pretrain")
    with console.step("quantize", args.json):
        model = quantize_on(net, part)
        elm = pack_model(model, args.output.name)
        quality = report(net, elm, model, part.x, part.y)
    write_atomic(args.output, elm)
    _note_logits(model)
    result = {"output": str(args.output), "bytes": len(elm), "base_id": base_id(elm).hex()} | asdict(quality)
    result["signal"] = asdict(model.signal) if model.signal else None
    message = f"{args.output}: {len(elm)} bytes, base {result['base_id']}\n{quality}"
    show(args, result, message + (f"\nsignal: {model.signal}" if model.signal else ""))


def cmd_import(args: argparse.Namespace) -> None:
    """Converts a TensorFlow, Keras or language model to a .elm.

    A .tflite file has to be INT8; the model computes what TensorFlow Lite Micro does, byte for byte. A .keras or .h5
    file is first quantized, calibrated on --data (classes y, if present, are for the report). Of a wake word's manifest
    (microWakeWord's .json, version 2), classes are "other" and the network's name, --front is firmware, and the
    manifest is written beside the .elm: boards take the decision rule from it.

    A language model is a folder as Hugging Face's save_pretrained writes it, of a Llama-like or GPT-2-like model of up
    to 1,024 symbols. It is quantized, calibrated on --text, of which every eighth window is kept to report bits a
    symbol. Two files are written beside the .elm: its tokenizer as a table for boards (.elt), and the float network, in
    which import-adapter finds the modules of a LoRA by name:

        edgelora import stories -o base.elm --text stories.txt
        edgelora import-adapter base.elm my-lora -o mine.ela
    """
    from edgelora.model.importers.tflite import convert as tflite  # takes a while to import

    if args.model.is_dir() or args.text or args.length:
        made = _import_language_model(args)
        return _show_import(args, made.model, made.elm, made.report)
    if args.fused and args.model.suffix not in (".keras", ".h5"):
        raise InputError("--fused is for Keras models (.keras, .h5): omit it")
    quality = None
    x = load_inputs(args.data) if args.data else None
    signal = load_signal(args.data) if args.data else None
    manifest = load_manifest(args.model) if args.model.suffix == ".json" else None
    if args.front and (signal or not (manifest or args.model.suffix == ".tflite")):
        raise InputError("--front is for .tflite files whose --data has no signal: omit it")
    if args.model.suffix in (".keras", ".h5"):
        model, elm, quality = _import_keras(args, x, signal)
    else:
        path = model_beside(args.model, manifest) if manifest else args.model
        model = tflite.import_tflite(path.read_bytes(), args.labels, args.loss, path.name)
        if manifest:
            _check_wake_word(model, path.name)
            model.labels = model.labels or manifest.labels
        front = args.front or ("firmware" if manifest and not signal else None)
        model.signal = signal = heard_as(front, model.input) if front else signal
        if x is None and not front:
            note("adapters are calibrated on noise over the input's whole range: give --data like its real inputs")
        with console.step("calibrate", args.json):
            tflite.calibrate(model, _calibration_inputs(args, model, x))
            elm = pack_model(model, args.output.name)
            check_model(elm)
    write_atomic(args.output, elm)
    if manifest and (there := args.output.with_suffix(".json")).resolve() != args.model.resolve():
        manifest.save(there)
    _show_import(args, model, elm, quality, manifest, 0 if x is None else len(x))


def _show_import(
    args: argparse.Namespace,
    model: QuantModel,
    elm: bytes,
    quality: QuantReport | None,
    manifest: WakeManifest | None = None,
    inputs: int = 0,
) -> None:
    from edgelora.model.importers.tflite import convert as tflite

    _note_logits(model)
    layers = tflite.layer_rows(elm, model)
    result = {
        "output": str(args.output),
        "bytes": len(elm),
        "base_id": base_id(elm).hex(),
        "macs": sum(row.macs for row in layers),
        "parameters": sum(row.parameters for row in layers),
        "loss": model.loss,
        "labels": model.labels,
        "input": asdict(model.input),
        "signal": asdict(model.signal) if model.signal else None,
        "frames": model.reach,
        "manifest": manifest and manifest.as_json(),
        "calibration_inputs": inputs,
        "layers": [asdict(row) for row in layers],
    } | ({"quality": asdict(quality)} if quality else {})
    if args.json:
        return emit(result)
    console.table(
        ("op", "kind", "output", "parameters", "MACs", "adapter"),
        [
            (row.op, row.kind, "x".join(map(str, row.output)), row.parameters, row.macs, "fits" if row.adapter else "-")
            for row in layers
        ],
    )
    frames = f", an output depends on {model.reach} frames" if model.has_history else ""
    macs = f"{result['macs']:,} MACs"
    say(f"\n{args.output}: {len(elm)} bytes, base {result['base_id']}, {macs}, loss {model.loss}{frames}")
    if manifest:
        rule = f"the mean of {manifest.window} probabilities is above {manifest.cutoff:g}"
        say(f"{args.output.with_suffix('.json')}: {manifest.wake_word!r} is heard where {rule}")
    if quality:
        say(quality)


def _import_language_model(args: argparse.Namespace) -> Quantized:
    from edgelora.model.importers.language_models import from_language_model, tokens_of

    if not args.model.is_dir() or not args.text or args.data or args.labels or args.loss or args.front or args.fused:
        raise InputError(
            "a language model is a folder with config.json and model.safetensors, and needs --text, a file like what "
            "it will see; --length is its only other option"
        )
    with console.step("quantize", args.json):
        made = from_language_model(args.model, args.text.read_text("utf-8", "ignore"), args.length)
    made.save(args.output)
    write_atomic(args.output.with_suffix(".elt"), tokens_of(args.model).pack())
    return made


def _check_wake_word(model: QuantModel, name: str) -> None:
    if model.output.size != 1 or model.loss != "binary_cross_entropy" or not model.has_history:
        raise InputError(
            f"{name} has {model.output.size} outputs and loss {model.loss}: a wake word is a streaming network with "
            "one output, a probability",
            remedy="import the .tflite in place of the .json",
        )


def _note_logits(model: QuantModel) -> None:
    from edgelora.model.quantization.report import logits_note

    if said := logits_note(model):
        note(f"note: {said}")


def _calibration_inputs(args: argparse.Namespace, model: QuantModel, x: Any) -> Any:
    from edgelora.model.importers.tflite import convert as tflite

    try:
        return tflite.inputs_for_calibration(model, x)
    except ValueError as error:
        raise InputError(f"{args.data}: {error}") from error


def _import_keras(args: argparse.Namespace, x: Any, signal: Signal | None) -> tuple[QuantModel, bytes, QuantReport]:
    if x is None:
        raise WorkflowError(f"{args.model.name}: quantizing it needs --data, samples like its real inputs")
    with console.step("convert with TensorFlow", args.json):
        from edgelora.model.importers.keras import from_keras, load, loses_by_parts

        model = load(args.model)
        made = from_keras(model, x, load_classes(args.data), args.labels, args.loss, signal, args.fused)
    if told := loses_by_parts(model, made):
        note(told)
    return made.model, made.elm, made.report


def cmd_plan(args: argparse.Namespace) -> None:
    """Computes memory and time on a board, and chooses ranks.

    With --data, it chooses the best configuration within a budget: both modes unless --mode is given, and a rank for
    each layer instead of --rank:

        edgelora plan base.elm --board pico --ram 48K --adapter 8K --data user.npz -o plan.json
        edgelora personalize base.elm --data user.npz --plan plan.json
    """
    base, board, recipe = load_base(args.model), load_board(args.board), recipe_of(args)
    if args.frames and args.data:
        raise InputError("the samples of --data have their frames: omit --frames")
    if args.rank and args.data:
        raise InputError("--rank sets all ranks alike, --data chooses them: give one of them")
    samples = base.samples(data_parts(args, args.test).train) if args.data else None
    choice = _choice(args, base, board, recipe, samples) if samples else None
    if choice is None and (args.adapter or args.report):
        raise InputError("--adapter and --report are for choosing ranks: give --data, the person's samples")
    recipe = choice.chosen.recipe if choice else recipe
    frames = samples.frames if samples else args.frames
    if frames and frames > 1 and not base.model.has_history:
        raise InputError(f"{base.name} has no history: its samples are single inputs, omit --frames")
    result = plan(base.elm, board, recipe, frames)
    if args.json:
        emit(result.as_json() | ({"choice": asdict(choice) | {"samples": len(samples)}} if choice and samples else {}))
    else:
        _print_plan(result, bool(args.ram or choice))
        if choice:
            _print_choice(choice)
    if not result.fits:
        raise WorkflowError(
            f"the arena needs {result.arena_bytes} bytes, {result.board} has {result.ram_bytes}: "
            "lower --rank, use --mode frozen_a, or adapt fewer layers (--placement)"
        )
    if args.report and choice and samples:
        from edgelora.learn.report.plan_page import write_plan_report

        write_plan_report(args.report, choice, result, base.name, f"{len(samples)} samples of {args.data}")
        note(f"{args.report}: the choice and its alternatives")
    if args.output:
        save_plan(args.output, result, recipe)
        note(f"{args.output}: use it with personalize --plan or train-adapter --plan")


def cmd_export(args: argparse.Namespace) -> None:
    """Writes a model and samples for programs in C.

    A header has the model, the settings and memory of its sessions and, with --data, samples as arrays; a .eld file has
    the samples alone:

        edgelora export base.elm --data user.npz -o model.h
    """
    from edgelora.learn.training.data.exporting import header_of, sample_file_of

    kind = args.output.suffix
    if kind not in (".h", ".eld"):
        raise InputError(f"{args.output}: give the name of a header (.h) or of a file of samples (.eld)")
    if kind == ".eld" and not args.data:
        raise InputError("a .eld file has samples: give --data")
    if args.frames and args.data:
        raise InputError("the samples of --data have their frames: omit --frames")
    base = load_base(args.model)
    data = data_parts(args, args.test) if args.data else None
    parts = {"train": base.samples(data.train), "test": base.samples(data.test)} if data else {}
    if kind == ".h":
        content = header_of(base, planned_recipe(args, base), parts, args.frames or 1).encode()
    else:
        content = sample_file_of(base, parts["train"])
    write_atomic(args.output, content)
    counts = {f"{name}_samples": len(part) for name, part in parts.items() if kind == ".h" or name == "train"}
    told = "".join(f", {count} {name.replace('_', ' ')}" for name, count in counts.items())
    summary = {"output": str(args.output), "bytes": len(content), **counts}
    show(args, summary, f"{args.output}: {len(content)} bytes{told}")


def _choice(args: argparse.Namespace, base: Base, board: BoardProfile, recipe: Recipe, samples: Samples) -> Choice:
    budget = Budget(args.ram or board.arena_bytes, args.adapter)
    modes = (args.mode,) if args.mode else MODES
    with console.progress("measuring layers", args.json) as progress:
        return choose(base.elm, samples, recipe, budget, modes, args.method, progress)


def _print_choice(choice: Choice) -> None:
    def line(one: Candidate) -> tuple[object, ...]:
        ranks = " ".join(map(str, one.recipe.given_ranks or ()))
        return one.recipe.mode, ranks, one.adapter_bytes, one.arena_bytes, f"{one.gain:.4f}"

    say(f"\nchosen on the frontier for {choice.budget}; gain in {choice.unit}")
    head = ("mode", "ranks by op", "adapter", "arena", "expected gain")
    shown = [one for one in choice.frontier[:: max(1, len(choice.frontier) // 12)] if one != choice.chosen]
    rows = sorted([*shown, choice.chosen], key=lambda one: one.gain)
    console.table(("", *head), [("->" if one is choice.chosen else "", *line(one)) for one in rows])
    if choice.beyond:
        more = choice.beyond
        say(
            f"the next larger budget worth having, {more.arena_bytes} bytes of arena and {more.adapter_bytes} of "
            f"adapter, would gain {more.gain - choice.chosen.gain:.4f} more"
        )
    else:
        say("a larger budget would gain almost nothing")


def _print_plan(result: Plan, given_ram: bool) -> None:
    console.table(
        ("op", "kind", "input", "output", "weights", "rank", "MACs", "adapter MACs", "adapter B", "output is"),
        [
            (
                p.op,
                p.kind,
                "x".join(map(str, p.input)),
                "x".join(map(str, p.output)),
                p.weights,
                p.rank,
                p.macs,
                p.adapter_macs,
                p.adapter_bytes,
                p.activation,
            )
            for p in result.layers
        ],
    )
    base, extra = sum(p.macs for p in result.layers), sum(p.adapter_macs for p in result.layers)
    say(
        f"\nmodel {console.size(result.model_bytes)}, adapter file {console.size(result.adapter_bytes)}, "
        f"{base:,} MACs an inference, {extra / base:.1%} more with the adapter"
    )
    if result.signal:
        say(f"signal: {result.signal}")
    say(
        f"arena {result.arena_bytes} bytes to train ({result.mode}, micro-batch {result.micro_batch}), "
        f"{result.infer_arena_bytes} to infer; the limit is {console.size(result.ram_bytes)} ({result.board})"
    )
    if result.infer_us is not None and result.step_us is not None:
        energy = "" if result.update_joules is None else f", {result.update_joules * 1000:.3g} mJ an update"
        of = f" of {result.frames} frames" if result.frames > 1 else ""
        times = f"inference {result.infer_us / 1000:.2f} ms, training step{of} {result.step_us / 1000:.2f} ms"
        say(f"predicted: {times}{energy}")
    else:
        say(f"no time is predicted: {result.board} was never timed")
    if result.recompute_macs:
        say(f"to fit, outputs are computed again: {result.recompute_macs:,} MACs a training step")
        if not given_ram:
            say(f"to personalize like this, give --ram {result.ram_bytes}")
