"""The module `_edgelora` of a board's firmware, over the twin: micropython_module/binding/edgelora_binding.c.

Names, arguments and errors are the binding's. A `TwinError` is the ValueError that a board raises.
"""

from __future__ import annotations

import ctypes as C
import functools
import operator
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from edgelora.core.formats.limits import MAX_PARTS

from . import binding
from .binding import _Config, _Part, _Sizes, _Span, check, library, statuses
from .regions import SPANS

SMALL_INT = 1 << 30  # small ints of 32-bit MicroPython are below it

Buffer = Any  # what memoryview takes


def refuse(status: str) -> NoReturn:
    """Raises the TwinError of a status, by its name."""
    check(statuses()[status])
    raise AssertionError(status)


def address(view: memoryview) -> C.c_void_p:
    """The address of the view's bytes, valid as long as the viewed object lives."""
    if not view.nbytes:
        return C.c_void_p(C.addressof(_NOTHING))
    if view.readonly:
        return C.c_void_p(np.frombuffer(view, np.uint8).ctypes.data)
    return C.c_void_p(C.addressof(C.c_char.from_buffer(view)))


_NOTHING = C.c_uint64()  # the address of an empty buffer


def viewed(data: Buffer, writable: bool = False) -> memoryview:
    """A view of a buffer's bytes. TypeError if data are no buffer, or read-only where it has to be writable."""
    view = memoryview(data)
    if writable and view.readonly:
        raise TypeError("object with buffer protocol required")
    return view


def integer(value: Any) -> int:
    """An int; TypeError for anything else."""
    return operator.index(value)


def _buffer(data: Buffer, writable: bool = False) -> tuple[C.c_void_p, int]:
    """Address and size of a buffer of bytes or int8."""
    if isinstance(data, str):
        refuse("ERR_TYPE")
    view = viewed(data, writable)
    if view.format not in ("b", "B"):
        refuse("ERR_TYPE")
    return address(view), view.nbytes


def _sized(data: Buffer, size: int, writable: bool = False) -> C.c_void_p:
    where, found = _buffer(data, writable)
    if found != size:
        refuse("ERR_SIZE")
    return where


def _in_range(value: Any, high: int) -> int:
    number = integer(value)
    if not 0 <= number <= high:
        refuse("ERR_CONFIG")
    return number


def _u32(value: Any) -> C.c_uint32:
    """The lower 32 bits, as boards take larger values."""
    return C.c_uint32(integer(value) & 0xFFFFFFFF)


def rate(value: Any) -> C.c_uint16:
    """A learning rate, which boards refuse above 65535 or below 0."""
    return C.c_uint16(_in_range(value, 65535))


def _session(arena: Buffer) -> tuple[C.c_void_p, _Sizes]:
    where, size = _buffer(arena, True)
    sizes = _Sizes()
    if not library().edgelora_twin_sizes(where, C.c_uint32(size), C.byref(sizes)):
        refuse("ERR_ARENA")
    return where, sizes


def _model(model: Buffer) -> tuple[C.c_void_p, int]:
    """The address of a checked model, and its number of ops."""
    where, size = _buffer(model)
    check(library().edgelora_model_check(where, C.c_uint32(size)))
    return where, int.from_bytes(memoryview(model)[26:28], "little")


# ---- sessions


def model_check(model: Buffer) -> tuple[int, int, int, int, int, int]:
    where, ops = _model(model)
    sizes = (getattr(library(), f"edgelora_{name}_size")(where) for name in ("input", "output", "target"))
    labels = (int.from_bytes(memoryview(model)[at : at + 4], "little") for at in (36, 40))
    return ops, *sizes, *labels


def _config(ops: int, settings: tuple[Any, ...], fixed: bool) -> _Config:
    ranks, mode, micro_batch, momentum, threshold, recompute, plain, frames, *cores = settings
    if len(ranks) != ops:
        refuse("ERR_RANK")
    if recompute is not None and len(recompute) != ops:
        refuse("ERR_CONFIG")
    return _Config(
        bytes(ranks),
        _in_range(mode, 255),
        _in_range(micro_batch, 255),
        _in_range(momentum, 255),
        bool(plain),
        _in_range(threshold, 65535),
        _in_range(frames, 65535),
        None if recompute is None else bytes(recompute),
        fixed,
        cores=cores[0] if cores else 1,
    )


def arena_size(model: Buffer, *settings: Any) -> int:
    """The arena's size, with additional room for this computer's vector kernels, which boards don't have."""
    where, ops = _model(model)
    config = _config(ops, settings, False)
    spans = (_Span * (ops * len(SPANS)))()
    size = check(library().edgelora_arena_size(where, C.byref(config), spans))
    return size + int(library().edgelora_simd_room())


