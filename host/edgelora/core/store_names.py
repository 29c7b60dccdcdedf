"""Names in a board's store."""

from __future__ import annotations

from .twin import device


def store_name(name: str) -> str:
    """Returns a name that a board's store takes, and that is safe in a path. InputError for others."""
    with device.refusals():
        return str(device.module("_index").checked(name))
