"""Predicts what an inference, a training step and an update cost on a board: cycles, time and energy.

The cycles of a pass are those of its ops' kernels (terms.py), of the loss and of the updates: counts times the board's
cycles for each, which were fitted to measurements of the board (benchmarks/cost.py). The core itself says which kernel
runs. Data-dependent costs are averages over a few random samples (zeros.py); a trained A has no zeros, and no error
vanishes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from edgelora.base.errors import InputError
from edgelora.board.profiles import BoardProfile
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.network import STREAM_KINDS
from edgelora.core.twin import device
from edgelora.core.twin.regions import Layout, layout
from edgelora.core.twin.session import Scratch
from edgelora.learn.training.recipe import Settings

from . import terms
from .stalls import Flash, Stalls
from .terms import Layer, Step, parts_of
from .zeros import zeros_of

# of a board's own run, which reads each sample from a file: samples of 64 to 2,000 bytes on a Pico, in Python
RUN_CYCLES, RUN_BYTE_CYCLES = 91_000, 41
LASTING = ("history",)  # outputs that persist from one frame to the next
Terms = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Cost:
    """Predicted cycles. step_cycles: one training sample with its share of an update; 0 in mode "infer".

    ops: (forward, backward) of each op in a training step; forward includes the adapter and recomputed outputs.
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
        """Estimated energy of a micro-batch's samples and the update; None if the board's power is unknown."""
        return None if self.active_watts is None else self.micro_batch * self.step_us * 1e-6 * self.active_watts


def predict(
    elm: bytes,
    settings: Settings,
    board: BoardProfile,
    frames: int = 1,
    in_flash: bool = False,
    cold: bool = False,
    on_board: bool = False,
) -> Cost | None:
    """The cost of a session on a `.elm`; None if the board was not measured.

    An inference takes a whole sample of `frames`; only networks with history have more than one. in_flash: the base is
    in ROMFS, not in RAM; small ones are copied. cold: flash's cache is empty, as after much other code. on_board: the
    board drives the run, and reads each sample from a file.
    """
    if board.cycles is None or board.clock_hz is None:
        return None
    cycles, passes = board.cycles, passes_of(elm, settings, frames)
    layers, ops = _network(elm).layers, range(len(settings.ranks))
    miss_cycles, stays = (board.flash and board.flash.miss_cycles) or 0, in_flash and len(elm) > device.module().COPIED
    flash = Flash(layers, settings.ranks, miss_cycles, cold, stays, 1 if settings.mode == "infer" else frames)
    inferring, training = flash.inference(), flash.step(passes.hands_down)

    def total(of: Iterable[tuple[str, float]]) -> float:
        return sum(cycles[name] * count for name, count in of)

    def ahead(i: int, of: Terms, times: int, stalls: Stalls) -> float:
        """Cycles of an op's forward passes."""
        compute = total(of)
        return compute + times * (stalls.forward(i) + flash.ahead(i, compute / times)) if of else 0

    forward = [ahead(i, passes.forward[i], passes.times_ahead[i], training) for i in ops]
    backward = [total(passes.backward[i]) + passes.times_back[i] * training.backward(i) for i in ops]
    inferred = sum(ahead(i, passes.infer[i], passes.times[i], inferring) for i in ops)
    update = total(passes.update)
    step = sum(forward) + sum(backward) + total(passes.loss) + training.call + update / settings.micro_batch
    if on_board:
        step += RUN_CYCLES + RUN_BYTE_CYCLES * frames * _network(elm).input_size
    return Cost(
        infer_cycles=round(total(passes.call) + inferring.call + inferred),
        step_cycles=round(step) if settings.mode != "infer" else 0,
        update_cycles=round(update),
        ops=tuple((round(up), round(down)) for up, down in zip(forward, backward, strict=True)),
        micro_batch=settings.micro_batch,
        clock_hz=board.clock_hz,
        active_watts=board.watts(),
    )


@dataclass(frozen=True)
class Passes:
    """Terms of a session's passes. infer, forward, backward: of each op; the latter two are of a training step.
    hands_down: whether an op's backward pass computes an error for one below. times: how often each op runs in an
    inference, and forward and backward in a step.
    """

    infer: tuple[Terms, ...]
    forward: tuple[Terms, ...]
    backward: tuple[Terms, ...]
    hands_down: tuple[bool, ...]
    times: tuple[int, ...]
    times_ahead: tuple[int, ...]
    times_back: tuple[int, ...]
    call: Terms  # once per inference
    loss: Terms
    update: Terms


