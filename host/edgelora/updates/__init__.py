"""Signed updates: keys, releases, a server for trying out."""

from .download import FetchError, fetch
from .keys import load_key, load_public_keys, new_key, pack_trust
from .release import release
from .serve import address, server

__all__ = [
    "FetchError",
    "address",
    "fetch",
    "load_key",
    "load_public_keys",
    "new_key",
    "pack_trust",
    "release",
    "server",
]
