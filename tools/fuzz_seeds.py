"""Writes new random seeds for the fuzzers of tests/fuzz: `fuzz_seeds.py FOLDER`. Each harness has a folder in it."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from class_cases import small_base
from random_models import model_of, random_frames, random_model, random_sample, random_target
from random_ops import drawn_op, generated
from random_transformers import Sizes, language_model, random_transformer

from edgelora.core.formats.classes import pack_classes
from edgelora.core.formats.ela import CLASSES, MONITOR
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.network import QuantModel
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.twin.session import Session
from edgelora.core.twin.trainable import trainable

MAX_FILE = 4000  # bytes of a model or an adapter: small files make fuzzing fast
CHAINS = (
    ("cross_entropy", ("conv", "average_pool", "mean", "dense")),
    ("cross_entropy", ("depthwise", "residual", "max_pool", "dense", "softmax")),
    ("binary_cross_entropy", ("pad", "branches", "reshape", "dense", "lookup")),
    ("mean_squared_error", ("conv", "lookup", "autoencoder")),
    ("cross_entropy", ("conv", "history", "slice", "conv", "history", "dense")),
    ("cross_entropy", ("recurrent", "dense")),
    ("cross_entropy", ("conv", "multiply", "minimum", "prelu", "dense")),
    ("cross_entropy", ("gather", "conv", "transposed", "dense")),
    ("cross_entropy", ("conv", "matmul", "softmax", "squared_difference", "dense")),
    ("cross_entropy", ("lstm", "dense")),
    ("cross_entropy", ("conv", "lstm", "lstm", "dense")),
    ("cross_entropy", ("svdf", "dense")),
    ("mean_squared_error", ("conv", "twice", "gate", "difference", "maximum")),
)
NAMES = [
    "infer",
    "infer_sample",
    "reset",
    "ranges",
    "backward",
    "probabilities",
    "use",
    "use_none",
    "begin",
    "load",
    "merge",
    "blend",
    "train",
    "flush",
    "features",
    "infer_features",
    "train_features",
    "evaluate",
    "class_sample",
    "class_row",
    "with_record",
    "save",
    "quantize",
    "copy",
    "init",
    "next",
    "choose",
    "back",
]  # command_t of fuzz_session.c
PROGRAMS = (
    "infer 5; probabilities; use 0; infer 9; probabilities; use_none; infer 5; quantize 2 3 1",
    "begin 5; train 3 1 200; train 4 0 200; flush 9; save 1 1; load 1; train 7 1 255; save 0 2",
    "load 0; train 3 1 99; evaluate 5 1; save 0 1; use 1; merge 0; merge 1; infer_sample 6",
    "features 3; begin 1; train_features 0 1 80; infer_features; train_features 0 0 80; save 0 1",
    "class_sample 3; class_sample 4; class_row 9 0 1; use 1; infer 4; probabilities; load 1; train 3 9 60",
    "blend 2 0 40; blend 67 16 200; use 0; with_record 32 1 7; with_record 16 255 0; copy 16 90 3; use 1",
    "ranges 3 1; reset; infer 3; begin 3; backward 1 0 9; begin 4; init 255; infer 3",
)
DECODE = 3  # a mode
DECODES = "next 1; choose 0 1 7; use 0; next 3; probabilities; back 1; next 2; choose 255 255; reset; next 4; choose 1"


def work(model: QuantModel) -> int:
    """The number of multiplications of an inference, as fuzz_session.c limits it."""
    return sum(
        model.tensors[op.output].size * (model.tensors[op.input].size if op.kind == "dense" else 16) for op in model.ops
    )


def is_written(model: QuantModel) -> bool:
    """Whether the model makes a small file; a drawn model may also exceed a limit of the format."""
    try:
        return len(pack_model(model)) < MAX_FILE
    except FormatError:
        return False


def models(rng: np.random.Generator, drawn: int) -> Iterator[QuantModel]:
    """Small models: of each chain, with signal settings; one with class statistics; transformers; and of drawn ops."""
    for loss, kinds in CHAINS:
        found = 0
        for seed in range(200):
            model = random_model(int(rng.integers(1 << 30)) + seed, kinds=kinds, edges=bool(seed & 1), loss=loss)
            if work(model) < 4000 and is_written(model):
                channels = model.input.shape[2]
                normals = tuple(Normal(0.001 * (i + 1), 0.5, 2) for i in range(channels))
                model.signal = Signal(50, channels, model.input.size // channels, 3, normals, units="g")
                yield model
                found += 1
                if found == 3:
                    break
    yield small_base(rng)
    yield from islice(filter(is_written, map(random_transformer, rng.integers(1 << 30, size=200))), 6)
    small = Sizes(3, 1, 4, 1, 1, 4, 6)
    texts = (language_model(int(seed), small) for seed in rng.integers(1 << 20, size=200))
    yield from islice((model for model in texts if work(model) < 2000 and is_written(model)), 6)
    draw = generated(rng)
    for _ in range(drawn):
        model = model_of(drawn_op(draw, work=12))
        if is_written(model):
            yield model


def adapters(rng: np.random.Generator, data: bytes, model: QuantModel) -> Iterator[bytes]:
    """Slightly trained adapters in each mode, with records."""
    able = trainable(data, len(model.ops))
    ranks = bytes(2 if i in able else 0 for i in range(len(model.ops)))
    if not any(ranks):
        return
    frames = min(random_frames(rng, model), 3)
    for mode, state, momentum in (("frozen_a", False, 0), ("trainable_a", True, 3)):
        session = Session(data, ranks, mode, 2, momentum, frames=frames)
        session.begin(int(rng.integers(1 << 32)))
        for _ in range(4):
            session.train(random_sample(rng, model, frames), random_target(rng, model), 60000)
        yield session.save(state)
        record = MONITOR, b"usual"
        if model.class_stats:
            session.use(session.save())
            x = np.stack([random_sample(rng, model, frames) for _ in range(3)])
            record = CLASSES, pack_classes([session.class_row(x, model.output.size, "wave")])
        yield session.with_record(session.save(state), *record)


def command_of(name: str, *values: str) -> bytes:
    """A command of a fuzzed program, 4 bytes."""
    return bytes([NAMES.index(name), *map(int, values), 0, 0, 0])[:4]


def configuration(rng: np.random.Generator, mode: int) -> bytes:
    """16 bytes in fuzz_session.c's format: mode, micro-batch, momentum, frames, threshold, recompute, ranks."""
    frames = 1 if mode == DECODE else int(rng.integers(1, 4))
    return bytes([mode, 2, (mode == 2) * 3, frames, 0, 0, int(rng.integers(2)), int(rng.integers(256)), *[2] * 8])


def inputs(rng: np.random.Generator, drawn: int) -> Iterator[bytes]:
    """A model, one of its adapters and a program, in the format of tests/fuzz/input.h."""
    for model in models(rng, drawn):
        data = pack_model(model)
        decodes = any(op.kind == "embed" for op in model.ops)
        for i, adapter in enumerate(adapters(rng, data, model) or ()):
            programs = [(1 + i // 2 % 2, commands) for k, commands in enumerate(PROGRAMS) if (i + k) % 2 == 0]
            for mode, commands in [*programs, (DECODE, DECODES)][: None if decodes else -1]:
                if len(adapter) < MAX_FILE:
                    program = b"".join(command_of(*command.split()) for command in commands.split(";"))
                    head = struct.pack("<HH", len(data), len(adapter))
                    yield head + data + adapter + configuration(rng, mode) + program


def main(folder: Path) -> None:
    """Writes the seeds."""
    rng = np.random.default_rng()
    for name, seeds in (("session", inputs(rng, 60)), ("files", inputs(rng, 60))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(seeds):
            (folder / name / f"seed{i}").write_bytes(seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
