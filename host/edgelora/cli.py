"""The `edgelora` command: a thin layer of arguments and printing over the library."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, console, data, formats, kws, nn, pretrain, quantize, tflite, twin
from .boards import BoardProfile, Verified, cycles_path, list_boards, load_board
from .build import SUFFIXES, build_firmware, program
from .choose import MODES, Budget, Candidate, Choice, choose
from .console import emit, note
from .demo import demo_har, start_board
from .devices import pick_port, survey
from .flash import flash
from .install import Installation, install
from .link import Link
from .model import LOSSES, QuantModel
from .personalize import CACHES, LEARNING_RATES, MOMENTA, PLACEMENTS, Recipe
from .plan import Plan, plan
from .plan_file import load_plan, save_plan
from .plan_report import write_plan_report
from .report import Metrics, Report, write_report
from .sensitivity import METHODS
from .workflow import (
    ADAPTER_PATH,
    Base,
    BoardLearner,
    WorkflowError,
    adapter_ranks,
    check_identical,
    float_baseline,
    load_adapter,
    load_base,
    load_part,
    make_report,
    personalize_board,
)

Command = Callable[[argparse.Namespace], Any]
DATA_HELP = (
    "har:SUBJECT (seglearn's smartwatch people 1 to 6, this one left out of pretraining), kws:VOICE (spoken keywords; "
    f"one of {', '.join(kws.VOICES)}) or a .npz with x, y, labels"
)
DEFAULTS = Recipe()
PLANNED = ("rank", "placement", "mode", "micro_batch", "given_momentum", "ram")
DEMO_RECIPE = Recipe(epochs=4)  # enough to show; an emulated board takes its time


# ---- from data to a model --------------------------------------------------------------------------------------------


def cmd_pretrain(args: argparse.Namespace) -> None:
    """Trains a float base network on the people it is to know."""
    part = load_part(args.data, "pretrain")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with console.progress("pretrain", args.json) as progress:
        net = pretrain.pretrain(
            part, args.seed, args.epochs, lambda done, total, loss: progress(done, total, f"loss {loss:.3f}")
        )
    pretrain.save_net(net, args.output)
    accuracy = nn.accuracy(net, part.x, part.y)
    result = {
        "output": str(args.output),
        "windows": len(part),
        "macs": nn.macs(net),
        "train_accuracy": round(accuracy, 4),
    }
    _print(args, result, f"{args.output}: {len(part)} windows, {nn.macs(net):,} MACs, accuracy on them {accuracy:.3f}")


def cmd_quantize(args: argparse.Namespace) -> None:
    """Post-training INT8 quantization into a .elm."""
    net = pretrain.load_net(args.net)
    part = load_part(args.data, "pretrain")
    model = quantize.quantize(net, part.x)
    model.labels = model.labels or part.labels
    elm = formats.pack_model(model, args.output.name)
    quality = quantize.report(net, model, part.x, part.y)
    formats.write_atomic(args.output, elm)
    result = {"output": str(args.output), "bytes": len(elm), "base_id": formats.base_id(elm).hex()} | asdict(quality)
    _print(args, _plain(result), f"{args.output}: {len(elm)} bytes, base {result['base_id']}\n{quality}")


def cmd_import(args: argparse.Namespace) -> None:
    """Makes a .elm of an INT8 .tflite file; it computes what TensorFlow Lite Micro does, byte for byte.

    A .keras or .h5 file is quantized first, on --data (its classes y, if it has any, are for the report).
    """
    quality = None
    x = data.load_inputs(args.data) if args.data else None
    if args.model.suffix in (".keras", ".h5"):
        model, elm, quality = _import_keras(args, x)
    else:
        model = tflite.import_tflite(args.model.read_bytes(), args.labels, args.loss, args.model.name)
        if x is None:
            note("adapters are calibrated on noise over the input's whole range: give --data like what it will see")
        tflite.calibrate(model, tflite.inputs_for_calibration(model, x))
        elm = formats.pack_model(model, args.output.name)
        twin.check_model(elm)
    formats.write_atomic(args.output, elm)
    layers = tflite.layer_rows(model)
    result = {
        "output": str(args.output),
        "bytes": len(elm),
        "base_id": formats.base_id(elm).hex(),
        "macs": sum(row.macs for row in layers),
        "parameters": sum(row.parameters for row in layers),
        "loss": model.loss,
        "labels": model.labels,
        "input": asdict(model.input),
        "calibration_inputs": 0 if x is None else len(x),
        "layers": [asdict(row) for row in layers],
    } | ({"quality": asdict(quality)} if quality else {})
    if args.json:
        return emit(_plain(result))
    console.table(
        ("op", "kind", "output", "parameters", "MACs", "adapter"),
        [
            (row.op, row.kind, "x".join(map(str, row.output)), row.parameters, row.macs, "fits" if row.adapter else "-")
            for row in layers
        ],
    )
    print(f"\n{args.output}: {len(elm)} bytes, base {result['base_id']}, {result['macs']:,} MACs, loss {model.loss}")
    if quality:
        print(quality)


def _import_keras(args: argparse.Namespace, x: Any) -> tuple[QuantModel, bytes, quantize.QuantReport]:
    if x is None:
        raise WorkflowError(f"{args.model.name}: quantizing it needs --data, inputs like those that it will see")
    from .keras_model import from_keras

    made = from_keras(args.model, x, data.load_classes(args.data), args.labels, args.loss)
    return made.model, made.elm, made.report


def cmd_plan(args: argparse.Namespace) -> None:
    """What a configuration takes on a board; with --data, the configuration that does most within a budget."""
    base, board, recipe = load_base(args.model), load_board(args.board), _recipe(args)
    choice = _choice(args, base, board, recipe) if args.data else None
    if choice is None and (args.adapter or args.report):
        raise ValueError("--adapter and --report are for choosing ranks: give --data, the person's samples")
    recipe = choice.chosen.recipe if choice else recipe
    result = plan(base.elm, board, recipe)
    if args.json:
        emit(_plain(result.as_json() | ({"choice": asdict(choice)} if choice else {})))
    else:
        _print_plan(result, bool(args.ram or choice))
        if choice:
            _print_choice(choice)
    if not result.fits:
        raise WorkflowError(
            f"the arena needs {result.arena_bytes} bytes, {result.board} has {result.ram_bytes}: "
            "lower --rank or --micro-batch"
        )
    if args.report and choice:
        write_plan_report(args.report, choice, result, base.name, args.data)
        note(f"{args.report}: what it was chosen from")
    if args.output:
        save_plan(args.output, result, recipe)
        note(f"{args.output}: use it with personalize --plan or train-adapter --plan")


def _choice(args: argparse.Namespace, base: Base, board: BoardProfile, recipe: Recipe) -> Choice:
    if args.rank:
        raise ValueError("--rank sets all ranks alike, --data chooses them: give one of them")
    samples = base.samples(load_part(args.data, "train"))
    budget = Budget(args.ram or board.arena_bytes, args.adapter)
    modes = (args.mode,) if args.mode else MODES
    with console.progress("measuring layers", args.json) as progress:
        return choose(base.elm, samples, recipe, budget, modes, args.method, progress)


def _print_choice(choice: Choice) -> None:
    def line(one: Candidate) -> tuple[object, ...]:
        ranks = " ".join(map(str, one.recipe.given_ranks or ()))
        return one.recipe.mode, ranks, one.adapter_bytes, one.arena_bytes, f"{one.gain:.4f}"

    print(f"\nchosen on the frontier for {choice.budget}; gain in {choice.unit}")
    head = ("mode", "ranks by op", "adapter", "arena", "expected gain")
    shown = [one for one in choice.frontier[:: max(1, len(choice.frontier) // 12)] if one != choice.chosen]
    rows = sorted([*shown, choice.chosen], key=lambda one: one.gain)
    console.table(("", *head), [("->" if one is choice.chosen else "", *line(one)) for one in rows])
    if choice.beyond:
        more = choice.beyond
        print(
            f"the next larger budget worth having, {more.arena_bytes} bytes of arena and {more.adapter_bytes} of "
            f"adapter, would buy {more.gain - choice.chosen.gain:.4f} more"
        )
    else:
        print("a larger budget would buy next to nothing")


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
    print(
        f"\nmodel {console.size(result.model_bytes)}, adapter file {console.size(result.adapter_bytes)}, "
        f"{base:,} MACs an inference, {extra / base:.1%} more with the adapter"
    )
    print(
        f"arena {result.arena_bytes} bytes to train ({result.mode}, micro-batch {result.micro_batch}), "
        f"{result.infer_arena_bytes} to infer; the limit is {console.size(result.ram_bytes)} ({result.board})"
    )
    if result.infer_us is not None and result.step_us is not None:
        energy = "" if result.update_joules is None else f", {result.update_joules * 1000:.3g} mJ an update"
        times = f"inference {result.infer_us / 1000:.2f} ms, training step {result.step_us / 1000:.2f} ms"
        print(f"predicted: {times}{energy}")
    if result.recompute_macs:
        print(f"to fit, outputs are computed again: {result.recompute_macs:,} MACs a training step")
        if not given_ram:
            print(f"to personalize like this, give --ram {result.ram_bytes}")


# ---- boards ----------------------------------------------------------------------------------------------------------


def cmd_build(args: argparse.Namespace) -> None:
    """Firmware with the model in ROMFS."""
    base = load_base(args.model) if args.model else None
    output = args.output or Path("firmware" + SUFFIXES[load_board(args.board).port])
    path = build_firmware(args.board, {base.name: base.elm} if base else {}, output)
    size = path.stat().st_size
    _print(
        args, {"output": str(path), "bytes": size, "base_id": base and base.base_id}, f"{path}: {console.size(size)}"
    )


def cmd_sim(args: argparse.Namespace) -> None:
    """Starts or stops a virtual board."""
    from . import sim

    state = args.state or Path("out") / "boards" / args.board
    if args.stop:
        boards = [
            b
            for b in sim.running()
            if b.board == args.board and (not args.state or b.state_dir == str(state.resolve()))
        ]
        for board in boards:
            board.stop()
        return _print(args, {"stopped": [b.port for b in boards]}, f"stopped {len(boards)}")
    profile, firmware = load_board(args.board), args.firmware
    if firmware is None and profile.is_virtual and profile.stock and not state.exists():
        firmware = program(profile)
    handle = sim.start(args.board, firmware, state)
    _print(args, asdict(handle), f"{args.board} on {handle.port}\nfirmware drive: {handle.drive}")


def cmd_flash(args: argparse.Namespace) -> None:
    """Writes firmware to a board: a .uf2 through an RP2 board's boot loader, MicroPython's .bin to an ESP32 chip.

    Where the firmware has no EdgeLoRA in it, that is installed next, as by `edgelora install`.
    """
    image = args.image or args.firmware
    if image is None:
        raise WorkflowError("which image? `edgelora flash IMAGE`, and see `edgelora flash --help`")
    with console.progress("flash", args.json) as progress:
        port = flash(
            args.drive or pick_port(args.port),
            image,
            lambda what, done, total: progress(done, total, what),
            board=args.board,
            read_back=args.read_back,
        )
    note(f"{port}: flashed {image}", args.json)
    if args.firmware_only or port is None:
        return _print(args, {"port": port, "installed": None}, f"{port}: firmware only")
    result = _install(args, port, None)
    if args.json:
        return emit(_plain({"port": port, "installed": asdict(result)}))
    _print_installation(result)


def cmd_install(args: argparse.Namespace) -> None:
    """Puts EdgeLoRA onto a board that runs stock MicroPython: the native module for its core, and the agent."""
    result = _install(args, pick_port(args.port), args.packages)
    if args.json:
        return emit(_plain(asdict(result)))
    _print_installation(result)


def _install(args: argparse.Namespace, port: str, packages: Path | None) -> Installation:
    with console.progress("install", args.json) as progress:
        return install(port, packages, lambda done, total: progress(done, total, "bytes"))


def _print_installation(result: Installation) -> None:
    for file in result.files:
        print(f"{file.path}: {file.bytes} bytes{'' if file.copied else ', was there'}")
    how = f"module for {result.arch}" if result.files else "built into the firmware"
    print(
        f"{result.board}, MicroPython {result.micropython}: edgelora {result.edgelora}, {how}; "
        f"{result.free_heap} bytes of heap left with its agent loaded"
    )


def cmd_devices(args: argparse.Namespace) -> None:
    """Boards that are plugged in and virtual ones that run: what they are, their firmware, and EdgeLoRA on them.

    Programs that run on a board are left alone, and ports that others use; no board holds this up for more than
    a few seconds.
    """
    found = survey(args.interrupt)
    if args.json:
        return emit(
            [asdict(device) | asdict(answer) | {"board": device.board or answer.board} for device, answer in found]
        )
    if not found:
        return print("no board found: plug one in, or start a virtual one with `edgelora sim virtual-pico`")
    console.table(
        ("port", "board", "state", "MicroPython", "native modules", "EdgeLoRA", ""),
        [
            (
                device.port,
                device.board or answer.board or "?",
                answer.state,
                answer.micropython or "-",
                answer.native_arch or "-",
                answer.edgelora or "-",
                answer.detail or answer.machine or device.description,
            )
            for device, answer in found
        ],
    )


def cmd_doctor(args: argparse.Namespace) -> None:
    """Checks this computer and its boards, and says how to mend what is wrong; fails if anything is."""
    from .doctor import examine

    checks = examine(args.port, args.interrupt)
    problems = [check.what for check in checks if check.state == "problem"]
    if args.json:
        emit([asdict(check) for check in checks])
    else:
        for check in checks:
            print(f"{check.state:8} {check.what}: {check.detail}")
            if check.remedy:
                print(f"{'':8} -> {check.remedy}")
    if problems:
        raise WorkflowError(f"{len(problems)} to mend: {', '.join(problems)}")
    note(
        "all is well, but for what is missing" if any(c.state == "missing" for c in checks) else "all is well",
        args.json,
    )


def cmd_boards(args: argparse.Namespace) -> None:
    """Boards this project knows, and what was verified on each, and where; --json has all of their profiles."""
    boards = [load_board(name) for name in list_boards()]
    if args.json:
        return emit([_plain(asdict(board)) for board in boards])
    verified = [field.name for field in fields(Verified)]
    console.table(
        ("board", "chip", "core", "arena", *(name.replace("_", " ") for name in verified)),
        [
            (b.name, b.chip, b.core, console.size(b.arena_bytes), *(getattr(b.verified, name) for name in verified))
            for b in boards
        ],
    )


def cmd_push(args: argparse.Namespace) -> None:
    """Copies a file to the board, whole or not at all."""
    content = args.file.read_bytes()
    path = args.path or "/" + args.file.name
    with _link(args) as link, console.progress("push", args.json) as progress:
        started = time.monotonic()
        link.put(path, content, lambda done, total: progress(done, total, "bytes"))
        seconds = time.monotonic() - started
    _print(
        args,
        {"path": path, "bytes": len(content), "seconds": round(seconds, 3)},
        f"{path}: {len(content)} bytes in {seconds:.2f} s",
    )


def cmd_pull(args: argparse.Namespace) -> None:
    """Copies a file from the board."""
    with _link(args) as link, console.progress("pull", args.json) as progress:
        content = link.get(args.path, lambda done, total: progress(done, total, "bytes"))
    target = args.file or Path(args.path.rpartition("/")[2])
    formats.write_atomic(target, content)
    _print(args, {"file": str(target), "bytes": len(content)}, f"{target}: {len(content)} bytes")


# ---- learning --------------------------------------------------------------------------------------------------------


def cmd_personalize(args: argparse.Namespace) -> None:
    """Trains an adapter on the board from somebody's samples, and writes a report."""
    base = load_base(args.model)
    recipe = _planned(args, base)
    train_part, test_part = load_part(args.data, "train"), load_part(args.test or args.data, "test")
    samples, test = base.samples(train_part), base.samples(test_part)
    args.output.mkdir(parents=True, exist_ok=True)
    if not args.resume:
        (args.output / "metrics.jsonl").unlink(missing_ok=True)
    with (
        _link(args) as link,
        console.progress("personalize", args.json) as progress,
        Metrics(args.output / "metrics.jsonl") as metrics,
    ):
        run = personalize_board(link, base, samples, test, recipe, metrics, progress, args.resume)
        hello = link.hello()
    baseline = float_baseline(pretrain.load_net(args.net), train_part, test_part, recipe) if args.net else None
    identical = check_identical(base, samples, recipe, run)
    report = make_report(base, samples, test, recipe, run, hello, baseline, args.data, identical)
    formats.write_atomic(args.output / "adapter.ela", run.run.adapter)
    _print_report(args, report, write_report(report, args.output))


