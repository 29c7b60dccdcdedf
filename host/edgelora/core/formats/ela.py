"""Adapters, `.ela` files (SPEC.md, section 9).

Anything packed or unpacked by this module follows every rule and limit of the format.
A violation raises `FormatError`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgelora.core.twin.seeded_a import seeded_a

from .classes import ClassRow, check_classes_fit, pack_classes, unpack_classes
from .elm import _padded
from .envelope import (
    ADAPTER_MAGIC,
    ADAPTER_VERSION,
    Reader,
    check_array,
    check_envelope,
    check_shifts,
    require,
    require_zero,
    seal,
)
from .limits import (
    MAX_FACTOR,
    MAX_MASTER,
    MAX_MEAN,
    MAX_MOMENTUM,
    MAX_OPS,
    MAX_PATCH,
    MAX_RANK,
    MAX_SCALE_EXPONENT,
    MAX_T,
    MAX_THRESHOLD,
)
from .network import MATRIX_KINDS, QuantModel, layer_size

_ADAPTER_HEADER = struct.Struct("<4sHHII 8s I HH II HH I")
_LAYER = struct.Struct("<4H bb H")  # op, rank, O, K, t_shift, branch_shift, 0
_STATE = struct.Struct("<Hh")  # vm, vx
_RECORD = struct.Struct("<2HI")  # kind, version, size of the body
_A_STORED, _STATE_FOLLOWS, _A_TRAINABLE, _RECORDS_FOLLOW = 1, 2, 4, 8
CLASSES, MONITOR = 1, 2  # kinds of records
RECORD_VERSION = 1  # of each kind


@dataclass
class TensorState:
    """Training state of one adapter matrix besides its int8 weights (SPEC.md section 6).

    vm, vx: mantissa and exponent of the gradient scale, (0, 0) at first; master: int16, shape of the matrix;
    momentum: int16 of the same shape, or None if the adapter trains without momentum.
    """

    vm: int
    vx: int
    master: NDArray[np.int16]
    momentum: NDArray[np.int16] | None = None


@dataclass
class AdapterLayer:
    """The adapter of one layer: a int8 [rank, K], b int8 [O, rank], and their training state, if any."""

    op: int
    a: NDArray[np.int8]
    b: NDArray[np.int8]
    t_shift: int
    branch_shift: int
    a_state: TensorState | None = None
    b_state: TensorState | None = None

    @property
    def rank(self) -> int:
        return len(self.a)


@dataclass
class Adapter:
    """The content of an `.ela` file. If A is not stored in the file, it must be the one derived from the seed.

    records: bodies of records by kind (CLASSES, MONITOR). An adapter with records may have no layers.
    """

    base_id: bytes
    seed: int
    layers: list[AdapterLayer] = field(default_factory=list)
    trainable_a: bool = False
    a_stored: bool = False
    updates: int = 0
    draws: int = 0
    momentum: int = 0
    samples: int = 0
    threshold: int = 0  # Q11: smaller steps are left out of updates
    records: dict[int, bytes] = field(default_factory=dict)

    def ranks(self, ops: int) -> bytes:
        """The rank of each of `ops` ops, 0 without an adapter."""
        by_op = {layer.op: layer.rank for layer in self.layers}
        return bytes(by_op.get(op, 0) for op in range(ops))

    def __repr__(self) -> str:
        ranks = " ".join(f"{layer.op}:{layer.rank}" for layer in self.layers)
        state = ", with training state" if self.has_state else ""
        return f"<Adapter for base {self.base_id.hex()}, ranks by op {ranks}, seed {self.seed}{state}>"

    @property
    def classes(self) -> list[ClassRow]:
        """The classes that the adapter adds, and its rows for the base's classes."""
        return unpack_classes(self.records[CLASSES]) if CLASSES in self.records else []

    @classes.setter
    def classes(self, rows: Sequence[ClassRow]) -> None:
        self.records.pop(CLASSES, None)
        if rows:
            self.records[CLASSES] = pack_classes(rows)

    @property
    def has_state(self) -> bool:
        """Whether training can resume exactly where it stopped."""
        return any(layer.b_state is not None for layer in self.layers)

    @property
    def states(self) -> list[TensorState]:
        """Training state of each matrix that trains, in the file's order: layer by layer A's, then B's."""
        return [state for layer in self.layers for state in (layer.a_state, layer.b_state) if state]


