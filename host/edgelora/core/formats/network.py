"""The quantized network on the host, made by `quantize` and stored in `.elm` files.

Arithmetic and units are those of SPEC.md, "Base network" (the TFLite INT8 quantization spec).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.twin.binding import ops

if TYPE_CHECKING:
    from .classes import ClassStats
    from .signal import Signal


def layer_size(model: QuantModel, index: int) -> tuple[int, int]:
    """(O, K) of the op with weights `index`: its outputs and the length of the patch each is computed from."""
    op = model.ops[index]
    source = model.tensors[op.input]
    kernel = op.kernel[0] * op.kernel[1]
    outputs = model.tensors[op.output].shape[2]
    if op.kind == "lstm":
        return 4 * outputs, source.shape[2] + outputs
    if op.kind == "svdf_features":
        return outputs // 2, source.size
    patch = {"dense": source.size, "depthwise": kernel}.get(op.kind, kernel * source.shape[2])
    return outputs, patch


class _Kinds(Sequence[str]):
    """Ops with a trait, or all, by the core's records (edgelora_ops.h; graph.h says what the traits mean).

    They are read at the first use, as commands that need no core have to start without it.
    """

    def __init__(self, trait: str = "", without: Sequence[str] = (), more: Sequence[str] = ()) -> None:
        self._trait, self._without, self._more = trait, without, more

    @cached_property
    def _names(self) -> tuple[str, ...]:
        found = (kind for kind, traits in ops().items() if not self._trait or self._trait in traits)
        return (*(kind for kind in found if kind not in self._without), *self._more)

    def __getitem__(self, index: Any) -> Any:
        return self._names[index]

    def __len__(self) -> int:
        return len(self._names)


KINDS = _Kinds()
MATRIX_KINDS = _Kinds("IS_MATRIX")  # can carry an adapter
WEIGHT_KINDS = _Kinds("HAS_WEIGHTS")
WINDOW_KINDS = _Kinds("HAS_WINDOW")  # with kernel, stride and padding
POOL_KINDS = _Kinds("HAS_WINDOW", without=WEIGHT_KINDS)
PAIR_KINDS = _Kinds("REPEATS")  # element by element; the second input may be repeated
STREAM_KINDS = _Kinds("ADDS")  # add to a stream, their second input, or begin one
TRANSFORMER_KINDS = _Kinds("ADDS", more=("norm", "rotate", "attend"))
TWO_INPUT_KINDS = _Kinds("TWO_INPUTS")
AXIS_KINDS = _Kinds("HAS_AXIS")  # along height, width or channels
SAME_GRID_KINDS = _Kinds("SAME_GRID")  # inputs and output share scale and zero point
MASK_KINDS = _Kinds("HAS_RANGE")  # can have a fused activation
LSTM_SCALES = 11
LEAST_NATS = 16  # spanned by a loss tensor's grid, so that a probability can be close to 1
LOSSES = ("cross_entropy", "binary_cross_entropy", "mean_squared_error")


@dataclass(frozen=True)
class Tensor:
    """An activation: real = scale * (q - zero_point), stored as [height, width, channels].

    It is of int8 or, if `wide`, a stream of int16 with zero point 0.
    """

    shape: tuple[int, int, int]
    scale: float
    zero_point: int
    wide: bool = False

    @property
    def size(self) -> int:
        """The number of values."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def nbytes(self) -> int:
        """The bytes of the values."""
        return self.size * self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int16 if self.wide else np.int8)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest value."""
        bounds = np.iinfo(self.dtype)
        return int(bounds.min), int(bounds.max)

    @property
    def positions(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def span(self) -> tuple[float, float]:
        """The least and the largest representable real value."""
        low, high = self.limits
        return self.scale * (low - self.zero_point), self.scale * (high - self.zero_point)

    def quantize(self, real: NDArray[np.floating]) -> NDArray[Any]:
        """Rounds real values (any shape) to this tensor's grid, saturating: int8, or int16 of a stream."""
        return np.clip(self._steps(real), *self.limits).astype(self.dtype)

    def clipped(self, real: NDArray[np.floating]) -> float:
        """The share of real values that `quantize` clips, as they are beyond the grid."""
        q, (low, high) = self._steps(real), self.limits
        return float(np.mean((q < low) | (q > high)))

    def _steps(self, real: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.floor(np.asarray(real, np.float64) / self.scale + 0.5) + self.zero_point

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float64]:
        return self.scale * (q - float(self.zero_point))


