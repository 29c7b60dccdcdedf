"""Training of float networks: loss, Adam, schedules, epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress

from . import deterministic_math
from .layers import Array, FloatNet, backward, forward, parameters

Augment = Callable[[Array, np.random.Generator], Array]
Loss = Callable[[Array, NDArray[Any]], tuple[float, Array]]  # of outputs and y; its gradient at the outputs
SCHEDULES = ("constant", "linear", "cosine", "step", "warm")
WARM = 1 / 30  # of a training, in which the rate of the schedule "warm" rises
REPORTED = 100  # updates between reports of progress within an epoch


# ---- training --------------------------------------------------------------------------------------------------------


def softmax_cross_entropy(logits: Array, y: NDArray[np.integer]) -> tuple[float, Array]:
    """Mean loss in nats of logits [N, ...] at labels y, [N] or [N, positions], and its gradient at the logits."""
    shape, y = logits.shape, y.reshape(-1)
    logits = logits.reshape(len(y), -1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = deterministic_math.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    losses = np.log(total[:, 0]) - shifted[rows, y]
    gradient = exponentials / total
    gradient[rows, y] -= 1
    return float(losses.mean()), (gradient / len(y)).reshape(shape)


def mean_squared_error(outputs: Array, y: Array) -> tuple[float, Array]:
    """Mean squared distance of outputs [N, D] from y [N, D], and its gradient at the outputs."""
    apart = outputs - y
    return float(np.mean(np.square(apart))), 2 * apart / apart.dtype.type(apart.size)


class Adam:
    """Adam (Kingma and Ba, 2015) with decoupled weight decay (Loshchilov and Hutter, 2019), updating in place."""

    def __init__(self, parameters: Sequence[Array], weight_decay: float = 0.0) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in self.parameters]
        self.kept_m = self.kept_v = 1.0  # what the moments still have of their beginning, 0

    def step(self, gradients: Sequence[Array], rate: float) -> None:
        """One update with `gradients`, in the order of the parameters. Only arrays with several axes decay."""
        self.kept_m *= 0.9
        self.kept_v *= 0.999
        fix_m, fix_v = 1 - self.kept_m, 1 - self.kept_v
        for p, g, (m, v) in zip(self.parameters, gradients, self.moments, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            if p.ndim > 1:
                p -= rate * self.weight_decay * p
            p -= rate * (m / fix_m) / (np.sqrt(v / fix_v) + 1e-8)


class RunningMean:
    """A running mean of parameters over about the last 1 / (1 - kept) values, or fewer at the start.

    It generalizes better than the last values (B. Polyak and A. Juditsky, 1992).
    """

    def __init__(self, parameters: Sequence[Array], kept: float) -> None:
        self.parameters, self.kept, self.steps = list(parameters), kept, 0
        self.means = [p.copy() for p in self.parameters]

    def step(self) -> None:
        """Adds the parameters' current values to the mean."""
        self.steps += 1
        share = max(1 - self.kept, 10 / (self.steps + 10))
        for mean, p in zip(self.means, self.parameters, strict=True):
            mean += share * (p - mean)

    def assign(self) -> None:
        """Sets the parameters to their means."""
        for mean, p in zip(self.means, self.parameters, strict=True):
            p[...] = mean


def scheduled(schedule: str, rate: float, done: float) -> float:
    """The learning rate after a share `done` in [0, 1] of the training.

    'step' divides by 10 at 60 % and at 85 %; 'warm' is the cosine with a linear rise at the start.
    """
    if schedule == "warm":
        return min(1.0, done / WARM) * scheduled("cosine", rate, done)
    if schedule == "cosine":
        return rate * 0.5 * (1 + deterministic_math.cosine(done))
    if schedule == "linear":
        return rate * (1 - done)
    if schedule == "step":
        return rate * (1.0 if done < 0.6 else 0.1 if done < 0.85 else 0.01)
    if schedule == "constant":
        return rate
    raise InputError(f"unknown schedule {schedule!r}; use one of {', '.join(SCHEDULES)}")


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.integer]]:
    """Indices of each batch of one shuffled epoch over `count` samples; the last may be smaller."""
    order = rng.permutation(count)
    for i in range(0, count, size):
        yield order[i : i + size]


def fit(
    net: FloatNet,
    x: Array,
    y: NDArray[Any],
    epochs: int,
    seed: int,
    rate: float = 3e-3,
    batch: int = 64,
    weight_decay: float = 1e-3,
    schedule: str = "cosine",
    augment: Augment | None = None,
    progress: Progress = no_progress,
    loss: Loss = softmax_cross_entropy,
) -> list[float]:
    """Trains `net` in place on x [N, H, W, C], y [N, ...] as `loss` has it, by Adam; returns each epoch's mean loss."""
    rng = np.random.default_rng(seed)
    optimizer = Adam(parameters(net), weight_decay)
    losses = []
    for epoch in range(epochs):
        total = 0.0
        for i, chosen in enumerate(batches(len(x), batch, rng)):
            inputs = augment(x[chosen], rng) if augment else x[chosen]
            activations = forward(net, inputs)
            found, d_logits = loss(activations[-1].reshape(len(chosen), -1), y[chosen])
            gradients = [g for pair in backward(net, activations, d_logits) if pair for g in pair]
            optimizer.step(gradients, scheduled(schedule, rate, (epoch + i * batch / len(x)) / epochs))
            total += found * len(chosen)
            if i % REPORTED == REPORTED - 1:
                progress(epoch * len(x) + i * batch, epochs * len(x), f"loss {found:.3f}")
        losses.append(total / len(x))
        progress((epoch + 1) * len(x), epochs * len(x), f"loss {losses[-1]:.3f}")
    return losses
