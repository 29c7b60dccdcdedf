"""What transformers take on a Pico: the parts `pico`, `stories` and `cct` of `edgelora bench attention`.

Virtual Picos run the real firmware with bases of random weights in flash, whose reads stall; times are those of the
board's clock. A step is the mean of a micro-batch, its update included, and what is learned is the twin's to the byte.
Steps and symbols of `pico` are computed on both cores, and those whose names end with ONE_CORE on one.
"""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.board.build import build_firmware
from edgelora.board.link.raw_repl import RawRepl
from edgelora.board.link.serial_line import SerialLine
from edgelora.board.profiles import load_board
from edgelora.board.sim import virtual_board
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import regions
from edgelora.core.twin.session import Session
from edgelora.learn.planning.cost import predict
from edgelora.learn.planning.zeros import samples
from edgelora.learn.training.recipe import MOMENTA, Settings
from edgelora.learn.training.run.recompute import choose_recompute
from edgelora.model.floatnet import zoo

from .model import random_adapter
from .networks import image, language, quantized

BOARD = "virtual-pico"
PARTS = ("pico", "stories", "cct")
FAST_HZ = 200_000_000  # of a Pico whose clock is raised
MICRO_BATCH = 8
RATE = 1000
ONE_CORE = "_one_core"
PICO_ROOM = 152 * 1024  # of an arena in a Pico's heap, with room for the program
MOST_ROOM = 159 * 1024  # of an arena in a heap that holds nothing else but an adapter to save
CONTEXT = 256  # positions of stories260K, the most that attention has
STORIES = zoo.Transformer(channels=64, layers=5, heads=(8, 4), hidden=172)

