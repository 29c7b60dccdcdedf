#!/usr/bin/env python3
"""Writes tests/golden/*.txt: models and training runs as tests/reference.py computes them.

Lines of a file, each a word and its values; bytes are in hex:

    elm BYTES                                       the model; the runs below it are on this model
    run NAME micro_batch N learning_rate N          starts a run
    start BYTES                                     the adapter it begins from (.ela)
    step TARGET LOSS LOGITS INPUT                   one sample, of one frame or more: its loss and outputs before it is
                                                    learned; the target is a label or, with other losses, bytes
    final BYTES                                     the adapter afterwards, with training state, after a flush
    plain BYTES                                     the same without state
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "host"), str(ROOT / "tests")]

from random_models import random_model, random_sample, random_target  # noqa: E402
from reference import Trainer, forward_sample, fresh_adapter  # noqa: E402

from edgelora.formats import base_id, pack_adapter, pack_model  # noqa: E402

CHAINS = {
    "dense": ("cross_entropy", ("dense", "dense")),
    "conv": ("cross_entropy", ("conv", "average_pool", "conv", "dense")),
    "mean": ("cross_entropy", ("conv", "conv", "mean")),
    "residual": ("cross_entropy", ("conv", "residual", "max_pool", "conv", "mean", "softmax")),
    "branches": ("binary_cross_entropy", ("pad", "branches", "reshape", "dense", "lookup")),
    "stream": ("cross_entropy", ("conv", "history", "slice", "conv", "history", "dense")),
    "autoencoder": ("mean_squared_error", ("conv", "lookup", "dense", "autoencoder")),
}
STEPS = 20
SIZE_LIMIT = 60_000


def golden_files() -> dict[str, str]:
    """Name and text of every golden file."""
    return {f"{name}.txt": "\n".join(_file(*chain)) + "\n" for name, chain in CHAINS.items()}


def _file(loss: str, kinds: tuple[str, ...]) -> list[str]:
    """The lines for the first random model of these kinds whose whole depth learns."""
    for seed in range(1000):
        model = random_model(seed, "small", kinds, loss=loss)
        if len(pack_model(model)) < 5000 and model.input.size <= 150:
            lines = ["elm " + pack_model(model).hex()]
            runs = [_run(model, trainable_a, momentum) for trainable_a in (False, True) for momentum in (0, 3)]
            if all(alive for alive, _ in runs):
                return lines + [line for _, run in runs for line in run]
    raise RuntimeError(f"no small model of {kinds} learns in every layer")


def _run(model, trainable_a: bool, momentum: int) -> tuple[bool, list[str]]:
    """Whether every matrix was trained, and the lines of one run."""
    rng = np.random.default_rng(momentum)
    micro_batch, learning_rate, rank = 3, 12000, 3
    ranks = {index: rank for index, op in enumerate(model.ops) if op.is_matrix}
    adapter = fresh_adapter(model, ranks, 0xC0FFEE, base_id(pack_model(model)), trainable_a, momentum, 200 * momentum)
    name = f"{'trainable' if trainable_a else 'frozen'}_momentum{momentum}"
    lines = [f"run {name} micro_batch {micro_batch} learning_rate {learning_rate}"]
    lines.append("start " + pack_adapter(adapter).hex())
    trainer = Trainer(model, adapter, micro_batch)
    for _ in range(STEPS):
        x, target = random_sample(rng, model, 2 if model.has_history else 1), random_target(rng, model)
        logits = forward_sample(model, x, trainer.adapter).logits.astype(np.int8)
        value = trainer.train(x, target, learning_rate)
        told = target if isinstance(target, int) else target.tobytes().hex()
        lines.append(f"step {told} {value} {logits.tobytes().hex()} {x.tobytes().hex()}")
    trainer.flush(learning_rate)
    lines.append("final " + pack_adapter(trainer.export()).hex())
    lines.append("plain " + pack_adapter(trainer.export(state=False)).hex())
    states = [state for layer in trainer.adapter.layers for state in (layer.a_state, layer.b_state) if state]
    return all(state.vm for state in states), lines


def main() -> None:
    folder = ROOT / "tests" / "golden"
    folder.mkdir(exist_ok=True)
    for name, text in golden_files().items():
        if len(text) > SIZE_LIMIT:
            raise SystemExit(
                f"{name} would have {len(text)} bytes, at most {SIZE_LIMIT} are wanted: take a smaller model"
            )
        (folder / name).write_text(text)
        print(f"{name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
