"""Holds libraries in this process to AVX2 on x86-64 processors that have more.

A program may use AVX-512 only if the operating system saves its registers, which it asks with the instruction
`xgetbv`. Within `held_to_avx2` that instruction says in the named libraries that only AVX's are saved.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgelora.base.errors import InputError

_XGETBV = b"\x0f\x01\xd0"
_AVX_ONLY = b"\x6a\x07\x58"  # push 7; pop rax: registers of x87, SSE and AVX
_READ_EXECUTE, _ALL = mmap.PROT_READ | mmap.PROT_EXEC, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC


@contextmanager
def held_to_avx2(*names: str) -> Iterator[None]:
    """Holds loaded libraries whose path contains one of the names.

    Those that have asked already are not. Raises InputError if this is not Linux on x86-64.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise InputError("libraries can be held to AVX2 only on Linux with an x86-64 processor: leave --avx2 out")
    places = [place for name in names for place in _questions(name)]
    try:
        for place in places:
            _write(place, _AVX_ONLY)
        yield
    finally:
        for place in places:
            _write(place, _XGETBV)


def _questions(name: str) -> Iterator[int]:
    """Addresses of `xgetbv` in the code of libraries."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, *_, path = line.split(maxsplit=5)
        if mode.startswith("r-x") and name in path:
            start, end = (int(address, 16) for address in span.split("-"))
            yield from (start + m.start() for m in re.finditer(_XGETBV, ctypes.string_at(start, end - start)))


def _write(place: int, code: bytes) -> None:
    page = place & -mmap.PAGESIZE
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for mode in (_ALL, _READ_EXECUTE):
        if protect(page, place + len(code) - page, mode):
            raise OSError(ctypes.get_errno(), "can't change a library's code")
        if mode == _ALL:
            ctypes.memmove(place, code, len(code))
