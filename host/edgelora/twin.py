"""The host twin: the device's own C core as a shared library, so that the host computes what the board computes.

CMake builds it from `micropython_module/core`: `make twin`, or while a wheel is made. Planning, evaluation, learning
benchmarks and the check of a board's adapter all go through here; no device arithmetic exists in Python.
"""

from __future__ import annotations

import ctypes as C
import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import __version__, resources
from .errors import EdgeloraError, InputError
from .model import QuantModel

SHAPE_BYTES = 256  # more than edgelora_shape_t takes
MODES = ("infer", "frozen_a", "trainable_a")
SPANS = ("output", "recomputed output", "t", "mask", "error", "work", "A", "B")
HISTORY = {"output": "history", "recomputed output": "history in training"}  # what they are in a history
LASTING = {"A", "B"}  # all others are buffers of a pass


class TwinError(EdgeloraError, ValueError):
    """A status of the core, with its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def __reduce__(self) -> tuple[type[TwinError], tuple[int, str]]:
        """So that it comes out of a worker process as what it is."""
        return TwinError, (self.status, str(self))


class _Span(C.Structure):
    _fields_ = [
        ("offset", C.c_uint32),
        ("size", C.c_uint32),
        ("birth", C.c_uint8),
        ("death", C.c_uint8),
        ("next", C.c_uint16),
    ]


class _Config(C.Structure):
    _fields_ = [
        ("ranks", C.c_char_p),
        ("mode", C.c_uint8),
        ("micro_batch", C.c_uint8),
        ("momentum", C.c_uint8),
        ("plain", C.c_uint8),
        ("threshold", C.c_uint16),
        ("frames", C.c_uint16),
        ("recompute", C.c_char_p),
    ]


class _Twin(C.Structure):
    """What the library says of itself, see `host/native/twin.c`."""

    _fields_ = [
        ("size", C.c_uint32),
        ("span", C.c_uint32),
        ("config", C.c_uint32),
        ("shape", C.c_uint32),
        ("version", C.c_char_p),
        ("sources", C.c_char_p),
        ("statuses", C.c_char_p),
    ]


def _about(lib: C.CDLL) -> _Twin:
    """What the library says of itself. ResourceError unless it was made from these sources, for this Python."""
    path, remedy = lib._name, resources.twin_remedy()
    try:
        lib.edgelora_twin.restype = C.POINTER(_Twin)
    except AttributeError:
        raise resources.ResourceError(f"{path} is no twin of this EdgeLoRA: {remedy}") from None
    about = lib.edgelora_twin().contents
    if (about.size, about.span, about.config) != tuple(map(C.sizeof, (_Twin, _Span, _Config))):
        raise resources.ResourceError(f"{path} has other records than its Python: {remedy}")
    if about.shape > SHAPE_BYTES:
        raise resources.ResourceError(f"{path} needs {about.shape} bytes for a shape, not {SHAPE_BYTES}: {remedy}")
    if about.version.decode() != __version__:
        raise resources.ResourceError(f"{path} is of version {about.version.decode()}, not {__version__}: {remedy}")
    digest = resources.core_digest()
    if digest and about.sources.decode() != digest:
        raise resources.ResourceError(f"{path} was made from other sources than these: {remedy}")
    return about


@functools.cache
def library() -> C.CDLL:
    """The compiled core. ResourceError with the remedy when it is missing, or is another than it should be."""
    path = resources.twin()
    if not path.exists():
        raise resources.ResourceError(f"{path} is missing: {resources.twin_remedy()}")
    lib = C.CDLL(str(path))
    _about(lib)
    lib.edgelora_status_text.restype = C.c_char_p
    lib.edgelora_session.restype = C.c_void_p
    lib.edgelora_output.restype = C.c_void_p
    lib.edgelora_input_size.restype = lib.edgelora_output_size.restype = C.c_uint32
    lib.edgelora_adapter_size.restype = lib.edgelora_crc32.restype = C.c_uint32
    lib.edgelora_order.restype = C.c_uint32
    lib.edgelora_target_size.restype = lib.edgelora_feature_size.restype = lib.edgelora_merge_size.restype = C.c_uint32
    lib.edgelora_ed25519_verify.restype = C.c_bool
    return lib


@functools.cache
def statuses() -> dict[str, int]:
    """Name -> value of every status, from the one list in the core's header."""
    lines = _about(library()).statuses.decode().splitlines()
    return {name: int(value) for name, value in map(str.split, lines)}


def check(status: int) -> int:
    """Raises TwinError for a negative status, else returns it."""
    if status < 0:
        raise TwinError(status, library().edgelora_status_text(status).decode())
    return status


