"""`edgelora bench host`: the host's kernels in one thread, compared with LiteRT's (XNNPACK) and with the reference
kernels; transformers, which come from floats, with these alone.

Candidates run in turns, so that other load on the machine affects all; figures are the best of all rounds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import MATRIX_KINDS, QuantModel
from edgelora.core.twin.binding import library
from edgelora.core.twin.session import Session
from edgelora.model.floatnet.zoo import ENCODER, LANGUAGE
from edgelora.model.importers.tflite.write import write_tflite

from .held import held_to_avx2
from .model import random_adapter
from .networks import image_network, keyword_network, language, tokens

NETWORKS = {"keyword DS-CNN": keyword_network, "image ResNet": image_network}
TRANSFORMERS = {
    "language model, 64 characters": lambda: language(96, 64, LANGUAGE),
    "encoder, 25 tokens": lambda: tokens(25, 6, ENCODER),
}
LITERT, PLAIN = "LiteRT XNNPACK", "plain kernels"
RANK = 4
ROUND = 0.002  # seconds of each in a round: shorter than a turn that another process would take

Run = Callable[[], object]


@dataclass(frozen=True)
class HostTime:
    """Microseconds of a call, and of a peer's; None: not installed."""

    model: str
    what: str
    us: float
    peer: str | None
    peer_us: float | None


def bench_host(rounds: int, avx2: bool = False, progress: Progress = no_progress) -> list[HostTime]:
    """Inference without and with adapters, and training steps, of networks with random weights.

    avx2: both libraries are held to AVX2; raises InputError where that is impossible.
    """
    library()
    with contextlib.suppress(ImportError):  # loaded before it is held
        import ai_edge_litert.interpreter  # noqa: F401
    with held_to_avx2("litert", "libedgelora") if avx2 else contextlib.nullcontext():
        return _bench(rounds, progress)


def _bench(rounds: int, progress: Progress) -> list[HostTime]:
    rows: list[HostTime] = []
    names = [*NETWORKS, *TRANSFORMERS]
    for number, name in enumerate(names):
        progress(number, len(names), name)
        model = (NETWORKS | TRANSFORMERS)[name]()
        file = write_tflite(model) if name in NETWORKS else None
        for what, own, peer, other in _runs(model, file):
            us, peer_us = _best(rounds, own, other)
            rows.append(HostTime(name, what, us, peer, peer_us))
    progress(len(names), len(names), "done")
    return rows


def _runs(model: QuantModel, file: bytes | None) -> list[tuple[str, Run, str | None, Run | None]]:
    """The calls to time, and those of the peer. file: LiteRT's; None: plain kernels infer beside."""
    elm, rng = pack_model(model), np.random.default_rng(0)
    positions = model.loss_tensor.positions
    low, high = (0, model.loss_tensor.shape[2]) if positions > 1 else (-128, 128)  # ids, or values
    x = rng.integers(low, high, model.input.size).astype(np.int8)
    answer = x.reshape(-1) if positions > 1 else 1
    ranks = bytes(RANK if op.kind in MATRIX_KINDS else 0 for op in model.ops)
    base, slow_base = (Session(elm, bytes(len(model.ops)), "infer", plain=plain) for plain in (False, True))
    litert = _litert(file, x.reshape(1, *model.input.shape)) if file else lambda: slow_base.infer(x)
    runs: list[tuple[str, Run, str | None, Run | None]] = [
        ("inference", lambda: base.infer(x), litert and (LITERT if file else PLAIN), litert)
    ]
    adapter = random_adapter(elm, ranks, "frozen_a", rng)
    adapted, plain = (_used(Session(elm, ranks, "infer", plain=plain), adapter) for plain in (False, True))
    runs.append((f"inference, rank {RANK}", lambda: adapted.infer(x), PLAIN, lambda: plain.infer(x)))
    for mode in ("frozen_a", "trainable_a"):
        fast, slow = (_begun(Session(elm, ranks, mode, plain=plain)) for plain in (False, True))
        what = f"training step, {mode.replace('_a', ' A')}"
        runs.append((what, _training(fast, x, answer), PLAIN, _training(slow, x, answer)))
    return runs


def _used(session: Session, adapter: bytes) -> Session:
    session.use(adapter)
    return session


def _begun(session: Session) -> Session:
    session.begin(1)
    return session


def _training(session: Session, x: NDArray[np.int8], answer: int | NDArray[np.int8]) -> Run:
    return lambda: session.train(x, answer, 60)


def _litert(file: bytes, x: NDArray[np.int8]) -> Run | None:
    """An inference of LiteRT; None if it is not installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    interpreter = Interpreter(model_content=file, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    return interpreter.invoke  # type: ignore[no-any-return]


def _best(rounds: int, own: Run, peer: Run | None) -> tuple[float, float | None]:
    """Microseconds of a call of each."""
    runs = [own] if peer is None else [own, peer]
    counts = [max(1, round(ROUND / _seconds(run, 1))) for run in runs]
    best = [float("inf")] * len(runs)
    for _ in range(rounds):
        for i, run in enumerate(runs):
            best[i] = min(best[i], _seconds(run, counts[i]))
    us = [round(1e6 * seconds, 1) for seconds in best]
    return us[0], us[1] if peer else None


def _seconds(run: Run, count: int) -> float:
    """Of one of `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count
