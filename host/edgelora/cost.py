"""What an inference, a training step and an update take on a board: cycles, time and energy, without the board.

The cycles of a pass are those of its ops' kernels (`edgelora.terms`), of the loss and of the updates: counts times the
board's cycles for each, which were fitted to measurements of the board (`edgelora.bench_cost`). Which kernel runs is
asked of the core itself. What depends on data is taken as it is on average: fused activations stop half of the errors,
a trained A has no zeros, and no error vanishes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from . import formats, terms, twin
from .boards import BoardProfile
from .terms import Layer

READS_INPUT, READS_OUTPUT = ("max_pool", "lookup"), ("softmax",)  # in the backward pass

Terms = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Cost:
    """Predicted cycles. step_cycles: one training sample with its share of an update; 0 in mode "infer".

    ops: (forward, backward) of each; forward with the adapter and, in a training step, with what is kept of it and
    computed again.
    """

    infer_cycles: int
    step_cycles: int
    update_cycles: int
    ops: tuple[tuple[int, int], ...]
    micro_batch: int
    clock_hz: int
    active_watts: float | None

    @property
    def infer_us(self) -> float:
        return self.infer_cycles / self.clock_hz * 1e6

    @property
    def step_us(self) -> float:
        return self.step_cycles / self.clock_hz * 1e6

    @property
    def update_joules(self) -> float | None:
        """Energy of a micro-batch's samples and the update, an estimate; None: the board's power is not known."""
        return None if self.active_watts is None else self.micro_batch * self.step_us * 1e-6 * self.active_watts


def predict(
    elm: bytes,
    ranks: bytes,
    mode: str,
    micro_batch: int,
    momentum: int,
    recompute: bytes | None,
    board: BoardProfile,
) -> Cost | None:
    """The cost of a session on a `.elm`, configured as for `twin.layout`; None: the board was not measured."""
    if board.cycles is None or board.clock_hz is None:
        return None
    cycles, passes = board.cycles, passes_of(elm, ranks, mode, momentum, recompute)

    def total(of: Iterable[tuple[str, float]]) -> float:
        return sum(cycles.get(name, 0.0) * count for name, count in of)

    ops = [(total(forward), total(backward)) for forward, backward in zip(passes.forward, passes.backward, strict=True)]
    update = total(passes.update)
    step = sum(map(sum, ops)) + total(passes.loss) + update / micro_batch if mode != "infer" else 0
    return Cost(
        infer_cycles=round(total(chain(passes.call, *passes.infer))),
        step_cycles=round(step),
        update_cycles=round(update),
        ops=tuple((round(forward), round(backward)) for forward, backward in ops),
        micro_batch=micro_batch,
        clock_hz=board.clock_hz,
        active_watts=board.power.active_watts if board.power else None,
    )


@dataclass(frozen=True)
class Passes:
    """Terms of a session's passes. infer, forward and backward have those of each op, the latter two of a step."""

    infer: tuple[Terms, ...]
    forward: tuple[Terms, ...]
    backward: tuple[Terms, ...]
    call: Terms  # of an inference
    loss: Terms
    update: Terms


