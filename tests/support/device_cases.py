"""Makes the cases of the device test suite, one JSON object per line, with the NumPy reference."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import reference
from class_cases import drawn_class_stats
from random_models import random_adapter, random_input, random_model, random_ranks, random_sample, random_target

from edgelora.core.formats.classes import pack_classes
from edgelora.core.formats.ela import CLASSES, pack_adapter, unpack_adapter
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import regions
from edgelora.core.twin.seeded_a import seeded_a
from edgelora.core.twin.session import Session


@dataclass(frozen=True)
class Case:
    """A random model with ops of these kinds (all cases together have every kind), and its training."""

    name: str
    seed: int
    kinds: tuple[str, ...]
    mode: str
    micro_batch: int
    momentum: int = 0
    loss: str = "cross_entropy"
    plain: bool = False
    classes: bool = False  # whether classes are added


CASES = (
    Case("series", 11, ("conv", "conv", "mean", "dense"), "frozen_a", 2, classes=True),
    Case("pooled", 12, ("conv", "average_pool", "conv", "dense"), "trainable_a", 3, momentum=2),
    Case("dense", 13, ("dense", "dense"), "trainable_a", 1),
    Case("stream", 15, ("conv", "history", "slice", "depthwise", "conv", "history", "dense"), "trainable_a", 2, 2),
    Case("heard", 7, ("conv", "history", "conv", "history", "depthwise", "conv", "history", "dense"), "frozen_a", 2),
)
GRAPHS = (  # these take minutes on an emulated Pico
    Case("graph", 14, ("conv", "depthwise", "residual", "max_pool", "conv", "mean", "softmax"), "trainable_a", 2, 3),
    Case("plain", 14, ("conv", "depthwise", "residual", "max_pool", "conv", "dense"), "trainable_a", 2, plain=True),
    Case("binary", 15, ("pad", "branches", "slice", "reshape", "dense"), "frozen_a", 3, loss="binary_cross_entropy"),
    Case("recurrent", 16, ("lstm", "conv", "svdf", "dense", "dense"), "frozen_a", 2),
    Case("squared", 23, ("conv", "lookup", "dense", "autoencoder"), "trainable_a", 2, 3, "mean_squared_error"),
)


def hexed(array: np.ndarray) -> str:
    return array.astype(np.int8).tobytes().hex()


def make_case(case: Case) -> dict:
    rng = np.random.default_rng(case.seed)
    model = random_model(case.seed, kinds=case.kinds, edges=False, loss=case.loss)
    model.rounds &= case in GRAPHS  # a stock RP2040, which has no rounding, runs the others
    if case.classes:
        model.class_stats = drawn_class_stats(
            np.random.default_rng(case.seed), model.tensors[-2].size, model.output.size
        )
    data = pack_model(model, case.name)
    ranks = random_ranks(rng, model)
    trains_a = case.mode == "trainable_a"
    adapter = reference.fresh_adapter(model, ranks, case.seed, base_id(data), trains_a, case.momentum)
    trainer = reference.Trainer(model, adapter, case.micro_batch)
    frames = 5 if model.has_history else 1
    stream = [random_input(rng, model) for _ in range(6)]
    inputs = [random_sample(rng, model, frames) for _ in range(2)]
    held: dict = {}
    samples = []
    for _ in range(7):
        x, target, rate = random_sample(rng, model, frames), random_target(rng, model), int(rng.integers(1000, 60000))
        told = target if isinstance(target, int) else hexed(target)
        samples.append([hexed(x), told, rate, trainer.train(x, target, rate)])
    trainer.flush(5000)
    trained = trainer.export(state=False)
    every = bytes(ranks.get(i, 0) for i in range(len(model.ops)))
    settings = (case.mode, case.micro_batch, case.momentum)
    layout = regions.layout(data, every, *settings, plain=case.plain, frames=frames)
    parts = [trained, *(random_adapter(rng, model, ranks=ranks) for _ in range(2))]
    parts[1].seed = trained.seed
    for layer in parts[1].layers:
        layer.a = seeded_a(trained.seed, layer.op, layer.rank, model.ops[layer.op])
    weights = [2867, -4096, 1229]
    fine, steps = (reference.blend(model, parts, weights, fine) for fine in (True, False))
    assert fine is not None and steps is not None
    return {
        "name": case.name,
        "elm": data.hex(),
        "ranks": every.hex(),
        "everywhere": bytes(2 if i in reference.trainable(model) else 0 for i in range(len(model.ops))).hex(),
        "mode": case.mode,
        "micro_batch": case.micro_batch,
        "momentum": case.momentum,
        "plain": case.plain,
        "seed": case.seed,
        "samples": samples,
        "flush_rate": 5000,
        "arena_bytes": layout.arena_bytes,
        "frames": frames,
        "stream": [[hexed(x), hexed(reference.forward(model, x, held=held).logits)] for x in stream],
        "base": [[hexed(x), hexed(reference.forward_sample(model, x).logits)] for x in inputs],
        "adapted": [[hexed(x), hexed(reference.forward_sample(model, x, trained).logits)] for x in inputs],
        "adapter": pack_adapter(trained).hex(),
        "parts": [pack_adapter(part).hex() for part in parts],
        "weights": weights,
        "sums": [pack_adapter(part).hex() for part in (fine, steps)],
        "summed": [[hexed(x), hexed(reference.forward_sample(model, x, fine).logits)] for x in inputs],
        "state": pack_adapter(trainer.export()).hex(),
        "classes": classes_added(model, data, every, pack_adapter(trained), inputs, case.momentum)
        if case.classes
        else None,
    }


def classes_added(
    model: QuantModel, elm: bytes, ranks: bytes, ela: bytes, inputs: list[np.ndarray], momentum: int
) -> dict:
    """Adds one of the base's classes and a new one to an adapter; the twin's answers, and further training samples with
    the reference's results."""
    session = Session(elm, ranks)
    samples = [np.stack([np.clip(x + step, -128, 127) for step in range(3)]).astype(np.int8) for x in inputs]
    session.use(ela)
    rows = [session.class_row(samples[0], 1)]
    known = session.with_record(ela, CLASSES, pack_classes(rows))
    session.use(known)
    rows.append(session.class_row(samples[1], model.output.size, "wave"))
    both = session.with_record(known, CLASSES, pack_classes(rows))
    session.use(both)
    said = [[hexed(x), session.infer(x), session.probabilities().tolist()] for part in samples for x in part]
    shown = [[hexed(x) for x in part] for part in samples]
    trainer = reference.Trainer(model, unpack_adapter(both, model), 2, momentum=momentum)
    number = model.output.size
    taught = [(x, label, 9000) for turn in range(2) for x, label in zip(samples[turn], (0, number, 1), strict=True)]
    losses = [trainer.train(x, label, rate) for x, label, rate in taught]
    learned = [[hexed(x), label, rate, loss] for (x, label, rate), loss in zip(taught, losses, strict=True)]
    state = pack_adapter(trainer.export()).hex()
    return {
        "samples": shown,
        "known": known.hex(),
        "both": both.hex(),
        "said": said,
        "learned": learned,
        "state": state,
    }


def write_cases(path: Path, cases: tuple[Case, ...]) -> None:
    lines = [json.dumps([case.name for case in cases])] + [json.dumps(make_case(case)) for case in cases]
    path.write_text("\n".join(lines) + "\n")
