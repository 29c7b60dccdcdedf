"""The two files of the project: models (`.elm`) and adapters (`.ela`), SPEC.md sections 8 and 9.

Files hold weights in offset binary and biases with the input's zero point folded in; an `Op` has them as TFLite does.
Packing and unpacking check every rule and limit of the format, so a `QuantModel` or `Adapter` that came out of
this module is sound, and so is every file it wrote. What is wrong is told by `FormatError`.
"""

from __future__ import annotations

import functools
import hashlib
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .errors import EdgeloraError
from .model import (
    AXIS_KINDS,
    KINDS,
    LOSSES,
    MASK_KINDS,
    MATRIX_KINDS,
    POOL_KINDS,
    SAME_GRID_KINDS,
    TWO_INPUT_KINDS,
    WEIGHT_KINDS,
    Op,
    QuantModel,
    Tensor,
)
from .tflite_math import SOFTMAX_GRID

MODEL_VERSION, ADAPTER_VERSION = 2, 1
MODEL_MAGIC, ADAPTER_MAGIC = b"ELM1", b"ELA1"

_ENVELOPE = struct.Struct("<4sHHII")  # magic, version, header size, file size, CRC-32: the start of both headers
_MODEL_HEADER = struct.Struct("<4sHHII 8s HH IIII I 8H B 3s")
_TENSOR = struct.Struct("<3H b B f")  # shape, zero point, 0, scale
_OP = struct.Struct("<BB HH 2B 2B 2B 2B 2b bb H IIII")
_ADAPTER_HEADER = struct.Struct("<4sHHII 8s I HH II HH I")
_LAYER = struct.Struct("<4H bb H")  # op, rank, O, K, t_shift, branch_shift, 0
_STATE = struct.Struct("<Hh")  # vm, vx
_BIAS_LIMIT = f"has a bias of size {{}} with the zero point folded in, at most {1 << 30} is possible"
_CRC_FROM, _ID_AT, _ID_FROM = 16, 16, 24

_CODES = {kind: code for code, kind in enumerate(KINDS, 1)}
_ARRAYS = ("weights", "bias", "multiplier", "shift")  # the four offsets of an op record
_MASK_LOW, _MASK_HIGH = 1, 2
_A_STORED, _STATE_FOLLOWS, _A_TRAINABLE = 1, 2, 4

MAX_OPS = 127
WEIGHTS_SLACK = 4  # bytes of the file behind an op's weights and their padding, which kernels may read
MAX_ELEMENTS = 1 << 20
MAX_POSITIONS = 65535
MAX_PATCH = 16384
MAX_WEIGHT_ROWS = 65536  # O * kernel_h * kernel_w
MAX_DEPTHWISE = 1024  # elements of its kernel
MAX_BIAS = 1 << 30  # with the zero point folded in
MAX_CLASSES = 256
MAX_LOGIT_SCALE = 128.0  # the loss of section 4 stays within 32 bits
MAX_TARGETS = {"binary_cross_entropy": 256, "mean_squared_error": 65536}  # elements of the loss tensor
MAX_POOL = 512  # elements of a window: so does the gradient of section 5
MAX_SOFTMAX = 1024  # channels
MAX_RANK = 32
MAX_FACTOR = 65536  # elements of one adapter matrix
MAX_SUMMED = 65536  # positions * micro_batch of an adapted layer: what a gradient's sum holds
MAX_MOMENTUM = 8
MAX_THRESHOLD = 1 << 14
T_SHIFTS = (0, 24)
BRANCH_SHIFTS = (-15, 8)


class FormatError(EdgeloraError, ValueError):
    """A file, or an object to be written to one, breaks a rule of its format."""


@dataclass
class TensorState:
    """What training keeps for one adapter matrix besides its int8 weights (SPEC.md section 6).

    vm, vx: mantissa and exponent of the gradient scale, (0, 0) at first; master: int16, shape of the matrix;
    momentum: int16 of the same shape, or None when the adapter trains without.
    """

    vm: int
    vx: int
    master: NDArray[np.int16]
    momentum: NDArray[np.int16] | None = None


@dataclass
class AdapterLayer:
    """The adapter of one layer: a int8 [rank, K], b int8 [O, rank], and their training state if there is one."""

    op: int
    a: NDArray[np.int8]
    b: NDArray[np.int8]
    t_shift: int
    branch_shift: int
    a_state: TensorState | None = None
    b_state: TensorState | None = None

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass
class Adapter:
    """Everything an `.ela` file holds. An `a` that is not stored in the file must be the seed's."""

    base_id: bytes
    seed: int
    layers: list[AdapterLayer] = field(default_factory=list)
    trainable_a: bool = False
    a_stored: bool = False
    updates: int = 0
    draws: int = 0
    momentum: int = 0
    samples: int = 0
    threshold: int = 0  # Q11: steps below it are left out of updates

    def ranks(self, ops: int) -> bytes:
        """The rank of every op of a model of so many, 0 where there is no adapter."""
        by_op = {layer.op: layer.rank for layer in self.layers}
        return bytes(by_op.get(op, 0) for op in range(ops))

    @property
    def has_state(self) -> bool:
        """Whether training can go on exactly where it stopped."""
        return any(layer.b_state is not None for layer in self.layers)


# --- Models ---