def cmd_eval(args: argparse.Namespace) -> None:
    """Accuracy on the board, or on the host twin, with or without an adapter."""
    base = load_base(args.model)
    test = base.samples(load_part(args.data, "test"))
    adapter = load_adapter(args.adapter, base) if args.adapter else None
    ranks = adapter_ranks(base, adapter)
    if args.twin:
        session = twin.Session(base.elm, ranks, "infer", 1, frames=test.frames)
        session.use(adapter)
        predicted = session.predict(test.x)
    else:
        with _link(args) as link, console.progress("eval", args.json) as progress:
            board = BoardLearner(link, base, Recipe(), progress, ranks, test.frames)
            board.use(adapter)
            predicted = board.predict(test.x)
    accuracy = float(np.mean(predicted == test.y))
    where = "host twin" if args.twin else "board"
    result = {
        "accuracy": round(accuracy, 4),
        "samples": len(test),
        "where": where,
        "adapter": str(args.adapter) if adapter else None,
    }
    _print(args, result, f"accuracy {accuracy:.4f} on {len(test)} windows ({where})")


def cmd_train_adapter(args: argparse.Namespace) -> None:
    """Trains an adapter on this computer exactly as a board would: on the host twin, to the same bytes."""
    from .train_adapter import train_adapter

    base, spec = load_base(args.model), args.test or args.data
    samples, test = base.samples(load_part(args.data, "train")), base.samples(load_part(spec, "test"))
    with console.progress("train-adapter", args.json) as progress:
        result = train_adapter(base, samples, test, _planned(args, base), args.tries, progress, args.wide)
    content = result.run.state if args.save_state else result.run.adapter
    formats.write_atomic(args.output, content)
    before, after = (float(np.mean(predicted == test.y)) for predicted in (result.before, result.after))
    summary = {
        "output": str(args.output),
        "bytes": len(content),
        "base_id": base.base_id,
        "accuracy_before": round(before, 4),
        "accuracy_after": round(after, 4),
        "samples": len(samples),
        "test_samples": len(test),
        "tested_on": spec,
        "seed": result.recipe.seed,
        "learning_rate": result.recipe.learning_rate,
        "tries": [asdict(one) for one in result.tries],
        "losses": result.run.losses,
        "epoch_losses": result.run.epoch_losses,
    }
    note_of_tries = f"; seed {summary['seed']}, rate {summary['learning_rate']}" if result.tries else ""
    text = f"accuracy {before:.4f} -> {after:.4f} on {len(test)} windows of {spec}"
    _print(args, summary, f"{args.output}: {len(content)} bytes, {text}{note_of_tries}")


