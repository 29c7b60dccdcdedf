"""The core's front ends on the host."""

from __future__ import annotations

import ctypes as C
import struct

import numpy as np
from numpy.typing import NDArray

from .binding import check, library, statuses

Grid = tuple[float, int]  # the scale and zero point of int8 values


class FrontEnd:
    """A front end of the core with its state. kind: "audio" or "spectral"; `settings` apply to the latter.

    to: None for int16 values without conversion, "firmware" or a grid for int8. TwinError: the core refuses these.
    """

    def __init__(
        self, kind: str, size: int, window: int, to: str | Grid | None, settings: tuple[int, ...] = ()
    ) -> None:
        self._lib, self._kind = library(), kind
        self.window, self.size = window, size
        self.dtype = np.dtype(np.int16 if to is None else np.int8)
        bytes_ = self._call("state_size")
        self.state_bytes = bytes_
        self._state = (C.c_uint64 * (bytes_ // 8))()
        values = [*settings, *_how(to)]
        *words, zero_point = values
        arguments = [self._state, C.c_uint32(bytes_), *map(C.c_uint32, words), C.c_int8(zero_point)]
        check(self._call("begin", *arguments))

    def _call(self, name: str, *arguments: object) -> int:
        return int(getattr(self._lib, f"edgelora_{self._kind}_{name}")(*arguments))

    def step(self, samples: NDArray[np.int16], out: NDArray[np.int16] | NDArray[np.int8]) -> bool:
        """Takes samples, int16 [window]; returns whether out, [size] of `dtype`, was written."""
        fits = samples.dtype == np.int16 and samples.size == self.window and samples.flags.c_contiguous
        if not fits or out.dtype != self.dtype or out.size != self.size or not out.flags.c_contiguous:
            check(statuses()["ERR_SAMPLES"])
        return bool(
            check(self._call("step", self._state, C.c_void_p(samples.ctypes.data), C.c_void_p(out.ctypes.data)))
        )

    def reset(self) -> None:
        """The next sample is the first of a stream."""
        getattr(self._lib, f"edgelora_{self._kind}_reset")(self._state)


def _how(to: str | Grid | None) -> tuple[int, int, int]:
    """edgelora_features_t, the bits of the scale, the zero point."""
    if to is None:
        return 0, 0, 0
    if isinstance(to, str):
        return 1, 0, 0
    scale, zero_point = to
    return 2, int.from_bytes(struct.pack("<f", scale), "little"), zero_point
