"""Makes the cases of the device test suite, one JSON object a line, from the NumPy reference alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import reference
from random_models import random_input, random_model, random_ranks

from edgelora import formats, twin

CASES = (
    # name, seed, kinds, mode, micro_batch, momentum
    ("series", 11, ("conv", "conv", "mean", "dense"), "frozen_a", 2, 0),
    ("pooled", 12, ("conv", "average_pool", "conv", "dense"), "trainable_a", 3, 2),
    ("dense", 13, ("dense", "dense"), "trainable_a", 1, 0),
)


def hexed(array: np.ndarray) -> str:
    return array.astype(np.int8).tobytes().hex()


def make_case(name: str, seed: int, kinds: tuple[str, ...], mode: str, micro_batch: int, momentum: int) -> dict:
    rng = np.random.default_rng(seed)
    model = random_model(seed, kinds=kinds, edges=False)
    data = formats.pack_model(model, name)
    ranks = random_ranks(rng, model)
    adapter = reference.fresh_adapter(model, ranks, seed, formats.base_id(data), mode == "trainable_a", momentum)
    trainer = reference.Trainer(model, adapter, micro_batch)
    inputs = [random_input(rng, model) for _ in range(2)]
    samples = []
    for _ in range(7):
        x, label, rate = random_input(rng, model), int(rng.integers(model.output.size)), int(rng.integers(1000, 60000))
        samples.append([hexed(x), label, rate, trainer.train(x, label, rate)])
    trainer.flush(5000)
    trained = trainer.export(state=False)
    every = bytes(ranks.get(i, 0) for i in range(len(model.ops)))
    return {
        "name": name,
        "elm": data.hex(),
        "ranks": every.hex(),
        "mode": mode,
        "micro_batch": micro_batch,
        "momentum": momentum,
        "seed": seed,
        "samples": samples,
        "flush_rate": 5000,
        "arena_bytes": twin.layout(data, every, mode, micro_batch, momentum).arena_bytes,
        "base": [[hexed(x), hexed(reference.forward(model, x).logits)] for x in inputs],
        "adapted": [[hexed(x), hexed(reference.forward(model, x, trained).logits)] for x in inputs],
        "adapter": formats.pack_adapter(trained).hex(),
        "state": formats.pack_adapter(trainer.export()).hex(),
    }


def write_cases(path: Path) -> None:
    lines = [json.dumps([case[0] for case in CASES])] + [json.dumps(make_case(*case)) for case in CASES]
    path.write_text("\n".join(lines) + "\n")
