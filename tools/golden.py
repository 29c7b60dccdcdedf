#!/usr/bin/env python3
"""Writes tests/golden/*.txt: models and training runs, computed by tests/support/reference.py.

Each line is a word and its values; bytes are in hex:

    elm BYTES                                       the model of the runs below it
    run NAME micro_batch N learning_rate N          starts a run
    start BYTES                                     the adapter before the run (.ela)
    step TARGET LOSS LOGITS INPUT                   one sample of one frame or more: its loss and outputs before the
                                                    update; the target is a label or, of a sequence and with other
                                                    losses, bytes
    final BYTES                                     the adapter with training state, after a flush
    plain BYTES                                     the same adapter without training state
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "host"), str(ROOT / "tests" / "support")]

from random_models import model_of, random_model, random_sample, random_target  # noqa: E402
from random_ops import DrawnOp  # noqa: E402
from random_transformers import random_transformer  # noqa: E402
from reference import Trainer, forward_sample, fresh_adapter  # noqa: E402

from edgelora.core.formats.ela import pack_adapter  # noqa: E402
from edgelora.core.formats.elm import base_id, pack_model  # noqa: E402
from edgelora.core.formats.network import TRANSFORMER_KINDS, QuantModel  # noqa: E402

CHAINS = {
    "dense": ("cross_entropy", ("dense", "dense")),
    "conv": ("cross_entropy", ("conv", "average_pool", "conv", "dense")),
    "mean": ("cross_entropy", ("conv", "conv", "mean")),
    "residual": ("cross_entropy", ("conv", "residual", "max_pool", "conv", "mean", "softmax")),
    "branches": ("binary_cross_entropy", ("pad", "branches", "reshape", "dense", "lookup")),
    "stream": ("cross_entropy", ("conv", "history", "slice", "conv", "history", "dense")),
    "autoencoder": ("mean_squared_error", ("conv", "lookup", "dense", "autoencoder")),
}
OPS = {  # wider than those of chains: a row in parts of 8 columns; windows far outside the input
    "strips": DrawnOp("depthwise", (4, 17, 2), (2, 15, 2), (3, 3)),
    "dilated": DrawnOp("conv", (1, 47, 3), (1, 19, 5), (1, 5), (1, 2), (1, 9), (0, 12), rank=3),
}
STEPS = 20
SIZE_LIMIT = 60_000


def golden_files() -> dict[str, str]:
    """Name and text of every golden file."""
    models = {name: _chains(*chain) for name, chain in CHAINS.items()} | {name: _drawn(op) for name, op in OPS.items()}
    models["transformer"] = (model for model in map(random_transformer, range(1000)) if _attends(model))
    files = {name: _file(candidates) for name, candidates in models.items()}
    return {f"{name}.txt": "\n".join(lines) + "\n" for name, lines in files.items()}


def _chains(loss: str, kinds: tuple[str, ...]) -> Iterator[QuantModel]:
    return (random_model(seed, "small", kinds, loss=loss) for seed in range(1000))


def _drawn(op: DrawnOp) -> Iterator[QuantModel]:
    """With errors that are truncated, as in all files from before they could be rounded."""
    for seed in range(1000):
        model = model_of(replace(op, seed=seed))
        model.rounds = False
        yield model


def _attends(model: QuantModel) -> bool:
    """Whether it is a language model with all kinds of transformers but the rare widen."""
    return model.learns_sequences and {op.kind for op in model.ops} >= {*TRANSFORMER_KINDS} - {"widen"}


def _file(models: Iterable[QuantModel]) -> list[str]:
    """The lines of the first small model in which every layer learns."""
    for model in models:
        if len(pack_model(model)) < 5000 and model.input.size <= 150 and model.output.size <= 100:
            lines = ["elm " + pack_model(model).hex()]
            runs = [_run(model, trainable_a, momentum) for trainable_a in (False, True) for momentum in (0, 3)]
            if all(alive for alive, _ in runs):
                return lines + [line for _, run in runs for line in run]
    raise RuntimeError("no small model of these learns in every layer")


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
