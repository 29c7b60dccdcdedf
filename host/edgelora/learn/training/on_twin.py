"""A board on this computer: the device's own Python over the twin, with a recipe's model and a store in RAM."""

from __future__ import annotations

from typing import Any

from edgelora.core.formats.elm import unpack_model
from edgelora.core.twin import device, native

from .recipe import Recipe

CACHE = 1 << 18  # bytes for adapters in use: more than any board has


def board_model(elm: bytes, recipe: Recipe, frames: int = 1) -> Any:
    """The device's `Model`, to train by a recipe. frames: of a sample."""
    ranks = recipe.ranks(unpack_model(elm))
    settings = recipe.micro_batch, recipe.momentum_shift, None, recipe.threshold, False, frames
    return device.module().Model(elm, ranks, recipe.mode, *settings)


def board_store(model: Any) -> Any:
    """An empty `Store`, with room for what a run of the model leaves in it."""
    flash = device.Flash.of(native.adapter_size(model.arena, True))
    store = device.module("store").Store(flash, CACHE)
    store.open(model)
    return store
