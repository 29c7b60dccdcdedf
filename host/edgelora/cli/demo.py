"""`edgelora demo`: the whole way, every step the one its own command runs."""

from __future__ import annotations

from pathlib import Path

from .. import datasets, floatnet, formats, quantization, sim, streams, virtual_boards
from ..boards import SUFFIXES, BoardProfile, build_firmware, install, load_board, pick_port
from ..boards.flash import flash
from ..formats import write_atomic
from ..link import Link
from ..planning import plan
from ..report import Metrics, Report, make_report, write_report
from ..training import Base, Recipe, float_baseline, personalize_board, pretrained_har, repeat_on_twin
from . import console

TESTED_ON = "windows from later in the person's recordings, none of which was trained on"
TIMES = {
    "rp2": "Times are cycles of an emulated RP2040 at 125 MHz: the same on every run.",
    "qemu": "Times are QEMU's on this computer, which emulates no chip's speed.",
    "unix": "Times are this computer's.",
}


def demo_har(
    board: str, subject: int, recipe: Recipe, output: Path, port: str | None = None, quiet: bool = False
) -> tuple[Report, Path]:
    """Personalizes activity recognition to `subject`, whom the base has never seen, on a board.

    A virtual board is started, flashed through its drive, and unplugged at the end; a real one is found or named by
    `port`. Stock firmware, which a real board must have already, gets EdgeLoRA installed. Everything is left in
    `output`. Returns the report and its page.
    """
    profile = load_board(board)
    output.mkdir(parents=True, exist_ok=True)
    with console.step(f"data har:{subject}", quiet):
        har = datasets.load_har(subject)
    with console.progress("pretrain on the other five people", quiet) as progress:
        net = pretrained_har(subject, recipe.seed, progress)
    with console.step("quantize", quiet):
        base = make_base(net, har, output / "har.elm")
    streams.note(f"quantized: {len(base.elm)} bytes, base {base.base_id}", quiet)
    planned = plan(base.elm, profile, recipe)
    streams.note(f"planned: arena {planned.arena_bytes} bytes, adapter {planned.adapter_bytes} bytes", quiet)
    handle = None
    try:
        if profile.is_virtual and port is None:
            firmware = make_firmware(profile, base, output, quiet)
            handle = start_board(board, firmware, output / f"{board}.board", quiet)
            port = handle.port
        else:
            port = pick_port(port)
            if not profile.stock:
                image = make_firmware(profile, base, output, quiet)
                with console.progress("flash", quiet) as progress:
                    flash(port, image, progress)
        if profile.stock:
            with console.progress("install", quiet) as progress:
                install(port, progress=progress)
        samples, test = base.samples(har.train), base.samples(har.test)
        with (
            Link.connect(port) as link,
            console.progress("personalize on the board", quiet) as progress,
            Metrics(output / "metrics.jsonl", fresh=True) as metrics,
        ):
            run = personalize_board(link, base, samples, test, recipe, metrics, progress)
            hello = link.hello()
    finally:
        if handle:
            handle.stop()
    write_atomic(output / "adapter.ela", run.run.adapter)
    with console.step("the same on the host twin, and float LoRA", quiet):
        again = repeat_on_twin(base, test, run)
        baseline = float_baseline(net, har.train, har.test, run.course)
    report = make_report(base, test, run, hello, baseline, f"person {subject}", again, TESTED_ON)
    report.board = board
    if profile.is_virtual:
        report.notes[0] = TIMES[profile.port]
    return report, write_report(report, output)


def make_base(net: floatnet.FloatNet, har: datasets.HarData, path: Path) -> Base:
    """Quantizes a float base and writes its `.elm`."""
    model = quantization.quantize(net, har.pretrain.x)
    model.labels = har.labels
    model.signal = har.pretrain.signal
    elm = formats.pack_model(model, path.name)
    write_atomic(path, elm)
    return Base(path.name, elm, model)


def make_firmware(profile: BoardProfile, base: Base, folder: Path, quiet: bool = False) -> Path:
    """An image with the base in it, or the stock one, which takes its files by the link."""
    files = {} if profile.stock else {base.name: base.elm}
    image = folder / f"{profile.name}{SUFFIXES[profile.port]}"
    return build_firmware(profile.name, files, image, lambda line: streams.note(line, quiet))


def start_board(board: str, firmware: Path, state: Path, quiet: bool) -> virtual_boards.SimHandle:
    """Powers up a virtual board and gets the firmware onto it: a Pico through its drive, as a person would."""
    with console.step(f"start {board}", quiet):
        if load_board(board).port != "rp2":
            handle = sim.start(board, firmware, state, die_with_parent=True)
        else:
            handle = sim.start(board, None, state, bootloader=True, die_with_parent=True)
            flash(handle.drive, firmware)
    streams.note(f"{board} runs on {handle.port}", quiet)
    return handle
