"""Models, `.elm` files (SPEC.md, section 8).

Files have weights in offset binary and biases with the input's zero point folded in; an `Op` has TFLite's form.
Anything packed or unpacked by this module follows every rule and limit of the format.
A violation raises `FormatError`.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.twin.binding import op_fits

from .classes import check_class_stats, pack_class_stats, read_class_stats
from .envelope import (
    ID_AT,
    ID_FROM,
    MODEL_MAGIC,
    MODEL_VERSION,
    Reader,
    check_array,
    check_envelope,
    check_shifts,
    require,
    require_zero,
    seal,
)
from .fixed_point import ATTEND_MULTIPLIERS, ATTEND_SHIFTS, NORM_BIAS, NORM_SHIFTS, SOFTMAX_GRID
from .limits import (
    MAX_ADD_SHIFT,
    MAX_ATTENDED,
    MAX_BIAS,
    MAX_BINARY,
    MAX_CLASSES,
    MAX_DEPTHWISE,
    MAX_ELEMENTS,
    MAX_HEAD,
    MAX_LOGIT_SCALE,
    MAX_OPS,
    MAX_PATCH,
    MAX_POOLED,
    MAX_POSITIONS,
    MAX_REPEATED,
    MAX_SHIFT,
    MAX_SOFTMAX,
    MAX_STREAM,
    MAX_SYMBOLS,
    MAX_TANH_SHIFT,
    MAX_VALUES,
    MAX_WEIGHT_ROWS,
    MIN_SHIFT,
    MIN_TANH_SHIFT,
)
from .network import (
    AXIS_KINDS,
    KINDS,
    LOSSES,
    LSTM_SCALES,
    MASK_KINDS,
    PAIR_KINDS,
    POOL_KINDS,
    SAME_GRID_KINDS,
    STREAM_KINDS,
    TWO_INPUT_KINDS,
    WEIGHT_KINDS,
    WINDOW_KINDS,
    Op,
    QuantModel,
    Tensor,
    gather_axes,
    layer_size,
)
from .signal import check_signal, pack_signal, read_signal

_MODEL_HEADER = struct.Struct("<4sHHII 8s HH IIII I 8H 2B H")
_TENSORS_AT = 28  # in the header
_TENSOR = struct.Struct("<3H b B f")  # shape, zero point, 1: a stream, scale
_OP = struct.Struct("<BB HH 2B 2B 2B 2B 2b bb H IIII")
_BIAS_LIMIT = f"has a bias of {{}} with the zero point folded in, the limit is {MAX_BIAS}"
Shape = tuple[int, int, int]
_OTHER_ARRAYS = (
    *("table", "slope", "exponentials", "initial", "values", "positions", "taps"),
    *("embedding", "gain", "angles"),
)
_ARRAYS = ("weights", "bias", "multiplier", "shift")  # the four offsets of an op record
_MASK_LOW, _MASK_HIGH, _CENTRED, _CAUSAL = 1, 2, 4, 8  # flags of an op
_CLASS_STATS, _ROUNDS = 1, 2  # flags of a model
_MAX_SIGNAL_AT = 4 * 65535  # largest offset of a signal record
WEIGHTS_SLACK = 4  # bytes behind an op's weights and padding that kernels may read


# --- Models ---


def pack_model(model: QuantModel, name: str = "model") -> bytes:
    """The `.elm` file of a model. Raises FormatError if the model breaks a limit of SPEC.md section 8."""
    check_limits(model, name)
    signal = pack_signal(model.signal, model.input, name) if model.signal else None
    body = _tables_and_arrays(model)
    if signal and len(body) > _MAX_SIGNAL_AT:  # beyond the reach of the header's offset: put it before the arrays
        body, signal_at = _tables_and_arrays(model, signal), _ops_at(model) + _OP.size * len(model.ops)
    else:
        signal_at = _append(body, signal)
    _append(body, pack_class_stats(model.class_stats) if model.class_stats else None)
    labels = "\n".join(model.labels).encode()
    labels_at = len(body)
    body += labels
    logit_scale, exponentials = softmax_constants(model.loss_scale)
    tables = (len(model.tensors), len(model.ops), _MODEL_HEADER.size, _ops_at(model), labels_at, len(labels))
    envelope = (MODEL_MAGIC, MODEL_VERSION, _MODEL_HEADER.size, len(body), 0, bytes(8))
    flags = _CLASS_STATS * (model.class_stats is not None) | _ROUNDS * model.rounds
    rest = (LOSSES.index(model.loss), flags, signal_at // 4)
    _MODEL_HEADER.pack_into(body, 0, *envelope, *tables, logit_scale, *exponentials, *rest)
    body[ID_AT:ID_FROM] = base_id(body)
    return seal(body)


def pack_input(tensor: Tensor) -> bytes:
    """The part of a `.elm` file that front ends read: the place of the input's record, and that record."""
    header = bytearray(_MODEL_HEADER.size)
    struct.pack_into("<I", header, _TENSORS_AT, len(header))
    return bytes(header) + _packed(tensor)


def _packed(tensor: Tensor) -> bytes:
    return _TENSOR.pack(*tensor.shape, tensor.zero_point, tensor.wide, tensor.scale)


def check_limits(model: QuantModel, name: str) -> None:
    """Raises FormatError where a model's tensors or ops break a limit of SPEC.md section 8: no file can hold it."""
    _check_structure(model, name)
    _check_values(model, range(len(model.ops)), name)


