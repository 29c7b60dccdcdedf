"""Instructions of kernels on emulated cores, which have no model of cycles: `edgelora bench kernels --cores`.

Each kernel is an op of a network, as in `kernels`; its backward step is that of the same op behind a 1x1 convolution
with an adapter, so that its input's error is needed. A transformer's ops are those of a block, with adapters on all
layers. What a call of no ops takes is subtracted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import MATRIX_KINDS, Op, QuantModel
from edgelora.model.floatnet.zoo import Transformer
from tools import esp32s3
from tools.cores import MPS2_CORTEX_M33, MPS3_CORTEX_M55, VIRT_RV32, VIRT_RV32_ZB, Answers, Calls, Machine

from .kernels import COUNTED, SHAPES
from .networks import Shape, language, network

ESP32_S3 = "esp32-s3"
MACHINES = dict(zip(COUNTED[:-1], (MPS2_CORTEX_M33, MPS3_CORTEX_M55, VIRT_RV32, VIRT_RV32_ZB), strict=True))
RANK = 4  # of the adapter whose gradient of A is counted
BACKWARD = tuple(s for s in SHAPES if s.kind in ("dense", "conv", "depthwise") and s.size[2] % 4 == 0)
BLOCK = Transformer(channels=64, layers=1, heads=(4, 4), hidden=172)
LENGTH = 32  # positions of the block: a board's emulator has memory for its training
RP2350_MISS = 56  # cycles, of 8 bytes: 28 of the flash's clock, which is half of the processor's
RP2350_CYCLES = 1.0  # of an instruction, assumed


@dataclass(frozen=True)
class KernelCount:
    """Instructions of one run, of the plain kernel and the fast one.

    kind: forward, input error, gradient of A, or a transformer's backward step.

    plain: None on an ESP32-S3. cycles: an estimate of the fast one's, on an ESP32-S3 alone.
    """

    core: str
    kind: str
    op: str
    shape: str
    macs: int
    plain: int | None
    fast: int
    cycles: int | None = None

    @property
    def per_mac(self) -> float:
        return self.fast / self.macs


def count_kernels(core: str, shapes: Sequence[Shape] = SHAPES) -> list[KernelCount]:
    """Counts forward passes. subprocess.SubprocessError, OSError: there is no compiler or emulator (`make cores`)."""
    if core == ESP32_S3:
        return _on_an_esp32s3(shapes)
    both = zip(*[iter(_differences(MACHINES[core], _forward(shapes, (True, False))))] * 2, strict=True)
    return [
        KernelCount(core, "forward", s.op, s.name, s.macs, plain, fast)
        for s, (plain, fast) in zip(shapes, both, strict=True)
    ]


def _on_an_esp32s3(shapes: Sequence[Shape]) -> list[KernelCount]:
    executed = esp32s3.count(_forward(shapes, (False,)))
    return [
        KernelCount(
            *(ESP32_S3, "forward", s.op, s.name, s.macs, None),
            run.instructions - call.instructions,
            run.cycles - call.cycles,
        )
        for s, run, call in zip(shapes, executed[::2], executed[1::2], strict=True)
    ]


def _forward(shapes: Sequence[Shape], variants: Sequence[bool]) -> Calls:
    """variants: whether kernels are plain."""
    calls = Calls()
    for shape in shapes:
        model = network([shape])
        x = np.random.default_rng(0).integers(-128, 128, model.input.size).astype(np.int8)
        for plain in variants:
            calls.open(pack_model(model), b"\0", "infer", plain=plain)
            for end in (1, 0):
                calls.count(x, 0, end)
    return calls


def count_steps(core: str, shapes: Sequence[Shape] = BACKWARD) -> list[KernelCount]:
    """Counts backward steps: the input's error and, where an op can have an adapter, the gradient of A."""
    calls = Calls()
    for shape in shapes:
        for rank, mode in _adapters(shape):
            for plain in (True, False):
                _step(calls, shape, rank, mode, plain)
    steps = iter(_differences(MACHINES[core], calls))
    return [count for shape in shapes for count in _counts(core, shape, steps)]


def _adapters(shape: Shape) -> list[tuple[int, str]]:
    return [(0, "frozen_a"), *([(RANK, "frozen_a"), (RANK, "trainable_a")] * (shape.kind in MATRIX_KINDS))]