@dataclass
class Op:
    """One layer. `input`, `input2` and `output` index `QuantModel.tensors`; 1-D convolutions have height 1.

    weights: int8 [out, kernel_h, kernel_w, in] (dense: kernel 1x1 over the flattened input; depthwise:
    [kernel_h, kernel_w, out]); bias: int32 [out]; multiplier, shift: int32/int8 [out], TFLite's fixed-point form
    ([1] for mean, multiply and matmul; [3] for add and squared_difference: of the two inputs, negative for one that an
    add takes off, and the output; [2] for prelu: of inputs >= 0 and < 0). A lookup has int8 [256] `table` and `slope`,
    with shift [1] dy/dx = slope * 2**shift; a softmax int32 [256] `exponentials` and shift [2], the mantissa and
    exponent of scale_in / scale_out. `fixed_point` derives all of them. A history may have int8 `initial`, its content
    before the first frame [elements of the output - elements of the input]; None: the zero point.
    A constant has `values` of its output's shape: int8, or int16 of a stream. A gather may have uint16 `positions`:
    along height, width and channels of its input, the index that each output takes; None: all, in order.

    An lstm has weights [units, 4, inputs + units] of the gates input, forget, cell and output, biases [units, 4, 2] of
    both parts, with their zero points folded in, and `LSTM_SCALES` multipliers and shifts: of both parts of each gate,
    the cell, the input admitted to it, and the output. The multipliers are followed by the cell's clipping limit, 2^15
    for none, and the 256 values of the logistic function's table; the shifts by the state's zero point and the power of
    two from the cell's grid to Q12. SVDF features have weights [filters, inputs] and write int16, two bytes
    each; SVDF time has int16 `taps` [units, memory, rank] over such rows.

    An embed has int8 `embedding` [symbols, channels], the rows that ids choose, and one multiplier and shift; a project
    has what a conv has; a widen one multiplier and shift. Each adds to the stream `input2`, or begins one if that is 0.
    A norm has int16 `gain` [channels] in units of 2**-e, int32 `bias` [channels] in units of 2**-(e + 11), multiplier
    [1], its epsilon, and shift [1], e. A rotate has int16 `angles` [positions, half, 2], cosine and sine in Q15, by
    which it turns pairs of channels that are `half` apart. An attend reads queries, keys and values, of `heads`
    (queries', keys' and values'), and has multipliers [3] and shifts [3].
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
    mask_low: bool = False  # act_min is a fused activation's: no gradient passes where it clips
    mask_high: bool = False
    weights: NDArray[np.int8] | None = None
    bias: NDArray[np.int32] | None = None
    multiplier: NDArray[np.int32] | None = None
    shift: NDArray[np.int8] | None = None
    weight_scale: NDArray[np.float64] | None = None  # [out], kept for float references; not stored in .elm
    t_shift: int = 0  # adapter: t = (A x) / 2**t_shift, chosen by calibration
    branch_shift: int = 0  # adapter: the branch joins the accumulator times 2**branch_shift
    input2: int = 0  # of two-input kinds: the second input; of STREAM_KINDS: the stream they add to, 0 for none
    input3: int = 0  # attend: the values
    axis: int = 3  # concatenate, slice: 1 height, 2 width, 3 channels
    start: int = 0  # slice: its first position along the axis
    axes: tuple[int, int] = (1, 2)  # gather: which axes of its output the input's height and width become
    table: NDArray[np.int8] | None = None
    slope: NDArray[np.int8] | None = None
    exponentials: NDArray[np.int32] | None = None
    initial: NDArray[np.int8] | None = None
    values: NDArray[np.int8] | NDArray[np.int16] | None = None
    positions: NDArray[np.uint16] | None = None
    taps: NDArray[np.int16] | None = None
    embedding: NDArray[np.int8] | None = None
    gain: NDArray[np.int16] | None = None
    angles: NDArray[np.int16] | None = None
    heads: tuple[int, int] = (1, 1)  # attend: of the queries; of keys and values
    centred: bool = False  # norm: LayerNorm, which takes off the mean; else RMSNorm
    causal: bool = False  # attend: positions attend to those up to their own only

    @property
    def is_matrix(self) -> bool:
        """Whether the op can carry an adapter."""
        return self.kind in MATRIX_KINDS

    @property
    def inputs(self) -> tuple[int, ...]:
        """The tensors that the op reads."""
        if self.kind == "constant":
            return ()
        if self.kind == "attend":
            return self.input, self.input2, self.input3
        two = self.kind in TWO_INPUT_KINDS or self.kind in STREAM_KINDS and self.input2 > 0
        return (self.input, self.input2) if two else (self.input,)


def window_shape(shape: Sequence[int], frames: int) -> tuple[int, int, int]:
    """The shape of a window of so many inputs [height, width, channels]: one below the other, of height 1 one behind
    the other."""
    height, width, channels = shape
    return (1, frames * width, channels) if height == 1 else (frames * height, width, channels)


def id_bytes(ids: NDArray[np.integer], symbols: int) -> NDArray[np.int8]:
    """Ids [...] as embed reads them, int8 [..., 1 or 2]: a byte each of up to 256 symbols, else two, little-endian.

    InputError for an id that does not fit.
    """
    dtype = np.dtype("u1" if symbols <= 256 else "<u2")
    most = int(np.iinfo(dtype).max)
    if np.min(ids, initial=0) < 0 or np.max(ids, initial=0) > most:
        raise InputError(f"ids are {np.min(ids)} to {np.max(ids)}, of {symbols} symbols they must be 0 to {most}")
    return np.ascontiguousarray(ids, dtype)[..., None].view(np.int8)


def ids_of(values: NDArray[np.integer]) -> NDArray[np.int64]:
    """The ids [...] in values [..., 1 or 2] that `id_bytes` made."""
    octets = values.astype(np.int64) & 255
    return np.asarray((octets << 8 * np.arange(octets.shape[-1])).sum(axis=-1))


def gather_axes(op: Op) -> tuple[int, int, int]:
    """The axes, from 0, of a gather's output to which its input's height, width and channels map."""
    height, width = (axis - 1 for axis in op.axes)
    return height, width, 3 - height - width


@dataclass
class QuantModel:
    """A graph of quantized layers in execution order: op i writes tensor i + 1 and reads earlier ones."""

    tensors: list[Tensor]
    ops: list[Op]
    labels: list[str] = field(default_factory=list)
    loss: str = "cross_entropy"
    signal: Signal | None = None  # how inputs are made, if known
    class_stats: ClassStats | None = None  # statistics of the last layer's inputs, if known, for added classes
    rounds: bool = False  # training rounds errors instead of truncating them

    def __repr__(self) -> str:
        return f"<QuantModel {self.input.shape} -> {self.output.shape}, {len(self.ops)} ops, {self.loss}>"

    @property
    def input(self) -> Tensor:
        return self.tensors[0]

    @property
    def output(self) -> Tensor:
        return self.tensors[self.ops[-1].output]

    @property
    def loss_index(self) -> int:
        """The tensor that the loss uses: the output or, if the loss includes the last op, that op's input."""
        last = self.ops[-1]
        done_by_loss = (self.loss, last.kind) in (("cross_entropy", "softmax"), ("binary_cross_entropy", "lookup"))
        return last.input if done_by_loss else last.output

    @property
    def loss_tensor(self) -> Tensor:
        return self.tensors[self.loss_index]

    @property
    def loss_scale(self) -> float:
        """Nats per step of the loss tensor (SPEC.md, section 4): its scale, or more on a narrow grid."""
        scale = float(np.float32(self.loss_tensor.scale))
        return scale if self.loss == "mean_squared_error" else max(scale, LEAST_NATS / 255)

    @property
    def training_ops(self) -> int:
        """How many ops, from the first, training executes."""
        return len(self.ops) - (self.loss_index != self.ops[-1].output)

    @property
    def has_history(self) -> bool:
        """Whether an inference depends on earlier ones: inputs are the frames of a stream."""
        return any(op.kind == "history" for op in self.ops)

    @property
    def reach(self) -> int:
        """On how many frames an output depends, the newest included; 1 without history."""
        reach = {0: 1}
        for op in self.ops:
            reach[op.output] = max((reach[i] for i in op.inputs), default=1)
            if op.kind == "history":
                reach[op.output] += -(-self.tensors[op.output].size // self.tensors[op.input].size) - 1
        return reach[self.ops[-1].output]

    @property
    def learns_values(self) -> bool:
        """Whether targets are values on the output's grid, such as an autoencoder's input, instead of classes."""
        return self.loss == "mean_squared_error"

    @property
    def learns_sequences(self) -> bool:
        """Whether there is a class, and a loss, at each of several positions, such as the next symbol of a text."""
        return self.loss == "cross_entropy" and self.loss_tensor.positions > 1

    @property
    def symbols(self) -> int:
        """The number of symbols whose ids are the input; 0 if the input is values."""
        return next((len(op.embedding) for op in self.ops if op.embedding is not None), 0)

    def quantize(self, x: NDArray[Any]) -> NDArray[np.int8]:
        """Real inputs [..., H, W, C], or ids [..., H, W, 1] of symbols, as boards take them: int8 [..., H, W, C]."""
        return id_bytes(x[..., 0].astype(np.int64), self.symbols) if self.symbols else self.input.quantize(x)

    @property
    def classes(self) -> int:
        """The number of classes of the output: a single binary output has two."""
        if self.learns_sequences:
            return self.output.shape[2]
        return 2 if self.loss == "binary_cross_entropy" and self.output.size == 1 else self.output.size

    def targets(self, labels: NDArray[np.integer]) -> NDArray[Any]:
        """The training targets of labels [N]: the labels or, for binary outputs, int8 [N, outputs]; of the ids [N, T]
        of a sequence, of which those that are no class have no loss: `id_bytes`, int8 [N, T or 2 T].

        ValueError if the loss has no class targets.
        """
        if self.loss == "mean_squared_error":
            raise InputError("mean_squared_error has values as targets, not labels: import with another --loss")
        if self.learns_sequences:
            return id_bytes(labels, self.classes).reshape(len(labels), -1)
        if self.loss == "cross_entropy":
            return labels
        rows = labels[:, None] if self.output.size == 1 else labels[:, None] == np.arange(self.output.size)
        return rows.astype(np.int8)

    def frames(self, shape: tuple[int, ...]) -> int:
        """The number of consecutive inputs in a window of this shape [height, width, channels].

        More than one only with history, along height or, if the input has one row, width. Raises ValueError for other
        shapes.
        """
        height, width, channels = (*self.input.shape[:2], 1) if self.symbols else self.input.shape
        times = shape[-3] * shape[-2] // (height * width) if len(shape) == 3 else 0
        possible = {(times * height, width, channels), window_shape((height, width, channels), times)}
        if tuple(shape) not in possible or times < 1 or times > 1 and not self.has_history:
            whole = "a whole number of inputs" if self.has_history else "an input"
            raise InputError(f"windows are {tuple(shape)}, must be {whole} of {self.input.shape}")
        return times