def passes_of(elm: bytes, ranks: bytes, mode: str, momentum: int, recompute: bytes | None) -> Passes:
    """What the passes of a session consist of."""
    network = _network(elm)
    count, trains_a = len(network.layers), mode == "trainable_a"
    needs = network.needs(ranks) if mode != "infer" else [False] * count
    room = network.room(ranks, needs)
    infer = [network.forward(i, ranks[i], trains_a, network.is_fast(i, ranks[i], False, room)) for i in range(count)]
    forward, backward = [], []
    arrived: set[int] = set()  # tensors that have an error
    read: set[int] = set()  # tensors that the backward pass reads
    for i in reversed(range(count)):
        wanted = [tensor for tensor in network.inputs[i] if needs[i] and tensor and needs[tensor - 1]]
        if needs[i]:
            read.update(network.reads(i, bool(wanted), trains_a and ranks[i] > 0))
        again = bool(recompute and recompute[i] and i + 1 in read)
        if again:
            read.update(network.inputs[i])
        kept = network.keep(i, ranks[i]) if needs[i] else ()
        forward.append(infer[i] * (1 + again) + kept if mode == "infer" or i < network.trained else ())
        joined = sum(network.sizes[t] for k, t in enumerate(wanted) if t in arrived or t in wanted[:k])
        arrived.update(wanted)
        fast = network.is_fast(i, ranks[i], True, room)
        backward.append(
            network.backward(i, ranks[i], trains_a and ranks[i] > 0, len(wanted), fast, joined) if needs[i] else ()
        )
    return Passes(
        tuple(infer),
        tuple(reversed(forward)),
        tuple(reversed(backward)),
        network.call,
        network.loss,
        network.update(ranks, trains_a, momentum),
    )


class _Network:
    """A model's ops with the terms of their kernels, each made once."""

    def __init__(self, elm: bytes) -> None:
        model = formats.unpack_model(elm)
        self.layers: list[Layer] = [terms.layer(model, i) for i in range(len(model.ops))]
        self.inputs = [op.inputs for op in model.ops]
        self.sizes = [tensor.size for tensor in model.tensors]
        self.trained = model.training_ops
        self.loss: Terms = tuple(terms.loss(model.loss, model.loss_tensor.size))
        self.call: Terms = tuple(terms.call(model.output.size))
        self._loss_row = 4 * model.loss_tensor.size if model.loss == "cross_entropy" else 0
        self._scratch = functools.cache(twin.Scratch(elm).of)
        self.forward = functools.cache(self._forward)
        self.backward = functools.cache(self._backward)
        self.keep = functools.cache(self._keep)
        self._matrix = functools.cache(lambda count, momentum: tuple(terms.update(count, momentum)))

    def needs(self, ranks: bytes) -> list[bool]:
        """Which ops run backward: those with an adapter, and those above one."""
        needs: list[bool] = []
        for i, inputs in enumerate(self.inputs):
            needs.append(i < self.trained and (ranks[i] > 0 or any(t and needs[t - 1] for t in inputs)))
        return needs

    def reads(self, op: int, hands_down: bool, trains_a: bool) -> list[int]:
        """The tensors that an op's step of the backward pass reads."""
        reads = [self.inputs[op][0]] if trains_a or (hands_down and self.layers[op].kind in READS_INPUT) else []
        return reads + ([op + 1] if hands_down and self.layers[op].kind in READS_OUTPUT else [])

    def room(self, ranks: bytes, needs: list[bool]) -> int:
        """Bytes of scratch that the session has."""
        sizes = [self._scratch(i, ranks[i], backward)[1] for i, backward in enumerate(needs)]
        return max(*sizes, self._loss_row if any(needs) else 0)

    def is_fast(self, op: int, rank: int, backward: bool, room: int) -> bool:
        return 0 < self._scratch(op, rank, backward)[0] <= room

    def _forward(self, op: int, rank: int, whole_a: bool, fast: bool) -> Terms:
        return tuple(terms.forward(self.layers[op], rank, whole_a, fast))

    def _keep(self, op: int, rank: int) -> Terms:
        return tuple(terms.keep(self.layers[op], rank))

    def _backward(self, op: int, rank: int, trains_a: bool, wanted: int, fast: bool, joined: int) -> Terms:
        return tuple(terms.backward(self.layers[op], rank, trains_a, wanted, fast, joined))

    def update(self, ranks: bytes, trains_a: bool, momentum: int) -> Terms:
        """Of all matrices that train."""
        found: list[tuple[str, float]] = []
        for layer, rank in zip(self.layers, ranks, strict=True):
            for count in (rank * layer.outputs, rank * layer.inputs if trains_a else 0):
                found += self._matrix(count, momentum) if count else ()
        return tuple(found)


_network = functools.lru_cache(maxsize=8)(_Network)