# On the board; a case's settings are put before each.
STEPS = """
import binascii, json, time
from edgelora import Model, read

def mean(run, xs, size):
    took = 0
    for i in range(RUNS + 1):
        at = i % COUNT
        x, y = xs[at * size : (at + 1) * size], labels[at]
        then = time.ticks_us()
        run(x, y)
        took += i and time.ticks_diff(time.ticks_us(), then)
    return took / RUNS

model = Model("/rom/base.elm", RANKS, MODE, RUNS, MOMENTUM, recompute=AGAIN, cores=CORES)
model.load("/rom/adapter.ela")
x, size, labels = read(SAMPLES), model.input_size, LABELS
if model.target_size:
    y = read("/rom/y")
    labels = [y[i * model.target_size : (i + 1) * model.target_size] for i in range(COUNT)]
found = {"arena": len(model.arena), "infer": mean(lambda x, y: model.infer(x), x, size)}
found["step"] = mean(lambda x, y: model.train(x, y, RATE), x, size)
if CACHED:
    COUNT = 1
    features = read("/rom/features")
    found["cached"] = mean(lambda x, y: model.train_features(x, y, RATE), features, len(features))
found["adapter"] = binascii.crc32(model.save())
print(json.dumps(found))
"""
STROKES = """
import json, machine, time
from edgelora import Model

def strokes():
    took = []
    model.reset()
    for i in range(ROWS):
        then = time.ticks_us()
        model.next((7 * i + i * i // 11) % SYMBOLS)
        took.append(time.ticks_diff(time.ticks_us(), then))
    return took

model = Model("/rom/base.elm", RANKS, "decode", cores=CORES)
if max(RANKS):
    model.use(model.adapter("/rom/adapter.ela"))
found = {"arena": len(model.arena), "usual": strokes()}
machine.freq(HZ)
found["fast"] = strokes()
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Case:
    """A base with adapters, and how they train. room: bytes of the arena, at most; cached: also from features; cores:
    of the Pico; momentum: without, there is none.
    """

    model: QuantModel
    ranks: bytes
    mode: str
    room: int
    cached: bool = False
    cores: int = 1
    momentum: bool = True

    @property
    def elm(self) -> bytes:
        return pack_model(self.model)

    @property
    def settings(self) -> Settings:
        settings = Settings(self.ranks, self.mode, MICRO_BATCH, MOMENTA[self.mode] * self.momentum, None, 0)
        return settings._replace(recompute=choose_recompute(self.elm, settings, self.room, cores=self.cores))


@dataclass(frozen=True)
class Step:
    """Milliseconds, measured and, of one core, predicted, of an inference, a step, and a step from the feature cache;
    bytes of the arena; trained parameters, and how many outputs are computed again.
    """

    infer_ms: float
    step_ms: float
    cached_ms: float | None
    infer_predicted_ms: float | None
    step_predicted_ms: float | None
    cached_predicted_ms: float | None
    arena: int
    trainables: int
    recomputed: int


@dataclass(frozen=True)
class Strokes:
    """Milliseconds of a symbol, the mean over a window and the longest, at the board's clock and at 200 MHz; bytes of
    the arena.
    """

    ms: float
    worst_ms: float
    ms_200: float
    worst_ms_200: float
    arena: int


@dataclass(frozen=True)
class PicoBench:
    """By name. beyond: arenas and predictions of the compact transformer with adapters in both blocks, by mode, on one
    core and with little recomputed, which no Pico's heap holds.
    """

    steps: dict[str, Step]
    strokes: dict[str, Strokes]
    beyond: dict[str, dict[str, float]]

    def step_rows(self) -> list[tuple[object, ...]]:
        """Arenas in bytes, times in ms."""
        return [
            (name, s.arena, s.trainables)
            + tuple("" if ms is None else ms for ms in (s.infer_ms, s.infer_predicted_ms, s.step_ms))
            + tuple("" if ms is None else ms for ms in (s.step_predicted_ms, s.cached_ms, s.cached_predicted_ms))
            for name, s in self.steps.items()
        ]

    def stroke_rows(self) -> list[tuple[object, ...]]:
        return [(name, s.arena, s.ms, s.worst_ms, s.ms_200, s.worst_ms_200) for name, s in self.strokes.items()]

    def as_json(self) -> dict[str, Any]:
        clock_khz = (load_board(BOARD).clock_hz or 0) / 1000
        of_steps = {f"{name}_step": round(step.step_ms * clock_khz) for name, step in self.steps.items()}
        told: dict[str, Any] = {
            "cycles": of_steps,
            "arena": {name: step.arena for name, step in self.steps.items()}
            | {name: strokes.arena for name, strokes in self.strokes.items()},
            "steps": {name: asdict(step) for name, step in self.steps.items()},
        }
        keystrokes = {name: strokes for name, strokes in self.strokes.items() if name.startswith("keystroke")}
        for name, strokes in keystrokes.items():
            told["cycles"] |= {f"{name}_ms": strokes.ms, f"{name}_ms_200": strokes.ms_200}
            told[name] = asdict(strokes)
        if stories := self.strokes.get("stories"):
            speeds = {"tokens_per_s": per_second(stories.ms), "tokens_per_s_200": per_second(stories.ms_200)}
            told["stories"] = speeds | asdict(stories)
        if (cct := self.steps.get("cct")) and cct.cached_ms:
            told["cct"] = {
                "images_per_s_cached": per_second(cct.cached_ms),
                "images_per_s": per_second(cct.step_ms),
                "arena": cct.arena,
                "trainables": cct.trainables,
                "cores": 2,
                "both_blocks_predicted_on_one_core": self.beyond,
            }
        return told


def per_second(ms: float) -> float:
    return round(1000 / ms, 2)


def everywhere(model: QuantModel, rank: int) -> bytes:
    return bytes(rank if op.is_matrix else 0 for op in model.ops)


def of_attention(model: QuantModel, rank: int, last: int = 0) -> bytes:
    """Ranks of the matrices that make an attend's inputs, rotated or not, and of that which reads its output. last: of
    so many attends, from the last on; 0: of all.
    """
    ranks = bytearray(len(model.ops))
    for op in [op for op in model.ops if op.kind == "attend"][-last:]:
        for tensor in op.inputs:
            at = tensor - 1
            ranks[model.ops[at].input - 1 if model.ops[at].kind == "rotate" else at] = rank
        ranks[next(i for i, above in enumerate(model.ops) if above.input == op.output)] = rank
    return bytes(ranks)


def bench_pico(
    parts: Sequence[str],
    cases: Sequence[str] | None = None,
    symbols: int | None = None,
    progress: Progress = no_progress,
) -> PicoBench:
    """Measures these of `PARTS`, a virtual Pico for each base. cases: some of theirs by name, all by default; symbols:
    those typed, a whole window by default.
    """
    found = PicoBench({}, {}, {})
    every = [job for part in parts for job in _JOBS[part]]
    jobs = [job for job in every if cases is None or job[0] in cases]
    if not jobs:
        raise InputError(f"{', '.join(cases or ())}: choose from {', '.join(name for name, *_ in every)}")
    for done, (name, measure, into) in enumerate(jobs):
        progress(done, len(jobs), name)
        getattr(found, into)[name] = measure(symbols) if into == "strokes" else measure()
    progress(len(jobs), len(jobs), "done")
    return found


def _motion(cores: int) -> Step:
    model = quantized(zoo.encoder((1, 100, 6), 7, 0))
    return measured(Case(model, everywhere(model, 8), "trainable_a", 112 * 1024, cores=cores))


def _language(cores: int, mode: str) -> Step:
    model = language(96, 64, zoo.LANGUAGE)
    return measured(Case(model, of_attention(model, 4), mode, PICO_ROOM, cores=cores))


def _keystroke(cores: int, symbols: int | None, rank: int) -> Strokes:
    model = language(96, 64, zoo.LANGUAGE)
    return typed(model, everywhere(model, rank), symbols, cores)


def _stories(symbols: int | None) -> Strokes:
    model = language(512, CONTEXT, STORIES)
    return typed(model, bytes(len(model.ops)), symbols)


def compact_case(mode: str, room: int, last: int = 0, cores: int = 1, momentum: bool = True) -> Case:
    model = image(32, zoo.COMPACT)
    return Case(model, of_attention(model, 4, last), mode, room, True, cores, momentum)


def both_blocks() -> Case:
    """Adapters in both blocks of the compact transformer, on both cores of a Pico, as much as its heap holds."""
    return compact_case("frozen_a", MOST_ROOM, cores=2, momentum=False)


def beyond(case: Case) -> dict[str, float]:
    """The arena of a case that no Pico's heap holds, and images a second that are predicted."""
    infer_ms, step_ms, cached_ms = predicted(case)
    return {
        "arena": regions.layout(case.elm, *case.settings).arena_bytes,
        "trainables": trainables(case),
        "images_per_s_cached_predicted": per_second(cached_ms),
        "images_per_s_predicted": per_second(step_ms),
    }


