"""Signed updates: keys, releases, a server for trying out."""

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .download import FetchError, fetch
    from .keys import load_key, load_public_keys, new_key, pack_trust
    from .releasing import Release, release, releases
    from .serve import address, is_bundle, send_bundle, server
else:
    __getattr__, __dir__ = lazily(__name__, __file__)

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
