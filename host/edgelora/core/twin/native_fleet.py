"""Hashes of the module `_edgelora_fleet` of a board's firmware: micropython_module/binding/fleet_binding.c.

`fleet.Member` runs rounds, by the same C.
"""

from __future__ import annotations

import ctypes as C

from .binding import _about, library
from .fleet import _check
from .native import Buffer, address, viewed

ERR_SIZE = -13


def sha512_begin() -> bytes:
    state = (C.c_uint8 * _about(library()).hash)()
    library().edgelora_sha512_begin(state)
    return bytes(state)


def _hash(state: Buffer) -> C.c_void_p:
    view = viewed(state, True)
    if view.nbytes != _about(library()).hash:
        _check(ERR_SIZE)
    return address(view)


def sha512_add(state: Buffer, data: Buffer) -> None:
    view = viewed(data)
    library().edgelora_sha512_add(_hash(state), address(view), C.c_size_t(view.nbytes))


def sha512_end(state: Buffer) -> bytes:
    digest = (C.c_uint8 * 64)()
    library().edgelora_sha512_end(_hash(state), digest)
    return bytes(digest)