def _ops_at(model: QuantModel) -> int:
    return _MODEL_HEADER.size + _TENSOR.size * len(model.tensors)


def _tables_and_arrays(model: QuantModel, between: bytes = b"") -> bytearray:
    """The file's start: a blank header, both tables, the data `between`, and the ops' arrays."""
    body = bytearray(_MODEL_HEADER.size)
    for tensor in model.tensors:
        body += _packed(tensor)
    body += bytes(_OP.size * len(model.ops)) + between
    shared_at: dict[bytes, int] = {}  # weights of steps of a recurrence, and rotary angles, are stored once
    for index, op in enumerate(model.ops):
        weights, *others = _stored_arrays(model, op)
        offsets = [shared_at.get(weights or b"") or _append(body, weights), *(_append(body, a) for a in others)]
        if weights and (op.weights is not None or op.kind == "rotate"):
            shared_at[weights] = offsets[0]
        at = _ops_at(model) + index * _OP.size
        body[at : at + _OP.size] = _op_record(op, offsets)
    return body


def _op_record(op: Op, offsets: Sequence[int]) -> bytes:
    masks = _MASK_LOW * op.mask_low | _MASK_HIGH * op.mask_high
    flags = masks | _CENTRED * op.centred | _CAUSAL * op.causal
    pairs = (*_pair_at_6(op), *op.stride, *op.dilation, *_pair_at_12(op))
    shifts = (op.t_shift, op.branch_shift)
    record = (KINDS.index(op.kind) + 1, flags, op.input, op.output, *pairs, op.act_min, op.act_max, *shifts, op.input2)
    return _OP.pack(*record, *offsets)


def _pair_at_6(op: Op) -> tuple[int, int]:
    """What an op record holds for the kernel."""
    if op.kind in AXIS_KINDS:
        return op.axis, 1
    if op.kind == "rotate":
        return _half(op), 1
    return {"gather": op.axes, "attend": op.heads}.get(op.kind, op.kernel)


