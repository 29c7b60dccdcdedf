"""Layers at the limits of SPEC.md, section 8, with the largest values: all sums stay within 32 bits."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import reference
import sanitized
from fresh import some
from random_models import random_adapter, ranks_of

from edgelora.core.formats import limits
from edgelora.core.formats.ela import pack_adapter
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.network import Op, QuantModel, Tensor, layer_size
from edgelora.core.twin.session import Session

Shape = tuple[int, int, int]


def layer(kind: str, index: int, model: QuantModel, target: Shape, sign: int, **window: tuple[int, int]) -> None:
    """Adds a layer whose weights all have the largest magnitude: of one sign (1, -1) or alternating by row (0)."""
    source = model.tensors[-1]
    model.tensors.append(Tensor(target, 0.5, 0))
    op = Op(kind, index, index + 1, **window)
    model.ops.append(op)
    outputs, patch = layer_size(model, index)
    shape = (*op.kernel, outputs) if kind == "depthwise" else (outputs, *op.kernel, patch // np.prod(op.kernel))
    signs = sign or 1 - 2 * (np.arange(outputs) % 2)
    by_row = signs if kind == "depthwise" or sign else np.reshape(signs, (-1, 1, 1, 1))
    op.weights = np.broadcast_to(127 * by_row, shape).astype(np.int8)
    folded = source.zero_point * op.weights.sum(axis=(0, 1) if kind == "depthwise" else (1, 2, 3), dtype=np.int64)
    op.bias = (limits.MAX_BIAS * np.sign(folded - 0.5) + folded).clip(-(2**31) + 1, 2**31 - 1).astype(np.int32)
    op.multiplier, op.shift = np.full(outputs, 2**31 - 1, np.int32), np.full(outputs, -23, np.int8)
    if kind != "depthwise":
        op.t_shift, op.branch_shift = 14, 3


def extreme(
    kind: str, source: Shape, target: Shape, sign: int, zero_point: int, **window: tuple[int, int]
) -> QuantModel:
    """A 1x1 convolution with an adapter, followed by the layer at a limit, through which errors pass."""
    model = QuantModel([Tensor((*source[:2], 1), 0.5, 0)], [], loss="mean_squared_error")
    layer("conv", 0, model, source, 1)
    model.ops[0].bias[:], model.ops[0].shift[:] = 0, -7  # so that its output takes all values
    model.tensors[1] = Tensor(source, 0.5, zero_point)
    layer(kind, 1, model, target, sign, **window)
    return model


CASES = {  # kind, source, target, window
    "the longest patch, dense": ("dense", (128, 128, 1), (1, 1, 5), {}),
    "the longest patch, conv": ("conv", (8, 8, 256), (1, 1, 16), {"kernel": (8, 8)}),
    "the most rows": ("conv", (17, 16, 1), (2, 1, 256), {"kernel": (16, 16)}),
    "the most rows that one element is in": (
        "conv",
        (1, 255, 1),
        (1, 255, 257),
        {"kernel": (1, 255), "padding": (0, 127)},
    ),
    "the most outputs, dense": ("dense", (1, 1, 2), (1, 1, 65535), {}),
    "positions and outputs, dense": ("dense", (28, 28, 1), (1, 1, 128), {}),
    "depthwise": ("depthwise", (32, 32, 2), (1, 1, 64), {"kernel": (32, 32)}),
}


@pytest.mark.parametrize("sign", some([1, -1, 0]))
@pytest.mark.parametrize("case", CASES)
def test_layers_at_a_limit_equal_the_reference(case: str, sign: int) -> None:
    """Outputs, losses and the whole training state, with and without the kernels of this machine."""
    kind, source, target, window = CASES[case]
    rng = np.random.default_rng(0)
    for zero_point in (-128, 127):
        model = extreme(kind, source, target, sign, zero_point, **window)
        data = pack_model(model)
        most = [1, 0]
        if kind != "depthwise":
            outputs, patch = layer_size(model, 1)
            most[1] = min(limits.MAX_RANK, limits.MAX_FACTOR // max(outputs, patch))
        ranks = {op: rank for op, rank in enumerate(most) if rank}
        mixed = rng.choice(np.array([-128, 127], np.int8), model.input.shape)
        samples = [np.full(model.input.shape, 127, np.int8), mixed]
        wrong = np.full(model.output.size, -128, np.int8)  # for outputs that are all 127, or -128
        for trainable_a in (False, True):
            start = reference.fresh_adapter(model, ranks, 1, base_id(data), trainable_a, 0)
            trainer = reference.Trainer(model, start, 1)
            expected = [trainer.train(x[None], t, 65535) for x in samples for t in (wrong, ~wrong)]
            file = pack_adapter(trainer.export())
            for plain in (False, True):
                mode = "trainable_a" if trainable_a else "frozen_a"
                session = Session(data, ranks_of(model, ranks), mode, 1, plain=plain)
                session.begin(1)
                found = [session.train(x, t, 65535) for x in samples for t in (wrong, ~wrong)]
                assert found == expected and session.save(state=True) == file, f"zero point {zero_point}, {mode}"


@pytest.mark.parametrize("case", CASES)
def test_adapters_of_the_largest_values_equal_the_reference(case: str) -> None:
    """In inference, and merged."""
    kind, source, target, window = CASES[case]
    for sign in (1, -1, 0):
        model = extreme(kind, source, target, sign, -128, **window)
        if kind == "depthwise":
            return
        outputs, patch = layer_size(model, 1)
        rank = min(limits.MAX_RANK, limits.MAX_FACTOR // max(outputs, patch))
        adapter = random_adapter(np.random.default_rng(0), model, True, ranks={1: rank})
        for top in (127, -127):
            for shifts in ((24, 8), (0, -15), (14, 8)):
                one = adapter.layers[0]
                one.a[:], one.b[:], (one.t_shift, one.branch_shift) = 127, top, shifts
                file = pack_adapter(adapter)
                for plain in (False, True):
                    session = Session(pack_model(model), bytes(2), "infer", plain=plain)
                    session.use(file)
                    for x in (np.full(model.input.shape, value, np.int8) for value in (127, -128)):
                        session.infer(x)
                        assert session.logits.tolist() == reference.forward(model, x, adapter).logits.tolist()
                    session.merge(1)
                    merged = reference.merge(model, one)
                    session.infer(x)
                    assert session.logits.tolist() == reference.forward(merged, x).logits.tolist()


def test_errors_of_a_history_far_apart(tmp_path: Path) -> None:
    """The finer of two errors counts for nothing, and no shift exceeds its type."""
    program = sanitized.build(Path(__file__).with_name("history.c"), tmp_path)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
