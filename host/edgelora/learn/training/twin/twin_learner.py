"""The host twin as a learner."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.ela import TensorState, unpack_adapter
from edgelora.core.formats.limits import MAX_SUMMED
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge.early_stopping import Course, Guard, Score
from edgelora.learn.training.recipe import LIMITS, Recipe, Settings

from .loop import Run, guarded, train


class TwinLearner:
    """The host twin as a learner. frames: per sample."""

    def __init__(self, model: bytes, settings: Settings, frames: int = 1) -> None:
        self.session = Session(model, *settings, frames=frames)
        self._features = np.zeros((0, 0), np.int8)  # [N, feature_size]
        self._kept = b""
        self.begin, self.load, self.flush = self.session.begin, self.session.load, self.session.flush
        self.save, self.use, self.predict = self.session.save, self.session.use, self.session.predict

    def cache(self, x: NDArray[np.int8], where: str) -> None:
        self._features = np.stack([self.session.features(row) for row in x])

    def train_cached(self, picked: NDArray[np.int64], y: NDArray[Any], learning_rate: int) -> list[int]:
        return self.session.train_all(self._features[picked], y, learning_rate, features=True)

    def train(self, x: NDArray[np.int8], y: NDArray[Any], learning_rate: int) -> list[int]:
        return self.session.train_all(x, y, learning_rate)

    def judge(self, samples: Samples) -> Score:
        return judged(self.session, samples)

    def keep(self) -> None:
        self._kept = self.save(False)

    def kept(self) -> bytes:
        return self._kept

    def go_on(self) -> None:
        self.load(self._kept)

    def losses(self, x: NDArray[np.int8], y: NDArray[Any]) -> NDArray[np.int32]:
        """Losses of samples with the adapter in use, as `train` returns them, without training."""
        return self.session.evaluate_all(x, y)[1]

    def gradients(self) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Gradients of A [rank, K] and B [O, rank] by op, as in SPEC.md, section 5, over the samples since `load`.

        Samples must be fewer than a micro-batch, and A trainable. Ends with an update at rate 0: the sums are in the
        arena, their exponent is in the scale that follows their mean (section 6).
        """
        sums = [self.session.gradients(matrix) for matrix in "AB"]
        self.flush(0)
        layers = unpack_adapter(self.save(True)).layers
        return {
            layer.op: (
                _scaled(sums[0][layer.op], layer.a_state).reshape(layer.a.shape),
                _scaled(sums[1][layer.op], layer.b_state).reshape(layer.b.shape),
            )
            for layer in layers
        }


def judged(session: Session, samples: Samples) -> Score:
    """The score on samples of what infers now."""
    return Score.of(samples, *session.evaluate_all(samples.x, samples.targets))


def _scaled(sums: NDArray[np.int64], state: TensorState | None) -> NDArray[np.float64]:
    if state is None or not state.vm:
        return np.zeros(len(sums))
    shift = max(0, int(np.abs(sums).max()).bit_length() - 15)
    mean = -(-int((np.abs(sums) >> shift).sum()) // len(sums))
    return (sums * 2.0 ** (state.vx + 16 - mean.bit_length() - shift)).astype(np.float64)


def most_summed(model: QuantModel, ops: Iterable[int]) -> int:
    """The most samples that `TwinLearner.gradients` can sum, with adapters on these ops."""
    positions = max(model.tensors[model.ops[op].output].positions for op in ops)
    return min(LIMITS["micro_batch"][1], MAX_SUMMED // positions) - 1


def train_twin(model: bytes, samples: Samples, recipe: Recipe, stop: int | None = None) -> Run:
    """The whole run, or its first `stop` updates, on the host twin: all activations kept, nothing cached."""
    settings = replace(recipe, cache="none").resolved(model, len(samples.of_epoch))
    learner = TwinLearner(model, settings.session, samples.frames)
    learner.begin(settings.seed)
    return train(learner, samples, settings, stop=stop)


def guard_twin(
    model: bytes,
    course: Course,
    guard: Guard | None,
    stop: int | None = None,
    on_epoch: Callable[[bytes], None] | None = None,
) -> Run:
    """`train_twin` by a course, with its guard. on_epoch: called with the adapter after each epoch."""
    course = replace(course, settings=replace(course.settings, cache="none"))
    learner = TwinLearner(model, course.settings.session, course.samples.frames)
    learner.begin(course.settings.seed)
    checkpoint = (lambda: on_epoch(learner.save(False))) if on_epoch else None
    return guarded(learner, course, guard, checkpoint=checkpoint, stop=stop)
