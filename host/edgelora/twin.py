"""The host twin: the device's own C core as a shared library, so that the host computes what the board computes.

It is built by `make twin` from `micropython_module/core`. Planning, evaluation, learning benchmarks and the check of a
board's adapter all go through here; no device arithmetic exists in Python.
"""

from __future__ import annotations

import ctypes as C
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .boards import ROOT

LIBRARY = ROOT / ".build" / "twin" / "libedgelora.so"
HEADER = ROOT / "micropython_module" / "core" / "edgelora.h"
MODES = ("infer", "frozen_a", "trainable_a")
SPANS = ("output", "t", "mask", "error", "u")


class TwinError(ValueError):
    """A status of the core, with its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Span(C.Structure):
    _fields_ = [("offset", C.c_uint32), ("size", C.c_uint32), ("birth", C.c_uint16), ("death", C.c_uint16)]


class _Matrix(C.Structure):
    _fields_ = [(name, C.c_uint32) for name in ("count", "weight", "master", "gradient", "momentum")] + [
        ("exponent", C.c_int32),
        ("scale", C.c_uint16),
        ("scale_exponent", C.c_int16),
        ("is_set", C.c_uint32),
    ]


class _Layer(C.Structure):
    _fields_ = [
        ("a", C.c_uint64),
        ("b", C.c_uint64),
        ("matrix_a", _Matrix),
        ("matrix_b", _Matrix),
        ("span", _Span * len(SPANS)),
        ("rank", C.c_uint8),
        ("used_rank", C.c_uint8),
        ("used_t_shift", C.c_int8),
        ("used_branch_shift", C.c_int8),
        ("t_shift", C.c_int8),
        ("branch_shift", C.c_int8),
        ("shift_top", C.c_int8),
        ("unused", C.c_uint8),
    ]


class _Config(C.Structure):
    _fields_ = [("ranks", C.c_char_p), ("mode", C.c_uint8), ("micro_batch", C.c_uint8), ("momentum", C.c_uint8)]


@functools.cache
def library() -> C.CDLL:
    """The compiled core. OSError with the remedy when it has not been built."""
    if not LIBRARY.exists():
        raise OSError(f"{LIBRARY} is missing: run `make twin`")
    lib = C.CDLL(str(LIBRARY))
    lib.edgelora_status_text.restype = C.c_char_p
    lib.edgelora_session.restype = C.c_void_p
    lib.edgelora_output.restype = C.c_void_p
    lib.edgelora_input_size.restype = lib.edgelora_output_size.restype = C.c_uint32
    lib.edgelora_adapter_size.restype = lib.edgelora_crc32.restype = C.c_uint32
    return lib


@functools.cache
def statuses() -> dict[str, int]:
    """Name -> value of every status, from the one list in the core's header."""
    return {name: int(value) for name, value in re.findall(r"X\((\w+), (-?\d+),", HEADER.read_text())}


def check(status: int) -> int:
    """Raises TwinError for a negative status, else returns it."""
    if status < 0:
        raise TwinError(status, library().edgelora_status_text(status).decode())
    return status