def _aligned(data: bytes) -> C.Array[C.c_uint64]:
    buffer = (C.c_uint64 * (len(data) // 8 + 1))()
    C.memmove(buffer, data, len(data))
    return buffer


def _config(
    model: bytes,
    ranks: bytes,
    mode: str,
    micro_batch: int,
    momentum: int,
    recompute: bytes | None,
    threshold: int,
    plain: bool = False,
    frames: int = 1,
) -> _Config:
    if mode not in MODES:
        raise InputError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    ops = int.from_bytes(model[26:28], "little")
    if len(ranks) != ops:
        raise InputError(f"{len(ranks)} ranks given for a model of {ops} ops: one for each op, 0 = no adapter")
    if recompute is not None and len(recompute) != ops:
        raise InputError(f"{len(recompute)} recompute flags given for a model of {ops} ops: one for each op")
    ranges = ((micro_batch, 255), (momentum, 255), (threshold, 65535), (frames, 65535))
    if not all(0 <= value <= most for value, most in ranges):
        check(statuses()["ERR_CONFIG"])
    return _Config(ranks, MODES.index(mode), micro_batch, momentum, plain, threshold, frames, recompute)


def check_model(model: bytes) -> None:
    """Raises TwinError if the core refuses these `.elm` bytes."""
    check(library().edgelora_model_check(_aligned(model), C.c_uint32(len(model))))


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a board takes this for the key's Ed25519 signature (RFC 8032; crypto.h says how strictly)."""
    if (len(public_key), len(signature)) != (32, 64):
        return False
    return library().edgelora_ed25519_verify(public_key, message, C.c_size_t(len(message)), signature)


def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order in which a board takes `count` samples in an epoch: a permutation of their numbers [count]."""
    fixed = C.c_uint32(seed), C.c_uint32(epoch), C.c_uint32(count)
    return np.array([library().edgelora_order(*fixed, C.c_uint32(place)) for place in range(count)], np.int64)


@dataclass(frozen=True)
class Region:
    """A part of the arena: [offset, offset + size) bytes, in use from step birth to step death of a pass."""

    op: int
    name: str
    offset: int
    size: int
    birth: int
    death: int


@dataclass(frozen=True)
class Layout:
    """What the core's planner answers: the arena's size in bytes and what lies where in it."""

    arena_bytes: int
    steps: int
    regions: tuple[Region, ...]


def _regions(spans: C.Array[_Span], config: _Config, ops: int) -> Iterator[Region]:
    end = 2 * ops + 1
    named = [(i, name, spans[i * len(SPANS) + k]) for i in range(ops) for k, name in enumerate(SPANS)]
    yield Region(-1, "session", 0, min(span.offset for _, _, span in named if span.size), 0, end)
    for i, name, span in named:
        lasts = spans[i * len(SPANS)].birth == 0 and spans[i * len(SPANS)].death == end - 1  # a history's output
        if lasts and name in HISTORY:
            name = HISTORY[name]
        if name in LASTING:
            yield from _matrix_regions(i, name, span, config, end)
        elif span.size:
            yield Region(i, name, span.offset, span.size, span.birth, span.death)


def _matrix_regions(op: int, name: str, span: _Span, config: _Config, end: int) -> Iterator[Region]:
    """The parts of a matrix, one behind the other: s8 weight; if it trains, s16 master, s32 gradient, s16 momentum."""
    trains = MODES[config.mode] == "trainable_a" or (name == "B" and MODES[config.mode] == "frozen_a")
    widths = {"weight": 1}
    if trains:
        widths |= {"master": 2, "gradient": 4} | ({"momentum": 2} if config.momentum else {})
    count, offset = span.size // sum(widths.values()), span.offset
    while sum((count * width + 3) // 4 * 4 for width in widths.values()) > span.size:  # padding is not elements
        count -= 1
    for part, width in widths.items() if span.size else ():
        size = (count * width + 3) // 4 * 4
        yield Region(op, f"{name} {part}", offset, size, 0, end)
        offset += size


def layout(
    model: bytes,
    ranks: bytes,
    mode: str,
    micro_batch: int,
    momentum: int = 0,
    recompute: bytes | None = None,
    threshold: int = 0,
    plain: bool = False,
    frames: int = 1,
) -> Layout:
    """The arena of a session, as the device will lay it out (sizes are the same on 32- and 64-bit machines)."""
    check_model(model)
    options = (micro_batch, momentum, recompute, threshold, plain, frames)
    buffer, config = _aligned(model), _config(model, ranks, mode, *options)
    spans = (_Span * (len(ranks) * len(SPANS)))()
    size = check(library().edgelora_arena_size(buffer, C.byref(config), spans))
    return Layout(size, 2 * len(ranks) + 1, tuple(_regions(spans, config, len(ranks))))


class Scratch:
    """What the core's own rules say of the scratch memory of a model's ops: it decides which kernels run."""

    def __init__(self, model: bytes) -> None:
        check_model(model)
        self._model, self._lib = _aligned(model), library()
        self._shape = (C.c_uint64 * (SHAPE_BYTES // 8))()

    def of(self, op: int, rank: int, backward: bool) -> tuple[int, int]:
        """Bytes that an op's fast kernels need (0: there are none for its shape), and that a session has for it."""
        self._lib.edgelora_shape_into(self._shape, self._model, C.c_uint32(op))
        wanted = (self._shape, C.c_uint32(rank), C.c_bool(backward))
        return self._lib.edgelora_packed_scratch(*wanted), self._lib.edgelora_op_scratch(*wanted, C.c_bool(False))


class Session:
    """One model with one arena; the methods are those of `edgelora.Model` on the device.

    plain: only the portable kernels, whose results are the same. frames: of a sample (see `edgelora_infer_sample`);
    more than 1 only in models with history.
    """

    def __init__(
        self,
        model: bytes,
        ranks: bytes,
        mode: str = "frozen_a",
        micro_batch: int = 8,
        momentum: int = 0,
        recompute: bytes | None = None,
        threshold: int = 0,
        plain: bool = False,
        frames: int = 1,
    ) -> None:
        options = (micro_batch, momentum, recompute, threshold, plain, frames)
        self._layout = layout(model, ranks, mode, *options)
        size = self._layout.arena_bytes
        self._lib = library()
        self._model = _aligned(model)
        self._arena = (C.c_uint64 * (size // 8))()
        config = _config(model, ranks, mode, *options)
        check(self._lib.edgelora_init(self._arena, C.c_uint32(size), self._model, C.byref(config)))
        self.arena_bytes, self.mode, self.ranks = size, mode, ranks
        self.input_size = self._lib.edgelora_input_size(self._model)
        self.sample_size = frames * self.input_size
        self.output_size = self._lib.edgelora_output_size(self._model)
        self.target_size = self._lib.edgelora_target_size(self._model)
        self.feature_size = self._lib.edgelora_feature_size(self._arena)
        self._used: C.Array[C.c_uint64] | None = None
        self._merged: dict[int, C.Array[C.c_uint64]] = {}

    def _buffer(self, x: NDArray[np.int8], size: int) -> C.c_void_p:
        if x.dtype != np.int8:
            check(statuses()["ERR_TYPE"])
        if x.size != size or not x.flags.c_contiguous:
            check(statuses()["ERR_SIZE"])
        return C.c_void_p(x.ctypes.data)

    def _input(self, x: NDArray[np.int8]) -> C.c_void_p:
        return self._buffer(x, self.input_size)

    def _sample(self, x: NDArray[np.int8]) -> C.c_void_p:
        return self._buffer(x, self.sample_size)

    def infer(self, x: NDArray[np.int8]) -> int:
        """The class of one input, int8 [input_size], with history the next of a stream; `logits` has all outputs."""
        return check(self._lib.edgelora_infer(self._arena, self._input(x)))

    def reset(self) -> None:
        """The next input begins a stream."""
        check(self._lib.edgelora_reset(self._arena))

    def infer_sample(self, x: NDArray[np.int8]) -> int:
        """`infer` on the last of a sample's frames, int8 [frames, input_size], which begin a stream."""
        return check(self._lib.edgelora_infer_sample(self._arena, self._sample(x)))

    @property
    def logits(self) -> NDArray[np.int8]:
        address = self._lib.edgelora_output(self._arena)
        return np.frombuffer(C.string_at(address, self.output_size), np.int8)

    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]:
        """Classes [N] of N samples, int8 [N, ...]."""
        return np.array([self.infer_sample(np.ascontiguousarray(row)) for row in x], np.int64)

    def accuracy(self, x: NDArray[np.int8], y: NDArray[np.integer]) -> float:
        return float(np.mean(self.predict(x) == y))

    def begin(self, seed: int = 0) -> None:
        check(self._lib.edgelora_begin(self._arena, C.c_uint32(seed)))

    def _train(self, function: str, data: C.c_void_p, label: int | NDArray[np.int8], learning_rate: int) -> int:
        loss, target = C.c_int32(), None
        if not isinstance(label, int | np.integer):
            target, label = self._buffer(label, self.target_size), 0
        elif not 0 <= label < 1 << 32:
            check(statuses()["ERR_LABEL"])
        status = getattr(self._lib, function)(
            self._arena, data, C.c_uint32(label), target, C.c_uint16(learning_rate), C.byref(loss)
        )
        check(status)
        return loss.value

    def train(self, x: NDArray[np.int8], label: int | NDArray[np.int8], learning_rate: int) -> int:
        """One sample with its label or, for losses other than cross-entropy, its target, int8 [target_size].

        Returns its loss in 1/4096 nat, or 1/16 squared step of the output.
        """
        return self._train("edgelora_train", self._sample(x), label, learning_rate)

    def features(self, x: NDArray[np.int8]) -> NDArray[np.int8]:
        """What the layers below the lowest adapter make of a sample, int8 [feature_size]; it never changes."""
        out = np.zeros(self.feature_size, np.int8)
        check(self._lib.edgelora_features(self._arena, self._sample(x), C.c_void_p(out.ctypes.data)))
        return out

    def train_features(self, features: NDArray[np.int8], label: int | NDArray[np.int8], learning_rate: int) -> int:
        """`train` from a sample's features, bit-identical."""
        data = self._buffer(features, self.feature_size)
        return self._train("edgelora_train_features", data, label, learning_rate)

    def infer_features(self, features: NDArray[np.int8]) -> int:
        return check(self._lib.edgelora_infer_features(self._arena, self._buffer(features, self.feature_size)))

    def forward_range(self, x: NDArray[np.int8], start: int, end: int) -> None:
        """Ops [start, end) of an inference, after those before them."""
        check(self._lib.edgelora_forward_range(self._arena, self._input(x), C.c_uint32(start), C.c_uint32(end)))

    def activations(self, x: NDArray[np.int8], model: QuantModel) -> list[NDArray[np.int8]]:
        """All tensors of one inference, [height, width, channels]; `model` is the one that this session has.

        With history, x is a stream's next frame.
        """
        places = {region.op: region for region in self._layout.regions if region.name in ("output", "history")}
        found = [x.reshape(model.input.shape)]
        for op, tensor in enumerate(model.tensors[1:]):
            self.forward_range(x, op, op + 1)
            raw = C.string_at(C.addressof(self._arena) + places[op].offset, tensor.size)
            found.append(np.frombuffer(raw, np.int8).reshape(tensor.shape))
        return found

    def sample_activations(self, x: NDArray[np.int8], model: QuantModel) -> list[NDArray[np.int8]]:
        """All tensors of the last frame of a sample, int8 [frames, height, width, channels] or a frame alone."""
        self.reset()
        return [self.activations(np.ascontiguousarray(frame), model) for frame in x.reshape(-1, *model.input.shape)][-1]

    def merge(self, op: int) -> bytes:
        """Makes the adapter in use part of an op's weights until the next `use`, `begin` or `load`.

        Returns the merged weights, uint8 offset binary, and the bias, int32, behind them.
        """
        size = self._lib.edgelora_merge_size(self._arena, C.c_uint32(op))
        buffer = (C.c_uint64 * (size // 8 + 1))()
        check(self._lib.edgelora_merge(self._arena, C.c_uint32(op), buffer))
        self._merged[op] = buffer
        return bytes(buffer)[:size]

    def flush(self, learning_rate: int) -> None:
        check(self._lib.edgelora_flush(self._arena, C.c_uint16(learning_rate)))

    def gradients(self, matrix: str) -> dict[int, NDArray[np.int64]]:
        """Sums over the micro-batch so far of the gradients of "A" or "B" by op, without their exponents."""
        start = C.addressof(self._arena)
        places = [region for region in self._layout.regions if region.name == f"{matrix} gradient"]
        raw = {place.op: C.string_at(start + place.offset, place.size) for place in places}
        return {op: np.frombuffer(sums, np.int32).astype(np.int64) for op, sums in raw.items()}

    def save(self, state: bool = False) -> bytes:
        """The training adapter as `.ela` bytes."""
        size = self._lib.edgelora_adapter_size(self._arena, C.c_bool(state))
        out = (C.c_uint64 * (size // 8 + 1))()
        check(self._lib.edgelora_save(self._arena, C.c_bool(state), out, C.c_uint32(size)))
        return bytes(out)[:size]

    def _checked(self, adapter: bytes) -> C.Array[C.c_uint64]:
        buffer = _aligned(adapter)
        check(self._lib.edgelora_adapter_check(self._arena, buffer, C.c_uint32(len(adapter))))
        return buffer

    def load(self, adapter: bytes) -> None:
        check(self._lib.edgelora_load(self._arena, _aligned(adapter), C.c_uint32(len(adapter))))

    def use(self, adapter: bytes | None) -> None:
        """Infers with these `.ela` bytes from now on; None: the bare base."""
        buffer = None if adapter is None else self._checked(adapter)
        check(self._lib.edgelora_use(self._arena, buffer, C.c_uint32(len(adapter or b""))))
        self._used = buffer
        self._merged.clear()
