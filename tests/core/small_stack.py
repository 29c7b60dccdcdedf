"""Runs the twin, with each of its engines, in a thread with a stack of the given KB; prints what it ran."""

from __future__ import annotations

import sys
import threading

import numpy as np
from class_cases import small_base
from random_models import random_model, random_sample, random_target, ranks_of

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import binding
from edgelora.core.twin.session import Session

KINDS = ("conv", "depthwise", "residual", "max_pool", "conv", "average_pool", "dense")


def session_of(data: bytes, ranks: bytes, mode: str, engine: str) -> Session:
    library = binding.library()
    real = library.edgelora_simd_room
    library.edgelora_simd_room = real if engine == "vectors" else lambda: 0
    try:
        return Session(data, ranks, mode, 2, momentum=2, plain=engine == "plain")
    finally:
        library.edgelora_simd_room = real


def run(model: QuantModel, rank: int, engine: str, ran: list[str]) -> None:
    rng, data = np.random.default_rng(0), pack_model(model)
    ranks = ranks_of(model, {i: rank for i, op in enumerate(model.ops) if op.is_matrix})
    for mode in ("frozen_a", "trainable_a"):
        session = session_of(data, ranks, mode, engine)
        session.begin(1)
        for _ in range(3):
            x, target = random_sample(rng, model, 1), random_target(rng, model)
            session.train(x, target, 6000)
            session.train_features(session.features(x), target, 6000)
        session.flush(6000)
        file = session.save()
        session.use(session.blend([file, file], [4096, -4000]))
        session.infer(x)
        session.evaluate(x, target)
        session.merge(ranks.index(rank))
        session.infer(x)
        if model.class_stats:
            session.class_row(x, model.output.size, "new")
        ran.append(f"{engine} {mode} {len(model.ops)}")


def main(kilobytes: int) -> None:
    models = [random_model(seed, size, KINDS, edges=False) for seed, size in ((3, "medium"), (4, "wide"))]
    models.append(small_base(np.random.default_rng(0)))
    ran: list[str] = []

    def work() -> None:
        for engine in ("vectors", "packed", "plain"):
            for model in models:
                run(model, 2, engine, ran)
        binding.verify(bytes(32), b"message", bytes(64))

    threading.stack_size(kilobytes << 10)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    print("\n".join(ran))


if __name__ == "__main__":
    main(int(sys.argv[1]))
