"""The one tree of errors: whatever a caller, a file, a board or a server did wrong is an `EdgeloraError`.

    EdgeloraError
    ├── InputError           an argument, or what a file holds, that can't be used
    ├── FileError            a file that can't be read or written as it has to be
    ├── MissingPackage       a Python package that this needs is not installed
    └── ...                  one for each part: FormatError, BuildError, LinkError, DeviceError, ReportError, ...

An exception that is neither one of these nor an OSError is a bug of EdgeLoRA itself.
"""

from __future__ import annotations


class EdgeloraError(Exception):
    """The message says what was given, what is allowed and what to do. remedy: the last of these by itself, or ""."""

    def __init__(self, message: str = "", *, remedy: str = "") -> None:
        super().__init__(f"{message}: {remedy}" if remedy else message)
        self.remedy = remedy


class InputError(EdgeloraError, ValueError):
    """An argument, or what a file holds, can't be used."""


class FileError(EdgeloraError, OSError):
    """A file can't be read or written as it has to be, or an address can't be listened on."""


class MissingPackage(EdgeloraError, ModuleNotFoundError):
    """A Python package is not installed; the message says how to install it."""
