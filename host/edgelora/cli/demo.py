"""`edgelora demo`: from data to a personalized board, by the same functions as the single commands."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base import streams
from edgelora.board import virtual_boards
from edgelora.board.build import SUFFIXES, build_firmware, program
from edgelora.board.devices import pick_port
from edgelora.board.flash.write import flash
from edgelora.board.installing import install
from edgelora.board.link.client import Link
from edgelora.board.profiles import BoardProfile, load_board
from edgelora.board.resetting import reset
from edgelora.board.sim import virtual_board
from edgelora.board.sim.virtual_board import check_can_run, check_unplugged
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.files import write_atomic
from edgelora.learn.personalize import Personalization, personalize
from edgelora.learn.planning.plan import plan
from edgelora.learn.report.metrics import Metrics
from edgelora.learn.report.record import Report
from edgelora.learn.report.sections import write_report
from edgelora.learn.streaming.decisions import Take, as_heard, as_recorded, hear_all, hear_on_board, record_on_board
from edgelora.learn.training.board.board_paths import HELD_PATH, SAMPLES_PATH
from edgelora.learn.training.board.board_run import RunOptions
from edgelora.learn.training.data.base import Base, WorkflowError, pretrained_har, pretrained_kws
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.board_personalization import Task
from edgelora.model.datasets import dataset
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.datasets.har import HarData, har_takes, load_har
from edgelora.model.datasets.keywords import KwsData, load_kws
from edgelora.model.datasets.speech import check_speech
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.quantization.quantize import quantize_on

from . import console

WINDOWS = "windows from later in the person's recordings, none of which was trained on"
COUNTS = "The board got a sensor's counts, int16. It cut them into windows and made these int8 itself."
WORDS = "words that the voice spoke again, none of which was trained on"
TESTED = 5  # of so many test clips one is heard
TIMES = {
    "rp2": "Times are cycles of an emulated RP2040 at 125 MHz: the same on every run.",
    "qemu": "Times are QEMU's on this computer, which emulates no chip's speed.",
    "unix": "Times are this computer's.",
}


@dataclass(frozen=True)
class Setting:
    """Board and output folder of a demo. port: None for a new virtual board of this profile."""

    profile: BoardProfile
    output: Path
    port: str | None
    quiet: bool

    @property
    def clock(self) -> str:
        """What times of this board are."""
        return TIMES[self.profile.port] if self.profile.is_virtual else "Times are the board's."

    def describe(self, base: Base, recipe: Recipe) -> None:
        streams.note(f"quantized: {len(base.elm)} bytes, base {base.base_id}", self.quiet)
        planned = plan(base.elm, self.profile, recipe)
        streams.note(f"planned: arena {planned.arena_bytes} bytes, adapter {planned.adapter_bytes} bytes", self.quiet)

    @contextlib.contextmanager
    def board(self, base: Base) -> Iterator[str]:
        """Yields the port of the board, flashed with the base; a virtual one is unplugged at the end."""
        profile, output, port, quiet = self.profile, self.output, self.port, self.quiet
        handle = None
        try:
            if port is None:
                firmware = make_firmware(profile, base, output, quiet)
                handle = start_board(profile.name, firmware, state_of(profile, output), quiet)
                port = handle.port
            elif not profile.stock:
                image = make_firmware(profile, base, output, quiet)
                with console.progress("flash", quiet) as progress:
                    flash(port, image, progress)
            if profile.stock:
                with console.progress("install", quiet) as progress:
                    install(port, progress=progress)
            yield port
        finally:
            if handle:
                handle.stop()

    def recorded(self, link: Link, base: Base, takes: Sequence[Take], twins: Samples) -> None:
        """Lets the board make training and held-out samples from these takes; they equal the twin's."""
        held = dataset.held_out(twins.y)
        for path, mine, what in ((SAMPLES_PATH, ~held, "record"), (HELD_PATH, held, "record test samples")):
            with console.progress(what, self.quiet) as progress:
                record_on_board(link, base, path, list(itertools.compress(takes, mine)), progress)
            part = twins.part(mine)
            if not link.holds(path, pack_samples(part.x, part.y, None, base_id(base.elm))):
                raise WorkflowError("the board makes other samples of these counts than the host twin: flash it again")

    def personalized(
        self, link: Link, base: Base, task: Task, recipe: Recipe, ask: Callable[[], NDArray[Any]] | None = None
    ) -> Personalization:
        with (
            console.progress("personalize on the board", self.quiet) as progress,
            Metrics(self.output / "metrics.jsonl", fresh=True) as metrics,
        ):
            return personalize(base, task, recipe, link, RunOptions(metrics, progress, ask=ask), self.output)

    def reported(
        self, done: Personalization, net: FloatNet, data: HarData | KwsData, note: str = ""
    ) -> tuple[Report, Path]:
        """Adds the float LoRA baseline to the report, and writes the page."""
        with console.step("float LoRA, for comparison", self.quiet):
            done.add_float_lora(net, data.train, data.test)
        report = done.report
        report.board = self.profile.name
        if self.profile.is_virtual:
            report.notes[0] = TIMES[self.profile.port]
        if note:
            report.notes.insert(1, note)
        return report, write_report(report, self.output)


