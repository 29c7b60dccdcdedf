"""Warnings about samples and a network's outputs, to read before trusting its figures."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgelora.core.twin.session import Session

from .base import Base, adapter_ranks
from .samples import Clipping, Samples

CLIPPED_FROM = 0.01  # share of input values beyond the base's range from which a note warns
SATURATED_FROM = 0.1  # share of samples with an output at an end of its grid from which a note warns
FEW_TEST_SAMPLES = 20  # with fewer, the confidence interval of an accuracy is wider than 20 points to either side
G = 9.80665  # m/s2


@dataclass(frozen=True)
class Remarks:
    """Shares, 0 to 1. clipped: of input values beyond the input's range; saturated: see `saturated`. notes: texts."""

    clipped: float
    saturated: float
    notes: list[str] = field(default_factory=list)


def remarks(base: Base, adapter: bytes | None, test: Samples, trained: Samples | None = None) -> Remarks:
    """Remarks on the training samples, if any, and on the test samples and their outputs with this adapter."""
    judged, what = (test, "test") if trained is None else (trained, "training")
    share = saturated(base, adapter, test)
    notes = [
        _too_few(base, test),
        _for_hours(base),
        _clipped(base, judged, what),
        _beyond(base, judged, what),
        _saturated(share),
    ]
    if trained is not None:
        notes.insert(0, _one_class(base, trained))
    clipped = judged.clipping.share if judged.clipping else 0.0
    return Remarks(round(clipped, 4), round(share, 4), [note for note in notes if note])


def saturated(base: Base, adapter: bytes | None, test: Samples) -> float:
    """The share of samples whose largest logit is at an end of its grid and so can't grow further, by the host twin.

    Smaller logits at the lower end don't count: quantization leaves values out of the grid that a softmax ignores.
    """
    model = base.model
    if model.learns_values:
        return 0.0
    floor = -127 - model.ops[model.loss_index - 1].mask_low  # a bound of an activation function is no end of the grid
    session = Session(base.elm, adapter_ranks(base, adapter), "infer", 1, frames=test.frames)
    session.use(adapter)
    count = 0
    for x in test.x:
        largest = session.sample_activations(x, model)[model.loss_index].max()
        count += bool(largest == 127 or largest < floor)
    return count / len(test)


def _one_class(base: Base, samples: Samples) -> str:
    seen = np.unique(samples.y)
    if len(seen) > 1 or base.model.learns_values:
        return ""
    label = base.model.labels[seen[0]] if seen[0] < len(base.model.labels) else seen[0]
    return (
        f"all {len(samples)} training samples are of one class, {label}: an adapter trained on them alone "
        "predicts nothing else; record samples of each class"
    )


def _too_few(base: Base, test: Samples) -> str:
    if len(test) >= FEW_TEST_SAMPLES or base.model.learns_values:
        return ""
    points = 100 * 1.96 * 0.5 / len(test) ** 0.5
    return f"{len(test)} test samples are few: their accuracy is uncertain by {points:.0f} points; record more"


def _for_hours(base: Base) -> str:
    if not base.model.has_history or base.model.output.size > 1 or base.model.learns_values:
        return ""
    return (
        f"{base.name} says yes or no in every frame of a stream, and samples tell little of how often it is wrong in "
        "an hour: `edgelora wake test` counts that in speech"
    )


def _clipped(base: Base, samples: Samples, what: str) -> str:
    clipping = samples.clipping
    if clipping is None or clipping.share < CLIPPED_FROM:
        return ""
    low, high = base.model.input.span
    said = (
        f"{clipping.share:.1%} of the {what} samples' values are outside the input range of {base.name} and are "
        f"clipped ({clipping.low:.4g} to {clipping.high:.4g}, range {low:.4g} to {high:.4g})"
    )
    return (
        f"{said}: {_in_g(clipping, low, high)}units must be those that it was trained on. If they are, {_RECALIBRATE}"
    )


def _beyond(base: Base, samples: Samples, what: str) -> str:
    clipping = samples.target_clipping
    if clipping is None or clipping.share < CLIPPED_FROM:
        return ""
    low, high = base.model.output.span
    return (
        f"{clipping.share:.1%} of the {what} samples' targets are outside the output range of {base.name}, {low:.4g} "
        f"to {high:.4g} ({clipping.low:.4g} to {clipping.high:.4g}): {_RECALIBRATE}"
    )


_RECALIBRATE = (
    "its range is too narrow for this user: quantize the network again with such samples in the calibration data "
    "(`edgelora quantize NET --data MORE.npz`; for a .tflite, its representative data set)"
)


def _in_g(clipping: Clipping, low: float, high: float) -> str:
    times = max(-clipping.low, clipping.high) / max(-low, high)
    looks = G / 2 < times < G * 1.5
    return f"they are {times:.3g} times as large, so they may be m/s2 where it takes g; " if looks else ""


def _saturated(share: float) -> str:
    if share < SATURATED_FROM:
        return ""
    return (
        f"{share:.0%} of the test samples saturate an int8 output: use fewer --epochs or a lower --learning-rate; "
        "`edgelora quantize` leaves headroom for outputs"
    )