def pack_model(model: QuantModel, name: str = "model") -> bytes:
    """The `.elm` file of a model. Raises FormatError where the model breaks a limit of SPEC.md section 8."""
    _check_structure(model, name)
    _check_values(model, range(len(model.ops)), name)
    body = bytearray(_MODEL_HEADER.size)
    tensors_at = len(body)
    for tensor in model.tensors:
        body += _TENSOR.pack(*tensor.shape, tensor.zero_point, 0, tensor.scale)
    ops_at = len(body)
    body += bytes(_OP.size * len(model.ops))
    for index, op in enumerate(model.ops):
        offsets = [_append(body, array) for array in _stored_arrays(model, op)]
        flags = _MASK_LOW * op.mask_low | _MASK_HIGH * op.mask_high
        kernel = (op.axis, 1) if op.kind in AXIS_KINDS else op.kernel
        padding = (op.start % 256, op.start // 256) if op.kind == "slice" else op.padding
        record = (_CODES[op.kind], flags, op.input, op.output, *kernel, *op.stride, *op.dilation, *padding)
        shifts = (op.t_shift, op.branch_shift)
        _OP.pack_into(body, ops_at + index * _OP.size, *record, op.act_min, op.act_max, *shifts, op.input2, *offsets)
    labels = "\n".join(model.labels).encode()
    labels_at = len(body)
    body += labels
    logit_scale, exponentials = softmax_constants(model.loss_tensor.scale)
    tables = (len(model.tensors), len(model.ops), tensors_at, ops_at, labels_at, len(labels))
    envelope = (MODEL_MAGIC, MODEL_VERSION, _MODEL_HEADER.size, len(body), 0, bytes(8))
    loss = LOSSES.index(model.loss)
    _MODEL_HEADER.pack_into(body, 0, *envelope, *tables, logit_scale, *exponentials, loss, bytes(3))
    body[_ID_AT:_ID_FROM] = base_id(body)
    return _seal(body)


def unpack_model(data: bytes, name: str = "model") -> QuantModel:
    """The model in an `.elm` file (weight_scale is not stored and None). Raises FormatError; `name` is for its text."""
    _check_envelope(data, name, MODEL_MAGIC, MODEL_VERSION, _MODEL_HEADER)
    header = _MODEL_HEADER.unpack_from(data)
    loss, reserved = header[-2:]
    _require(loss < len(LOSSES), f"{name}: loss {loss} is unknown: a newer host made the file")
    _require(not any(reserved), f"{name}: bytes 65 to 67 are not 0: make the file again")
    stored_id, (tensor_count, op_count, tensors_at, ops_at, labels_at, labels_size) = header[5], header[6:12]
    _require(
        stored_id == base_id(data),
        f"{name}: base id is {base_id(data).hex()}, the file says {stored_id.hex()}: it is damaged, make it again",
    )
    reader = _Reader(data, name)
    reader.used.append((0, _MODEL_HEADER.size))
    tensors = []
    for index, record in enumerate(reader.records(_TENSOR, tensors_at, tensor_count, "tensor table")):
        *shape, zero_point, reserved, scale = record
        _require_zero(reserved, name, f"byte 7 of tensor {index}")
        tensors.append(Tensor(tuple(shape), scale, zero_point))
    records = reader.records(_OP, ops_at, op_count, "op table")
    ops = [_op_from_record(record, f"{name}: op {index}") for index, record in enumerate(records)]
    labels = reader.text(labels_at, labels_size, _MODEL_HEADER.size)
    model = QuantModel(tensors, ops, labels.split("\n") if labels else [], LOSSES[loss])
    _check_structure(model, name)
    for index, (op, record) in enumerate(zip(ops, records, strict=True)):
        _read_arrays(reader, model, index, op, record[-4:])
    _check_values(model, range(len(model.ops)), name)
    reader.check_gaps()
    _require(
        (header[12], header[13:21]) == softmax_constants(model.loss_tensor.scale),
        f"{name}: logit_scale or E is not that of the scale {model.loss_tensor.scale:g}: make the file again",
    )
    return model


def base_id(data: bytes | bytearray) -> bytes:
    """The 8 bytes that tie adapters to the model file `data` (SPEC.md section 8)."""
    return hashlib.sha256(memoryview(data)[_ID_FROM:]).digest()[:8]


def softmax_constants(scale: float) -> tuple[int, tuple[int, ...]]:
    """logit_scale and E[0..7] of SPEC.md section 4, for a loss tensor's scale as stored (rounded to float32)."""
    s = float(np.float32(scale))
    exponentials = tuple(min(65535, math.floor(65536 * math.exp(-s * 2**j) + 0.5)) for j in range(8))
    return math.floor(65536 * s + 0.5), exponentials


def layer_size(model: QuantModel, index: int) -> tuple[int, int]:
    """(O, K) of the op with weights `index`: its outputs and the length of the patch each is computed from."""
    op = model.ops[index]
    source = model.tensors[op.input]
    kernel = op.kernel[0] * op.kernel[1]
    patch = {"dense": source.size, "depthwise": kernel}.get(op.kind, kernel * source.shape[2])
    return model.tensors[op.output].shape[2], patch


@dataclass(frozen=True)
class _Slot:
    """An array of an op: the attribute of `Op` that holds it, its type and shape there and its type in the file.

    optional: it may be None, which the file tells by an offset of 0.
    """

    attribute: str
    dtype: str
    shape: tuple[int, ...]
    stored: str
    optional: bool = False


def _slots(model: QuantModel, index: int) -> list[_Slot | None]:
    """What the four offsets of an op record are for."""
    op = model.ops[index]
    if op.kind in WEIGHT_KINDS:
        outputs, patch = layer_size(model, index)
        kernel = op.kernel[0] * op.kernel[1]
        shape = (*op.kernel, outputs) if op.kind == "depthwise" else (outputs, *op.kernel, patch // kernel)
        return [_Slot("weights", "<i1", shape, "<u1"), _Slot("bias", "<i4", (outputs,), "<i4"), *_pair(outputs)]
    if op.kind == "mean":
        return [None, None, *_pair(1)]
    if op.kind == "add":
        return [None, None, *_pair(3)]
    if op.kind == "lookup":
        tables = [_Slot(attribute, "<i1", (256,), "<i1") for attribute in ("table", "slope")]
        return [*tables, None, _Slot("shift", "<i1", (1,), "<i1")]
    if op.kind == "softmax":
        return [None, None, _Slot("exponentials", "<i4", (256,), "<i4"), _Slot("shift", "<i1", (2,), "<i1")]
    if op.kind == "history":
        older = model.tensors[op.output].size - model.tensors[op.input].size
        return [_Slot("initial", "<i1", (older,), "<i1", optional=True), None, None, None]
    return [None] * 4


def _pair(count: int) -> tuple[_Slot, _Slot]:
    return _Slot("multiplier", "<i4", (count,), "<i4"), _Slot("shift", "<i1", (count,), "<i1")


def _stored_arrays(model: QuantModel, op: Op) -> list[bytes | None]:
    """The op's arrays in the order and form of the file."""
    return [
        None if slot is None or slot.optional and op.initial is None else _padded(_stored(model, op, slot), slot.stored)
        for slot in _slots(model, op.output - 1)
    ]


def _stored(model: QuantModel, op: Op, slot: _Slot) -> NDArray:
    if slot.attribute == "bias":
        return folded_bias(model, op)
    array: NDArray = getattr(op, slot.attribute)
    return array.astype(np.int16) + 128 if slot.attribute == "weights" else array


def folded_bias(model: QuantModel, op: Op) -> NDArray[np.int64]:
    """The bias as files have it, with which accumulators are sums over inputs as they are: b - zp_in * sum W."""
    assert op.bias is not None
    return op.bias - _zero_point_share(model, op)


def _zero_point_share(model: QuantModel, op: Op) -> NDArray[np.int64]:
    assert op.weights is not None
    taps = (0, 1) if op.kind == "depthwise" else (1, 2, 3)
    return model.tensors[op.input].zero_point * op.weights.sum(axis=taps, dtype=np.int64)


def _append(body: bytearray, array: bytes | None) -> int:
    """Adds an array and its padding; returns its offset, 0 for no array."""
    at = len(body)
    body += array or b""
    return at if array else 0


def _padded_size(size: int) -> int:
    return size + -size % 4


def _padded(array: NDArray, dtype: str) -> bytes:
    raw = np.ascontiguousarray(array, dtype).tobytes()
    return raw.ljust(_padded_size(len(raw)), b"\0")


def _op_from_record(record: tuple, where: str) -> Op:
    kind, flags, source, target, kh, kw, sh, sw, dh, dw, top, left, low, high, *shifts, source2 = record[:17]
    known = ", ".join(f"{code} {name}" for name, code in _CODES.items())
    _require(1 <= kind <= len(KINDS), f"{where}: kind {kind} is unknown ({known})")
    _require(flags <= _MASK_LOW | _MASK_HIGH, f"{where}: flags {flags:#x} has unknown bits: a newer host made the file")
    name = KINDS[kind - 1]
    axis, part = name in AXIS_KINDS, name == "slice"
    return Op(
        name,
        source,
        target,
        (1, kw) if axis else (kh, kw),
        (sh, sw),
        (dh, dw),
        (0, 0) if part else (top, left),
        act_min=low,
        act_max=high,
        mask_low=bool(flags & _MASK_LOW),
        mask_high=bool(flags & _MASK_HIGH),
        t_shift=shifts[0],
        branch_shift=shifts[1],
        input2=source2,
        axis=kh if axis else 3,
        start=top + 256 * left if part else 0,
    )


def _read_arrays(reader: _Reader, model: QuantModel, index: int, op: Op, offsets: tuple[int, ...]) -> None:
    for what, slot, offset in zip(_ARRAYS, _slots(model, index), offsets, strict=True):
        where = f"{what} of op {index}"
        if slot is None:
            _require_zero(offset, reader.name, f"the offset of {where} ({op.kind} has none)")
        elif offset or not slot.optional:
            inside = 0 < offset < _MODEL_HEADER.size
            _require(not inside, f"{reader.name}: {where} is at {offset}, inside the header: make the file again")
            setattr(op, slot.attribute, reader.array(slot.stored, slot.shape, offset, where))
            if slot.attribute == "weights":
                end = offset + _padded_size(math.prod(slot.shape)) + WEIGHTS_SLACK
                room = f"{reader.name}: {where} end less than {WEIGHTS_SLACK} bytes before the file does"
                _require(end <= len(reader.data), f"{room}: put a word behind them")
    if op.weights is not None and op.bias is not None:
        _require(op.weights.all(), f"{reader.name}: a weight of op {index} is 0, which is -128: make the file again")
        worst = int(np.abs(op.bias.astype(np.int64)).max())
        _require(worst <= MAX_BIAS, f"{reader.name}: op {index} {_BIAS_LIMIT.format(worst)}")
        op.weights = (op.weights.astype(np.int16) - 128).astype(np.int8)
        op.bias = (op.bias + _zero_point_share(model, op)).astype(np.int32)


def _check_structure(model: QuantModel, name: str) -> None:
    """Checks tensors, the graph and each op's geometry: what must hold before arrays can be read."""
    tensors, ops = model.tensors, model.ops
    _require(1 <= len(ops) <= MAX_OPS, f"{name}: {len(ops)} ops, 1 to {MAX_OPS} are possible")
    _require(
        len(tensors) == len(ops) + 1, f"{name}: {len(tensors)} tensors for a graph of {len(ops)} ops, need one more"
    )
    for index, tensor in enumerate(tensors):
        _check_tensor(tensor, f"{name}: tensor {index}")
    _check_graph(model, name)
    for index, op in enumerate(ops):
        _check_geometry(model, op, f"{name}: op {index} ({op.kind})")
    _check_loss(model, name)
    _require(not any("\n" in label for label in model.labels), f"{name}: a label contains a newline, take it out")


def _check_graph(model: QuantModel, name: str) -> None:
    unread = set(range(1, len(model.ops)))
    for index, op in enumerate(model.ops):
        where = f"{name}: op {index} ({op.kind})"
        _require(op.kind in _CODES, f"{where}: kind must be one of {', '.join(_CODES)}")
        _require(op.output == index + 1, f"{where} writes tensor {op.output}, must write {index + 1}")
        reads = " and ".join(map(str, op.inputs))
        _require(
            all(0 <= source <= index for source in op.inputs),
            f"{where} reads tensor {reads}, only 0 to {index} are there by then: reorder the ops",
        )
        _require(op.kind in TWO_INPUT_KINDS or op.input2 == 0, f"{where}: input2 is {op.input2}, this kind has none")
        unread -= set(op.inputs)
    _require(not unread, f"{name}: no op reads the output of op {min(unread, default=1) - 1}: take it out")


def _check_loss(model: QuantModel, name: str) -> None:
    _require(model.loss in LOSSES, f"{name}: loss {model.loss!r}, must be one of {', '.join(LOSSES)}")
    tensor = model.loss_tensor
    height, width, channels = tensor.shape
    if model.loss == "cross_entropy":
        _require(
            height * width == 1,
            f"{name}: the output is {height}x{width}, must have one position: end with mean or dense",
        )
        _require(2 <= channels <= MAX_CLASSES, f"{name}: {channels} outputs, 2 to {MAX_CLASSES} are possible")
    else:
        most = MAX_TARGETS[model.loss]
        _require(tensor.size <= most, f"{name}: {tensor.size} outputs, {model.loss} can have {most}")
    scale = tensor.scale
    _require(scale <= MAX_LOGIT_SCALE, f"{name}: output scale {scale:g}, at most {MAX_LOGIT_SCALE:g} is possible")


def _check_tensor(tensor: Tensor, where: str) -> None:
    _require(all(1 <= side <= 65535 for side in tensor.shape), f"{where}: shape {tensor.shape}, sides are 1 to 65535")
    _require(tensor.size <= MAX_ELEMENTS, f"{where}: {tensor.size} elements, at most {MAX_ELEMENTS} are possible")
    positions = tensor.shape[0] * tensor.shape[1]
    _require(positions <= MAX_POSITIONS, f"{where}: {positions} positions, at most {MAX_POSITIONS} are possible")
    _require(-128 <= tensor.zero_point <= 127, f"{where}: zero point {tensor.zero_point} is not an int8")
    good = 0 < tensor.scale < float(np.finfo(np.float32).max) and float(np.float32(tensor.scale)) > 0
    _require(good, f"{where}: scale {tensor.scale} is not a positive float32")


_USED_FIELDS = {
    "conv": ("kernel", "stride", "dilation", "padding"),
    "depthwise": ("kernel", "stride", "dilation", "padding"),
    "average_pool": ("kernel", "stride", "padding"),
    "max_pool": ("kernel", "stride", "padding"),
    "pad": ("padding",),
}


def _check_geometry(model: QuantModel, op: Op, where: str) -> None:
    used = _USED_FIELDS.get(op.kind, ())
    for what, least in (("kernel", 1), ("stride", 1), ("dilation", 1), ("padding", 0)):
        pair = getattr(op, what)
        _require(all(least <= value <= 255 for value in pair), f"{where}: {what} {pair}, must be {least} to 255")
        _require(what in used or pair == (least, least), f"{where}: {what} {pair}, must be {(least, least)}")
    bounds = f"[{op.act_min}, {op.act_max}]"
    _require(-128 <= op.act_min <= op.act_max <= 127, f"{where}: output range {bounds} is empty or not int8")
    if op.kind not in MASK_KINDS:
        _require(not (op.mask_low or op.mask_high), f"{where}: flags are set, must be 0")
        _require((op.act_min, op.act_max) == (-128, 127), f"{where}: output range {bounds}, must be [-128, 127]")
    _check_shifts(op.t_shift, op.branch_shift, where)
    _require(op.is_matrix or op.t_shift == op.branch_shift == 0, f"{where}: t_shift and branch_shift must be 0")
    _check_shapes(model, op, where)
    if op.kind in SAME_GRID_KINDS:
        grids = {(np.float32(model.tensors[i].scale), model.tensors[i].zero_point) for i in (*op.inputs, op.output)}
        _require(len(grids) == 1, f"{where}: inputs and output must share scale and zero point")
    if op.kind in POOL_KINDS:
        area = op.kernel[0] * op.kernel[1]
        _require(area <= MAX_POOL, f"{where}: a window of {area}, at most {MAX_POOL} is possible: use mean")
        touch = _windows_touch(op, model.tensors[op.input], model.tensors[op.output])
        _require(touch, f"{where}: a window lies outside the input, correct padding or shape")
    if op.kind in WEIGHT_KINDS:
        _check_weight_limits(model, op, where)
    if op.kind == "softmax":
        target = model.tensors[op.output]
        grid = (target.scale, target.zero_point)
        _require(grid == SOFTMAX_GRID, f"{where}: output scale and zero point {grid}, must be {SOFTMAX_GRID}")


def _check_weight_limits(model: QuantModel, op: Op, where: str) -> None:
    outputs, patch = layer_size(model, op.output - 1)
    kernel = op.kernel[0] * op.kernel[1]
    rows = outputs * kernel
    most = MAX_DEPTHWISE if op.kind == "depthwise" else MAX_PATCH
    _require(patch <= most, f"{where}: patches of {patch} inputs, at most {most} are possible")
    _require(rows <= MAX_WEIGHT_ROWS, f"{where}: outputs * kernel is {rows}, at most {MAX_WEIGHT_ROWS} is possible")


def _check_shapes(model: QuantModel, op: Op, where: str) -> None:
    """Whether the shapes of inputs and output are those that the kind allows."""
    if op.kind in AXIS_KINDS:
        _require(1 <= op.axis <= 3, f"{where}: axis {op.axis}, must be 1 (height), 2 (width) or 3 (channels)")
    _require(op.kind == "slice" or op.start == 0, f"{where}: start {op.start}, must be 0")
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    other = model.tensors[op.input2].shape
    shapes = f"{source} in, {target} out"
    if op.kind in ("dense", "mean"):
        _require(target[:2] == (1, 1), f"{where}: its output is {target}, must have one position")
    if op.kind in ("mean", "pad", *POOL_KINDS):
        _require(source[2] == target[2], f"{where}: {source[2]} channels in, {target[2]} out, must be equal")
    if op.kind == "depthwise":
        fits = target[2] % source[2] == 0
        _require(fits, f"{where}: {source[2]} channels in, {target[2]} out, must be a multiple")
    elif op.kind == "add":
        _require(source == other == target, f"{where}: {source} and {other} in, {target} out, must be equal")
    elif op.kind == "slice":
        whole = tuple(source[i] if i == op.axis - 1 else target[i] for i in range(3))
        fits = source == whole and 0 <= op.start <= source[op.axis - 1] - target[op.axis - 1]
        _require(fits, f"{where}: {shapes}, which is no part along axis {op.axis} from {op.start} on")
    elif op.kind == "history":
        _require(math.prod(source) < math.prod(target), f"{where}: {shapes}, its output must have more elements")
    elif op.kind == "concatenate":
        fits = all(target[i] == (source[i] + other[i] if i == op.axis - 1 else source[i]) for i in range(3))
        same = all(source[i] == other[i] for i in range(3) if i != op.axis - 1)
        _require(fits and same, f"{where}: {source} and {other} do not join to {target} along axis {op.axis}")
    elif op.kind == "pad":
        fits = all(target[i] >= source[i] + op.padding[i] for i in range(2))
        _require(fits, f"{where}: {shapes}: the output is smaller than input and padding {op.padding}")
    elif op.kind == "reshape":
        _require(math.prod(source) == math.prod(target), f"{where}: {shapes}, must have as many elements")
    elif op.kind in ("lookup", "softmax"):
        _require(source == target, f"{where}: {shapes}, must be equal")
        wide = op.kind == "softmax" and source[2] > MAX_SOFTMAX
        _require(not wide, f"{where}: {source[2]} channels, at most {MAX_SOFTMAX} are possible")


def _windows_touch(op: Op, source: Tensor, target: Tensor) -> bool:
    """Whether every pooling window holds an input element."""
    for axis in range(2):
        first = np.arange(target.shape[axis]) * op.stride[axis] - op.padding[axis]
        if (first >= source.shape[axis]).any() or (first + op.kernel[axis] <= 0).any():
            return False
    return True


def check_op(model: QuantModel, index: int, where: str) -> None:
    """Raises FormatError, whose text begins with `where`, unless the op is one that files can hold."""
    _check_geometry(model, model.ops[index], where)
    _check_values(model, [index], where)


def _check_values(model: QuantModel, indices: Iterable[int], name: str) -> None:
    """Checks the arrays of these ops: presence, shape, type and limits."""
    for index in indices:
        op = model.ops[index]
        where = f"{name}: op {index} ({op.kind})"
        slots = [slot for slot in _slots(model, index) if slot is not None]
        for slot in slots:
            if slot.optional and getattr(op, slot.attribute) is None:
                continue
            text = f"{name}: {slot.attribute} of op {index} ({op.kind})"
            _check_array(getattr(op, slot.attribute), np.dtype(slot.dtype), slot.shape, text)
        for attribute in {*_ARRAYS, "table", "slope", "exponentials", "initial"} - {slot.attribute for slot in slots}:
            missing = getattr(op, attribute) is None
            _require(missing, f"{name}: {attribute} of op {index} ({op.kind}): this kind has none")
        if op.weights is not None:
            _require(op.weights.min() >= -127, f"{where}: has a weight of -128, the least is -127")
            worst = int(np.abs(folded_bias(model, op)).max())
            _require(worst <= MAX_BIAS, f"{name}: op {index} {_BIAS_LIMIT.format(worst)}")
        if op.multiplier is not None:
            _require(op.multiplier.min() >= 0, f"{name}: op {index} has a negative multiplier {op.multiplier.min()}")
        if op.shift is not None:
            _check_op_shifts(op, where)
        if op.slope is not None:
            _require(op.slope.min() >= -127, f"{where}: has a slope of -128, the least is -127")
        if op.exponentials is not None:
            top = 2**31 - 1
            whole = op.exponentials[0] == top and op.exponentials.min() >= 0
            _require(whole, f"{where}: exponentials must be at least 0, the first {top}")


def _check_op_shifts(op: Op, where: str) -> None:
    assert op.shift is not None
    shifts = op.shift
    if op.kind == "softmax":
        _require(64 <= shifts[0] <= 127, f"{where}: mantissa {shifts[0]} of the scales' ratio, must be 64..127")
        shifts = shifts[1:]
    low, high = int(shifts.min()), int(shifts.max())
    most = 0 if op.kind == "add" else 30
    _require(low >= -31 and high <= most, f"{where}: has shifts {low}..{high}, must be in -31..{most}")


# --- Adapters ---


def pack_adapter(adapter: Adapter, name: str = "adapter") -> bytes:
    """The `.ela` file of an adapter. Raises FormatError where it breaks a limit of SPEC.md section 9."""
    _check_adapter(adapter, name)
    flags = _A_STORED * adapter.a_stored | _STATE_FOLLOWS * adapter.has_state | _A_TRAINABLE * adapter.trainable_a
    envelope = (ADAPTER_MAGIC, ADAPTER_VERSION, _ADAPTER_HEADER.size, 0, 0, adapter.base_id, adapter.seed)
    counts = (flags, len(adapter.layers), adapter.updates, adapter.draws)
    rest = (adapter.momentum, adapter.threshold, adapter.samples)
    body = bytearray(_ADAPTER_HEADER.pack(*envelope, *counts, *rest))
    for layer in adapter.layers:
        sizes = (layer.rank, layer.b.shape[0], layer.a.shape[1])
        body += _LAYER.pack(layer.op, *sizes, layer.t_shift, layer.branch_shift, 0)
    for layer in adapter.layers:
        body += (_padded(layer.a, "<i1") if adapter.a_stored else b"") + _padded(layer.b, "<i1")
    for layer in adapter.layers:
        for state in filter(None, (layer.a_state, layer.b_state)):
            body += _STATE.pack(state.vm, state.vx) + _padded(state.master, "<i2")
            body += _padded(state.momentum, "<i2") if state.momentum is not None else b""
    struct.pack_into("<I", body, 8, len(body))
    return _seal(body)


def adapter_size(model: QuantModel, ranks: Sequence[int], trainable_a: bool) -> int:
    """Bytes of the `.ela` file, without training state, of an adapter with these ranks, one an op (0: none)."""
    return _ADAPTER_HEADER.size + sum(adapter_layer_size(model, i, r, trainable_a) for i, r in enumerate(ranks) if r)


def adapter_layer_size(model: QuantModel, index: int, rank: int, trainable_a: bool) -> int:
    """What of them is a layer's: its record, B and, if it trains, A."""
    sizes = layer_size(model, index)
    return _LAYER.size + sum(-(-rank * size // 4) * 4 for size in sizes[: 1 + trainable_a])


def unpack_adapter(
    data: bytes, model: QuantModel | None = None, base: bytes | None = None, name: str = "adapter"
) -> Adapter:
    """The adapter in an `.ela` file, with A made from seed and base if the file leaves it out (0 without `model`).

    With `model`, sizes and base id are checked against it; `base` is the model's base id, by default that of
    `pack_model(model)`. Raises FormatError; `name` is for its text.
    """
    _check_envelope(data, name, ADAPTER_MAGIC, ADAPTER_VERSION, _ADAPTER_HEADER)
    of_base, seed, flags, count, updates, draws, momentum, threshold, samples = _ADAPTER_HEADER.unpack_from(data)[5:]
    _require(flags <= 7, f"{name}: flags {flags:#x} has unknown bits: a newer host made the file")
    _require(momentum <= MAX_MOMENTUM, f"{name}: momentum shift {momentum}, at most {MAX_MOMENTUM} is possible")
    if base is None and model is not None:
        base = base_id(pack_model(model))
    _require(
        base is None or base == of_base,
        f"adapter {name} was made for base {of_base.hex()}, this model is {(base or b'').hex()}: use its own model",
    )
    stored, trainable = bool(flags & _A_STORED), bool(flags & _A_TRAINABLE)
    _require(stored or not trainable, f"{name}: A is trainable but not stored: make the file again")
    adapter = Adapter(of_base, seed, [], trainable, stored, updates, draws, momentum, samples, threshold)
    reader = _Reader(data, name)
    records = reader.records(_LAYER, _ADAPTER_HEADER.size, count, "layer table")
    at = _ADAPTER_HEADER.size + count * _LAYER.size
    for index, (op, rank, outputs, patch, t_shift, branch_shift, unused) in enumerate(records):
        _require_zero(unused, name, f"the u16 at 10 of layer record {index}")
        _check_sizes(rank, outputs, patch, f"{name}: layer record {index}")
        if stored:
            a, at = reader.next_array("<i1", (rank, patch), at, f"A of op {op}")
        else:
            a = np.zeros((rank, patch), np.int8)
        b, at = reader.next_array("<i1", (outputs, rank), at, f"B of op {op}")
        adapter.layers.append(AdapterLayer(op, a, b, t_shift, branch_shift))
    if flags & _STATE_FOLLOWS:
        for layer in adapter.layers:
            if trainable:
                layer.a_state, at = _read_state(reader, layer.a.shape, at, momentum, f"A of op {layer.op}")
            layer.b_state, at = _read_state(reader, layer.b.shape, at, momentum, f"B of op {layer.op}")
    _require(at == len(data), f"{name}: {len(data) - at} bytes are left over at the end: it is damaged, fetch it again")
    _check_adapter(adapter, name)
    if model is not None:
        check_adapter_fits(adapter, model, name)
        for layer in adapter.layers if not stored else ():
            layer.a = seeded_a(seed, layer.op, layer.rank, model.ops[layer.op])
    return adapter


def seeded_a(seed: int, index: int, rank: int, op: Op) -> NDArray[np.int8]:
    """The frozen or initial A of `op`, the model's `index`-th: int8 [rank, K] (SPEC.md section 7)."""
    assert op.weights is not None
    golden = np.uint32(0x9E3779B9)
    rows = op.weights.reshape(len(op.weights), -1).astype(np.int64)
    stream = _mix(np.array([seed], np.uint32) + np.array([index + 1], np.uint32) * golden)
    numbers = _mix(stream + np.arange(rank * len(rows), dtype=np.uint32) * golden)
    sums = np.where(numbers >> 31, 1, -1).reshape(rank, -1) @ rows
    groups = -(-rows.shape[1] // 4)
    if op.kind == "conv" and op.weights.shape[1:3] == (1, 1) and groups >= rank:
        bounds = 4 * (np.arange(rank + 1)[:, None] * groups // rank)
        inputs = np.arange(rows.shape[1])
        sums = np.where((inputs >= bounds[:-1]) & (inputs < bounds[1:]), sums, 0)
        return np.stack([_scaled_down(row) for row in sums])
    a: list[NDArray[np.int8]] = []
    for row in sums:
        a.append(functools.reduce(_orthogonal, a, _scaled_down(row)))
    return np.stack(a)


def _orthogonal(row: NDArray[np.int8], other: NDArray[np.int8]) -> NDArray[np.int8]:
    """`row` without its part along `other`."""
    wide, along = row.astype(np.int64), other.astype(np.int64)
    norm, dot = int(along @ along) >> 7, int(wide @ along)
    if not norm:
        return row
    part = abs(dot) // norm if dot > 0 else -(abs(dot) // norm)
    return _scaled_down(128 * wide - part * along)


def _scaled_down(row: NDArray[np.int64]) -> NDArray[np.int8]:
    """The row by the least power of two that makes it int8, towards 0."""
    shift = max(0, int(np.abs(row).max()).bit_length() - 7)
    return (np.sign(row) * (np.abs(row) >> shift)).astype(np.int8)


def check_adapter_fits(adapter: Adapter, model: QuantModel, name: str = "adapter") -> None:
    """Raises FormatError unless every layer of the adapter has its place in the model. The base id is not compared."""
    for layer in adapter.layers:
        where = f"{name}: layer of op {layer.op}"
        _require(layer.op < len(model.ops), f"{where}: the model has {len(model.ops)} ops")
        kind = model.ops[layer.op].kind
        _require(kind in MATRIX_KINDS, f"{where}: that op is {kind}, only conv and dense carry adapters")
        mine, its = (layer.b.shape[0], layer.a.shape[1]), layer_size(model, layer.op)
        _require(
            mine == its,
            f"{where}: made for {mine[0]} outputs and patches of {mine[1]}, the model has {its[0]} and {its[1]}",
        )
        height, width, _ = model.tensors[model.ops[layer.op].output].shape
        work = layer.rank * height * width
        _require(
            work <= MAX_ELEMENTS, f"{where}: rank * positions is {work}, at most {MAX_ELEMENTS}: take a lower rank"
        )


def _mix(z: NDArray[np.uint32]) -> NDArray[np.uint32]:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        z = (z ^ (z >> np.uint32(shift))) * np.uint32(factor)
    return z ^ (z >> np.uint32(16))


def _read_state(reader: _Reader, shape: tuple[int, ...], at: int, momentum: int, where: str) -> tuple[TensorState, int]:
    [(vm, vx)] = reader.records(_STATE, at, 1, f"state of {where}")
    master, at = reader.next_array("<i2", shape, at + _STATE.size, f"masters of {where}")
    velocity = None
    if momentum:
        velocity, at = reader.next_array("<i2", shape, at, f"momentum of {where}")
    return TensorState(vm, vx, master, velocity), at


def _check_adapter(adapter: Adapter, name: str) -> None:
    _require(len(adapter.base_id) == 8, f"{name}: base id has {len(adapter.base_id)} bytes, must have 8")
    for what in ("seed", "updates", "draws", "samples"):
        value = getattr(adapter, what)
        _require(0 <= value < 1 << 32, f"{name}: {what} is {value}, must be an unsigned 32-bit number")
    _require(
        0 <= adapter.momentum <= MAX_MOMENTUM, f"{name}: momentum shift {adapter.momentum}, must be 0..{MAX_MOMENTUM}"
    )
    threshold = adapter.threshold
    _require(0 <= threshold <= MAX_THRESHOLD, f"{name}: threshold {threshold}, must be 0..{MAX_THRESHOLD}")
    _require(adapter.a_stored or not adapter.trainable_a, f"{name}: A is trainable but not stored, set a_stored")
    order = [layer.op for layer in adapter.layers]
    _require(len(order) >= 1, f"{name}: has no layers, must have one at least")
    _require(order == sorted(set(order)), f"{name}: layers are for ops {order}, must be ascending, each op once")
    _require(
        0 <= order[0] <= order[-1] < MAX_OPS,
        f"{name}: layers are for ops {order}, must be 0..{MAX_OPS - 1}",
    )
    for layer in adapter.layers:
        _check_layer(adapter, layer, f"{name}: layer of op {layer.op}")


def _check_layer(adapter: Adapter, layer: AdapterLayer, where: str) -> None:
    _require(layer.a.ndim == layer.b.ndim == 2, f"{where}: A and B must be matrices")
    (rank, patch), outputs = layer.a.shape, layer.b.shape[0]
    _check_sizes(rank, outputs, patch, where)
    _check_array(layer.a, np.dtype(np.int8), (rank, patch), f"{where}: A")
    _check_array(layer.b, np.dtype(np.int8), (outputs, rank), f"{where}: B")
    least = min(layer.a.min(), layer.b.min())
    _require(least >= -127, f"{where}: A or B has a weight of {least}, the least is -127")
    _check_shifts(layer.t_shift, layer.branch_shift, where)
    for what, weights, state, wanted in (
        ("A", layer.a, layer.a_state, adapter.has_state and adapter.trainable_a),
        ("B", layer.b, layer.b_state, adapter.has_state),
    ):
        _require(
            (state is not None) == wanted,
            f"{where}: training state of {what} is {'missing' if wanted else 'not wanted'}",
        )
        if state is not None:
            _check_state(state, weights, adapter.momentum > 0, f"{where}: state of {what}")


def _check_state(state: TensorState, weights: NDArray[np.int8], momentum: bool, where: str) -> None:
    scaled = 1 << 15 <= state.vm < 1 << 16 and -(1 << 15) <= state.vx < 1 << 15
    _require(scaled or (state.vm, state.vx) == (0, 0), f"{where}: scale ({state.vm}, {state.vx}) is not normalized")
    _check_array(state.master, np.dtype(np.int16), weights.shape, f"{where}: masters")
    agree = np.array_equal((state.master.astype(np.int32) + 128) >> 8, weights)
    _require(agree, f"{where}: masters and int8 weights do not agree")
    _require(
        (state.momentum is not None) == momentum, f"{where}: momentum is {'missing' if momentum else 'not wanted'}"
    )
    if state.momentum is not None:
        _check_array(state.momentum, np.dtype(np.int16), weights.shape, f"{where}: momentum")
        worst = int(np.abs(state.momentum.astype(np.int32)).max())
        _require(worst <= 1 << 14, f"{where}: momentum of size {worst}, at most {1 << 14} is possible")


def _check_sizes(rank: int, outputs: int, patch: int, where: str) -> None:
    _require(1 <= rank <= MAX_RANK, f"{where}: rank {rank}, must be 1..{MAX_RANK}")
    _require(outputs >= 1, f"{where}: no outputs")
    _require(1 <= patch <= MAX_PATCH, f"{where}: patches of {patch} inputs, must be 1..{MAX_PATCH}")
    worst = max(rank * patch, outputs * rank)
    _require(worst <= MAX_FACTOR, f"{where}: a matrix of {worst} elements, at most {MAX_FACTOR}: take a lower rank")


# --- Common ---


class _Reader:
    """Takes records and arrays out of a file, within its bounds, and keeps which bytes were `used`."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name
        self.used: list[tuple[int, int]] = []

    def span(self, at: int, size: int, what: str, align: int = 4) -> bytes:
        end = at + size
        _require(at % align == 0, f"{self.name}: {what} is at {at}, not a multiple of {align}: make the file again")
        _require(
            end <= len(self.data),
            f"{self.name}: {what} ends at {end}, the file at {len(self.data)}: make it again",
        )
        self.used.append((at, end))
        return self.data[at:end]

    def records(self, layout: struct.Struct, at: int, count: int, what: str) -> list[tuple]:
        return list(layout.iter_unpack(self.span(at, count * layout.size, what)))

    def array(self, dtype: str, shape: tuple[int, ...], at: int, what: str) -> NDArray:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        _require(at > 0, f"{self.name}: {what} has no offset: make the file again")
        native = np.dtype(dtype).newbyteorder("=")
        return np.frombuffer(self.span(at, size, what), dtype).astype(native).reshape(shape)

    def next_array(self, dtype: str, shape: tuple[int, ...], at: int, what: str) -> tuple[NDArray, int]:
        """An array and where the one after it starts; the padding between them must be 0."""
        array = self.array(dtype, shape, at, what)
        end = at + array.nbytes
        padding = self.span(end, -end % 4, f"padding of {what}", align=1)
        _require(not any(padding), f"{self.name}: padding after {what} is not 0: make the file again")
        return array, end + len(padding)

    def text(self, at: int, size: int, header: int) -> str:
        _require(at >= header, f"{self.name}: labels are at {at}, in the header: make the file again")
        try:
            return bytes(self.span(at, size, "labels")).decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{self.name}: labels are not UTF-8 ({error}): make the file again") from None

    def check_gaps(self) -> None:
        done = 0
        for start, end in sorted(self.used) + [(len(self.data), len(self.data))]:
            if start > done:
                _require(
                    not any(self.data[done:start]),
                    f"{self.name}: unused bytes at {done}..{start} are not 0: make it again",
                )
            done = max(done, end)


def _seal(body: bytearray) -> bytes:
    """Puts the CRC in and makes the file immutable."""
    struct.pack_into("<I", body, 12, zlib.crc32(memoryview(body)[_CRC_FROM:]))
    return bytes(body)


def _check_envelope(data: bytes, name: str, magic: bytes, known: int, header: struct.Struct) -> None:
    suffix = {MODEL_MAGIC: "a model (.elm)", ADAPTER_MAGIC: "an adapter (.ela)"}
    _require(data[:4] == magic, f"{name}: starts with {bytes(data[:4])!r}, is not {suffix[magic]}: choose another file")
    _require(
        len(data) >= header.size, f"{name}: ends after {len(data)} bytes, the header has {header.size}: copy it again"
    )
    _, version, header_size, size, crc = _ENVELOPE.unpack_from(data)
    _require(
        version == known,
        f"{name}: format version is {version}, known is {known}: update edgelora, or make it again",
    )
    _require(header_size == header.size, f"{name}: header size is {header_size}, must be {header.size}: make it again")
    _require(
        size == len(data), f"{name}: has {len(data)} bytes, should have {size}: it was cut or mixed up, copy it again"
    )
    actual = zlib.crc32(memoryview(data)[_CRC_FROM:])
    _require(actual == crc, f"{name}: CRC-32 is {actual:08x}, the file says {crc:08x}: it is damaged, make it again")


def _check_array(array: NDArray | None, dtype: np.dtype, shape: tuple[int, ...], where: str) -> None:
    if array is None:
        raise FormatError(f"{where}: missing, must be {dtype.name} {list(shape)}")
    _require(array.shape == shape, f"{where}: shape is {list(array.shape)}, must be {list(shape)}")
    _require(np.can_cast(array.dtype, dtype, "equiv"), f"{where}: type is {array.dtype.name}, must be {dtype.name}")


def _check_shifts(t_shift: int, branch_shift: int, where: str) -> None:
    low, high = T_SHIFTS
    _require(low <= t_shift <= high, f"{where}: t_shift is {t_shift}, must be {low}..{high}")
    low, high = BRANCH_SHIFTS
    _require(low <= branch_shift <= high, f"{where}: branch_shift is {branch_shift}, must be {low}..{high}")


def _require_zero(value: int, name: str, what: str) -> None:
    _require(value == 0, f"{name}: {what} is {value}, must be 0: make the file again")


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise FormatError(message)
