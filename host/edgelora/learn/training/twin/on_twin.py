"""A board's own training on this computer: the device's own Python over the twin, with a store in RAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgelora.base.progress import Progress, no_progress
from edgelora.core.twin import device, native
from edgelora.core.twin.session import NAT
from edgelora.learn.training.board.board_run import KEPT_NAME, NAME
from edgelora.learn.training.data.samples import Source
from edgelora.learn.training.judge.early_stopping import Course, Outcome, Score, Verdict
from edgelora.learn.training.recipe import Settings

from .loop import Run

CACHE = 1 << 18  # bytes for adapters in use: more than any board has
UNCOMMITTED = 1 << 30  # updates between commits: nothing is lost here without them


def board_model(elm: bytes, settings: Settings, frames: int = 1) -> Any:
    """The device's `Model`, to train. frames: per sample."""
    return device.module().Model(elm, *settings, False, frames)


def bare_store(model: Any) -> Any:
    """An empty `Store`, with room for the adapters of a run of the model."""
    flash = device.Flash.of(native.adapter_size(model.arena, True))
    return device.module("store").Store(flash, CACHE)


def board_store(model: Any) -> Any:
    """The same, opened with the model."""
    store = bare_store(model)
    store.open(model)
    return store


def board_training(
    elm: bytes,
    course: Course,
    previous: bytes | None = None,
    progress: Progress = no_progress,
    on_epoch: Callable[[bytes], None] | None = None,
) -> Run:
    """A board's own training by a course, to its end. previous: the adapter in use before; None: the base alone.

    on_epoch: called with the adapter after each epoch.
    """
    model = board_model(elm, course.settings.session, course.samples.frames)
    store = board_store(model)
    if previous:
        store.put(NAME, previous)
    settings, judges = course.settings, None if course.held is None else Source(course.held)
    given = settings.epochs, settings.seed, settings.learning_rate, UNCOMMITTED
    with device.refusals():
        run = device.module("training").Run(model, Source(course.samples), store, NAME, *given, held=judges)
        losses = _stepped(run, progress, on_epoch)
    adapter, state = bytes(store.read(NAME if run.better is not False else KEPT_NAME)), bytes(run.state)
    batches = [losses[at : at + model.micro_batch] for at in range(0, len(losses), model.micro_batch)]
    by_epoch: dict[int, list[int]] = {}
    for i, batch in enumerate(batches):
        by_epoch.setdefault(i * model.micro_batch // run.places, []).extend(batch)
    verdict = course.verdict(None) if course.held is None else Verdict.BETTER if run.better else Verdict.NOT_BETTER
    batch_losses = [sum(batch) / NAT / len(batch) for batch in batches]
    epoch_losses = [float(np.mean(epoch)) / NAT for epoch in by_epoch.values()]
    before, best = (Score(right, -loss) for right, loss in (run.before, run.best))
    outcome = None if course.held is None else Outcome(run.judged - 1, run.best_epoch, before, best)
    done = Run(adapter, state, batch_losses, epoch_losses, verdict, course.said)
    return replace(done, outcome=outcome, judged_adapter=adapter)


def _stepped(run: Any, progress: Progress, on_epoch: Callable[[bytes], None] | None) -> list[int]:
    """Completes a run; returns the loss of each sample, 1/4096 nat."""
    losses: list[int] = []
    passed = 0
    while not run.done:
        learned = run.position
        run.step()
        if run.position == learned:
            continue
        losses.append(run.loss)
        if not run.pending:
            epoch = f"epoch {(run.position - 1) // run.places + 1}/{run.epochs}"
            progress(run.updates, run.updates_in_all, f"{epoch} loss {run.loss / NAT:.3f}")
        if run.passed > passed:
            passed = run.passed
            if on_epoch:
                on_epoch(bytes(run.model.save()))
    return losses
