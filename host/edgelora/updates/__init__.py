"""Signed updates: keys, releases, a server for trying out."""

from .download import FetchError, fetch
from .keys import load_key, load_public_keys, new_key, pack_trust
from .release import Release, release, releases
from .serve import address, is_bundle, send_bundle, server

__all__ = [
    "FetchError",
    "Release",
    "address",
    "fetch",
    "is_bundle",
    "load_key",
    "load_public_keys",
    "new_key",
    "pack_trust",
    "release",
    "releases",
    "send_bundle",
    "server",
]