def cmd_import_adapter(args: argparse.Namespace) -> None:
    """Makes a LoRA checkpoint of PEFT, trained on the base's float original, into a .ela for the base."""
    from . import peft

    base = load_base(args.model)
    part = load_part(args.data, "train") if args.data else None
    if part:
        base.samples(part)
    modules = peft.load_checkpoint(args.checkpoint)
    result = peft.import_adapter(base.elm, modules, dict(args.map), args.flatten, args.rank, part.x if part else None)
    content = formats.pack_adapter(result.adapter, args.output.name)
    formats.write_atomic(args.output, content)
    if args.json:
        fits = [asdict(fit) for fit in result.fits]
        return emit(
            _plain({"output": args.output, "bytes": len(content), "agreement": result.agreement, "layers": fits})
        )
    console.table(
        ("op", "module", "rank", "t_shift", "branch_shift", "factors", "error of weights", "of sums", "largest t"),
        [
            (f.op, f.module, f.rank, f.t_shift, f.branch_shift, f.factors, f"{f.weight_error:.2%}", *_on_data(f))
            for f in result.fits
        ],
    )
    agrees = "" if result.agreement is None else f"; predicts as unrounded for {result.agreement:.2%} of the data"
    print(f"\n{args.output}: {len(content)} bytes{agrees}")