def _aligned(data: bytes) -> C.Array[C.c_uint64]:
    buffer = (C.c_uint64 * (len(data) // 8 + 1))()
    C.memmove(buffer, data, len(data))
    return buffer


def _config(ranks: bytes, mode: str, micro_batch: int, momentum: int) -> _Config:
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    if not 0 <= micro_batch <= 255 or not 0 <= momentum <= 255:
        check(statuses()["ERR_CONFIG"])
    return _Config(ranks, MODES.index(mode), micro_batch, momentum)


def check_model(model: bytes) -> None:
    """Raises TwinError if the core refuses these `.elm` bytes."""
    check(library().edgelora_model_check(_aligned(model), C.c_uint32(len(model))))


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


def _regions(layers: list[_Layer], arena_bytes: int) -> Iterator[Region]:
    end = 2 * len(layers) + 1
    first = min(
        [s.offset for layer in layers for s in layer.span if s.size]
        + [m.weight for layer in layers for m in (layer.matrix_a, layer.matrix_b) if m.weight]
    )
    yield Region(-1, "session", 0, first, 0, end)
    for i, layer in enumerate(layers):
        for name, s in zip(SPANS, layer.span, strict=True):
            if s.size:
                yield Region(i, name, s.offset, s.size, s.birth, s.death)
        for letter, m in (("A", layer.matrix_a), ("B", layer.matrix_b)):
            for part, width in (("weight", 1), ("master", 2), ("gradient", 4), ("momentum", 2)):
                offset = getattr(m, part)
                if offset:
                    yield Region(i, f"{letter} {part}", offset, (m.count * width + 3) // 4 * 4, 0, end)


def layout(model: bytes, ranks: bytes, mode: str, micro_batch: int, momentum: int = 0) -> Layout:
    """The arena of a session, as the device will lay it out (sizes are the same on 32- and 64-bit machines)."""
    check_model(model)
    ops = int.from_bytes(model[26:28], "little")
    if len(ranks) != ops:
        raise ValueError(f"{len(ranks)} ranks given for a model of {ops} ops: one for each op, 0 = no adapter")
    layers = (_Layer * ops)()
    buffer, config = _aligned(model), _config(ranks, mode, micro_batch, momentum)
    size = check(library().edgelora_arena_size(buffer, C.byref(config), layers))
    return Layout(size, 2 * ops + 1, tuple(_regions(list(layers), size)))


class Session:
    """One model with one arena; the methods are those of `edgelora.Model` on the device."""

    def __init__(
        self, model: bytes, ranks: bytes, mode: str = "frozen_a", micro_batch: int = 8, momentum: int = 0
    ) -> None:
        size = layout(model, ranks, mode, micro_batch, momentum).arena_bytes
        self._lib = library()
        self._model = _aligned(model)
        self._arena = (C.c_uint64 * (size // 8))()
        config = _config(ranks, mode, micro_batch, momentum)
        check(self._lib.edgelora_init(self._arena, C.c_uint32(size), self._model, C.byref(config)))
        self.arena_bytes, self.mode, self.ranks = size, mode, ranks
        self.input_size = self._lib.edgelora_input_size(self._model)
        self.output_size = self._lib.edgelora_output_size(self._model)
        self._used: C.Array[C.c_uint64] | None = None

    def _input(self, x: NDArray[np.int8]) -> C.c_void_p:
        if x.dtype != np.int8 or x.size != self.input_size or not x.flags.c_contiguous:
            check(statuses()["ERR_SIZE"])
        return C.c_void_p(x.ctypes.data)

    def infer(self, x: NDArray[np.int8]) -> int:
        """The class of one input, int8 [input_size]; `logits` has the rest."""
        return check(self._lib.edgelora_infer(self._arena, self._input(x)))

    @property
    def logits(self) -> NDArray[np.int8]:
        address = self._lib.edgelora_output(self._arena)
        return np.frombuffer(C.string_at(address, self.output_size), np.int8)

    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]:
        """Classes [N] of N inputs, int8 [N, ...]."""
        return np.array([self.infer(np.ascontiguousarray(row)) for row in x], np.int64)

    def accuracy(self, x: NDArray[np.int8], y: NDArray[np.integer]) -> float:
        return float(np.mean(self.predict(x) == y))

    def begin(self, seed: int = 0) -> None:
        check(self._lib.edgelora_begin(self._arena, C.c_uint32(seed)))

    def train(self, x: NDArray[np.int8], label: int, learning_rate: int) -> int:
        """One sample; returns its loss in 1/4096 nat."""
        loss = C.c_int32()
        check(
            self._lib.edgelora_train(
                self._arena, self._input(x), C.c_uint32(label), C.c_uint16(learning_rate), C.byref(loss)
            )
        )
        return loss.value

    def flush(self, learning_rate: int) -> None:
        check(self._lib.edgelora_flush(self._arena, C.c_uint16(learning_rate)))

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
        check(self._lib.edgelora_load(self._arena, self._checked(adapter)))

    def use(self, adapter: bytes | None) -> None:
        """Infers with these `.ela` bytes from now on; None: the bare base."""
        buffer = None if adapter is None else self._checked(adapter)
        check(self._lib.edgelora_use(self._arena, buffer))
        self._used = buffer
