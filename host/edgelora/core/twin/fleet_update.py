"""A board's policy, and the parts of its update by the boards' own C (SPEC.md, section 17)."""

from __future__ import annotations

import ctypes as C
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError

from .binding import library
from .native_fleet import POLICY


@dataclass(frozen=True)
class Policy:
    """What a board requires of every task (edgelora_policy_t).

    least_z: hundredths of sigma sqrt(m - colluders) / clip; most_cohort: 0 for no limit; colluders: boards of a
    cohort that may collude with the server; budget: millionths of 1 / z^2 over all rounds of the board's life, 0 for no
    limit.
    """

    least_survivors: int = 0
    least_z: int = 0
    least_cohort: int = 0
    most_cohort: int = 0
    colluders: int = 0
    survivors_percent: int = 0
    masks: bool = False
    budget: int = 0

    def pack(self) -> bytes:
        """The policy as the core's bindings take it."""
        return POLICY.pack(*astuple(self))


def clip_update(before: NDArray[np.int16], after: NDArray[np.int16], clip: int) -> NDArray[np.int32]:
    """int32 [n]: after - before (int16 [n]), scaled so that the sum of squares is at most clip^2. clip: 1 to 65535."""
    pair = [np.ascontiguousarray(part, np.int16) for part in (before, after)]
    if pair[0].shape != pair[1].shape or not 1 <= clip <= 65535:
        raise InputError(f"two vectors of one length and a clip of 1 to 65535, not {clip}")
    out = np.empty(pair[0].size, np.int32)
    pointers = [C.c_void_p(part.ctypes.data) for part in pair]
    sizes = C.c_uint32(out.size), C.c_uint32(clip)
    library().edgelora_fleet_update(*pointers, *sizes, C.c_void_p(out.ctypes.data))
    return out


def gaussian_noise(key: bytes, sigma: int, n: int) -> NDArray[np.int32]:
    """int32 [n]: discrete Gaussian noise of standard deviation sigma (0 to 65535), drawn from a key of 32 bytes."""
    if len(key) != 32 or not 0 <= sigma <= 65535:
        raise InputError(f"noise takes a key of 32 bytes and a sigma of 0 to 65535, not {sigma}")
    out = np.zeros(n, np.int32)
    library().edgelora_fleet_noise(key, C.c_uint32(sigma), C.c_void_p(out.ctypes.data), C.c_uint32(n))
    return out


def round_cost(clip: int, sigma: int, honest: int) -> int:
    """A round's cost, in millionths of 1 / z^2, where z = sigma sqrt(honest) / clip; 2^64 - 1 without noise.

    clip, sigma: the task's; honest: survivors that don't collude with the server, 1 without masks. Each 0 to 65535.
    """
    cost = library().edgelora_fleet_cost
    cost.restype = C.c_uint64
    return int(cost(C.c_uint32(clip), C.c_uint32(sigma), C.c_uint32(honest)))