def _on_data(fit: Any) -> tuple[object, object]:
    return ("", "") if fit.branch_error is None else (f"{fit.branch_error:.2%}", fit.t_peak)


def cmd_export_adapter(args: argparse.Namespace) -> None:
    """Makes a .ela into a LoRA checkpoint of PEFT in float32."""
    from . import peft

    base = load_base(args.model)
    adapter = formats.unpack_adapter(load_adapter(args.adapter, base), base.model, name=args.adapter.name)
    path = peft.export_adapter(adapter, base.model, args.output, dict(args.map), args.flatten, args.conv1d)
    layers = [layer.op for layer in adapter.layers]
    _print(args, {"output": str(path), "ops": layers}, f"{path}: {len(layers)} layers")


def cmd_report(args: argparse.Namespace) -> None:
    """Makes the HTML page of a run anew from its report.json."""
    report = Report.from_json((args.folder / "report.json").read_text())
    _print_report(args, report, write_report(report, args.folder))


def cmd_demo(args: argparse.Namespace) -> None:
    """The whole way: pretrain, quantize, plan, build, flash, personalize on the board, report."""
    recipe = _recipe(args, DEMO_RECIPE)
    report, path = demo_har(args.board, args.subject, recipe, args.output, args.port, quiet=args.json)
    _print_report(args, report, path)


def _print_report(args: argparse.Namespace, report: Report, path: Path) -> None:
    if args.json:
        return emit(_plain(asdict(report) | {"report": str(path)}))
    baseline = (
        "" if report.float_lora_accuracy is None else f"  (float LoRA on the host {report.float_lora_accuracy:.1%})"
    )
    print(f"accuracy {report.base_accuracy:.1%} -> {report.adapted_accuracy:.1%}{baseline}")
    print(f"host twin identical: {'yes' if report.host_twin_identical else 'NO'}")
    heap = "" if report.free_heap_bytes is None else f", {report.free_heap_bytes} bytes of heap left"
    print(f"arena {report.arena_bytes} bytes, adapter {report.adapter_bytes} bytes{heap}")
    for what, us in (
        ("inference", report.infer_us),
        ("training step", report.train_step_us),
        ("swap", report.swap_us),
        ("swap from flash", report.swap_flash_us),
    ):
        if us is not None:
            print(f"{what}: {us:.0f} us")
    print(f"report: {path}")


# ---- measuring -------------------------------------------------------------------------------------------------------


def cmd_bench_learning(args: argparse.Namespace) -> None:
    """Every person or voice left out in turn, by the host twin, beside float LoRA."""
    from .bench_learning import TASKS, bench_learning

    task = TASKS[args.task]
    unknown = set(args.subjects or ()) - set(task.subjects)
    if unknown:
        raise ValueError(f"subject {', '.join(sorted(unknown))}: choose from {', '.join(task.subjects)}")
    recipe = _recipe(args, task.recipe)
    with console.progress("learning", quiet=False) as progress:
        result = bench_learning(args.task, recipe, args.subjects, range(args.seeds or task.seeds), progress)
    if args.json:
        return emit(result.as_json())
    keys = tuple(result.mean)
    console.table(
        ("subject", "seed", *keys),
        [(run.subject, run.seed, *[f"{getattr(run, key):.3f}" for key in keys]) for run in result.runs],
    )
    print("\nmean  " + "  ".join(f"{key} {value:.4f}" for key, value in result.mean.items()))