_Job = tuple[str, Callable[..., Any], str]  # name; measures; the field of PicoBench


def _on_both_and_one(name: str, measure: Callable[..., Any], into: str) -> list[_Job]:
    return [(name, partial(measure, 2), into), (f"{name}{ONE_CORE}", partial(measure, 1), into)]


_JOBS: dict[str, list[_Job]] = {
    "pico": [
        *_on_both_and_one("har", _motion, "steps"),
        *_on_both_and_one("lm", partial(_language, mode="frozen_a"), "steps"),
        *_on_both_and_one("lm_trained_a", partial(_language, mode="trainable_a"), "steps"),
        *_on_both_and_one("keystroke", partial(_keystroke, rank=0), "strokes"),
        *_on_both_and_one("keystroke_adapted", partial(_keystroke, rank=4), "strokes"),
    ],
    "stories": [("stories", _stories, "strokes")],
    "cct": [
        ("cct", lambda: measured(both_blocks()), "steps"),
        (f"cct{ONE_CORE}", lambda: measured(compact_case("frozen_a", MOST_ROOM, momentum=False)), "steps"),
        ("cct_last_block", lambda: measured(compact_case("frozen_a", MOST_ROOM, last=1)), "steps"),
        ("frozen_a", lambda: beyond(compact_case("frozen_a", 256 * 1024)), "beyond"),
        ("trainable_a", lambda: beyond(compact_case("trainable_a", 256 * 1024)), "beyond"),
    ],
}


def trainables(case: Case) -> int:
    pairs = regions.layout(case.elm, *case.settings).regions
    return sum(r.size for r in pairs if r.name == "B weight" or r.name == "A weight" and case.mode == "trainable_a")


def predicted(case: Case) -> tuple[float, float, float]:
    """Milliseconds of an inference, a step, and one from the feature cache."""
    cost = predict(case.elm, case.settings, load_board(BOARD), in_flash=True)
    assert cost
    lowest = next(i for i, rank in enumerate(case.ranks) if rank)
    below = sum(ahead for ahead, _ in cost.ops[:lowest])
    step_ms = cost.step_us / 1000
    return cost.infer_us / 1000, step_ms, step_ms - below / cost.clock_hz * 1000


def samples_of(case: Case) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """Samples and their labels or targets; a base that leaves no room in ROMFS has its own first bytes for a sample."""
    x, y = samples(case.model)
    if not case.cached:
        return x, y
    return np.frombuffer(case.elm, np.int8, x.shape[1])[None], y[:1]


