"""What `edgelora bench kernels` and `bench model` count and run, without a board's clock."""

import numpy as np
import pytest

from benchmarks.kernels import SHAPES
from benchmarks.model import random_adapter
from benchmarks.networks import Shape, network
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin.binding import check_model
from edgelora.core.twin.session import Session
from edgelora.learn.training.recipe import Recipe

EDGES = {  # and their outputs and padding
    Shape("conv", "conv", (5, 7, 3), 4, (3, 2), (2, 3)): ((3, 3, 4), (1, 0)),
    Shape("conv", "conv", (5, 7, 3), 4, (3, 2), (2, 3), same=False): ((2, 2, 4), (0, 0)),
    Shape("depthwise", "depthwise", (4, 1, 6), 6, (5, 3), (1, 2)): ((4, 1, 6), (2, 1)),
    Shape("max_pool", "max_pool", (5, 5, 2), 2, (2, 2), (2, 2)): ((3, 3, 2), (0, 0)),
}


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


@pytest.mark.parametrize("shape", [*SHAPES, *EDGES], ids=lambda shape: f"{shape.op}-{shape.name}")
def test_kernels_run_alike_in_both_variants(shape):
    assert shape.macs == counted(shape)
    assert (shape.output, shape.padding) == EDGES.get(shape, (shape.output, shape.padding))
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
