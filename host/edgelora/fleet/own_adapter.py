"""Personalizing after a federation: a board starts from the global adapter or, if clearly better, from the base alone.

Runs the board's own `edgelora.fleet.personalize`.
"""

from __future__ import annotations

from typing import Any

from edgelora.base.errors import InputError
from edgelora.core.twin import device
from edgelora.learn.training.board.board_run import NAME
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples, Source
from edgelora.learn.training.twin.on_twin import board_store

from .client_training import fresh_adapter, model_of
from .plan import Plan


def personalized(base: Base, plan: Plan, adapter: bytes | None, samples: Samples, seed: int) -> bytes:
    """The adapter of a run from the better start; if the run does not help, a fresh one that equals the base alone.

    adapter: the global `.ela` with training state; None: start from the base alone. InputError: too few samples to
    validate.
    """
    model = model_of(base.elm, plan.rank, plan.mode)
    store, source = board_store(model), Source(samples)
    with device.refusals():
        if adapter is None:
            _from_base(model, store, source, seed)
        else:
            for _ in device.module("fleet").personalize(model, source, store, NAME, adapter, seed):
                pass
    if store.find(NAME):
        return bytes(store.read(NAME))
    return fresh_adapter(base.elm, plan.rank, plan.mode, seed, state=False)


def _from_base(model: Any, store: Any, source: Source, seed: int) -> None:
    """Personalizes without a global adapter, for comparison."""
    training = device.module("training")
    learned, held = training.split(source)
    if held is None:
        raise InputError("too few samples to validate", remedy="record more")
    trial = training.Run(model, learned, store, "trial", seed=seed, held=held)
    while not trial.done:
        trial.step()
    if trial.better:
        run = training.Run(model, source, store, NAME, seed=seed)
        while not run.done:
            run.step()
