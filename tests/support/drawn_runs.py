"""Runs of a random op or network for every core: calls, and the reference's answers."""

from __future__ import annotations

import sys

import numpy as np
from random_models import model_of, random_adapter, random_sample, random_target
from random_ops import DrawnOp
from reference import Trainer, forward, fresh_adapter, merge

from edgelora.base.resources import ROOT
from edgelora.core.formats.ela import pack_adapter
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.network import QuantModel

sys.path.insert(0, str(ROOT / "tools"))

from cores import Answers, Calls  # noqa: E402

RATE = 20_000
VARIANTS = ((False, 1), (True, 1), (False, 2), (True, 2))  # plain kernels, cores


def runs_of(drawn: DrawnOp) -> Runs:
    """Runs of a model whose last op is the drawn one."""
    model = model_of(drawn)
    made = model.tensors[1]
    first = min(2 + drawn.seed % 3, 65536 // made.shape[2], 2**20 // made.positions)
    ranks = {len(model.ops) - 1: drawn.rank} | ({} if drawn.alone else {0: first})
    return Runs(model, {op: rank for op, rank in ranks.items() if rank}, drawn.seed, drawn.shift, drawn.trainable_a)


class Runs:
    """Inference, without and with adapters of these ranks, and training.

    calls: for both variants of the kernels, on one core and two; answers: the expected ones. x, y: inputs without an
    adapter, outputs. shift: offset in bytes of inputs from a multiple of 4.
    """

    def __init__(
        self, model: QuantModel, ranks: dict[int, int], seed: int, shift: int = 0, trainable_a: bool = False
    ) -> None:
        self.model, self.ranks, self.shift, self.trainable_a = model, ranks, shift, trainable_a
        self.rng = np.random.default_rng(seed + 1)
        self.data = pack_model(model)
        self.calls, self.answers = Calls(), Answers()
        self.x = [random_sample(self.rng, self.model, 1)[0] for _ in range(3 if self.model.has_history else 1)]
        held: dict = {}
        self.y = [_bytes(forward(self.model, x, held=held)) for x in self.x]
        self._infer()
        if self.ranks:
            self._infer_with_adapter()
            self._train()

    def _open(self, mode: str, plain: bool, cores: int, *options: int) -> None:
        ranks = bytes(self.ranks.get(i, 0) for i in range(len(self.model.ops)))
        self._call("open", 0, self.data, ranks, mode, *options, plain=plain, cores=cores)

    def _call(self, name: str, answer: bytes | int, *arguments: object, **options: object) -> None:
        getattr(self.calls, name)(*arguments, **options)
        self.answers.append(answer)

    def _infer(self) -> None:
        for plain, cores in VARIANTS:
            self._open("infer", plain, cores)
            for x, y in zip(self.x, self.y, strict=True):
                self._call("infer", y, x, self.shift)

    def _infer_with_adapter(self) -> None:
        adapter = random_adapter(self.rng, self.model, trainable_a=True, ranks=self.ranks)
        file = pack_adapter(adapter)
        y = _bytes(forward(self.model, self.x[0], adapter))
        op = adapter.layers[-1].op
        merged = merge(self.model, adapter.layers.pop())
        merged_y = _bytes(forward(merged, self.x[0], adapter))
        for plain, cores in VARIANTS:
            self._open("infer", plain, cores)
            self._call("use", 0, file)
            self._call("infer", y, self.x[0], self.shift)
            self._call("merge", 0, op)
            if not self.model.has_history:
                self._call("infer", merged_y, self.x[0], self.shift)

    def _train(self) -> None:
        rng, model = self.rng, self.model
        most = 65536 // max(model.tensors[i + 1].positions for i in self.ranks)
        micro_batch, momentum, threshold = min(2, most), int(rng.choice([0, 3])), int(rng.choice([0, 0, 2048, 9000]))
        if not micro_batch:
            return
        base = base_id(self.data)
        start = fresh_adapter(model, self.ranks, 5, base, self.trainable_a, momentum, threshold)
        for layer in start.layers:
            layer.b = rng.integers(-60, 61, layer.b.shape).astype(np.int8)
        trainer = Trainer(model, start, micro_batch)
        file = pack_adapter(start)
        samples = [(random_sample(rng, model, 1), random_target(rng, model)) for _ in range(3)]
        losses = [trainer.train(x, target, RATE) for x, target in samples]
        trainer.flush(RATE)
        saved = pack_adapter(trainer.export())
        for plain, cores in VARIANTS:
            mode = "trainable_a" if self.trainable_a else "frozen_a"
            self._open(mode, plain, cores, micro_batch, momentum, threshold)
            self._call("load", 0, file)
            for (x, target), loss in zip(samples, losses, strict=True):
                self._call("train", loss, x, target, RATE, self.shift)
            self._call("flush", 0, RATE)
            self._call("save", saved, state=True)


def _bytes(trace) -> bytes:
    return trace.logits.astype(np.int8).tobytes()