def cmd_bench_qat(args: argparse.Namespace) -> None:
    """Adapters of low rank trained in integers against float LoRA that is rounded to integers afterwards."""
    from .bench_learning import TASKS
    from .bench_qat import bench_qat

    recipes = [replace(_recipe(args, TASKS[args.task].recipe), rank=rank) for rank in args.ranks]
    with console.progress("qat", quiet=False) as progress:
        result = bench_qat(args.task, recipes, args.subjects, range(args.seeds), progress)
    if args.json:
        return emit(_plain(result.as_json()))
    columns = list(result.means.values())
    console.table(
        ("mean", *[f"rank {rank}" for rank in result.means]),
        [(key, *[f"{column[key]:.4f}" for column in columns]) for key in columns[0]],
    )
    print()
    console.table(
        ("gain of", *[f"rank {rank}" for rank in result.gains]),
        [
            (key, *[f"{gain[key][0]:+.4f} +- {gain[key][1]:.4f}" for gain in result.gains.values()])
            for key in next(iter(result.gains.values()))
        ],
    )


def cmd_bench_ranks(args: argparse.Namespace) -> None:
    """Ranks chosen layer by layer against the same rank everywhere, at equal adapter bytes."""
    from .bench_learning import TASKS
    from .bench_ranks import bench_ranks

    task = TASKS[args.task]
    modes = (args.mode,) if args.mode else MODES
    seeds = range(args.seeds or task.seeds)
    recipe = _recipe(args, task.recipe)
    with console.progress("ranks", quiet=False) as progress:
        result = bench_ranks(
            args.task, recipe, args.subjects, seeds, modes, args.ranks, args.held_out, progress, args.workers
        )
    if args.json:
        return emit(_plain(result.as_json()))
    console.table(
        ("mode", "bytes of rank", "method", "uniform", "planned", "difference"),
        [
            (c.mode, c.rank or "all", c.method, f"{c.uniform:.4f}", f"{c.planned:.4f}", _differs(c))
            for c in result.comparisons
        ],
    )


def _differs(one: Any) -> str:
    return f"{one.difference:+.4f} +- {one.standard_error:.4f}"


def cmd_bench_swap(args: argparse.Namespace) -> None:
    """Time to switch adapters: in RAM, and from a file in flash."""
    from .bench_swap import bench_swap

    with _link(args) as link:
        result = bench_swap(link)
    if args.json:
        return emit(asdict(result))
    print(f"in RAM: {result.ram_us:.1f} us")
    print(f"from a flash file of {result.flash_bytes} bytes, CRC and base checked: {result.flash_us:.1f} us")
    print(f"the same, opened by its path: {result.path_us:.1f} us")


def cmd_bench_kernels(args: argparse.Namespace) -> None:
    """Cycles of every kernel, the portable one and the board's own."""
    from .bench_kernels import bench_kernels

    clock_mhz = _clock_mhz(args.board)
    with _bench_board(args) as link, console.progress("kernels", args.json) as progress:
        times = bench_kernels(link, clock_mhz, progress)
    if args.json:
        return emit({"board": args.board, "kernels": [asdict(t) for t in times]})
    console.table(
        ("op", "shape", "variant", "MACs", "cycles", "cycles/MAC"),
        [(t.op, t.shape, t.variant, t.macs, t.cycles, f"{t.cycles_per_mac:.2f}") for t in times],
    )


def cmd_bench_model(args: argparse.Namespace) -> None:
    """Cycles of a network, inference and training step, layer by layer."""
    from .bench_learning import keyword_elm
    from .bench_model import bench_model

    clock_mhz, recipe = _clock_mhz(args.board), Recipe(rank=args.rank, placement=args.placement)
    elm = load_base(args.model).elm if args.model else keyword_elm()
    name = args.model.name if args.model else "keyword DS-CNN"
    with _bench_board(args) as link, console.progress("network", args.json) as progress:
        times = bench_model(link, elm, recipe, clock_mhz, progress)
    if args.json:
        return emit({"board": args.board, "model": name} | asdict(times) | {"ratios": times.ratios})
    console.table(
        ("op", "kind", "output", "rank", "MACs", "cycles", "with adapter", "backward"),
        [
            (t.op, t.kind, "x".join(map(str, t.output)), t.rank, t.macs, t.base, t.adapted, t.backward or "")
            for t in times.layers
        ],
    )
    print(f"\n{name}: {times.macs:,} MACs, rank {times.rank} on {times.placement}, cycles:")
    for what in ("infer", "infer_adapted", "infer_merged", "train", "train_cached"):
        cycles = getattr(times, what)
        print(f"{what}: {cycles:,} ({cycles / times.clock_mhz / 1000:.2f} ms, {cycles / times.infer:.3f} x infer)")
    print(
        f"merged outputs differ by at most {times.merged_difference} steps; weights in RAM: {times.merge_bytes} bytes"
    )
    print(f"arena {times.arena_bytes} bytes; with the cache {times.cached_arena_bytes}, {times.feature_bytes} a sample")


def cmd_bench_cost(args: argparse.Namespace) -> None:
    """What is predicted of networks without a board, beside what a board measures."""
    from .bench_cost import calibrate, check_all

    board = load_board(args.board)
    with _bench_board(args) as link:
        if args.fit:
            with console.progress("kernels", args.json) as progress:
                fitted = calibrate(link, board, progress)
            formats.write_atomic(cycles_path(board.chip), fitted.to_toml(board.name).encode())
            console.note(
                f"{cycles_path(board.chip).name}: {fitted.measurements} measurements of {fitted.networks} networks, "
                f"off by {fitted.rms_error:.1%} (root mean square), at most {fitted.largest_error:.1%}",
                args.json,
            )
        with console.progress("networks", args.json) as progress:
            checks = check_all(link, board, progress)
    if args.json:
        return emit({"board": args.board, "networks": [_plain(check.as_json()) for check in checks]})
    console.table(
        ("network", "mode", "ranks", "arena", "predicted", "inference", "predicted", "off", "step", "predicted", "off"),
        [
            (
                c.network,
                c.mode + (", again" if any(c.recompute) else ""),
                " ".join(map(str, c.ranks)),
                c.arena,
                c.predicted_arena,
                c.infer,
                c.predicted_infer,
                f"{c.infer_error:+.1%}",
                c.step,
                c.predicted_step,
                f"{c.step_error:+.1%}",
            )
            for c in checks
        ],
    )


def _clock_mhz(board: str) -> float:
    clock = load_board(board).clock_hz
    if clock is None:
        raise ValueError(
            f"{board} has no clock of its own to count cycles by: choose a microcontroller, --board virtual-pico"
        )
    return clock / 1e6


