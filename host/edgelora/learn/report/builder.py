"""Builds a report from the measurements of a personalization."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edgelora.board.probe import profile_of
from edgelora.core.twin import regions
from edgelora.learn.planning.cost import predict
from edgelora.learn.planning.plan import layer_plans
from edgelora.learn.training.board.board_paths import ADAPTER_PATH
from edgelora.learn.training.board.board_run import NAME
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.data_checks import Remarks
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.heads.confidence import Confidence
from edgelora.learn.training.judge.metrics import loss_unit, measured
from edgelora.learn.training.run.board_personalization import BoardRun, Task
from edgelora.learn.training.twin.loop import confusion

from .record import Change, LayerRow, Report, Sureness
from .statistics import mean_interval


def make_report(base: Base, task: Task, run: BoardRun, remarks: Remarks, sure: Confidence | None) -> Report:
    """All measurements of a run, in one report. sure: when an answer counts, if samples could tell."""
    samples, resolved = run.course.samples, run.course.settings
    test, hello, costs = task.test, run.hello, run.costs
    epochs = (run.outcome and run.outcome.epochs) or resolved.epochs
    settings = run.settings
    layout = regions.layout(base.elm, *settings)
    profile = profile_of(hello)
    in_flash, by_itself = bool(profile and not profile.stock), resolved.on_board
    cost = profile and predict(base.elm, settings, profile, samples.frames, in_flash, on_board=by_itself)
    power = profile and profile.power
    watts, step_us = profile.watts(costs.clock_hz) if profile else None, costs.train_step_us
    slower = cost.clock_hz / costs.clock_hz if cost and costs.clock_hz else 1
    unit = loss_unit(base)
    said = run.run.said or run.course.said
    notes = ["Times are the board's own clock.", f"{said[0].upper()}{said[1:]}."]
    if test.frames > 1:
        notes.append(f"Inference is that of a whole window of {test.frames} frames.")
    if costs.clock_hz:
        notes.append(f"Training ran at {costs.clock_hz / 1e6:g} MHz.")
    if sure:
        notes.append(f"{sure.words[0].upper()}{sure.words[1:]}.")
    notes += [f"{line[0].upper()}{line[1:]}." for line in remarks.notes]
    return Report(
        title=f"Personalizing {base.name} to {task.subject}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        board=hello.board,
        firmware=f"{hello.micropython}, edgelora {hello.edgelora}",
        subject=task.subject,
        seed=resolved.seed,
        labels=base.model.labels,
        float_lora_accuracy=None,
        host_twin_identical=run.twin.identical,
        arena_bytes=run.info.arena,
        free_heap_bytes=run.info.free,
        adapter_bytes=len(run.run.adapter),
        model_bytes=len(base.elm),
        base_id=base.base_id,
        infer_us=round(costs.infer_us, 1),
        train_step_us=step_us,
        swap_us=round(costs.swap_us, 1),
        swap_flash_us=round(costs.swap_flash_us, 1),
        predicted_infer_us=round(cost.infer_us, 1) if cost else None,
        predicted_train_step_us=round(cost.step_us * slower, 1) if cost and resolved.cache == "none" else None,
        active_watts=profile.watts() if profile else None,
        power_source=power.source if power else "",
        update_joules=None if step_us is None or watts is None else settings.micro_batch * step_us * 1e-6 * watts,
        energy=costs.energy,
        checkpoint_bytes=run.end.checkpoint if run.end else None,
        samples=len(samples),
        test_samples=len(test),
        tested_on=task.tested_on,
        tested_on_seen=task.seen,
        epochs=epochs,
        steps=sum(batch.epoch < epochs for batch in run.course.updates),
        rank=max(settings.ranks),
        mode=settings.mode,
        micro_batch=settings.micro_batch,
        momentum=settings.momentum,
        learning_rate=resolved.learning_rate,
        losses=[loss * unit for loss in run.run.losses],
        epoch_losses=[loss * unit for loss in run.run.epoch_losses],
        layers=[
            LayerRow(p.op, p.kind, list(p.input), list(p.output), p.weights, p.rank, p.adapter_bytes)
            for p in layer_plans(base.model, settings)
        ],
        memory=list(layout.regions),
        memory_steps=layout.steps,
        notes=notes,
        activated=run.activated,
        judged=run.verdict,
        held_out=len(run.course.held) if run.course.held and not run.own_rows else 0,
        own_rows=run.own_rows,
        best_epoch=run.outcome.best + 1 if run.outcome and run.outcome.epochs else None,
        final_epochs=run.run.final_epochs,
        base_path=run.base_path,
        adapter_path=ADAPTER_PATH,
        confidence=Sureness(**asdict(sure)) if sure else None,
        store_name=NAME if resolved.on_board else "",
        clipped=remarks.clipped,
        saturated=remarks.saturated,
        **_measures(base, test, run),
    )


def _measures(base: Base, test: Samples, run: BoardRun) -> dict[str, Any]:
    """The report's fields for accuracy, of a classifier, or for error, of a network that learns values."""
    before, after = (measured(base, answered, test).rounded for answered in (run.before, run.after))
    epochs = [found.rounded for found in run.twin.epochs]
    if base.model.learns_values:
        gap = mean_interval((run.after - run.before).tolist())
        return {
            "base_accuracy": None,
            "adapted_accuracy": None,
            "base_error": before,
            "adapted_error": after,
            "error_change": gap and Change(*gap),
            "epoch_errors": epochs,
        }
    right_before, right_after = run.before == test.y, run.after == test.y
    return {
        "base_accuracy": before,
        "adapted_accuracy": after,
        "epoch_accuracies": epochs,
        "confusion_base": confusion(run.before, test.y, base.model.classes),
        "confusion_adapted": confusion(run.after, test.y, base.model.classes),
        "gained": int(np.sum(~right_before & right_after)),
        "lost": int(np.sum(right_before & ~right_after)),
    }