# --- Adapters ---


def pack_adapter(adapter: Adapter, name: str = "adapter") -> bytes:
    """The `.ela` file of an adapter. Raises FormatError if it breaks a limit of SPEC.md section 9."""
    _check_adapter(adapter, name)
    flags = _A_STORED * adapter.a_stored | _STATE_FOLLOWS * adapter.has_state | _A_TRAINABLE * adapter.trainable_a
    flags |= _RECORDS_FOLLOW * bool(adapter.records)
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
    for kind, record in sorted(adapter.records.items()):
        body += _RECORD.pack(kind, RECORD_VERSION, len(record)) + record + bytes(-len(record) % 4)
    struct.pack_into("<I", body, 8, len(body))
    return seal(body)


def adapter_size(model: QuantModel, ranks: Sequence[int], trainable_a: bool) -> int:
    """Bytes of an `.ela` file without training state. ranks: one for each op, 0 for none."""
    return _ADAPTER_HEADER.size + sum(adapter_layer_size(model, i, r, trainable_a) for i, r in enumerate(ranks) if r)


def adapter_layer_size(model: QuantModel, index: int, rank: int, trainable_a: bool) -> int:
    """The bytes of one layer: its record, B and, if it trains, A."""
    sizes = layer_size(model, index)
    return _LAYER.size + sum(-(-rank * size // 4) * 4 for size in sizes[: 1 + trainable_a])


def unpack_adapter(
    data: bytes, model: QuantModel | None = None, base: bytes | None = None, name: str = "adapter"
) -> Adapter:
    """The adapter in an `.ela` file, with A computed from seed and base if not stored (0 without `model`).

    With `model`, sizes are checked against it; base: the id of the base that it must be for. Raises FormatError; `name`
    is for its message.
    """
    check_envelope(data, name, ADAPTER_MAGIC, ADAPTER_VERSION, _ADAPTER_HEADER)
    of_base, seed, flags, count, updates, draws, momentum, threshold, samples = _ADAPTER_HEADER.unpack_from(data)[5:]
    require(flags <= 15, f"{name}: flags {flags:#x} has unknown bits: a newer host made the file")
    require(momentum <= MAX_MOMENTUM, f"{name}: momentum shift {momentum}, the limit is {MAX_MOMENTUM}")
    require(
        base is None or base == of_base,
        f"adapter {name} was made for base {of_base.hex()}, this model is {(base or b'').hex()}: use the right one",
    )
    stored, trainable = bool(flags & _A_STORED), bool(flags & _A_TRAINABLE)
    require(stored or not trainable, f"{name}: A is trainable but not stored: make the file again")
    require(count or flags == _RECORDS_FOLLOW, f"{name}: has no layers, so flags must be 8, not {flags}: make it again")
    adapter = Adapter(of_base, seed, [], trainable, stored, updates, draws, momentum, samples, threshold)
    reader = Reader(data, name)
    records = reader.records(_LAYER, _ADAPTER_HEADER.size, count, "layer table")
    at = _ADAPTER_HEADER.size + count * _LAYER.size
    for index, (op, rank, outputs, patch, t_shift, branch_shift, unused) in enumerate(records):
        require_zero(unused, name, f"the u16 at 10 of layer record {index}")
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
    if flags & _RECORDS_FOLLOW:
        adapter.records, at = _read_records(reader, at)
    require(at == len(data), f"{name}: {len(data) - at} bytes are left over at its end: it is damaged, copy it again")
    _check_adapter(adapter, name)
    if model is not None:
        check_adapter_fits(adapter, model, name)
        for layer in adapter.layers if not stored else ():
            layer.a = seeded_a(seed, layer.op, layer.rank, model.ops[layer.op])
    return adapter


def highest_rank(model: QuantModel, op: int) -> int:
    """The highest rank of an op's adapter, by the limits that `check_adapter_fits` and `pack_adapter` hold."""
    positions = model.tensors[model.ops[op].output].positions
    return min(MAX_RANK, MAX_FACTOR // max(layer_size(model, op)), MAX_T // positions)


def check_adapter_fits(adapter: Adapter, model: QuantModel, name: str = "adapter") -> None:
    """Raises FormatError unless every layer and class of the adapter fits the model.

    The base id is not compared.
    """
    if adapter.classes:
        check_classes_fit(adapter.classes, model, name)
    for layer in adapter.layers:
        where = f"{name}: layer of op {layer.op}"
        require(layer.op < len(model.ops), f"{where}: the model has {len(model.ops)} ops")
        kind, kinds = model.ops[layer.op].kind, ", ".join(MATRIX_KINDS)
        require(kind in MATRIX_KINDS, f"{where}: that op is {kind}, only matrices carry adapters: {kinds}")
        mine, its = (layer.b.shape[0], layer.a.shape[1]), layer_size(model, layer.op)
        require(
            mine == its,
            f"{where}: made for {mine[0]} outputs and patches of {mine[1]}, the model has {its[0]} and {its[1]}",
        )
        height, width, _ = model.tensors[model.ops[layer.op].output].shape
        work = layer.rank * height * width
        require(work <= MAX_T, f"{where}: rank * positions is {work}, the limit is {MAX_T}: use a lower rank")


def _read_state(reader: Reader, shape: tuple[int, ...], at: int, momentum: int, where: str) -> tuple[TensorState, int]:
    [(vm, vx)] = reader.records(_STATE, at, 1, f"state of {where}")
    master, at = reader.next_array("<i2", shape, at + _STATE.size, f"masters of {where}")
    velocity = None
    if momentum:
        velocity, at = reader.next_array("<i2", shape, at, f"momentum of {where}")
    return TensorState(vm, vx, master, velocity), at


def _read_records(reader: Reader, at: int) -> tuple[dict[int, bytes], int]:
    """The bodies of the records from `at` to the file's end, by kind, and the end's offset."""
    found: dict[int, bytes] = {}
    while not found or at < len(reader.data):
        [(kind, version, size)] = reader.records(_RECORD, at, 1, "a record after its layers")
        _check_kind(kind, version, reader.name)
        require(kind > max(found, default=0), f"{reader.name}: records are not in ascending order: make it again")
        body, at = reader.next_array("<u1", (size,), at + _RECORD.size, f"record {kind}")
        found[kind] = body.tobytes()
    return found, at


def _check_kind(kind: int, version: int, name: str) -> None:
    known = kind in (CLASSES, MONITOR) and version == RECORD_VERSION
    require(
        known,
        f"{name}: has a record of kind {kind}, version {version}, must be kind {CLASSES} or {MONITOR}, version "
        f"{RECORD_VERSION}: update edgelora",
    )


def _check_adapter(adapter: Adapter, name: str) -> None:
    require(len(adapter.base_id) == 8, f"{name}: base id has {len(adapter.base_id)} bytes, must have 8")
    for what in ("seed", "updates", "draws", "samples"):
        value = getattr(adapter, what)
        require(0 <= value < 1 << 32, f"{name}: {what} is {value}, must be an unsigned 32-bit number")
    require(
        0 <= adapter.momentum <= MAX_MOMENTUM, f"{name}: momentum shift {adapter.momentum}, must be 0..{MAX_MOMENTUM}"
    )
    threshold = adapter.threshold
    require(0 <= threshold <= MAX_THRESHOLD, f"{name}: threshold {threshold}, must be 0..{MAX_THRESHOLD}")
    require(adapter.a_stored or not adapter.trainable_a, f"{name}: A is trainable but not stored, set a_stored")
    for kind in adapter.records:
        _check_kind(kind, RECORD_VERSION, name)
    if CLASSES in adapter.records:
        unpack_classes(adapter.records[CLASSES], name)
    order = [layer.op for layer in adapter.layers]
    alone = bool(adapter.records) and not adapter.a_stored
    require(len(order) >= 1 or alone, f"{name}: has no layers, must have at least one, or only records")
    require(order == sorted(set(order)), f"{name}: layers are for ops {order}, must be ascending, each op once")
    require(
        all(0 <= op < MAX_OPS for op in order),
        f"{name}: layers are for ops {order}, must be 0..{MAX_OPS - 1}",
    )
    for layer in adapter.layers:
        _check_layer(adapter, layer, f"{name}: layer of op {layer.op}")


def _check_layer(adapter: Adapter, layer: AdapterLayer, where: str) -> None:
    require(layer.a.ndim == layer.b.ndim == 2, f"{where}: A and B must be matrices")
    (rank, patch), outputs = layer.a.shape, layer.b.shape[0]
    _check_sizes(rank, outputs, patch, where)
    check_array(layer.a, np.dtype(np.int8), (rank, patch), f"{where}: A")
    check_array(layer.b, np.dtype(np.int8), (outputs, rank), f"{where}: B")
    least = min(layer.a.min(), layer.b.min())
    require(least >= -127, f"{where}: A or B has a weight of {least}, the least is -127")
    check_shifts(layer.t_shift, layer.branch_shift, where)
    for what, weights, state, wanted in (
        ("A", layer.a, layer.a_state, adapter.has_state and adapter.trainable_a),
        ("B", layer.b, layer.b_state, adapter.has_state),
    ):
        require(
            (state is not None) == wanted,
            f"{where}: training state of {what} is {'missing' if wanted else 'not allowed'}",
        )
        if state is not None:
            _check_state(state, weights, adapter.momentum > 0, f"{where}: state of {what}")


def _check_state(state: TensorState, weights: NDArray[np.int8], momentum: bool, where: str) -> None:
    scaled = 1 << 15 <= state.vm < 1 << 16 and abs(state.vx) <= MAX_SCALE_EXPONENT
    require(scaled or (state.vm, state.vx) == (0, 0), f"{where}: scale ({state.vm}, {state.vx}) is not normalized")
    check_array(state.master, np.dtype(np.int16), weights.shape, f"{where}: masters")
    largest = int(np.abs(state.master.astype(np.int32)).max())
    require(largest <= MAX_MASTER, f"{where}: a master of size {largest}, the limit is {MAX_MASTER}")
    agree = np.array_equal((state.master.astype(np.int32) + 128) >> 8, weights)
    require(agree, f"{where}: masters and int8 weights do not agree")
    require(
        (state.momentum is not None) == momentum, f"{where}: momentum is {'missing' if momentum else 'not allowed'}"
    )
    if state.momentum is not None:
        check_array(state.momentum, np.dtype(np.int16), weights.shape, f"{where}: momentum")
        worst = int(np.abs(state.momentum.astype(np.int32)).max())
        require(worst <= MAX_MEAN, f"{where}: momentum of size {worst}, the limit is {MAX_MEAN}")


def _check_sizes(rank: int, outputs: int, patch: int, where: str) -> None:
    require(1 <= rank <= MAX_RANK, f"{where}: rank {rank}, must be 1..{MAX_RANK}")
    require(outputs >= 1, f"{where}: no outputs")
    require(1 <= patch <= MAX_PATCH, f"{where}: patches of {patch} inputs, must be 1..{MAX_PATCH}")
    worst = max(rank * patch, outputs * rank)
    require(worst <= MAX_FACTOR, f"{where}: a matrix of {worst} elements, the limit is {MAX_FACTOR}: use a lower rank")