def _pair_at_12(op: Op) -> tuple[int, int]:
    """What an op record holds for the padding."""
    numbers = {"slice": op.start, "embed": _symbols(op), "attend": op.input3}
    number = numbers.get(op.kind)
    return op.padding if number is None else (number % 256, number // 256)


def _symbols(op: Op) -> int:
    return 0 if op.embedding is None else len(op.embedding)


def _half(op: Op) -> int:
    return 0 if op.angles is None or op.angles.ndim < 2 else op.angles.shape[1]


def unpack_model(data: bytes, name: str = "model") -> QuantModel:
    """The model in an `.elm` file (weight_scale is not stored: None). Raises FormatError; `name` is for its text."""
    check_envelope(data, name, MODEL_MAGIC, MODEL_VERSION, _MODEL_HEADER)
    header = _MODEL_HEADER.unpack_from(data)
    loss, flags, signal_at = header[-3:]
    require(loss < len(LOSSES), f"{name}: loss {loss} is unknown: a newer host made the file")
    require(flags <= _CLASS_STATS | _ROUNDS, f"{name}: byte 65 is {flags}, must be 0 to 3: a newer host made the file")
    stored_id, (tensor_count, op_count, tensors_at, ops_at, labels_at, labels_size) = header[5], header[6:12]
    require(
        stored_id == base_id(data),
        f"{name}: base id is {base_id(data).hex()}, the file says {stored_id.hex()}: it is damaged, make it again",
    )
    reader = Reader(data, name)
    reader.used.append((0, _MODEL_HEADER.size))
    tensors = []
    for index, record in enumerate(reader.records(_TENSOR, tensors_at, tensor_count, "tensor table")):
        *shape, zero_point, wide, scale = record
        require(wide <= 1, f"{name}: byte 7 of tensor {index} is {wide}, must be 0 or 1: a newer host made the file")
        tensors.append(Tensor(tuple(shape), scale, zero_point, bool(wide)))
    records = reader.records(_OP, ops_at, op_count, "op table")
    ops = [_op_from_record(record, f"{name}: op {index}") for index, record in enumerate(records)]
    labels = reader.text(labels_at, labels_size, _MODEL_HEADER.size)
    model = QuantModel(tensors, ops, labels.split("\n") if labels else [], LOSSES[loss], rounds=bool(flags & _ROUNDS))
    _check_structure(model, name)
    if signal_at:
        model.signal = read_signal(reader, 4 * signal_at, _MODEL_HEADER.size, model.input)
    if flags & _CLASS_STATS:
        model.class_stats = read_class_stats(reader, labels_at, _MODEL_HEADER.size, model)
    for index, (op, record) in enumerate(zip(ops, records, strict=True)):
        _read_arrays(reader, model, index, op, record[-4:])
    _check_values(model, range(len(model.ops)), name)
    reader.check_gaps()
    require(
        (header[12], header[13:21]) == softmax_constants(model.loss_scale),
        f"{name}: logit_scale or E does not match the scale {model.loss_scale:g}: make the file again",
    )
    return model


def base_id(data: bytes | bytearray) -> bytes:
    """The 8 bytes that tie adapters to the model file `data` (SPEC.md section 8)."""
    return hashlib.sha256(memoryview(data)[ID_FROM:]).digest()[:8]


def softmax_constants(scale: float) -> tuple[int, tuple[int, ...]]:
    """logit_scale and E[0..7] of SPEC.md section 4, for a model's `loss_scale`."""
    exponentials = tuple(min(65535, math.floor(65536 * math.exp(-scale * 2**j) + 0.5)) for j in range(8))
    return min(2**32 - 1, math.floor(65536 * scale + 0.5)), exponentials


@dataclass(frozen=True)
class _Slot:
    """An array of an op: the attribute of `Op` that holds it, its type and shape there and its type in the file.

    optional: it may be None, stored as an offset of 0.
    """

    attribute: str
    dtype: str
    shape: tuple[int, ...]
    stored: str
    optional: bool = False


_MULTIPLIERS = {  # of kinds without arrays
    **dict.fromkeys(("mean", "multiply", "matmul", "widen"), 1),
    "prelu": 2,
    **dict.fromkeys(("add", "squared_difference", "attend"), 3),
}


def _slots(model: QuantModel, index: int) -> list[_Slot | None]:
    """The meanings of the four offsets of an op record."""
    op = model.ops[index]
    if op.kind in WEIGHT_KINDS:
        outputs, patch = layer_size(model, index)
        kernel = op.kernel[0] * op.kernel[1]
        shape = (*op.kernel, outputs) if op.kind == "depthwise" else (outputs, *op.kernel, patch // kernel)
        return [_Slot("weights", "<i1", shape, "<u1"), _Slot("bias", "<i4", (outputs,), "<i4"), *_pair(outputs)]
    if op.kind == "lstm":
        units, patch = layer_size(model, index)[0] // 4, layer_size(model, index)[1]
        return [
            _Slot("weights", "<i1", (units, 4, patch), "<u1"),
            _Slot("bias", "<i4", (units, 4, 2), "<i4"),
            _Slot("multiplier", "<i4", (LSTM_SCALES + 1 + 256,), "<i4"),
            _Slot("shift", "<i1", (LSTM_SCALES + 2,), "<i1"),
        ]
    if op.kind == "svdf_features":
        filters, patch = layer_size(model, index)
        return [_Slot("weights", "<i1", (filters, patch), "<u1"), _Slot("bias", "<i4", (filters,), "<i4"), *_pair(1)]
    if op.kind == "svdf_time":
        memory, _, wide = model.tensors[op.input].shape
        units = model.tensors[op.output].shape[2]
        taps = _Slot("taps", "<i2", (units, memory, wide // 2 // units), "<i2")
        return [taps, _Slot("bias", "<i4", (units,), "<i4"), *_pair(1)]
    if op.kind == "embed":
        rows = (_symbols(op), model.tensors[op.output].shape[2])
        return [_Slot("embedding", "<i1", rows, "<i1"), None, *_pair(1)]
    if op.kind == "norm":
        channels = (model.tensors[op.output].shape[2],)
        return [_Slot("gain", "<i2", channels, "<i2"), _Slot("bias", "<i4", channels, "<i4"), *_pair(1)]
    if op.kind == "rotate":
        pairs = (model.tensors[op.output].positions, _half(op), 2)
        return [_Slot("angles", "<i2", pairs, "<i2"), None, None, None]
    if op.kind in _MULTIPLIERS:
        return [None, None, *_pair(_MULTIPLIERS[op.kind])]
    if op.kind == "lookup":
        tables = [_Slot(attribute, "<i1", (256,), "<i1") for attribute in ("table", "slope")]
        return [*tables, None, _Slot("shift", "<i1", (1,), "<i1")]
    if op.kind == "softmax":
        return [None, None, _Slot("exponentials", "<i4", (256,), "<i4"), _Slot("shift", "<i1", (2,), "<i1")]
    if op.kind == "history":
        older = model.tensors[op.output].size - model.tensors[op.input].size
        return [_Slot("initial", "<i1", (older,), "<i1", optional=True), None, None, None]
    if op.kind == "constant":
        target = model.tensors[op.output]
        dtype = "<i2" if target.wide else "<i1"
        return [_Slot("values", dtype, target.shape, dtype), None, None, None]
    if op.kind == "gather":
        positions = _Slot("positions", "<u2", (sum(model.tensors[op.output].shape),), "<u2", optional=True)
        return [positions, None, None, None]
    return [None] * 4


def _pair(count: int) -> tuple[_Slot, _Slot]:
    return _Slot("multiplier", "<i4", (count,), "<i4"), _Slot("shift", "<i1", (count,), "<i1")


def _stored_arrays(model: QuantModel, op: Op) -> list[bytes | None]:
    """The op's arrays in the order and form of the file."""

    def stored(slot: _Slot | None) -> bytes | None:
        if slot is None or slot.optional and getattr(op, slot.attribute) is None:
            return None
        return _padded(_stored(model, op, slot), slot.stored)

    return [stored(slot) for slot in _slots(model, op.output - 1)]


def _stored(model: QuantModel, op: Op, slot: _Slot) -> NDArray[Any]:
    if slot.attribute == "bias":
        return folded_bias(model, op)
    array: NDArray[Any] = getattr(op, slot.attribute)
    return array.astype(np.int16) + 128 if slot.attribute == "weights" else array


def folded_bias(model: QuantModel, op: Op) -> NDArray[np.int64]:
    """The bias in a file's form, for accumulators that sum raw inputs: b - zp_in * sum W."""
    assert op.bias is not None
    return op.bias - _zero_point_share(model, op)


def _zero_point_share(model: QuantModel, op: Op) -> NDArray[np.int64]:
    if op.weights is None or op.kind == "lstm":
        return np.zeros(1, np.int64)
    taps = (0, 1) if op.kind == "depthwise" else tuple(range(1, op.weights.ndim))
    sums: NDArray[np.int64] = op.weights.sum(axis=taps, dtype=np.int64)
    return model.tensors[op.input].zero_point * sums


def _append(body: bytearray, array: bytes | None) -> int:
    """Adds an array and its padding; returns its offset, 0 for no array."""
    at = len(body)
    body += array or b""
    return at if array else 0


def _padded_size(size: int) -> int:
    return size + -size % 4


def _padded(array: NDArray[Any], dtype: str) -> bytes:
    raw = np.ascontiguousarray(array, dtype).tobytes()
    return raw.ljust(_padded_size(len(raw)), b"\0")


def _op_from_record(record: tuple[Any, ...], where: str) -> Op:
    kind, flags, source, target, kh, kw, sh, sw, dh, dw, top, left, low, high, *shifts, source2 = record[:17]
    known = ", ".join(f"{code} {name}" for code, name in enumerate(KINDS, 1))
    require(1 <= kind <= len(KINDS), f"{where}: kind {kind} is unknown ({known})")
    known_flags = _MASK_LOW | _MASK_HIGH | _CENTRED | _CAUSAL
    require(flags <= known_flags, f"{where}: flags {flags:#x} has unknown bits: a newer host made the file")
    op = Op(KINDS[kind - 1], source, target, (kh, kw), (sh, sw), (dh, dw), (top, left), low, high)
    op.mask_low, op.mask_high = bool(flags & _MASK_LOW), bool(flags & _MASK_HIGH)
    op.centred, op.causal = bool(flags & _CENTRED), bool(flags & _CAUSAL)
    op.t_shift, op.branch_shift = shifts
    op.input2 = source2
    _take_pairs(op)
    return op


def _take_pairs(op: Op) -> None:
    """Takes what a kind has in place of kernel and padding; arrays whose sides these are get empty ones."""
    (first, second), (low, high) = op.kernel, op.padding
    if op.kind in AXIS_KINDS:
        op.axis, op.kernel = first, (1, second)
    elif op.kind == "gather":
        op.axes, op.kernel = (first, second), (1, 1)
    elif op.kind == "attend":
        op.heads, op.kernel = (first, second), (1, 1)
        op.input3, op.padding = low + 256 * high, (0, 0)
    elif op.kind == "rotate":
        op.angles, op.kernel = np.empty((0, first, 2), np.int16), (1, second)
    if op.kind == "slice":
        op.start, op.padding = low + 256 * high, (0, 0)
    elif op.kind == "embed":
        op.embedding, op.padding = np.empty((low + 256 * high, 0), np.int8), (0, 0)


def _read_arrays(reader: Reader, model: QuantModel, index: int, op: Op, offsets: tuple[int, ...]) -> None:
    for what, slot, offset in zip(_ARRAYS, _slots(model, index), offsets, strict=True):
        where = f"{what} of op {index}"
        if slot is None:
            require_zero(offset, reader.name, f"the offset of {where} ({op.kind} has none)")
        elif offset or not slot.optional:
            inside = 0 < offset < _MODEL_HEADER.size
            require(not inside, f"{reader.name}: {where} is at {offset}, inside the header: make the file again")
            setattr(op, slot.attribute, reader.array(slot.stored, slot.shape, offset, where))
            if slot.attribute == "weights":
                end = offset + _padded_size(math.prod(slot.shape)) + WEIGHTS_SLACK
                room = f"{reader.name}: {where} end less than {WEIGHTS_SLACK} bytes before the file does"
                require(end <= len(reader.data), f"{room}: append a word")
    if op.weights is not None and op.bias is not None:
        require(op.weights.all(), f"{reader.name}: a weight of op {index} is 0, which is -128: make the file again")
        worst = int(np.abs(op.bias.astype(np.int64)).max())
        require(worst <= MAX_BIAS, f"{reader.name}: op {index} {_BIAS_LIMIT.format(worst)}")
        op.weights = (op.weights.astype(np.int16) - 128).astype(np.int8)
        op.bias = (op.bias + _zero_point_share(model, op)).astype(np.int32)


def _check_structure(model: QuantModel, name: str) -> None:
    """Checks tensors, the graph and each op's geometry, which must be valid before arrays can be read."""
    tensors, ops = model.tensors, model.ops
    require(1 <= len(ops) <= MAX_OPS, f"{name}: {len(ops)} ops, must be 1 to {MAX_OPS}")
    require(
        len(tensors) == len(ops) + 1, f"{name}: {len(tensors)} tensors for a graph of {len(ops)} ops, need one more"
    )
    for index, tensor in enumerate(tensors):
        _check_tensor(tensor, f"{name}: tensor {index}")
    require(not tensors[0].wide, f"{name}: the input is a stream, must be int8: begin with embed or widen")
    _check_graph(model, name)
    for index, op in enumerate(ops):
        _check_geometry(model, op, f"{name}: op {index} ({op.kind})")
    _check_fit(model, range(len(ops)), name)
    _check_loss(model, name)
    require(not any("\n" in label for label in model.labels), f"{name}: a label contains a newline: remove it")
    if model.signal:
        check_signal(model.signal, model.input, name)
    if model.class_stats:
        check_class_stats(model.class_stats, model, name)


def _check_graph(model: QuantModel, name: str) -> None:
    unread = set(range(1, len(model.ops)))
    for index, op in enumerate(model.ops):
        where = f"{name}: op {index} ({op.kind})"
        require(op.kind in KINDS, f"{where}: kind must be one of {', '.join(KINDS)}")
        require(op.output == index + 1, f"{where} writes tensor {op.output}, must write {index + 1}")
        reads = " and ".join(map(str, op.inputs))
        require(bool(op.inputs) or op.input == 0, f"{where}: input is {op.input}, this kind has none")
        require(
            all(0 <= source <= index for source in op.inputs),
            f"{where} reads tensor {reads}, only 0 to {index} are computed before it: reorder the ops",
        )
        two = op.kind in (*TWO_INPUT_KINDS, *STREAM_KINDS, "attend")
        require(two or op.input2 == 0, f"{where}: input2 is {op.input2}, this kind has none")
        require(op.kind == "attend" or op.input3 == 0, f"{where}: input3 is {op.input3}, this kind has none")
        _check_streams(model, op, where)
        unread -= set(op.inputs)
    require(model.ops[-1].kind != "constant", f"{name}: the output is a constant: it must be computed")
    require(not unread, f"{name}: no op reads the output of op {min(unread, default=1) - 1}: remove it")


def _check_streams(model: QuantModel, op: Op, where: str) -> None:
    """Checks which tensors of an op are streams, and their scales."""
    source, target = model.tensors[op.input], model.tensors[op.output]
    kinds = " and ".join(STREAM_KINDS)
    if op.kind in STREAM_KINDS:
        require(target.wide, f"{where}: its output is int8, must be a stream")
    elif op.kind != "constant":
        require(not target.wide, f"{where}: its output is a stream, which only {kinds} write")
    if op.kind == "norm":
        require(source.wide, f"{where}: its input is int8, must be a stream")
    elif op.kind in STREAM_KINDS and op.input2:
        stream = model.tensors[op.input2]
        require(not source.wide, f"{where}: its input is a stream, which only norm reads")
        require(stream.wide, f"{where}: its input2 is int8, must be a stream")
        same = np.float32(stream.scale) == np.float32(target.scale)
        require(same and stream.shape == target.shape, f"{where}: its input2 and output must share shape and scale")
    else:
        wide = any(model.tensors[index].wide for index in op.inputs)
        require(not wide, f"{where}: reads a stream, which only norm and, as input2, {kinds} do")


def _check_loss(model: QuantModel, name: str) -> None:
    require(model.loss in LOSSES, f"{name}: loss {model.loss!r}, must be one of {', '.join(LOSSES)}")
    tensor = model.loss_tensor
    height, width, channels = tensor.shape
    require(not model.output.wide, f"{name}: the output is a stream: end with norm")
    if model.loss == "cross_entropy":
        require(
            height * width <= MAX_ATTENDED,
            f"{name}: the output is {height}x{width}, the limit is {MAX_ATTENDED} positions: end with mean or dense",
        )
        most = MAX_SYMBOLS if model.learns_sequences else MAX_CLASSES
        require(2 <= channels <= most, f"{name}: {channels} outputs, must be 2 to {most}")
    else:
        most = MAX_BINARY if model.loss == "binary_cross_entropy" else MAX_VALUES
        require(tensor.size <= most, f"{name}: {tensor.size} outputs, the limit with {model.loss} is {most}")
    logit_scale, _ = softmax_constants(model.loss_scale)
    scale = f"{name}: output scale {tensor.scale:g}, the limit is {MAX_LOGIT_SCALE / 65536:g}"
    require(model.learns_values or logit_scale <= MAX_LOGIT_SCALE, f"{scale} with {model.loss}")


def _check_tensor(tensor: Tensor, where: str) -> None:
    require(all(1 <= side <= 65535 for side in tensor.shape), f"{where}: shape {tensor.shape}, sides are 1 to 65535")
    require(tensor.size <= MAX_ELEMENTS, f"{where}: {tensor.size} elements, the limit is {MAX_ELEMENTS}")
    positions = tensor.shape[0] * tensor.shape[1]
    require(positions <= MAX_POSITIONS, f"{where}: {positions} positions, the limit is {MAX_POSITIONS}")
    require(-128 <= tensor.zero_point <= 127, f"{where}: zero point {tensor.zero_point} is not an int8")
    if tensor.wide:
        require(tensor.zero_point == 0, f"{where}: zero point {tensor.zero_point} of a stream, must be 0")
        require(tensor.shape[2] <= MAX_STREAM, f"{where}: {tensor.shape[2]} channels, a stream's limit is {MAX_STREAM}")
    good = 0 < tensor.scale < float(np.finfo(np.float32).max) and float(np.float32(tensor.scale)) > 0
    require(good, f"{where}: scale {tensor.scale} is not a positive float32")


def _used_fields(kind: str) -> tuple[str, ...]:
    if kind == "pad":
        return "stride", "padding"
    if kind in POOL_KINDS:
        return "kernel", "stride", "padding"
    return ("kernel", "stride", "dilation", "padding") if kind in WINDOW_KINDS else ()


def _check_geometry(model: QuantModel, op: Op, where: str) -> None:
    used = _used_fields(op.kind)
    for what, least in (("kernel", 1), ("stride", 1), ("dilation", 1), ("padding", 0)):
        pair = getattr(op, what)
        require(all(least <= value <= 255 for value in pair), f"{where}: {what} {pair}, must be {least} to 255")
        require(what in used or pair == (least, least), f"{where}: {what} {pair}, must be {(least, least)}")
    bounds = f"[{op.act_min}, {op.act_max}]"
    require(-128 <= op.act_min <= op.act_max <= 127, f"{where}: output range {bounds} is empty or not int8")
    if op.kind not in MASK_KINDS:
        require(not (op.mask_low or op.mask_high), f"{where}: flags are set, must be 0")
        require((op.act_min, op.act_max) == (-128, 127), f"{where}: output range {bounds}, must be [-128, 127]")
    require(op.kind == "norm" or not op.centred, f"{where}: is centred, only a norm can be")
    require(op.kind == "attend" or not op.causal, f"{where}: is causal, only an attend can be")
    check_shifts(op.t_shift, op.branch_shift, where)
    require(op.is_matrix or op.t_shift == op.branch_shift == 0, f"{where}: t_shift and branch_shift must be 0")
    _check_shapes(model, op, where)
    if op.kind in SAME_GRID_KINDS:
        grids = {(np.float32(model.tensors[i].scale), model.tensors[i].zero_point) for i in (*op.inputs, op.output)}
        require(len(grids) == 1, f"{where}: inputs and output must share scale and zero point")
    if op.kind in POOL_KINDS:
        area = op.kernel[0] * op.kernel[1]
        require(area <= MAX_POOLED, f"{where}: a window of {area}, the limit is {MAX_POOLED}: use mean")
        touch = _windows_touch(op, model.tensors[op.input], model.tensors[op.output])
        require(touch, f"{where}: a window lies outside the input: correct its padding or shape")
    if op.kind in ("embed", "rotate", "attend"):
        _check_attention(model, op, where)
    if op.kind in (*WEIGHT_KINDS, "lstm", "svdf_features"):
        _check_weight_limits(model, op, where)
    if op.kind in ("svdf_features", "svdf_time"):
        zero = model.tensors[op.output if op.kind == "svdf_features" else op.input].zero_point
        require(zero == 0, f"{where}: its int16 tensor has zero point {zero}, must be 0")
    if op.kind == "softmax":
        target = model.tensors[op.output]
        grid = (target.scale, target.zero_point)
        require(grid == SOFTMAX_GRID, f"{where}: output scale and zero point {grid}, must be {SOFTMAX_GRID}")


def _check_attention(model: QuantModel, op: Op, where: str) -> None:
    """Checks the shapes and grids of an embed, a rotate and an attend."""
    source, target = model.tensors[op.input], model.tensors[op.output]
    tensors = [source, target]
    if op.kind == "embed":
        symbols = _symbols(op)
        require(1 <= symbols <= MAX_SYMBOLS, f"{where}: {symbols} symbols, must be 1 to {MAX_SYMBOLS}")
        require(op.input == 0, f"{where}: reads tensor {op.input}, ids are the network's input: tensor 0")
        wanted = (*target.shape[:2], 1 if symbols <= 256 else 2)
        require(source.shape == wanted, f"{where}: {source.shape} in, must be {wanted} of {symbols} symbols")
        return
    if op.kind == "rotate":
        half = _half(op)
        fits = 1 <= half <= MAX_HEAD // 2 and target.shape[2] % (2 * half) == 0
        require(fits, f"{where}: half is {half} of {target.shape[2]} channels, must be 1 to {MAX_HEAD // 2} and divide")
    else:
        tensors = [model.tensors[i] for i in (*op.inputs, op.output)]
        _check_heads(op, [tensor.shape for tensor in tensors], where)
        readers = [i for other in model.ops for i in set(other.inputs) if i in op.inputs]
        alone = len({*op.inputs}) == len(readers) == 3
        require(alone, f"{where}: reads tensors {op.inputs}, must be three that no other op reads")
    zeros = [tensor.zero_point for tensor in tensors]
    require(not any(zeros), f"{where}: zero points {zeros} of its inputs and output, must be 0")


def _check_heads(op: Op, shapes: list[Shape], where: str) -> None:
    """Checks the shapes of an attend's inputs and output."""
    query, key, value, target = shapes
    (heads, shared), rows = op.heads, query[0] * query[1]
    fits = query == target and key == value and key[0] * key[1] == rows
    named = f"{query}, {key} and {value} in, {target} out"
    require(fits, f"{where}: {named}, must be two shapes with the same number of positions")
    require(rows <= MAX_ATTENDED, f"{where}: {rows} positions, the limit is {MAX_ATTENDED}")
    fits = 0 < shared <= heads <= 255 and heads % shared == 0 and query[2] % heads == 0 and key[2] % shared == 0
    require(fits, f"{where}: {heads} heads on {shared}, of {query[2]} and {key[2]} channels, must divide")
    size = query[2] // heads
    require(size == key[2] // shared, f"{where}: heads of {size} and {key[2] // shared} channels, must be equal")
    require(size <= MAX_HEAD, f"{where}: heads of {size} channels, the limit is {MAX_HEAD}")
    work = rows * heads // shared
    require(work <= 2 * MAX_ATTENDED, f"{where}: {work} rows for each key, the limit is {2 * MAX_ATTENDED}")


def _check_weight_limits(model: QuantModel, op: Op, where: str) -> None:
    outputs, patch = layer_size(model, op.output - 1)
    kernel = op.kernel[0] * op.kernel[1]
    rows = outputs * kernel
    most = MAX_DEPTHWISE if op.kind == "depthwise" else MAX_PATCH
    require(patch <= most, f"{where}: patches of {patch} inputs, the limit is {most}")
    require(rows <= MAX_WEIGHT_ROWS, f"{where}: outputs * kernel is {rows}, the limit is {MAX_WEIGHT_ROWS}")


def _check_shapes(model: QuantModel, op: Op, where: str) -> None:
    """Checks that the shapes of inputs and output are allowed for the kind."""
    if op.kind in AXIS_KINDS:
        require(1 <= op.axis <= 3, f"{where}: axis {op.axis}, must be 1 (height), 2 (width) or 3 (channels)")
    require(op.kind == "slice" or op.start == 0, f"{where}: start {op.start}, must be 0")
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    other = model.tensors[op.input2].shape
    shapes = f"{source} in, {target} out"
    if op.kind in ("dense", "mean"):
        require(target[:2] == (1, 1), f"{where}: its output is {target}, must have one position")
    if op.kind in ("mean", "pad", *POOL_KINDS):
        require(source[2] == target[2], f"{where}: {source[2]} channels in, {target[2]} out, must be equal")
    if op.kind == "depthwise":
        fits = target[2] % source[2] == 0
        require(fits, f"{where}: {source[2]} channels in, {target[2]} out, must be a multiple")
    elif op.kind in PAIR_KINDS:
        require(source == target, f"{where}: {source} in, {target} out, must be equal")
        fits = all(side in (1, whole) for side, whole in zip(other, target, strict=True))
        require(fits, f"{where}: {other} can't be a second input for {target}: its sides must be equal or 1")
        times = math.prod(target) // math.prod(other)
        require(
            times <= MAX_REPEATED, f"{where}: its second input is repeated {times} times, the limit is {MAX_REPEATED}"
        )
        known = op.kind != "prelu" or op.input2 > 0 and model.ops[op.input2 - 1].kind == "constant"
        require(known, f"{where}: its slopes, input2, must be a constant")
    elif op.kind == "matmul":
        fits = source[:2] == target[:2] and other == (source[0], target[2], source[2])
        require(fits, f"{where}: {source} and {other} in, {target} out, must be rows for each row and column out")
        require(source[2] <= MAX_PATCH, f"{where}: sums of {source[2]} products, the limit is {MAX_PATCH}")
    elif op.kind == "gather":
        require(
            len({*op.axes}) == 2 and all(1 <= axis <= 3 for axis in op.axes),
            f"{where}: axes {op.axes}, must be two of 1 (height), 2 (width), 3 (channels)",
        )
    elif op.kind == "slice":
        whole = tuple(source[i] if i == op.axis - 1 else target[i] for i in range(3))
        fits = source == whole and 0 <= op.start <= source[op.axis - 1] - target[op.axis - 1]
        require(fits, f"{where}: {shapes}, which is not a slice along axis {op.axis} from {op.start}")
    elif op.kind == "history":
        require(math.prod(source) < math.prod(target), f"{where}: {shapes}, its output must have more elements")
    elif op.kind == "concatenate":
        fits = all(target[i] == (source[i] + other[i] if i == op.axis - 1 else source[i]) for i in range(3))
        same = all(source[i] == other[i] for i in range(3) if i != op.axis - 1)
        require(fits and same, f"{where}: {source} and {other} can't be concatenated to {target} along axis {op.axis}")
    elif op.kind == "pad":
        fits = all(target[i] > op.padding[i] + (source[i] - 1) * op.stride[i] for i in range(2))
        require(fits, f"{where}: {shapes}: the output is smaller than the input and its padding {op.padding}")
    elif op.kind == "reshape":
        require(math.prod(source) == math.prod(target), f"{where}: {shapes}, must have the same number of elements")
    elif op.kind == "lstm":
        require(
            target[:2] in (source[:2], (1, 1)), f"{where}: {shapes}, must have the same number of positions, or one"
        )
    elif op.kind == "svdf_features":
        fits = target[:2] == (1, 1) and target[2] % 2 == 0
        require(fits, f"{where}: {shapes}, its output must be one position of int16, two bytes each")
    elif op.kind == "svdf_time":
        fits = source[1] == 1 and target[:2] == (1, 1) and source[2] % (2 * target[2]) == 0
        require(fits, f"{where}: {shapes}, must be int16 rows with the same number of filters for each output")
    elif op.kind in ("lookup", "softmax", "widen", "norm", "rotate"):
        require(source == target, f"{where}: {shapes}, must be equal")
        wide = op.kind == "softmax" and source[2] > MAX_SOFTMAX
        require(not wide, f"{where}: {source[2]} channels, the limit is {MAX_SOFTMAX}")


def _check_fit(model: QuantModel, indices: Iterable[int], name: str) -> None:
    """Asks the core's records of ops whether they allow the tensors and fields of these."""
    tensors = b"".join(map(_packed, model.tensors))
    records = b"".join(_op_record(op, (1, 1, 1, 1)) for op in model.ops)  # as if with all arrays
    for index in indices:
        op = model.ops[index]
        shapes = (
            f"{' and '.join(str(model.tensors[i].shape) for i in op.inputs)} in, {model.tensors[op.output].shape} out"
        )
        require(op_fits(records, index, tensors), f"{name}: op {index} ({op.kind}): {shapes}, do not fit")


def _windows_touch(op: Op, source: Tensor, target: Tensor) -> bool:
    """Whether every pooling window holds an input element."""
    for axis in range(2):
        first = np.arange(target.shape[axis]) * op.stride[axis] - op.padding[axis]
        if (first >= source.shape[axis]).any() or (first + op.kernel[axis] <= 0).any():
            return False
    return True


def check_op(model: QuantModel, index: int, where: str) -> None:
    """Raises FormatError, whose message begins with `where`, unless files can hold the op."""
    _check_geometry(model, model.ops[index], where)
    _check_fit(model, [index], where)
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
            check_array(getattr(op, slot.attribute), np.dtype(slot.dtype), slot.shape, text)
        for attribute in {*_ARRAYS, *_OTHER_ARRAYS} - {slot.attribute for slot in slots}:
            missing = getattr(op, attribute) is None
            require(missing, f"{name}: {attribute} of op {index} ({op.kind}): this kind has none")
        if op.weights is not None:
            require(op.weights.min() >= -127, f"{where}: has a weight of -128, the least is -127")
            worst = int(np.abs(folded_bias(model, op)).max())
            require(worst <= MAX_BIAS, f"{name}: op {index} {_BIAS_LIMIT.format(worst)}")
        if op.kind in ("norm", "attend", "rotate"):
            _check_constants(op, where)
        if op.multiplier is not None:
            least = int((op.multiplier[2:] if op.kind == "add" else op.multiplier).min())
            if op.kind == "lstm":
                _check_lstm(op, where)
            require(least >= 0, f"{name}: op {index} has a negative multiplier {least}")
            require(
                op.multiplier.min() > -(2**31), f"{name}: op {index} has a multiplier of -2^31, which can't be negated"
            )
        if op.shift is not None and op.kind not in ("norm", "attend"):
            _check_op_shifts(op, where)
        if op.slope is not None:
            require(op.slope.min() >= -127, f"{where}: has a slope of -128, the least is -127")
        if op.kind == "gather":
            _check_positions(model, op, where)
        if op.exponentials is not None:
            top = 2**31 - 1
            whole = op.exponentials[0] == top and op.exponentials.min() >= 0
            require(whole, f"{where}: exponentials must be at least 0, the first one {top}")


def _check_positions(model: QuantModel, op: Op, where: str) -> None:
    """Checks that a gather's positions are within its input."""
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    counts = tuple(target[axis] for axis in gather_axes(op))
    if op.positions is None:
        require(source == counts, f"{where}: {source} in, {target} out: its positions are missing")
        return
    for size, part in zip(source, np.split(op.positions, np.cumsum(counts)[:-1]), strict=True):
        require(int(part.max()) < size, f"{where}: reads position {part.max()} of {size}")


def _check_lstm(op: Op, where: str) -> None:
    """Checks the limits of an lstm's values behind its multipliers and shifts."""
    assert op.multiplier is not None and op.shift is not None
    clip, table, power = op.multiplier[LSTM_SCALES], op.multiplier[LSTM_SCALES + 1 :], op.shift[LSTM_SCALES + 1]
    require(0 <= clip <= 1 << 15, f"{where}: its cell is clipped at {clip}, must be 0..32768")
    whole = table.min() >= 1 << 15 and table.max() < 1 << 16
    require(whole, f"{where}: its logistic table must be 32768..65535")
    good = MIN_TANH_SHIFT <= power <= MAX_TANH_SHIFT
    require(good, f"{where}: its cell is scaled by 2^{power}, must be {MIN_TANH_SHIFT}..{MAX_TANH_SHIFT}")


def _check_constants(op: Op, where: str) -> None:
    """Checks the ranges of a norm's, an attend's or a rotate's constants."""

    def check(what: str, values: Any, least: int, most: int) -> None:
        low, high = int(np.min(values)), int(np.max(values))
        require(least <= low <= high <= most, f"{where}: has {what} {low}..{high}, must be in {least}..{most}")

    if op.kind == "rotate":
        check("angles", op.angles, -32767, 32767)
    elif op.kind == "norm":
        check("gains", op.gain, -32767, 32767)
        check("biases", op.bias, -NORM_BIAS, NORM_BIAS)
        check("epsilon", op.multiplier, 1, 2**31 - 1)
        check("shift", op.shift, *NORM_SHIFTS)
    else:
        assert op.multiplier is not None and op.shift is not None
        named = zip("MmKntx", [*op.multiplier, *op.shift], [*ATTEND_MULTIPLIERS, *ATTEND_SHIFTS], strict=True)
        for letter, value, bounds in named:
            check(letter, value, *bounds)


def _check_op_shifts(op: Op, where: str) -> None:
    assert op.shift is not None
    shifts = op.shift
    if op.kind == "softmax":
        require(64 <= shifts[0] <= 127, f"{where}: mantissa {shifts[0]} of the scales' ratio, must be 64..127")
        shifts = shifts[1:]
    if op.kind == "lstm":
        shifts = shifts[:LSTM_SCALES]
    low, high = int(shifts.min()), int(shifts.max())
    most = MAX_ADD_SHIFT if op.kind in ("add", "squared_difference") else MAX_SHIFT
    require(MIN_SHIFT <= low <= high <= most, f"{where}: has shifts {low}..{high}, must be in {MIN_SHIFT}..{most}")