def files_of(case: Case) -> dict[str, bytes]:
    """What the board reads from ROMFS."""
    elm, (x, y) = case.elm, samples_of(case)
    adapter = random_adapter(elm, case.ranks, case.mode, np.random.default_rng(0))
    files = {"base.elm": elm, "adapter.ela": adapter}
    if not case.cached:
        files["x"] = x.tobytes()
    if case.model.learns_sequences:
        files["y"] = y.tobytes()
    if case.cached:
        files["features"] = Session(elm, case.ranks, case.mode).features(x[0]).tobytes()
    return files


def twins_adapter(case: Case, files: dict[str, bytes]) -> int:
    """CRC-32 of what the twin has learned on one core after the steps that are measured."""
    settings, (x, y) = case.settings, samples_of(case)
    answers = y if case.model.learns_sequences else [int(label) for label in y]
    twin = Session(case.elm, settings.ranks, settings.mode, MICRO_BATCH, settings.momentum)
    twin.load(files["adapter.ela"])
    for i in range(MICRO_BATCH + 1):
        twin.train(x[i % len(x)], answers[i % len(x)], RATE)
    if case.cached:
        features = np.frombuffer(files["features"], np.int8)
        for _ in range(MICRO_BATCH + 1):
            twin.train_features(features, answers[0], RATE)
    return zlib.crc32(twin.save())


def measured(case: Case) -> Step:
    """A training step on a virtual Pico. RuntimeError: what it learns differs from its twin's."""
    settings = case.settings
    x, y = samples_of(case)
    names = {"RUNS": MICRO_BATCH, "RATE": RATE, "COUNT": len(x), "RANKS": settings.ranks, "MODE": settings.mode}
    names |= {"MOMENTUM": settings.momentum, "AGAIN": settings.recompute, "CACHED": case.cached}
    names |= {"CORES": case.cores, "SAMPLES": "/rom/base.elm" if case.cached else "/rom/x"}
    labels = None if case.model.learns_sequences else [int(label) for label in y]
    files = files_of(case)
    found = _run(files, names | {"LABELS": labels}, STEPS)
    if found["adapter"] != twins_adapter(case, files):
        raise RuntimeError(f"the board's adapter differs from its twin's, on {case.cores} cores in mode {case.mode}")
    of_one = predicted(case) if case.cores == 1 else (None, None, None)
    infer_ms, step_ms, cached_ms = (ms and round(ms, 2) for ms in of_one)
    return Step(
        round(found["infer"] / 1000, 2),
        round(found["step"] / 1000, 2),
        round(found["cached"] / 1000, 2) if case.cached else None,
        infer_ms,
        step_ms,
        cached_ms if case.cached else None,
        found["arena"],
        trainables(case),
        sum(settings.recompute or b""),
    )


def typed(model: QuantModel, ranks: bytes, symbols: int | None = None, cores: int = 1) -> Strokes:
    """A window of symbols, or its first ones, on a virtual Pico, one at a time."""
    elm = pack_model(model)
    adapted = any(ranks)
    files = {"adapter.ela": random_adapter(elm, ranks, "frozen_a", np.random.default_rng(0))} if adapted else {}
    files["base.elm"] = elm
    names = {
        "RANKS": ranks,
        "ROWS": min(symbols or model.input.positions, model.input.positions),
        "SYMBOLS": model.classes,
        "HZ": FAST_HZ,
    }
    names["CORES"] = cores
    found = _run(files, names, STROKES)
    usual, fast = ([us / 1000 for us in found[name]] for name in ("usual", "fast"))
    times = [round(float(ms), 3) for of in (usual, fast) for ms in (np.mean(of), max(of))]
    return Strokes(times[0], times[1], times[2], times[3], found["arena"])


def _run(files: dict[str, bytes], names: dict[str, Any], script: str) -> dict[str, Any]:
    """What a script prints on a virtual Pico with these files in ROMFS."""
    head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    with tempfile.TemporaryDirectory() as folder:
        image_path = build_firmware(BOARD, files, Path(folder) / "pico.uf2")
        handle = virtual_board.start(BOARD, image_path, Path(folder) / "board", die_with_parent=True)
        try:
            line = SerialLine(handle.port)
            try:
                repl = RawRepl(line, handle.port)
                repl.enter()
                repl.soft_reset()  # the first start formats the flash, which leaves the heap in pieces
                printed = repl.run(head + script)
                repl.leave()
            finally:
                line.close()
        finally:
            handle.stop()
    found: dict[str, Any] = json.loads(printed)
    return found