def set_up(board: str, output: Path, port: str | None, quiet: bool) -> Setting:
    """Raises errors that would otherwise stop a demo later: no board, no firmware, or no emulator."""
    profile = load_board(board)
    if profile.is_virtual and port is None:
        check_virtual(profile, state_of(profile, output), quiet)
    else:
        port = pick_port(port)
        if not profile.stock:
            program(profile, lambda line: streams.note(line, quiet))
    output.mkdir(parents=True, exist_ok=True)
    return Setting(profile, output, port, quiet)


def check_virtual(profile: BoardProfile, state: Path, quiet: bool) -> None:
    """Raises an `EdgeloraError` unless a new virtual board can be started in this folder. Its firmware is built."""
    check_can_run(profile.name)
    check_unplugged(state)
    program(profile, lambda line: streams.note(line, quiet))


def state_of(profile: BoardProfile, output: Path) -> Path:
    """The folder of a demo's virtual board."""
    return output / f"{profile.name}.board"


def demo_har(
    board: str, subject: int, recipe: Recipe, output: Path, port: str | None = None, quiet: bool = False
) -> tuple[Report, Path]:
    """Personalizes activity recognition on a board to `subject`, a person unseen by the base.

    The board gets raw counts of a motion sensor. Its pipeline makes the training samples and the test windows. A
    virtual board is started, flashed through its drive, and unplugged at the end; a real one is found or named by
    `port`. Stock firmware, which a real board must have already, gets EdgeLoRA installed. All files are in `output`.
    Returns the report and its page.
    """
    here = set_up(board, output, port, quiet)
    with console.step(f"data har:{subject}", quiet):
        har = load_har(subject)
    with console.progress("pretrain on the other five people", quiet) as progress:
        net = pretrained_har(subject, recipe.seed, progress)
    with console.step("quantize", quiet):
        base = make_base(net, har.pretrain, output / "har.elm")
    here.describe(base, recipe)
    train, later = ([Take(*take) for take in har_takes(subject, part)] for part in ("train", "test"))
    task = Task(as_recorded(base, train), as_heard(base, later), f"person {subject}", WINDOWS)
    with here.board(base) as at, Link.connect(at) as link:
        here.recorded(link, base, train, task.samples)
        done = here.personalized(link, base, task, recipe, functools.partial(hear_all, link, later))
    return here.reported(done, net, har, COUNTS)


def demo_keywords(
    board: str, voice: str, recipe: Recipe, output: Path, port: str | None = None, quiet: bool = False
) -> tuple[Report, Path]:
    """Personalizes keyword spotting on a board, from sound, to a voice unseen by the base.

    The board gets sound as from a microphone. Its front end makes the training samples. After a reset it is tested on
    held-out words. See `demo_har` for the rest.
    """
    check_speech()
    here = set_up(board, output, port, quiet)
    with console.step(f"{voice} speaks", quiet):
        data = load_kws(voice)
        train, test = ([Take(*take) for take in data.takes(part)] for part in ("train", "test"))
        test = test[::TESTED]
    with console.progress("pretrain on other voices, minutes the first time", quiet) as progress:
        net = pretrained_kws(recipe.seed, progress)
    with console.step("quantize", quiet):
        base = make_base(net, data.pretrain, output / "keywords.elm")
    here.describe(base, recipe)
    task = Task(as_recorded(base, train), as_recorded(base, test), f"voice {voice}", WORDS)
    with here.board(base) as at:
        with Link.connect(at) as link:
            here.recorded(link, base, train, task.samples)
            done = here.personalized(link, base, task, recipe)
        with console.step("reset", quiet):
            reset(at)
        with Link.connect(at) as link, console.progress("stream held-out words", quiet) as progress:
            again = hear_on_board(link, base, done.adapter, test, progress)
            same = int(np.sum(again == done.run.after))
            if same < len(test):
                link.store_activate(None)
                link.use(None)
    streams.note(f"after a reset, from sound: {same} of {len(test)} decisions as before it", quiet)
    if same < len(test):
        done = done.differing()
    return here.reported(done, net, data)


def make_base(net: FloatNet, data: Dataset, path: Path) -> Base:
    """Quantizes a float base and writes its `.elm`."""
    model = quantize_on(net, data)
    elm = pack_model(model, path.name)
    write_atomic(path, elm)
    return Base(path.name, elm, model)


def make_firmware(profile: BoardProfile, base: Base, folder: Path, quiet: bool = False) -> Path:
    """Firmware with the base, or stock firmware, which gets the base over the link."""
    files = {} if profile.stock else {base.name: base.elm}
    image = folder / f"{profile.name}{SUFFIXES[profile.port]}"
    return build_firmware(profile.name, files, image, lambda line: streams.note(line, quiet))


def start_board(
    board: str, firmware: Path, state: Path, quiet: bool, ideal_flash: bool = False
) -> virtual_boards.SimHandle:
    """Starts a new virtual board and flashes it, a Pico through its drive. ideal_flash: as in `virtual_board.start`.

    An earlier board in `state` is erased: its adapter would otherwise be active and be compared with this run's.
    """
    with console.step(f"start {board}", quiet):
        virtual_board.discard(state)
        if load_board(board).port != "rp2":
            handle = virtual_board.start(board, firmware, state, die_with_parent=True)
        else:
            handle = virtual_board.start(
                board, None, state, bootloader=True, ideal_flash=ideal_flash, die_with_parent=True
            )
            flash(handle.drive, firmware)
    streams.note(f"{board} runs on {handle.port}", quiet)
    return handle