@contextlib.contextmanager
def _bench_board(args: argparse.Namespace) -> Iterator[Link]:
    """A link to the board that is there, or to a virtual one started for the purpose."""
    if args.port or not load_board(args.board).is_virtual:
        with _link(args) as link:
            board, chip = link.hello().board, load_board(args.board).chip
            if chip not in board:
                raise ValueError(f"the board is {board}, {args.board} has an {chip}: name the right one with --board")
            yield link
        return
    with tempfile.TemporaryDirectory() as state:
        image = Path(state) / "bench.uf2"
        handle = start_board(args.board, build_firmware(args.board, {}, image), Path(state) / "board", quiet=True)
        try:
            with Link.connect(handle.port) as link:
                yield link
        finally:
            handle.stop()


def cmd_bench_link(args: argparse.Namespace) -> None:
    """Pushes a file over the link and by `mpremote cp`, in one run."""
    from .bench_link import bench_link

    result = bench_link(pick_port(args.port), args.size)
    _print(args, _plain(asdict(result)), "\n".join(f"{key}: {value}" for key, value in asdict(result).items()))


# ---- arguments -------------------------------------------------------------------------------------------------------


def _link(args: argparse.Namespace) -> Link:
    return Link.connect(pick_port(args.port))


def _planned(args: argparse.Namespace, base: Base) -> Recipe:
    """The recipe of --plan, or the default one, changed as the command line says."""
    if not args.plan:
        return _recipe(args)
    decided = [name for name in PLANNED if getattr(args, name) is not None]
    if decided:
        names = ", ".join(name.removeprefix("given_").replace("_", "-") for name in decided)
        raise ValueError(f"the plan decides {names}: leave them out, or plan again with them")
    return _recipe(args, load_plan(args.plan, base.elm))


def _recipe(args: argparse.Namespace, default: Recipe = DEFAULTS) -> Recipe:
    """`default`, changed as the command line says."""
    given = {field.name: value for field in fields(Recipe) if (value := getattr(args, field.name, None)) is not None}
    return replace(default, **given)


def _size(text: str) -> int:
    """Bytes, or K for 1024."""
    number = text.upper().removesuffix("B").removesuffix("K")
    if not number.isdigit() or not int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give bytes, or 48K")
    return int(number) * (1024 if number != text.upper().removesuffix("B") else 1)


def _mapping(text: str) -> tuple[str, int]:
    """A module's name and an op's index."""
    module, _, op = text.rpartition("=")
    if not module or not op.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: give MODULE=OP, for example conv1=0")
    return module, int(op)


def _labels(text: str) -> list[str]:
    """Names with commas between them, or a file with one a line."""
    lines = Path(text).read_text().splitlines() if Path(text).is_file() else text.split(",")
    return [line.strip() for line in lines if line.strip()]


