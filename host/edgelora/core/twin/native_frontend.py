"""The module `_edgelora_frontend` of a board's firmware: micropython_module/binding/frontend_binding.c."""

from __future__ import annotations

import ctypes as C
from typing import Any

from .binding import check, library
from .native import Buffer, address, integer, refuse, viewed

AUDIO_STEP = 160  # samples


def _number(value: Any) -> C.c_uint32:
    value = integer(value)
    if not 0 <= value <= 65535:
        refuse("ERR_FRONTEND")
    return C.c_uint32(value)


def _begin(kind: str, state: Buffer, *values: Any) -> None:
    *numbers, scale, zero_point = values
    view = viewed(state, True)
    grid = C.c_uint32(integer(scale) & 0xFFFFFFFF), C.c_int8(integer(zero_point))
    begin = getattr(library(), f"edgelora_{kind}_begin")
    check(begin(address(view), C.c_uint32(view.nbytes), *map(_number, numbers), *grid))


def _found(kind: str, state: Buffer) -> C.c_void_p:
    view = viewed(state, True)
    find = getattr(library(), f"edgelora_{kind}")
    found = find(address(view), C.c_uint32(view.nbytes))
    if not found:
        refuse("ERR_FRONTEND")
    return C.c_void_p(found)


def _values(data: Buffer, size: int, codes: str, writable: bool = False) -> C.c_void_p:
    view = viewed(data, writable)
    if view.format not in codes or view.nbytes != size:
        refuse("ERR_SAMPLES")
    return address(view)


def _step(kind: str, state: Buffer, samples: Buffer, size: int, out: Buffer) -> bool:
    found = _found(kind, state)
    values = _values(samples, size, "bBh")
    size = getattr(library(), f"edgelora_{kind}_output_size")(found)
    room = _values(out, size, "bBhH", True)
    return bool(getattr(library(), f"edgelora_{kind}_step")(found, values, room))


def audio_state_size() -> int:
    return int(library().edgelora_audio_state_size())


def audio_begin(state: Buffer, kind: Any, scale: Any, zero_point: Any) -> None:
    _begin("audio", state, kind, scale, zero_point)


def audio_reset(state: Buffer) -> None:
    library().edgelora_audio_reset(_found("audio", state))


def audio_step(state: Buffer, samples: Buffer, out: Buffer) -> bool:
    return _step("audio", state, samples, 2 * AUDIO_STEP, out)


def spectral_state_size() -> int:
    return int(library().edgelora_spectral_state_size())


def spectral_begin(
    state: Buffer, channels: Any, channel: Any, frames: Any, kind: Any, scale: Any, zero_point: Any
) -> None:
    _begin("spectral", state, channels, channel, frames, kind, scale, zero_point)


def spectral_reset(state: Buffer) -> None:
    library().edgelora_spectral_reset(_found("spectral", state))


def spectral_step(state: Buffer, samples: Buffer, out: Buffer) -> bool:
    size = library().edgelora_spectral_input_size(_found("spectral", state))
    return _step("spectral", state, samples, size, out)
