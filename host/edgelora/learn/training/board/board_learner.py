"""A board behind a link as a learner."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.board.link.replies import EvalReply, ModelInfo, TrainReply
from edgelora.core.twin.session import NAT
from edgelora.learn.training.data.base import Base, WorkflowError
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge.early_stopping import Score
from edgelora.learn.training.judge.metrics import errors
from edgelora.learn.training.recipe import Settings

from .board_paths import ADAPTER_PATH, CACHE_PATH, STATE_PATH, TRIAL_PATH


class BoardLearner:
    """A board behind a link.

    settings: of its session; frames: per sample.
    train_us: microseconds for `trained` samples; last_us, last_loss: of the last call; infer_us: microseconds per
    window of the last prediction.
    """

    def __init__(
        self,
        link: Link,
        base: Base,
        settings: Settings,
        progress: Progress = no_progress,
        frames: int = 1,
    ) -> None:
        self.link, self.base, self.settings, self.progress = link, base, settings, progress
        self.info = open_base(link, base, settings, frames)
        self.trained = self.train_us = self.last_us = 0
        self.infer_us = 0.0
        self.last_loss = 0.0  # nats, mean

    def begin(self, seed: int) -> None:
        self.link.begin(seed)

    def load(self, adapter: bytes) -> None:
        self.link.put(STATE_PATH, adapter)
        self.link.load(STATE_PATH)

    def cache(self, x: NDArray[np.int8], where: str) -> None:
        self.link.cache(x, CACHE_PATH if where == "flash" else None, self.progress)

    def train_cached(self, picked: NDArray[np.int64], y: NDArray[Any], learning_rate: int) -> list[int]:
        return self._trained(self.link.train_cached(picked, y, learning_rate))

    def train(self, x: NDArray[np.int8], y: NDArray[Any], learning_rate: int) -> list[int]:
        return self._trained(self.link.train(x, y, learning_rate))

    def _trained(self, reply: TrainReply) -> list[int]:
        self.trained += len(reply.losses)
        self.last_us = reply.elapsed_us
        self.last_loss = float(np.mean(reply.losses / NAT))
        self.train_us += reply.elapsed_us
        return [int(loss) for loss in reply.losses]

    def flush(self, learning_rate: int) -> None:
        self.link.flush(learning_rate)

    def save(self, state: bool) -> bytes:
        path = STATE_PATH if state else ADAPTER_PATH
        self.link.save(path, state)
        return self.link.get(path)

    def judge(self, samples: Samples) -> Score:
        reply = self.link.judge(samples.x, samples.targets, lock_heap=True, progress=self.progress)
        return Score.of(samples, reply.predictions, reply.losses)

    def keep(self) -> None:
        self.link.save(ADAPTER_PATH)

    def kept(self) -> bytes:
        return self.link.get(ADAPTER_PATH)

    def go_on(self) -> None:
        self.link.load(ADAPTER_PATH)

    def use(self, adapter: bytes | None) -> None:
        if adapter is None:
            return self.link.use(None)
        self.link.put(TRIAL_PATH, adapter)
        try:
            self.link.use(TRIAL_PATH)
        finally:
            self.link.remove(TRIAL_PATH)

    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]:
        return self._eval(x).predictions.astype(np.int64)

    def outputs(self, x: NDArray[np.int8]) -> NDArray[np.int8]:
        """All outputs of each sample, [N, output_size]."""
        rows = self._eval(x, logits=True).logits
        assert rows is not None
        return rows

    def answers(self, samples: Samples) -> NDArray[Any]:
        """The board's answer for each sample, as `metrics.answers` returns the twin's."""
        if self.base.model.learns_values:
            return errors(self.base, self.outputs(samples.x), samples)
        return self.predict(samples.x)

    def _eval(self, x: NDArray[np.int8], logits: bool = False) -> EvalReply:
        reply = self.link.eval(x, logits, lock_heap=True, progress=self.progress)
        self.infer_us = reply.elapsed_us / len(x)
        return reply


def base_path(link: Link, base: Base) -> str | None:
    """The path of the base on the board; None if the board lacks it."""
    return next((path for path in base.paths if link.holds(path, base.elm)), None)


def open_base(link: Link, base: Base, settings: Settings, frames: int = 1) -> ModelInfo:
    """Opens the base on the board, from ROMFS or its filesystem; writes it to the filesystem if it is missing.

    frames: per sample.
    """
    path = base_path(link, base)
    if path is None:
        path = base.paths[1]
        link.put(path, base.elm)
    info = link.open_model(path, *settings, frames=frames)
    if info.base_id != base.base_id:
        raise WorkflowError(
            f"the board's {path} has base id {info.base_id}, {base.name} has {base.base_id}: flash again"
        )
    return info