def _plain(value: Any) -> Any:
    """JSON's own types: NumPy scalars, paths and tuples turned into theirs."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def _print(args: argparse.Namespace, result: Any, text: str) -> None:
    if args.json:
        emit(result)
    else:
        print(text)


def _add_recipe(parser: argparse.ArgumentParser, default: Recipe = DEFAULTS) -> None:
    group = parser.add_argument_group("adapter and training")
    group.add_argument("--rank", type=int, help=f"rank of the adapter of every adapted layer ({default.rank})")
    group.add_argument(
        "--placement",
        choices=PLACEMENTS,
        help="adapt all conv and dense layers; dense ones and 1x1 convolutions; the last two of these; or the last "
        f"({default.placement})",
    )
    group.add_argument(
        "--ram", type=_size, help="what the arena may take, e.g. 48K; activations are computed again if need be"
    )
    group.add_argument(
        "--cache",
        choices=CACHES,
        help=f"where to keep what the layers below the lowest adapter make of a sample ({default.cache})",
    )
    group.add_argument(
        "--threshold",
        type=int,
        help=f"leave elements below this many 2048ths of a gradient's average out of updates ({default.threshold})",
    )
    group.add_argument(
        "--mode",
        choices=("frozen_a", "trainable_a"),
        help=f"train only B, A comes from the seed (less RAM), or both ({default.mode})",
    )
    group.add_argument("--micro-batch", type=int, metavar="N", help=f"samples an update ({default.micro_batch})")
    group.add_argument(
        "--momentum",
        dest="given_momentum",
        type=int,
        metavar="SHIFT",
        help=f"running mean of the gradient over about 2^SHIFT updates; 0: none (by mode: {MOMENTA})",
    )
    group.add_argument(
        "--learning-rate",
        dest="given_rate",
        type=int,
        metavar="RATE",
        help=f"int8 steps / 8192 for an average gradient, falling to 0 (by mode: {LEARNING_RATES})",
    )
    group.add_argument("--epochs", type=int, help=f"times through the samples ({default.epochs})")
    group.add_argument("--seed", type=int, help=f"of A, the order of samples and rounding ({default.seed})")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", type=Path, help="train as a file says that `edgelora plan -o` made")


def _add_peft(parser: argparse.ArgumentParser) -> None:
    from .peft import FLATTENINGS

    parser.add_argument(
        "--map",
        type=_mapping,
        action="append",
        default=[],
        metavar="MODULE=OP",
        help="which op a module is; repeatable",
    )
    parser.add_argument(
        "--flatten",
        choices=FLATTENINGS,
        default=FLATTENINGS[0],
        help="order in which PyTorch's network flattens what a Linear layer reads (%(default)s)",
    )


def _add_interrupt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interrupt", action="store_true", help="stop programs that run on boards, to ask the boards")


def _add_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", help="serial port; found by itself when one board is there")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgelora",
        description="Personalize INT8 networks on a microcontroller with low-rank adapters.",
        epilog="The whole way in one command: edgelora demo har. Each step is a command too; see edgelora STEP --help.",
    )
    parser.add_argument("--version", action="version", version=f"edgelora {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Command, parent: Any = commands) -> argparse.ArgumentParser:
        sub = parent.add_parser(name, help=run.__doc__, description=run.__doc__)
        sub.add_argument(
            "--json", action="store_true", help="print the result as JSON, and nothing else, to standard output"
        )
        sub.set_defaults(run=run)
        return sub

    p = add("pretrain", cmd_pretrain)
    p.add_argument("data", help=DATA_HELP)
    p.add_argument("-o", "--output", type=Path, default=Path("base.npz"), help="the float network (%(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--epochs",
        type=int,
        help=f"times through the data ({pretrain.MOTION_EPOCHS} for time series, {pretrain.SPEECH_EPOCHS} for words)",
    )
    p = add("quantize", cmd_quantize)
    p.add_argument("net", type=Path, help="a float network made by pretrain")
    p.add_argument("--data", required=True, help="calibration windows: " + DATA_HELP)
    p.add_argument("-o", "--output", type=Path, default=Path("base.elm"), help="the INT8 model (%(default)s)")
    p = add("import", cmd_import)
    p.add_argument("model", type=Path, help="an INT8 .tflite file; or a .keras or .h5 file, with edgelora[keras]")
    p.add_argument("-o", "--output", type=Path, default=Path("base.elm"), help="the INT8 model (%(default)s)")
    p.add_argument("--data", type=Path, help="a .npz with inputs x, real or int8, to calibrate adapters on (noise)")
    p.add_argument("--labels", type=_labels, default=[], help="names A,B,... of the outputs, or a file, one a line")
    p.add_argument("--loss", choices=LOSSES, help="what training will lower (as the network's end suggests)")
    p = add("plan", cmd_plan)
    p.add_argument("model", type=Path, help="a .elm file")
    p.add_argument("--board", default="rpi_pico", help="see `edgelora boards` (%(default)s)")
    p.add_argument("--data", help="choose ranks and mode on the person's samples: " + DATA_HELP)
    p.add_argument("--adapter", type=_size, metavar="SIZE", help="what the adapter file may take, e.g. 4K (no limit)")
    p.add_argument("--method", choices=METHODS, default=METHODS[0], help="to tell layers' worth (%(default)s)")
    p.add_argument("-o", "--output", type=Path, help="save the plan, for --plan of personalize and train-adapter")
    p.add_argument("--report", type=Path, help="write the choice as an HTML page")
    _add_recipe(p)
    p.epilog = (
        "With --data and a budget: edgelora plan base.elm --board rpi_pico --ram 48K --adapter 8K --data user.npz "
        "-o plan.json, then edgelora personalize base.elm --data user.npz --plan plan.json."
    )
    p.set_defaults(stopped="stopped; no plan was written")
    p = add("build", cmd_build)
    p.add_argument("--board", default="rpi_pico", help="see `edgelora boards` (%(default)s)")
    p.add_argument("--model", type=Path, help="a .elm to put into ROMFS, where it is used in place")
    p.add_argument("-o", "--output", type=Path, help="the image (firmware.uf2, .bin or .romfs, as the board takes)")
    p = add("sim", cmd_sim)
    p.add_argument("board", help="virtual-pico, virtual-pico-stock, virtual-riscv or unix")
    p.add_argument("--firmware", type=Path, help="image to start with; else what the board's flash holds")
    p.add_argument("--state", type=Path, help="folder of the board's flash (out/boards/BOARD)")
    p.add_argument("--stop", action="store_true", help="unplug it")
    p = add("flash", cmd_flash)
    p.add_argument(
        "image",
        type=Path,
        nargs="?",
        help="what `edgelora build` made, or MicroPython's own image for the board (.uf2, or .bin for ESP32 chips)",
    )
    p.add_argument("--firmware", type=Path, help="the same, by name")
    p.set_defaults(stopped="stopped; the boot loader takes no harm: flash again")
    p.add_argument("--board", help="refuse images for others; see `edgelora boards` (what the image says it is for)")
    p.add_argument("--firmware-only", action="store_true", help="do not install EdgeLoRA onto stock MicroPython next")
    p.add_argument("--read-back", action="store_true", help="compare all bytes in flash, not only hashes (ESP32 chips)")
    p.add_argument(
        "--drive", type=Path, help="the boot loader's volume, for a board without MicroPython (BOOTSEL held at plug-in)"
    )
    _add_port(p)
    p = add("install", cmd_install)
    p.add_argument(
        "--from", dest="packages", type=Path, metavar="DIR", help="folder of an unpacked release (made here if need be)"
    )
    p.set_defaults(stopped="stopped; run it again, it goes on where it was")
    _add_port(p)
    p = add("devices", cmd_devices)
    _add_interrupt(p)
    p = add("doctor", cmd_doctor)
    _add_interrupt(p)
    p.add_argument("--port", help="examine only the board there (all that are found)")
    add("boards", cmd_boards)
    p = add("push", cmd_push)
    p.add_argument("file", type=Path)
    p.add_argument("path", nargs="?", help="on the board (/NAME)")
    _add_port(p)
    p = add("pull", cmd_pull)
    p.add_argument("path", nargs="?", default=ADAPTER_PATH, help="on the board (%(default)s)")
    p.add_argument("file", nargs="?", type=Path, help="here (./NAME)")
    _add_port(p)
    p = add("personalize", cmd_personalize)
    p.add_argument("model", type=Path, help="the .elm on this computer; the board has it, or gets it")
    p.add_argument("--data", required=True, help="the person's samples: " + DATA_HELP)
    p.add_argument("--test", help="samples to test on, if not of --data")
    p.add_argument("--net", type=Path, help="the float network, for a float LoRA baseline in the report")
    p.add_argument("-o", "--output", type=Path, default=Path("out/run"), help="folder of the report (%(default)s)")
    p.add_argument("--resume", action="store_true", help="go on from the board's last checkpoint")
    _add_recipe(p)
    _add_plan(p)
    _add_port(p)
    p = add("train-adapter", cmd_train_adapter)
    p.add_argument("model", type=Path, help="a .elm file")
    p.add_argument("--data", required=True, help="the person's samples: " + DATA_HELP)
    p.add_argument("--test", help="samples to test on, if not of --data")
    p.add_argument("-o", "--output", type=Path, default=Path("user.ela"), help="the adapter (%(default)s)")
    p.add_argument("--save-state", action="store_true", help="with what training needs to go on")
    p.add_argument(
        "--from-rank",
        dest="wide",
        type=int,
        metavar="N",
        help="begin at this higher rank and narrow to --rank: a point better at rank 1 (with --mode trainable_a; takes "
        "twice as long)",
    )
    p.add_argument(
        "--tries",
        type=int,
        default=1,
        metavar="N",
        help="seeds and rates to choose among, by a part of the samples (%(default)s)",
    )
    _add_recipe(p)
    _add_plan(p)
    p.set_defaults(stopped="stopped; no adapter was written")
    p = add("import-adapter", cmd_import_adapter)
    p.add_argument("checkpoint", type=Path, help="a folder with adapter_model.safetensors, or such a file")
    p.add_argument("model", type=Path, help="the .elm of the network that it was trained on")
    p.add_argument("-o", "--output", type=Path, default=Path("user.ela"), help="the adapter (%(default)s)")
    p.add_argument("--data", help="samples that choose how to round: " + DATA_HELP)
    p.add_argument("--rank", type=int, help="approximate by at most this rank (that of the checkpoint)")
    _add_peft(p)
    p = add("export-adapter", cmd_export_adapter)
    p.add_argument("adapter", type=Path, help="a .ela file")
    p.add_argument("model", type=Path, help="the .elm that it is for")
    p.add_argument(
        "-o", "--output", type=Path, required=True, help="a folder, or a .safetensors file; the configuration beside it"
    )
    p.add_argument("--conv1d", action="store_true", help="kernels of height 1 are those of a Conv1d")
    _add_peft(p)
    p = add("eval", cmd_eval)
    p.add_argument("model", type=Path, help="the .elm on this computer")
    p.add_argument("--data", required=True, help=DATA_HELP)
    p.add_argument("--adapter", type=Path, help="a .ela; without: the bare base")
    p.add_argument("--twin", action="store_true", help="on the host twin instead of a board: the same answers")
    _add_port(p)
    p = add("report", cmd_report)
    p.add_argument("folder", type=Path, help="folder with report.json")

    demo = commands.add_parser("demo", help="A whole demonstration", description="Whole demonstrations.")
    demos = demo.add_subparsers(metavar="NAME", required=True)
    p = add("har", cmd_demo, demos)
    p.add_argument("--board", default="virtual-pico", help="a virtual board, or a real one with --port (%(default)s)")
    p.add_argument(
        "--subject", type=int, default=3, choices=data.HAR_SUBJECTS, help="the person to personalize to (%(default)s)"
    )
    p.add_argument(
        "-o", "--output", type=Path, default=Path("out/har"), help="folder for everything it makes (%(default)s)"
    )
    _add_recipe(p, DEMO_RECIPE)
    _add_port(p)

    bench = commands.add_parser("bench", help="Measurements", description="Measurements.")
    benches = bench.add_subparsers(metavar="NAME", required=True)
    p = add("learning", cmd_bench_learning, benches)
    p.add_argument(
        "task", nargs="?", default="har", choices=("har", "kws"), help="people's motion or voices' words (%(default)s)"
    )
    p.add_argument("--subjects", nargs="+", metavar="SUBJECT", help="har: 1 to 6; kws: voices (all)")
    p.add_argument("--seeds", type=int, help="how many (har: 5, kws: 3)")
    _add_recipe(p)
    p.epilog = "Rank, epochs, placement, rates and momentum are the task's own unless given."
    p = add("qat", cmd_bench_qat, benches)
    p.add_argument(
        "task", nargs="?", default="har", choices=("har", "kws"), help="people's motion or voices' words (%(default)s)"
    )
    p.add_argument("--subjects", nargs="+", metavar="SUBJECT", help="har: 1 to 6; kws: voices (all)")
    p.add_argument("--seeds", type=int, default=3, help="how many (%(default)s)")
    p.add_argument("--ranks", type=int, nargs="+", default=[1, 2], metavar="RANK", help="to measure at (1 2)")
    _add_recipe(p)
    p.epilog = "Epochs and placement, of both, and the integer rate and momentum are the task's own unless given."
    p = add("ranks", cmd_bench_ranks, benches)
    p.add_argument(
        "task", nargs="?", default="har", choices=("har", "kws"), help="people's motion or voices' words (%(default)s)"
    )
    p.add_argument("--subjects", nargs="+", metavar="SUBJECT", help="har: 1 to 6; kws: voices (all)")
    p.add_argument("--seeds", type=int, help="how many (har: 5, kws: 3)")
    p.add_argument(
        "--ranks",
        type=int,
        nargs="+",
        default=[1, 2, 4, 8],
        metavar="RANK",
        help="everywhere, whose bytes are the budgets (1 2 4 8)",
    )
    p.add_argument(
        "--held-out", action="store_true", help="judge by a quarter of the training samples instead of the test samples"
    )
    p.add_argument("--workers", type=int, help="processes (as many as cores)")
    _add_recipe(p)
    p.epilog = "Epochs, placement of the same rank, rates and momentum are the task's own unless given."
    _add_port(add("swap", cmd_bench_swap, benches))
    for name, command in (("kernels", cmd_bench_kernels), ("cost", cmd_bench_cost), ("model", cmd_bench_model)):
        p = add(name, command, benches)
        p.add_argument("--board", default="virtual-pico", help="a virtual one is started for it (%(default)s)")
        _add_port(p)
        if name == "cost":
            p.add_argument(
                "--fit", action="store_true", help="measure the kernels anew first, for minutes, and keep that"
            )
    p.add_argument("model", nargs="?", type=Path, help="a .elm (a DS-CNN trained on spoken keywords)")
    p.add_argument("--rank", type=int, default=4, help="of the adapters (%(default)s)")
    p.add_argument("--placement", choices=PLACEMENTS, default="pointwise", help="of the adapters (%(default)s)")
    p = add("link", cmd_bench_link, benches)
    p.add_argument("--size", type=int, default=100 * 1024, help="bytes (%(default)s)")
    _add_port(p)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command; 0, or 1 with one line on standard error that says what to do."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
        return 0
    except KeyboardInterrupt:
        note("\n" + getattr(args, "stopped", "stopped; the board is usable and keeps its last good adapter"))
        return 130
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        note(f"edgelora: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