def passes_of(elm: bytes, settings: Settings, frames: int = 1) -> Passes:
    """The terms of a session's passes. ValueError unless ranks and flags are as many as the model's ops."""
    network, ranks, mode, recompute = _network(elm), settings.ranks, settings.mode, settings.recompute
    ops = range(len(network.layers))
    if len(ranks) != len(ops) or (recompute and len(recompute) != len(ops)):
        raise InputError(f"a model of {len(ops)} ops needs one rank and one recompute flag per op")
    whole_a = mode == "trainable_a"
    needs = network.needs(ranks) if mode != "infer" else [False for _ in ops]
    plan = layout(elm, *settings, frames=frames) if recompute or frames > 1 else None
    again = {region.op for region in plan.regions if region.name == "recomputed output"} if plan else set()
    steps = _steps(network, needs, [whole_a and rank > 0 for rank in ranks], again)
    once = [network.forward(i, ranks[i], whole_a, network.is_fast(i, ranks[i], False)) for i in ops]
    times = [frames if i < network.remembering else 1 for i in ops]
    trained = ops if mode == "infer" else range(network.trained)
    ahead, back = network.passes(plan if frames > 1 else None, frames)
    times_ahead = [ahead[i] + back[i] * steps[i].again for i in ops]
    return Passes(
        infer=tuple(once[i] * times[i] for i in ops),
        forward=tuple(once[i] * times_ahead[i] if i in trained else () for i in ops),
        backward=tuple(
            network.backward(i, ranks[i], steps[i], network.is_fast(i, ranks[i], True)) * back[i] if needs[i] else ()
            for i in ops
        ),
        hands_down=tuple(step.wanted > 0 for step in steps),
        times=tuple(times),
        times_ahead=tuple(times_ahead),
        times_back=tuple(back),
        call=network.call,
        loss=network.loss,
        update=network.update(ranks, whole_a, settings.momentum),
    )


def _steps(network: _Network, needs: list[bool], trains_a: list[bool], again: set[int]) -> list[Step]:
    """What each op does in the backward pass, from the last op down."""
    steps: list[Step] = []
    arrived: set[int] = set()  # tensors that have an error
    for i in reversed(range(len(needs))):
        wanted = [tensor for tensor in network.inputs[i] if needs[i] and tensor and needs[tensor - 1]]
        stream = network.layers[i].kind in STREAM_KINDS and wanted[-1:] == list(network.inputs[i][1:]) != []
        joined = sum(network.sizes[t] for k, t in enumerate(wanted) if t in arrived or t in wanted[:k])
        arrived.update(wanted)
        steps.append(Step(trains_a[i], len(wanted) - stream, stream, joined, i in again))
    return steps[::-1]


class _Network:
    """A model's ops with the terms of their kernels, each computed once."""

    def __init__(self, elm: bytes) -> None:
        model = unpack_model(elm)
        self.layers: list[Layer] = [terms.layer(model, i, zeros) for i, zeros in enumerate(zeros_of(elm, model))]
        self.inputs = [op.inputs for op in model.ops]
        self.sizes = [tensor.size for tensor in model.tensors]
        self.input_size = model.input.size
        self.trained = model.training_ops
        self.remembering = max((i + 1 for i, op in enumerate(model.ops) if op.kind in LASTING), default=0)
        lasting = sum(model.tensors[op.output].size for op in model.ops if op.kind in LASTING)
        reset = tuple(terms.reset(lasting))
        places = model.loss_tensor.positions if model.learns_sequences else 1
        self.loss: Terms = reset + tuple(terms.loss(model.loss, model.loss_tensor.size, places))
        self.call: Terms = reset + tuple(terms.call(model.classes if model.learns_sequences else model.output.size))
        self._scratch = functools.cache(Scratch(elm).of)
        self.forward = functools.cache(self._forward)
        self.backward = functools.cache(self._backward)
        self._matrix = functools.cache(lambda count, momentum: tuple(terms.update(count, momentum)))

    def passes(self, plan: Layout | None, frames: int) -> tuple[list[int], list[int]]:
        """How often each op runs forward and backward in a training step. plan: None for samples of one frame.

        An op runs on the frames that it affects the loss with, and forward on all but the last again if the plan does
        not keep what their backward pass reads. A history also takes its inputs of the frames before, and hands errors
        to them.
        """
        if plan is None:
            return [1 for _ in self.layers], [1 for _ in self.layers]
        back = [count if plan.through_time else 1 for count in plan.frames]
        ahead = [2 * count - 1 if plan.computes_again else count for count in plan.frames]
        for i, layer in enumerate(self.layers):
            if layer.kind in LASTING:
                more = min(parts_of(layer.elements, prod(layer.source)) - 1, frames - plan.frames[i])
                ahead[i] += more
                back[i] += more if plan.through_time else 0
        return ahead, back

    def needs(self, ranks: bytes) -> list[bool]:
        """Which ops run backward: those with an adapter, and those above one."""
        needs: list[bool] = []
        for i, inputs in enumerate(self.inputs):
            needs.append(i < self.trained and (ranks[i] > 0 or any(t and needs[t - 1] for t in inputs)))
        return needs

    def is_fast(self, op: int, rank: int, backward: bool) -> bool:
        return self._scratch(op, rank, backward) > 0

    def _forward(self, op: int, rank: int, whole_a: bool, fast: bool) -> Terms:
        return tuple(terms.forward(self.layers[op], rank, whole_a, fast))

    def _backward(self, op: int, rank: int, step: Step, fast: bool) -> Terms:
        room = max(self._scratch(op, rank, backward) for backward in (False, True)) if fast else 0
        return tuple(terms.backward(self.layers[op], rank, step, room))

    def update(self, ranks: bytes, trains_a: bool, momentum: int) -> Terms:
        """The terms of an update of all trained matrices."""
        found: list[tuple[str, float]] = []
        for layer, rank in zip(self.layers, ranks, strict=True):
            for count in (rank * layer.outputs, rank * layer.inputs if trains_a else 0):
                found += self._matrix(count, momentum) if count else ()
        return tuple(found)


_network = functools.lru_cache(maxsize=8)(_Network)
