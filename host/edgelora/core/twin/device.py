"""The device's Python on this computer: runs `micropython_module/python/edgelora` unchanged, over the twin.

The host calls the device's rules through this module, so that no rule is written twice:

    Learner = device.module("learner").Learner

The package has another name here, because the host's own is called `edgelora`, too. `_BOARD` holds what CPython lacks
or does differently from MicroPython; only the device's files see it.
"""

from __future__ import annotations
import __future__

import builtins
import functools
import importlib
import importlib.util
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

from edgelora.base import resources
from edgelora.base.errors import EdgeloraError, InputError

from . import native, native_fleet, native_frontend

NAME = f"{__name__}_python"  # the package's name here
_TICKS = 1 << 30  # MicroPython's tick counters wrap around here


def _ticks_ms() -> int:
    return time.monotonic_ns() // 1_000_000 % _TICKS


def _ticks_us() -> int:
    return time.monotonic_ns() // 1000 % _TICKS


def _ticks_add(ticks: int, delta: int) -> int:
    return (ticks + delta) % _TICKS


def _ticks_diff(end: int, start: int) -> int:
    return (end - start + _TICKS // 2) % _TICKS - _TICKS // 2


def _sleep_ms(ms: int) -> None:
    time.sleep(ms / 1000)


_BOARD: dict[str, Any] = {
    "_edgelora": native,
    "_edgelora_fleet": native_fleet,
    "_edgelora_frontend": native_frontend,
    # the device collects garbage against heap fragmentation; here that would only take time
    "gc": SimpleNamespace(collect=lambda: None),
    "micropython": SimpleNamespace(const=lambda value: value),
    "sys": SimpleNamespace(implementation=SimpleNamespace(_machine="host")),
    "time": SimpleNamespace(
        sleep=time.sleep,
        sleep_ms=_sleep_ms,
        ticks_ms=_ticks_ms,
        ticks_us=_ticks_us,
        ticks_add=_ticks_add,
        ticks_diff=_ticks_diff,
    ),
}


class _NoPins(EdgeloraError, ImportError):
    """Device code wants `machine`; as on boards without it, this is an ImportError."""


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    if level == 0 and name in _BOARD:
        return _BOARD[name]
    if level == 0 and name == "machine":
        raise _NoPins("this computer has no pins")
    return builtins.__import__(name, globals, locals, fromlist or (), level)


_BUILTINS = vars(builtins) | {"__import__": _import}


class _Loader(SourceFileLoader):
    """Runs a module with `_BOARD` importable, and never from cached bytecode, which would evaluate annotations."""

    def get_code(self, fullname: str) -> CodeType:
        path, flags = self.get_filename(fullname), __future__.annotations.compiler_flag
        code: CodeType = compile(self.get_data(path), path, "exec", flags, dont_inherit=True)
        return code

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = _BUILTINS
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the package and its modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != NAME and not fullname.startswith(f"{NAME}."):
            return None
        folder = _folder()
        name = fullname[len(NAME) + 1 :] or "__init__"
        file = folder / f"{name}.py"
        if not file.exists():
            return None
        inside = [str(folder)] if fullname == NAME else None
        loader = _Loader(fullname, str(file))
        return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=inside)


def _folder() -> Path:
    return resources.device_file("edgelora/__init__.py").parent


@functools.cache
def module(name: str = "") -> Any:
    """A module of the device's package by its name, such as "training"; "": the package itself, with `Model`."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    return importlib.import_module(f"{NAME}.{name}" if name else NAME)


@contextmanager
def refusals(error: type[EdgeloraError] = InputError) -> Iterator[None]:
    """Turns a ValueError of the device's Python into an InputError, or another, with the same text."""
    try:
        yield
    except EdgeloraError:
        raise
    except ValueError as refusal:
        raise error(str(refusal)) from None


class Flash:
    """An erased block device in RAM, for the device's `Store`."""

    def __init__(self, blocks: int, size: int = 4096) -> None:
        self._blocks, self._size = blocks, size
        self._bytes = bytearray(b"\xff" * blocks * size)

    @classmethod
    def of(cls, largest: int) -> Flash:
        """A flash with room for the index and a dozen entries of up to `largest` bytes."""
        return cls(32 + 12 * (largest // 4096 + 1))

    def readblocks(self, block: int, buffer: Any, offset: int = 0) -> None:
        at = block * self._size + offset
        memoryview(buffer)[:] = memoryview(self._bytes)[at : at + len(buffer)]

    def writeblocks(self, block: int, buffer: Any, offset: int = 0) -> None:
        at = block * self._size + offset
        self._bytes[at : at + len(buffer)] = buffer

    def ioctl(self, what: int, block: int) -> int:
        if what == 6:  # erase
            at = block * self._size
            self._bytes[at : at + self._size] = b"\xff" * self._size
        return {4: self._blocks, 5: self._size}.get(what, 0)
