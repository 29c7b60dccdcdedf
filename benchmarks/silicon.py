"""`edgelora bench silicon`: what reads of flash cost an RP2040: networks in flash, measured with and without stalls.

Warm: the mean of runs one after another. Cold: the cache is emptied before each run, as after much other code. Ideal:
the same firmware on an emulated chip whose reads of flash never stall.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelora.base.progress import Progress, no_progress
from edgelora.board.build import build_firmware
from edgelora.board.link.raw_repl import RawRepl
from edgelora.board.link.serial_line import SerialLine
from edgelora.board.profiles import load_board
from edgelora.board.romfs import make_romfs
from edgelora.board.sim import virtual_board
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.learn.planning.cost import predict
from edgelora.learn.training.recipe import Settings
from edgelora.model.floatnet.zoo import Transformer, ds_cnn, har_net

from .model import random_adapter
from .networks import Shape, dense_chain, language, network, quantized, tokens

BOARD = "virtual-pico"
AUTOENCODER = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)  # widths of MLPerf Tiny's anomaly detection
RANK = 4
OWN = ("har", "autoencoder", "dscnn")
DRAWN = ("perceptron", "wide layers", "motion", "keywords", "image", "language", "tokens")  # anew by each seed
HELD_OUT_SEEDS = (51, 52, 53, 54)
RUNS = 8  # of as many samples: a micro-batch, as each run of a step has its share of the update
MICRO_BATCH, MOMENTUM = 8, 2
CLOCK_MHZ = 125

# Measures on the board; `FILE`, `RANKS`, `RUNS` and `SYMBOLS` are put before it.
SCRIPT = """
import machine, micropython, random, time, edgelora

@micropython.asm_thumb
def read_words(r0, r1):
    label(AGAIN)
    ldr(r2, [r0, 0])
    add(r0, 4)
    sub(r1, 1)
    bne(AGAIN)

def miss_ns(words=8192):
    took = []
    for start in (0x13000000, 0x20000000):
        then = time.ticks_us()
        read_words(start, words)
        took.append(time.ticks_diff(time.ticks_us(), then))
    return (took[0] - took[1]) * 1000 / words

def sample(model, i):
    x = bytes(random.getrandbits(8) % SYMBOLS for _ in range(model.input_size))
    return x, x if model.target_size else i % model.output_size

def timed(run, samples, cold):
    took = []
    for i in range(RUNS + 1):
        x, y = samples[i % RUNS]
        if cold:
            machine.mem32[0x14000004] = 1
        then = time.ticks_us()
        run(x, y)
        took.append(time.ticks_diff(time.ticks_us(), then))
    return sum(took[1:]) / RUNS

def measure():
    found = {"miss_ns": miss_ns()}
    model = edgelora.Model(FILE, RANKS, "frozen_a", 8)
    model.load(FILE[:-3] + "ela")
    random.seed(1)
    samples = [sample(model, i) for i in range(RUNS)]
    runs = lambda x, y: model.infer(x), lambda x, y: model.train(x, y, 1000)
    for name, run in zip(("infer", "step"), runs):
        found[name] = [timed(run, samples, cold) for cold in (False, True)]
    del model
    model = edgelora.Model(FILE, RANKS, "frozen_a", 8, cores=2)
    model.load(FILE[:-3] + "ela")
    found["two_cores"] = [timed(run, samples, False) for run in runs]
    return found

