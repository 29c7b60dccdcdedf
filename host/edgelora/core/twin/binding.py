"""The host twin: the device's own C core as a shared library, so that the host computes what the board computes.

Planning, evaluation, learning benchmarks and the check of a board's adapter all go through here; no device arithmetic
exists in Python."""

from __future__ import annotations

import ctypes as C
import functools
import re

import numpy as np
from numpy.typing import NDArray

from edgelora import __version__
from edgelora.base import resources
from edgelora.base.errors import EdgeloraError, InputError

SHAPE_BYTES = 256  # more than edgelora_shape_t takes
MODES = ("infer", "frozen_a", "trainable_a", "decode")


class TwinError(EdgeloraError, ValueError):
    """A status of the core, with its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def __reduce__(self) -> tuple[type[TwinError], tuple[int, str]]:
        """Keeps type and status when an error is pickled by a worker process."""
        return TwinError, (self.status, str(self))


class _Span(C.Structure):
    _fields_ = [
        ("offset", C.c_uint32),
        ("words", C.c_uint32, 21),
        ("birth", C.c_uint32, 11),
        ("death", C.c_uint16),
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
        ("fixed", C.c_uint8),
        ("vectors", C.c_uint8),
        ("cores", C.c_uint8),
    ]


class _Part(C.Structure):
    _fields_ = [("adapter", C.c_void_p), ("size", C.c_uint32), ("weight", C.c_int32)]


class _Sizes(C.Structure):
    """`edgelora_sizes_t` of host/native/twin.c."""

    _fields_ = [
        ("model", C.c_void_p),
        ("ops", C.c_uint32),
        ("input", C.c_uint32),
        ("sample", C.c_uint32),
        ("target", C.c_uint32),
        ("class_size", C.c_uint32),
        ("updates", C.c_uint32),
        ("samples", C.c_uint32),
        ("pending", C.c_uint32),
    ]


class _Twin(C.Structure):
    """The library's description of itself, see `host/native/twin.c`."""

    _fields_ = [
        ("size", C.c_uint32),
        ("span", C.c_uint32),
        ("config", C.c_uint32),
        ("shape", C.c_uint32),
        ("sizes", C.c_uint32),
        ("hash", C.c_uint32),
        ("version", C.c_char_p),
        ("sources", C.c_char_p),
        ("statuses", C.c_char_p),
        ("ops", C.c_char_p),
    ]


def _about(lib: C.CDLL) -> _Twin:
    """The library's description of itself. ResourceError unless it was built from these sources, for this Python."""
    path, remedy = lib._name, resources.twin_remedy()
    try:
        lib.edgelora_twin.restype = C.POINTER(_Twin)
    except AttributeError:
        raise resources.ResourceError(f"{path} is not a twin of this EdgeLoRA: {remedy}") from None
    about: _Twin = lib.edgelora_twin().contents
    records = about.size, about.span, about.config, about.sizes
    if records != tuple(map(C.sizeof, (_Twin, _Span, _Config, _Sizes))):
        raise resources.ResourceError(f"{path} has other structs than its Python module: {remedy}")
    if about.shape > SHAPE_BYTES:
        raise resources.ResourceError(f"{path} needs {about.shape} bytes for a shape, not {SHAPE_BYTES}: {remedy}")
    if about.version.decode() != __version__:
        raise resources.ResourceError(f"{path} has version {about.version.decode()}, not {__version__}: {remedy}")
    digest = resources.core_digest()
    if digest and about.sources.decode() != digest:
        raise resources.ResourceError(f"{path} was built from other sources than these: {remedy}")
    return about


@functools.cache
def library() -> C.CDLL:
    """The compiled core. ResourceError with the remedy if it is missing or of another version."""
    path = resources.twin()
    if not path.exists():
        raise resources.ResourceError(f"{path} is missing: {resources.twin_remedy()}")
    lib = C.CDLL(str(path))
    _about(lib)
    lib.edgelora_status_text.restype = C.c_char_p
    lib.edgelora_session.restype = C.c_void_p
    lib.edgelora_output.restype = lib.edgelora_record.restype = C.c_void_p
    lib.edgelora_draw.restype = C.c_uint32
    lib.edgelora_twin_sizes.restype = C.c_bool
    lib.edgelora_input_size.restype = lib.edgelora_output_size.restype = C.c_uint32
    lib.edgelora_adapter_size.restype = lib.edgelora_crc32.restype = C.c_uint32
    lib.edgelora_simd_room.restype = C.c_uint32
    lib.edgelora_order.restype = lib.edgelora_class_size.restype = lib.edgelora_class_count.restype = C.c_uint32
    lib.edgelora_target_size.restype = lib.edgelora_feature_size.restype = lib.edgelora_merge_size.restype = C.c_uint32
    lib.edgelora_ed25519_verify.restype = lib.edgelora_twin_fits.restype = C.c_bool
    lib.edgelora_audio.restype = lib.edgelora_spectral.restype = C.c_void_p
    lib.edgelora_audio_state_size.restype = lib.edgelora_spectral_state_size.restype = C.c_uint32
    return lib


@functools.cache
def statuses() -> dict[str, int]:
    """Name -> value of every status, from the one list in the core's header."""
    lines = _about(library()).statuses.decode().splitlines()
    return {name: int(value) for name, value in map(str.split, lines)}


@functools.cache
def ops() -> dict[str, frozenset[str]]:
    """Name -> traits of every op, in the order of their numbers, which begin at 1: the core's records of them."""
    records = [line.split(" ", 2) for line in _about(library()).ops.decode().splitlines()]
    records.sort(key=lambda record: int(record[1]))
    return {name.lower(): frozenset(re.findall("[A-Z_]{2,}", traits)) for name, _, traits in records}


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
    cores: int = 1,
) -> _Config:
    if mode not in MODES:
        raise InputError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    ops = int.from_bytes(model[26:28], "little")
    if len(ranks) != ops:
        raise InputError(f"{len(ranks)} ranks given for a model of {ops} ops: one for each op, 0 = no adapter")
    if recompute is not None and len(recompute) != ops:
        raise InputError(f"{len(recompute)} recompute flags given for a model of {ops} ops: one for each op")
    ranges = ((micro_batch, 255), (momentum, 255), (threshold, 65535), (frames, 65535), (cores, 2))
    if not all(0 <= value <= most for value, most in ranges):
        check(statuses()["ERR_CONFIG"])
    fixed = True  # the twin copies the model
    settings = ranks, MODES.index(mode), micro_batch, momentum, plain, threshold, frames, recompute, fixed
    return _Config(*settings, cores=cores)


def check_model(model: bytes) -> None:
    """Raises TwinError if the core refuses these `.elm` bytes."""
    check(library().edgelora_model_check(_aligned(model), C.c_uint32(len(model))))


def op_fits(ops: bytes, index: int, tensors: bytes) -> bool:
    """Whether the core allows an op's tensors and fields, given a file's tables of ops and tensors."""
    return bool(library().edgelora_twin_fits(_aligned(ops), C.c_uint32(index), _aligned(tensors)))


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a board accepts this Ed25519 signature of the message (RFC 8032; crypto.h says how strictly)."""
    if (len(public_key), len(signature)) != (32, 64):
        return False
    return bool(library().edgelora_ed25519_verify(public_key, message, C.c_size_t(len(message)), signature))


def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order in which a board takes `count` samples in an epoch: a permutation of their numbers [count]."""
    fixed = C.c_uint32(seed), C.c_uint32(epoch), C.c_uint32(count)
    return np.array([library().edgelora_order(*fixed, C.c_uint32(place)) for place in range(count)], np.int64)