def init(arena: Buffer, model: Buffer, *settings: Any) -> None:
    room, size = _buffer(arena, True)
    where, ops = _model(model)
    config = _config(ops, settings, memoryview(model).readonly)
    check(library().edgelora_init(room, C.c_uint32(size), where, C.byref(config)))


def infer(arena: Buffer, x: Buffer) -> int:
    s, sizes = _session(arena)
    return check(library().edgelora_infer(s, _sized(x, sizes.input)))


def infer_sample(arena: Buffer, x: Buffer) -> int:
    s, sizes = _session(arena)
    return check(library().edgelora_infer_sample(s, _sized(x, sizes.sample)))


def next(arena: Buffer, symbol: Any) -> int:  # the binding's name
    return check(library().edgelora_next(_session(arena)[0], C.c_uint32(_in_range(symbol, 65535))))


def choose(arena: Buffer, temperature: Any, seed: Any, place: Any) -> int:
    s, _ = _session(arena)
    return check(library().edgelora_choose(s, C.c_uint32(_in_range(temperature, 65535)), _u32(seed), _u32(place)))


def back(arena: Buffer, count: Any) -> int:
    return check(library().edgelora_back(_session(arena)[0], C.c_uint32(_in_range(count, 65535))))


def reset(arena: Buffer) -> None:
    check(library().edgelora_reset(_session(arena)[0]))


def _range(function: str, arena: Buffer, x: Buffer, start: Any, end: Any) -> None:
    s, sizes = _session(arena)
    data = _sized(x, sizes.input)
    places = (C.c_uint32(_in_range(place, sizes.ops)) for place in (start, end))
    check(getattr(library(), function)(s, data, *places))


def forward_range(arena: Buffer, x: Buffer, start: Any, end: Any) -> None:
    _range("edgelora_forward_range", arena, x, start, end)


def backward_range(arena: Buffer, x: Buffer, start: Any, end: Any) -> None:
    _range("edgelora_backward_range", arena, x, start, end)


def feature_size(arena: Buffer) -> int:
    return int(library().edgelora_feature_size(_session(arena)[0]))


def features(arena: Buffer, x: Buffer, out: Buffer) -> None:
    s, sizes = _session(arena)
    to = _sized(out, library().edgelora_feature_size(s), True)
    check(library().edgelora_features(s, _sized(x, sizes.sample), to))


def infer_features(arena: Buffer, given: Buffer) -> int:
    s, _ = _session(arena)
    return check(library().edgelora_infer_features(s, _sized(given, library().edgelora_feature_size(s))))


def output(arena: Buffer) -> int:
    s, _ = _session(arena)
    return int(library().edgelora_output(s)) - (s.value or 0)


def _words(data: Buffer, code: str, writable: bool = False) -> tuple[C.c_void_p, int]:
    view = viewed(data, writable)
    if view.format != code:
        refuse("ERR_COUNTS")
    return address(view), view.nbytes // 2


def quantize(arena: Buffer, counts: Buffer, out: Buffer) -> int:
    _, sizes = _session(arena)
    values, count = _words(counts, "h")
    model = C.c_void_p(sizes.model)
    return check(library().edgelora_quantize(model, values, C.c_uint32(count), _sized(out, count, True)))


def probabilities(arena: Buffer, out: Buffer) -> None:
    s, _ = _session(arena)
    room, count = _words(out, "H", True)
    if count != library().edgelora_class_count(s):
        refuse("ERR_SIZE")
    check(library().edgelora_probabilities(s, room))


def turn(out: Buffer, x: Buffer, zero: Any, matrix: Buffer) -> None:
    to, size = _buffer(out, True)
    vectors = _sized(x, size)
    zero = _in_range(zero, 255) - 128
    rows, count = _words(matrix, "h")
    if count != 9 or size % 3:
        refuse("ERR_SIZE")
    library().edgelora_turn(to, vectors, C.c_uint32(size), C.c_int32(zero), rows)