import json
print(json.dumps(measure()))
"""


@dataclass(frozen=True)
class Times:
    """Milliseconds of one inference or training step."""

    ideal: float
    warm: float
    cold: float


@dataclass(frozen=True)
class Predicted:
    """Milliseconds of one inference or training step, on one core."""

    warm: float
    cold: float


@dataclass(frozen=True)
class NetworkTimes:
    """Of one network. two_cores: milliseconds warm."""

    infer_ms: Times
    step_ms: Times
    infer_two_cores_ms: float
    step_two_cores_ms: float
    infer_predicted_ms: Predicted
    step_predicted_ms: Predicted

    @property
    def errors(self) -> tuple[Predicted, Predicted]:
        """Of the predictions, relative to the measurements."""
        pairs = (self.infer_predicted_ms, self.infer_ms), (self.step_predicted_ms, self.step_ms)
        infer, step = (Predicted(ours.warm / real.warm - 1, ours.cold / real.cold - 1) for ours, real in pairs)
        return infer, step


@dataclass(frozen=True)
class Silicon:
    """miss_cycles: of one read of 4 bytes of flash. networks: by name; held_out: of `held_out`, by name and seed."""

    miss_cycles: float
    networks: dict[str, NetworkTimes]
    held_out: dict[str, NetworkTimes]

    @property
    def predicted_error_worst(self) -> float | None:
        """None without networks of `held_out`."""
        errors = [error for times in self.held_out.values() for error in times.errors]
        return round(max(abs(value) for error in errors for value in (error.warm, error.cold)), 4) if errors else None


def networks() -> dict[str, QuantModel]:
    """The activity network, an autoencoder of 264 K weights, the keyword network of MLPerf Tiny."""
    return {
        "har": quantized(har_net((1, 100, 6), 7, 0)),
        "autoencoder": network(dense_chain(*AUTOENCODER)),
        "dscnn": quantized(ds_cnn((49, 10, 1), 12, 0)),
    }


def held_out(seed: int) -> dict[str, QuantModel]:
    """Networks of shapes that are drawn: also two transformers. Flash decides the time of the first two.

    No constant of the cost model was chosen on those of `HELD_OUT_SEEDS`.
    """
    rng = np.random.default_rng(seed)

    def draw(low: int, high: int, step: int = 4) -> int:
        return step * int(rng.integers(low // step, high // step + 1))

    def transformer() -> Transformer:
        keys = draw(1, 2, 1)
        heads = keys * draw(1, 2, 1)
        return Transformer(2 * heads * draw(3, 6, 1) * 2, draw(1, 2, 1), (heads, keys), draw(24, 96, 1))

    small, classes, first, second = draw(40, 160), draw(4, 20, 1), draw(8, 24), draw(16, 40)
    wide, side = draw(192, 288), draw(16, 28)
    image = (
        Shape("conv", "conv", (side, side, 1), first, (3, 3), (2, 2), fused=True),
        Shape("depthwise", "depthwise", (side // 2, side // 2, first), first, (3, 3), (2, 2), fused=True),
        Shape("conv", "conv", (side // 4, side // 4, first), second, fused=True),
        Shape(
            "average_pool", "average_pool", (side // 4, side // 4, second), second, (side // 4,) * 2, (side // 4,) * 2
        ),
        Shape("dense", "dense", (1, 1, second), classes),
    )
    return {
        "perceptron": network(dense_chain(draw(256, 600), small, draw(40, 120), classes), "cross_entropy"),
        "wide layers": network(dense_chain(draw(96, 240), wide, wide, classes), "cross_entropy"),
        "motion": quantized(har_net((1, draw(60, 160, 1), draw(3, 9, 1)), classes, seed)),
        "keywords": quantized(ds_cnn((draw(30, 60, 1), draw(10, 16, 1), 1), classes, seed)),
        "image": network(list(image), "cross_entropy"),
        "language": language(draw(30, 110, 1), draw(12, 40, 1), transformer(), seed),
        "tokens": tokens(draw(10, 30, 1), draw(3, 9, 1), transformer(), seed),
    }


def bench_silicon(
    seeds: Sequence[int] = HELD_OUT_SEEDS, only: Sequence[str] = (*OWN, *DRAWN), progress: Progress = no_progress
) -> Silicon:
    """Starts virtual Picos, of which some never stall, with the networks in their flash, as many as it holds at a time.

    only: some of `OWN` and `DRAWN`, all by default.
    """
    own = {name: model for name, model in networks().items() if name in only}
    drawn = ((seed, name, model) for seed in seeds for name, model in held_out(seed).items())
    others = {f"{name} {seed}": model for seed, name, model in drawn if name in only}
    models = own | others
    found = dict[bool, dict[str, Any]]({True: {}, False: {}})
    with tempfile.TemporaryDirectory() as folder:
        for number, files in enumerate(_flashfuls({name: _files(name, model) for name, model in models.items()})):
            image = build_firmware(BOARD, files, Path(folder) / f"{number}.uf2")
            on_it = {name: model for name, model in models.items() if f"{name}.elm" in files}
            for ideal in (True, False):
                state = Path(folder) / f"{number}-{ideal}"
                handle = virtual_board.start(BOARD, image, state, ideal_flash=ideal, die_with_parent=True)
                try:
                    for name, times in _measured(handle.port, on_it):
                        found[ideal][name] = times
                        progress(len(found[True]) + len(found[False]), 2 * len(models), name)
                finally:
                    handle.stop()
    miss_ns = next(iter(found[False].values()))["miss_ns"]
    own_times, other_times = ({name: _network_times(found, name, of[name]) for name in of} for of in (own, others))
    return Silicon(round(miss_ns * CLOCK_MHZ / 1000, 1), own_times, other_times)


def _files(name: str, model: QuantModel) -> dict[str, bytes]:
    """A network and a random adapter of it."""
    elm = pack_model(model)
    adapter = random_adapter(elm, _ranks(model), "frozen_a", np.random.default_rng(0))
    return {f"{name}.elm": elm, f"{name}.ela": adapter}


def _flashfuls(networks: Mapping[str, dict[str, bytes]]) -> Iterator[dict[str, bytes]]:
    """The files of the networks, in turn, as many as a board's flash holds."""
    flash = load_board(BOARD).flash
    assert flash
    files: dict[str, bytes] = {}
    for own in networks.values():
        if files and len(make_romfs(files | own)) > flash.romfs_bytes:
            yield files
            files = {}
        files |= own
    yield files