def _step(calls: Calls, shape: Shape, rank: int, mode: str, plain: bool) -> None:
    height, width, channels = shape.size
    model = network([Shape("conv1x1", "conv", (height, width, 4), channels), shape])
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, model.input.size).astype(np.int8)
    target = rng.integers(-128, 128, model.loss_tensor.size).astype(np.int8)
    calls.open(pack_model(model), bytes((RANK, rank)), mode, plain=plain)
    calls.begin(1)
    for _ in range(2):  # after one step, B is no longer 0
        calls.train(x, target, 6000)
    calls.count(x, 1, 2, backward=True)
    calls.count(x, 0, 0, backward=True)


def _counts(core: str, shape: Shape, steps: Iterator[int]) -> Iterator[KernelCount]:
    taken = [(next(steps), next(steps)) for _ in _adapters(shape)]
    yield KernelCount(core, "input error", shape.op, shape.name, shape.macs, *taken[0])
    if len(taken) > 1:
        plain, fast = (trained - frozen for trained, frozen in zip(taken[2], taken[1], strict=True))
        macs = shape.macs // shape.outputs * RANK
        yield KernelCount(core, "gradient of A", shape.op, shape.name, macs, plain, fast)


def count_block(core: str) -> list[KernelCount]:
    """Counts the last op of each kind of a transformer's block, forward and backward, as it trains."""
    model = language(96, LENGTH, BLOCK)
    ops = list({op.kind: i for i, op in enumerate(model.ops)}.values())
    calls, rng = Calls(), np.random.default_rng(0)
    x = rng.integers(0, 96, LENGTH).astype(np.int8)
    for plain in (True, False):
        calls.open(pack_model(model), bytes(RANK * op.is_matrix for op in model.ops), "trainable_a", plain=plain)
        for op in ops:
            calls.begin(1)
            for _ in range(2):  # after one step, B is no longer 0
                calls.train(x, x, 6000)
            for backward in (False, True):
                for end in (op + 1, op):
                    calls.count(x, op, end, backward=backward)
    taken = iter(_differences(MACHINES[core], calls))
    of_plain, of_fast = ([(next(taken), next(taken)) for _ in ops] for _ in range(2))
    found = []
    for op, slow, quick in zip(ops, of_plain, of_fast, strict=True):
        kind, macs, shape = model.ops[op].kind, _block_macs(model, model.ops[op]), f"{LENGTH}x{BLOCK.channels}"
        found.append(KernelCount(core, "forward", kind, shape, macs, slow[0], quick[0]))
        found.append(KernelCount(core, "backward step", kind, shape, macs, slow[1], quick[1]))
    return found


def _block_macs(model: QuantModel, op: Op) -> int:
    """Products of an op of a block; outputs of an op without any."""
    outputs = model.tensors[op.output].size
    if op.is_matrix:
        return outputs * model.tensors[op.input].shape[2]
    return outputs * (LENGTH + 1) if op.kind == "attend" else outputs  # causal: scores and means over half of the rows


def _differences(machine: Machine, calls: Calls) -> list[int]:
    """Each `count` minus that of no ops behind it."""
    with tempfile.TemporaryDirectory() as folder:
        answers: Answers = machine.run(calls, machine.build(Path(folder)))
    counts = [int(a) for name, a in zip(calls.names, answers, strict=True) if name == "count"]
    return [run - call for run, call in zip(*[iter(counts)] * 2, strict=True)]


def count_cores(cores: Sequence[str], progress: Progress = no_progress) -> list[KernelCount]:
    """Counts every kernel on these cores of `COUNTED`, forward and, but for an ESP32-S3, backward."""
    found = []
    for k, core in enumerate(cores):
        progress(k, len(cores), core)
        found += count_kernels(core) + (count_steps(core) + count_block(core) if core in MACHINES else [])
    return found


def estimates(counts: Sequence[KernelCount]) -> dict[tuple[str, str, str], int]:
    """Estimated cycles of forward passes, by chip, op and shape; none of them was measured.

    RP2350, whose cache has none of the op's weights: an instruction is taken for a cycle, and every 8 bytes of weights
    miss once. ESP32-S3: by the rules in tools/esp32s3.py.
    """
    fast = {(c.op, c.shape): c.fast for c in counts if c.core == "cortex-m33" and c.kind == "forward"}
    return {
        ("RP2350", s.op, s.name): round(RP2350_CYCLES * fast[s.op, s.name] + RP2350_MISS * _weight_bytes(s) / 8)
        for s in SHAPES
        if (s.op, s.name) in fast
    } | {("ESP32-S3", c.op, c.shape): c.cycles for c in counts if c.cycles is not None}


def _weight_bytes(shape: Shape) -> int:
    weights = network([shape]).ops[0].weights
    return 0 if weights is None else int(weights.size)
