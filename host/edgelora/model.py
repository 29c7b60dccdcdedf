"""The quantized network as the host holds it: what `quantize` makes and `.elm` files store.

Arithmetic and units are those of SPEC.md, "Base layers" (the TFLite INT8 quantization spec).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

KINDS = ("dense", "conv", "average_pool", "mean")


@dataclass(frozen=True)
class Tensor:
    """An INT8 activation: real = scale * (q - zero_point), stored as [height, width, channels]."""

    shape: tuple[int, int, int]
    scale: float
    zero_point: int

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    def quantize(self, real: NDArray[np.floating]) -> NDArray[np.int8]:
        """Rounds real values (any shape) to this tensor's int8 grid, saturating."""
        q = np.floor(np.asarray(real, np.float64) / self.scale + 0.5) + self.zero_point
        return np.clip(q, -128, 127).astype(np.int8)


@dataclass
class Op:
    """One layer. `input` and `output` index `QuantModel.tensors`; 1-D convolutions have height 1.

    weights: int8 [out, kernel_h, kernel_w, in] (dense: kernel 1x1 over the flattened input);
    bias: int32 [out]; multiplier, shift: int32/int8 [out] ([1] for mean), TFLite's fixed-point form.
    """

    kind: str
    input: int
    output: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)  # rows above, columns left; below and right follow from the output's shape
    act_min: int = -128
    act_max: int = 127
    mask_low: bool = False  # act_min comes from a fused activation: no gradient passes where it binds
    mask_high: bool = False
    weights: NDArray[np.int8] | None = None
    bias: NDArray[np.int32] | None = None
    multiplier: NDArray[np.int32] | None = None
    shift: NDArray[np.int8] | None = None
    weight_scale: NDArray[np.float64] | None = None  # [out], kept for float references; not stored in .elm
    t_shift: int = 0  # adapter: t = (A x) / 2**t_shift, chosen by calibration
    branch_shift: int = 0  # adapter: the branch joins the accumulator times 2**branch_shift


@dataclass
class QuantModel:
    """A chain of INT8 layers whose last output holds the logits."""

    tensors: list[Tensor]
    ops: list[Op]
    labels: list[str] = field(default_factory=list)

    @property
    def input(self) -> Tensor:
        return self.tensors[self.ops[0].input]

    @property
    def output(self) -> Tensor:
        return self.tensors[self.ops[-1].output]