def _ranks(model: QuantModel) -> bytes:
    return bytes(RANK if op.is_matrix else 0 for op in model.ops)


def _network_times(found: Mapping[bool, Mapping[str, Any]], name: str, model: QuantModel) -> NetworkTimes:
    settings = Settings(_ranks(model), "frozen_a", MICRO_BATCH, MOMENTUM, None, 0)
    warm, cold = (
        predict(pack_model(model), settings, load_board(BOARD), in_flash=True, cold=cold) for cold in (False, True)
    )
    assert warm and cold
    predicted = ((warm.infer_us, cold.infer_us), (warm.step_us, cold.step_us))
    return NetworkTimes(
        _times(found, name, "infer"),
        _times(found, name, "step"),
        *(round(us / 1000, 3) for us in found[False][name]["two_cores"]),
        *(Predicted(*(round(us / 1000, 3) for us in of)) for of in predicted),
    )


def _times(found: Mapping[bool, Mapping[str, Any]], name: str, what: str) -> Times:
    warm, cold = found[False][name][what]
    return Times(*(round(us / 1000, 3) for us in (found[True][name][what][0], warm, cold)))


def _measured(port: str, models: Mapping[str, QuantModel]) -> Iterator[tuple[str, dict[str, Any]]]:
    line = SerialLine(port)
    try:
        repl = RawRepl(line, port)
        repl.enter()
        for name, model in models.items():
            symbols = model.symbols or 256
            head = f"FILE, RANKS, RUNS, SYMBOLS = '/rom/{name}.elm', {_ranks(model)!r}, {RUNS}, {symbols}\n"
            yield name, json.loads(repl.run(head + SCRIPT))
        repl.leave()
    finally:
        line.close()