def take(to: Buffer, at: Any, source: Buffer, begin: Any, step: Any, count: Any, width: Any) -> None:
    target, given = viewed(to, True), viewed(source)
    width, step = _in_range(width, 2), _in_range(step, 255)
    if not width or not step:
        refuse("ERR_SIZE")
    room, there = target.nbytes // width, given.nbytes // width
    at, begin = _in_range(at, room), _in_range(begin, there)
    count = _in_range(count, room - at)
    if count and not (begin < there and count - 1 <= (there - 1 - begin) // step):
        refuse("ERR_SIZE")
    if count:
        places = (C.c_void_p((address(v).value or 0) + i * width) for v, i in ((target, at), (given, begin)))
        library().edgelora_take(*places, C.c_uint32(step), C.c_uint32(count), C.c_uint32(width))


def copy(given: Buffer, at: int, out: Buffer) -> None:
    """Copies the bytes from `at` on."""
    source, target = memoryview(given).cast("B"), memoryview(out).cast("B")
    if not 0 <= at <= len(source) - len(target):
        refuse("ERR_SIZE")
    target[:] = source[at : at + len(target)]


# ---- adapters


def _adapter_status(arena: Buffer, adapter: Buffer) -> int:
    s, _ = _session(arena)
    where, size = _buffer(adapter)
    return int(library().edgelora_adapter_check(s, where, C.c_uint32(size)))


def adapter_fault(arena: Buffer, adapter: Buffer) -> str | None:
    status = _adapter_status(arena, adapter)
    return library().edgelora_status_text(status).decode() if status else None


def adapter_check(arena: Buffer, adapter: Buffer) -> None:
    """Raises what `adapter_fault` returns as a TwinError."""
    check(_adapter_status(arena, adapter))


def _given(data: Buffer | None, empty: str, writable: bool = False) -> tuple[C.c_void_p | None, C.c_uint32]:
    """Address and size of a buffer, null for None. Refuses an empty buffer by the status `empty`."""
    if data is None:
        return None, C.c_uint32(0)
    where, size = _buffer(data, writable)
    if not size:
        refuse(empty)
    return where, C.c_uint32(size)


def use(arena: Buffer, adapter: Buffer | None) -> None:
    s, _ = _session(arena)
    check(library().edgelora_use(s, *_given(adapter, "ERR_TRUNCATED")))


def switch(state: list[Any], name: str | None) -> None:
    _, arena, cached, fetch = state[:4]
    slot = cached[name] if name in cached else fetch(name)
    use(arena, slot[0])
    state[0] = slot[1] = state[0] + 1 if state[0] + 1 < SMALL_INT - 1 else 1


def vacate(state: list[Any], slots: list[list[Any]], pinned: list[str]) -> list[Any] | None:
    slot = min((slot for slot in slots if slot[2] not in pinned), key=operator.itemgetter(1), default=None)
    if slot and slot[2] is not None:
        del state[2][slot[2]]
        slot[2] = None
    if slot and slot[1] == state[0]:
        switch(state, None)
    return slot


def bind(function: Callable[..., Any], first: Any) -> Callable[..., Any]:
    return functools.partial(function, first)


def read(source: Buffer, at: Any, out: Buffer) -> None:
    given, target = viewed(source), viewed(out, True)
    start = integer(at)
    if not 0 <= start <= given.nbytes - target.nbytes:
        refuse("ERR_SIZE")
    target[:] = given[start : start + target.nbytes]


def begin(arena: Buffer, seed: Any) -> None:
    check(library().edgelora_begin(_session(arena)[0], _u32(seed)))


def load(arena: Buffer, adapter: Buffer) -> None:
    s, _ = _session(arena)
    where, size = _buffer(adapter)
    check(library().edgelora_load(s, where, C.c_uint32(size)))


def _answer(sizes: _Sizes, label: Any) -> tuple[C.c_uint32, C.c_void_p | None]:
    """A label, or a target of a model whose loss takes one."""
    if sizes.target:
        return C.c_uint32(0), _sized(label, sizes.target)
    number = integer(label)
    return C.c_uint32(number if 0 <= number < SMALL_INT else 0xFFFFFFFF), None


def _trained(function: str, arena: Buffer, x: Buffer, label: Any, learning_rate: Any, of_features: bool = False) -> int:
    s, sizes = _session(arena)
    data = _sized(x, library().edgelora_feature_size(s) if of_features else sizes.sample)
    loss = C.c_int32()
    check(getattr(library(), function)(s, data, *_answer(sizes, label), rate(learning_rate), C.byref(loss)))
    return loss.value


def train(arena: Buffer, x: Buffer, label: Any, learning_rate: Any) -> int:
    return _trained("edgelora_train", arena, x, label, learning_rate)


def train_features(arena: Buffer, given: Buffer, label: Any, learning_rate: Any) -> int:
    return _trained("edgelora_train_features", arena, given, label, learning_rate, True)


def evaluate(arena: Buffer, x: Buffer, label: Any, loss: Buffer) -> int:
    s, sizes = _session(arena)
    data, answer, found = _sized(x, sizes.sample), _answer(sizes, label), C.c_int32()
    _sized(loss, 4, True)
    best = check(library().edgelora_evaluate(s, data, *answer, C.byref(found)))
    memoryview(loss).cast("B")[:] = (found.value & 0xFFFFFFFF).to_bytes(4, "little")
    return best


def merge_size(arena: Buffer, op: Any) -> int:
    return int(library().edgelora_merge_size(_session(arena)[0], C.c_uint32(_in_range(op, 255))))


def merge(arena: Buffer, op: Any, out: Buffer) -> None:
    s, number = _session(arena)[0], C.c_uint32(_in_range(op, 255))
    check(library().edgelora_merge(s, number, _sized(out, library().edgelora_merge_size(s, number), True)))


def blend(arena: Buffer, out: Buffer | None, fine: Any, *given: Any) -> int:
    s, _ = _session(arena)
    count = len(given) // 2
    if count > MAX_PARTS:
        refuse("ERR_BLEND")
    parts = (_Part * MAX_PARTS)()
    for i in range(count):
        where, parts[i].size = _buffer(given[2 * i])
        parts[i].adapter, weight = where.value, integer(given[2 * i + 1])
        if not -32768 <= weight <= 32768:
            refuse("ERR_BLEND")
        parts[i].weight = weight
    room = _given(out, "ERR_SIZE", True)
    return check(library().edgelora_blend(s, parts, C.c_uint32(count), C.c_bool(fine), *room))


def record(adapter: Buffer, kind: Any) -> tuple[int, int] | None:
    where, size = _buffer(adapter)
    found = library().edgelora_record(where, C.c_uint32(size), _in_range(kind, 255))
    if not found:
        return None
    body = int(found) - (where.value or 0) + 8
    return body, int.from_bytes(memoryview(adapter)[body - 4 : body], "little")


def with_record(arena: Buffer, adapter: Buffer | None, kind: Any, body: Buffer | None, out: Buffer | None) -> int:
    s, _ = _session(arena)
    given = *_given(adapter, "ERR_TRUNCATED"), _in_range(kind, 255), *_given(body, "ERR_RECORD")
    return check(library().edgelora_with_record(s, *given, *_given(out, "ERR_SIZE", True)))


def flush(arena: Buffer, learning_rate: Any) -> None:
    check(library().edgelora_flush(_session(arena)[0], rate(learning_rate)))


def adapter_size(arena: Buffer, state: Any) -> int:
    return int(library().edgelora_adapter_size(_session(arena)[0], C.c_bool(state)))


def save(arena: Buffer, state: Any, out: Buffer) -> int:
    room, size = _buffer(out, True)
    return check(library().edgelora_save(_session(arena)[0], C.c_bool(state), room, C.c_uint32(size)))


def counts(arena: Buffer) -> tuple[int, int, int]:
    _, sizes = _session(arena)
    return sizes.updates, sizes.samples, sizes.pending


# ---- classes


def class_size(arena: Buffer) -> int:
    return int(_session(arena)[1].class_size)


def class_count(arena: Buffer) -> int:
    return int(library().edgelora_class_count(_session(arena)[0]))


def class_sample(arena: Buffer, x: Buffer, sums: Buffer) -> None:
    s, sizes = _session(arena)
    to = _sized(sums, 4 * sizes.class_size, True)
    check(library().edgelora_class_sample(s, _sized(x, sizes.sample), to))


def class_row(arena: Buffer, sums: Buffer, n: Any, out: Buffer) -> None:
    s, sizes = _session(arena)
    spent = _sized(sums, 4 * sizes.class_size, True)
    row = _sized(out, 32 + (2 * sizes.class_size + 3) // 4 * 4, True)
    number = integer(n)
    check(library().edgelora_class_row(s, spent, C.c_uint32(number if 0 <= number < SMALL_INT else 0), row))


# ---- numbers


def crc32(data: Buffer, crc: Any) -> int:
    where, size = _buffer(data)
    return int(library().edgelora_crc32(_u32(crc), where, C.c_uint32(size)))


def verify(public_key: Buffer, message: Buffer, signature: Buffer) -> bool:
    return binding.verify(*(bytes(part) for part in (public_key, message, signature)))


def order(seed: Any, epoch: Any, count: Any, place: Any) -> int:
    epoch, count = _in_range(epoch, 65535), _in_range(count, 1 << 24)
    numbers = _u32(seed), C.c_uint32(epoch), C.c_uint32(count), C.c_uint32(_in_range(place, count - 1))
    return int(library().edgelora_order(*numbers))


def draw(seed: Any, stream: Any, n: Any, count: Any) -> int:
    stream, count = _in_range(stream, 1 << 24), _in_range(count, SMALL_INT - 1)
    return int(library().edgelora_draw(_u32(seed), C.c_uint32(stream), _u32(n), C.c_uint32(count)))
