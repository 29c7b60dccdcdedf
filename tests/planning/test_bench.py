"""What `edgelora bench kernels` and `bench model` count and run, without a board's clock."""

import numpy as np
import pytest
from fresh import slow

from benchmarks.continual import bench_continual
from benchmarks.kernels import SHAPES
from benchmarks.model import random_adapter
from benchmarks.month import CHANGE, COLUMNS, DAYS, Cell, bench_month
from benchmarks.networks import Shape, network
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin.binding import check_model
from edgelora.core.twin.session import Session
from edgelora.learn.training.recipe import Recipe

EDGES = (
    Shape("conv", "conv", (5, 7, 3), 4, (3, 2), (2, 3)),
    Shape("conv", "conv", (5, 7, 3), 4, (3, 2), (2, 3), same=False),
    Shape("depthwise", "depthwise", (4, 1, 6), 6, (5, 3), (1, 2)),
    Shape("max_pool", "max_pool", (5, 5, 2), 2, (2, 2), (2, 2)),
)


def counted(shape: Shape) -> int:
    """Multiply-accumulates, counted tap by tap."""
    if shape.kind == "dense":
        return shape.size[2] * shape.outputs
    height, width, channels = shape.size
    kernel = (height, width) if shape.kind == "mean" else shape.kernel
    out = shape.output
    total = 0
    for y in range(out[0]):
        for x in range(out[1]):
            top, left = y * shape.stride[0] - shape.padding[0], x * shape.stride[1] - shape.padding[1]
            for dy in range(kernel[0]):
                for dx in range(kernel[1]):
                    total += 0 <= top + dy < height and 0 <= left + dx < width
    return total * shape.outputs * (channels if shape.kind == "conv" else 1)


def test_sizes_are_those_of_tensorflow():
    assert [(s.output, s.padding) for s in EDGES] == [
        ((3, 3, 4), (1, 0)),
        ((2, 2, 4), (0, 0)),
        ((4, 1, 6), (2, 1)),
        ((3, 3, 2), (0, 0)),
    ]


@pytest.mark.parametrize("shape", [*SHAPES, *EDGES], ids=lambda shape: f"{shape.op}-{shape.name}")
def test_kernels_run_alike_in_both_variants(shape):
    assert shape.macs == counted(shape)
    model = network([shape])
    elm = pack_model(model)
    check_model(elm)
    sessions = [Session(elm, b"\0", "infer", 1, plain=plain) for plain in (True, False)]
    rng = np.random.default_rng(1)
    for _ in range(3):
        x = rng.integers(-128, 128, model.input.size).astype(np.int8)
        outputs = []
        for session in sessions:
            session.infer(x)
            outputs.append(session.logits.tolist())
        assert outputs[0] == outputs[1]
        assert len(set(outputs[0])) >= 5  # not all equal, and not all saturated


@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
def test_noise_makes_an_adapter_that_matters(keyword_elm, mode):
    ranks = Recipe(rank=4, placement="pointwise").ranks(keyword_elm)
    session = Session(keyword_elm, ranks, mode)
    x = np.random.default_rng(2).integers(-128, 128, 490).astype(np.int8)
    session.infer(x)
    base = session.logits.tolist()
    session.load(random_adapter(keyword_elm, ranks, mode, np.random.default_rng(3)))
    session.infer(x)
    assert session.logits.tolist() != base


def test_years_remember_what_naive_learning_forgets():
    rows = bench_continual(Recipe(rank=4), ["3"], range(1), [40], workers=1).rows
    found = {(row.method, row.slots): row.accuracy for row in rows}
    assert found["naive", 0] < found["base", 0] < found["consolidated", 40] and len(rows) == 6


@slow
def test_a_month_recovers_from_a_turned_sensor():
    """The same days before the change; afterwards the base is worse, and what is in use is good again."""
    cells = (Cell("calm"), Cell("turned_90", 90))
    result = bench_month(Recipe(rank=4), ["3"], range(1), cells, workers=1)
    assert [(row.cell, row.lives) for row in result.rows] == [("calm", 1)] * 2 + [("turned_90", 1)] * 2
    for calm, turned in zip(result.lives[:2], result.lives[2:], strict=True):
        assert len(turned.in_use) == len(turned.base) == DAYS and len(turned.fresh) == 3
        assert turned.in_use[:CHANGE] == calm.in_use[:CHANGE]
        assert turned.base[-1] < turned.base[0] - 0.1 and turned.in_use[-1] > turned.base[-1] + 0.2
        assert turned.days_to_fresh <= 5
    told = [dict(zip(COLUMNS, row.told, strict=True)) for row in result.rows]
    assert [bool(row["at 90 %"]) for row in told] == [False, False, True, True]
    assert [row["in use"] for row in told] == [f"{row.in_use:.3f}" for row in result.rows]


def test_a_month_with_wrong_labels_gains_without_a_bad_day():
    """A fifth of the labels is wrong; a learner that trusted them stayed with the base all month."""
    for life in bench_month(Recipe(rank=4), ["3"], range(1), [Cell("wrong_20", wrong=0.2)], workers=1).lives:
        assert life.gain > 0.03 and life.worst_day > -0.01 and life.in_use[-1] > life.base[-1] + 0.05
