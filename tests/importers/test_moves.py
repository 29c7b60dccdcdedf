"""Views of a tensor as layers, for any order of its elements."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fresh import fresh_seeds

from edgelora.base.errors import InputError
from edgelora.model.floatnet.layers import layer_forward
from edgelora.model.importers import moves


def kinds(shape: tuple[int, int, int], wanted: np.ndarray) -> list[str]:
    """The kinds of layers, after checking that they produce the wanted elements."""
    layers = moves.layers(shape, wanted)
    x = np.arange(math.prod(shape)).reshape(1, *shape).astype(np.float32)
    for layer in layers:
        x = layer_forward(layer, x)
    assert x.shape[1:] == wanted.shape and np.array_equal(x[0], wanted)
    return [layer.kind for layer in layers]


def places(*shape: int) -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape)


def test_moves_take_as_few_layers_as_possible() -> None:
    assert kinds((4, 5, 6), places(4, 5, 6)) == []
    assert kinds((4, 5, 6), places(1, 20, 6)) == ["reshape"]
    assert kinds((4, 5, 6), places(4, 5, 6).transpose(2, 0, 1)) == ["gather"]
    assert kinds((4, 5, 6), places(4, 5, 6)[::-1, 1:3, ::2]) == ["gather"]
    assert kinds((4, 1, 6), np.repeat(places(4, 1, 6), 3, axis=1)) == ["gather"]
    shuffled = places(4, 5, 2, 3).transpose(0, 1, 3, 2).reshape(4, 5, 6)
    assert kinds((4, 5, 6), shuffled) == ["gather"]
    finer = places(4, 5, 2, 2).transpose(0, 2, 1, 3).reshape(8, 10, 1)  # PixelShuffle
    assert kinds((4, 5, 4), finer).count("gather") == 2
    mixed = np.random.default_rng(0).permutation(120).reshape(4, 5, 6)
    assert kinds((4, 5, 6), mixed) == ["reshape", "gather", "reshape"]


def factors(rng: np.random.Generator, size: int) -> tuple[int, int, int]:
    height = int(rng.choice([n for n in range(1, size + 1) if size % n == 0]))
    rest = size // height
    width = int(rng.choice([n for n in range(1, rest + 1) if rest % n == 0]))
    return height, width, rest // width


@pytest.mark.parametrize("seed", fresh_seeds(3))
def test_any_permutation_of_axes_and_any_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(60):
        sides = rng.integers(1, 5, rng.integers(1, 7))
        turned = places(*sides).transpose(rng.permutation(len(sides)))
        shape = factors(rng, turned.size)
        kinds(shape, turned.reshape(factors(rng, turned.size)))
        flipped = turned[tuple(slice(None, None, int(rng.choice([1, -1]))) for _ in sides)]
        kinds(shape, flipped.reshape(factors(rng, turned.size)))
        some = rng.integers(0, turned.size, rng.integers(1, 60))
        kinds(shape, some.reshape(factors(rng, some.size)))


def test_a_table_that_no_gather_can_hold_is_refused() -> None:
    size = 1 << 17
    with pytest.raises(InputError, match=f"moves {size} values to {size} positions"):
        moves.layers((1, 1, size), np.random.default_rng(0).permutation(size).reshape(1, 2, -1))
    with pytest.raises(InputError, match="moves 8 axes, the limit is 6"):
        moves.layers((1, 1, 256), places(*[2] * 8).transpose(range(7, -1, -1)).reshape(1, 16, 16))


@pytest.mark.parametrize("shape", [(5,), (3, 5), (3, 4, 5)])
def test_channels_first_are_stored_as_channels_last(shape: tuple[int, ...]) -> None:
    laid = moves.laid_out(shape)
    assert laid.shape == shape and moves.is_in_order(moves.channels_last(laid), moves.channels_last(laid).shape)
    assert laid.reshape(shape[0], -1)[:, 0].tolist() == list(range(shape[0]))
