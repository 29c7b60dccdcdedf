"""Training with added classes: the C core against the NumPy reference, and the reference against derivatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
from class_cases import INPUTS, KNOWN, drawn_class_stats, small_base
from numpy.typing import NDArray
from test_core import Case, random_case

from edgelora.core.formats.classes import ClassRow
from edgelora.core.formats.ela import pack_adapter
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.twin.binding import TwinError


def classed_case(seed: int) -> tuple[Case, list[ClassRow]] | None:
    """A random model that has room for classes, and rows of some classes; None if its last op can't have classes."""
    case = random_case(seed, 8, "cross_entropy")
    model, rng = case.model, np.random.default_rng(seed)
    op, known = model.ops[-1], model.output.size
    inputs = model.tensors[op.input].size
    if op.kind != "dense" or inputs > 128 or not any(case.ranks):
        return None
    model.class_stats = drawn_class_stats(rng, inputs, known)
    if seed % 4 == 0:
        model.tensors[-1] = replace(model.output, scale=float(rng.choice([2.0, 40.0])))  # nats per step
    own = [k for k in range(known) if rng.random() < 0.3]
    numbers = own + sorted(rng.choice(range(known, 40), int(rng.integers(1, 4)), replace=False).tolist())
    rows = [
        ClassRow(number, "" if number < known else f"new {number}", 20, int(rng.integers(-20000, 20000)), row)
        for number, row in ((n, rng.integers(-32767, 32768, inputs).astype(np.int16) >> 4) for n in numbers)
    ]
    added = [n for n in numbers if n >= known]
    samples = [(x, int(rng.choice([label, *added])), rate) for x, label, rate in case.samples]
    return replace(case, data=pack_model(model), samples=samples), rows


@pytest.mark.parametrize("first", [0, 40])
def test_training_with_classes_equals_reference(first: int) -> None:
    """In both modes, from features, and with recomputed outputs, every layer learns from samples of added classes."""
    tried = moved = 0
    for seed in range(first, first + 40):
        found = classed_case(seed)
        if not found:
            continue
        case, rows = found
        options = (case.mode == "trainable_a", case.momentum, case.threshold)
        start = reference.fresh_adapter(case.model, case.ranks, seed, base_id(case.data), *options)
        start.classes = rows
        trainer = reference.Trainer(case.model, start, case.micro_batch)
        expected = [trainer.train(x, label, rate) for x, label, rate in case.samples]
        trainer.flush(3000)
        file = pack_adapter(trainer.export())
        again = bytes(int(op.kind not in ("history", "constant")) for op in case.model.ops)
        for settings in ({}, {"plain": True}, {"recompute": again}):
            session = case.session(**settings)
            session.load(pack_adapter(start))
            assert [session.train(x, label, rate) for x, label, rate in case.samples] == expected, seed
            session.flush(3000)
            assert session.save(state=True) == file, seed
        if session.feature_size:
            session.load(pack_adapter(start))
            for x, label, rate in case.samples:
                session.train_features(session.features(x), label, rate)
            session.flush(3000)
            assert session.save(state=True) == file, seed
        with pytest.raises(TwinError, match="label"):
            session.train(case.samples[0][0], 41, 100)
        tried += 1
        moved += any(layer.b.any() for layer in trainer.adapter.layers)
    assert tried > 8 and moved > 5


def test_errors_of_classes_are_derivatives_of_their_loss() -> None:
    """With respect to the last layer's outputs and, through the rows, to its inputs."""
    rng = np.random.default_rng(8)
    model = small_base(rng)
    assert model.class_stats
    known = [reference.class_rows(model.class_stats, [])[k] for k in range(KNOWN)]
    scale, cosines, sizes = 0.1, [], []
    for _ in range(40):
        classes = [ClassRow(n, "x", 20, 0, rng.integers(-60, 60, INPUTS).astype(np.int16)) for n in (3, 7)]
        model.class_stats.rows[:], model.class_stats.biases[:] = rng.integers(-60, 60, (KNOWN, INPUTS)), 0
        known = reference.class_rows(model.class_stats, classes)
        x, q = rng.integers(-40, 40, INPUTS), rng.permutation(np.arange(-60, 60, 24))[:KNOWN]
        label = int(rng.choice([0, 1, 2, 3, 7]))

        def loss(at: NDArray[np.float64], x=x, q=q, known=known, label=label) -> float:
            outputs, inputs = q + at[:KNOWN], x + at[KNOWN:]
            scores = np.array([(row * inputs).sum() + bias for row, bias in known]) / 2**model.class_stats.exponent
            scores[:KNOWN] += (outputs - outputs.max()) * scale
            place = {3: 3, 7: 4}.get(label, label)
            return float(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[place])

        _, outputs, inputs = reference.class_loss(model, classes, x, q, label)
        found = np.concatenate([outputs[0] * 2.0 ** outputs[1], inputs[0] * 2.0 ** inputs[1]]) * scale
        steps = np.eye(KNOWN + INPUTS) * 1e-3
        wanted = np.array([(loss(step) - loss(-step)) / 2e-3 for step in steps])
        if np.abs(wanted).max() > 0.02:
            cosines.append(found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted))
            sizes.append(np.linalg.norm(found) / np.linalg.norm(wanted))
    assert len(cosines) > 20 and min(cosines) > 0.98
    assert min(sizes) > 0.9 and max(sizes) < 1.1
