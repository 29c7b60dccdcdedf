"""Signing keys of updates: creates, reads and identifies them."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.base.errors import FileError
from edgelora.core.formats.elu import TARGET_SIZE, BundleError, public_bytes
from edgelora.core.formats.files import SECRET, read_bounded, write_new
from edgelora.core.formats.limits import MAX_UPDATE
from edgelora.core.twin import device

# ---- keys


def new_key(path: Path) -> Path:
    """Writes a new private key (PEM, readable by its owner only) and next to it the public key, whose path it returns.

    Never overwrites a key. Raises BundleError or an OSError, and then leaves no new file.
    """
    public = path.with_suffix(".pub")
    if path == public:
        raise BundleError(f"{path}: the ending .pub is for the public key; choose another name, such as release.pem")
    for there in (path, public):
        if os.path.lexists(there):
            raise FileError(f"{there} already exists, and keys are never overwritten", remedy="choose another name")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new(path, pem, SECRET)
    try:
        write_new(public, public_bytes(key))
    except BaseException:
        path.unlink(missing_ok=True)  # half a pair is of no use
        raise
    return public


def load_key(path: Path) -> Ed25519PrivateKey:
    """Reads a private key. Raises BundleError unless the file holds an Ed25519 private key without a password."""
    try:
        key = serialization.load_pem_private_key(read_bounded(path, MAX_UPDATE), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BundleError(f"{path} is not a private key without a password: `edgelora keygen` makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path}: bundles are signed with Ed25519; `edgelora keygen` makes such a key")
    return key


def load_public_keys(path: Path) -> list[bytes]:
    """The public keys in a file, 32 bytes each."""
    data = read_bounded(path, MAX_UPDATE)
    if not data or len(data) % 32 or data.startswith(b"-----"):
        raise BundleError(f"{path} holds no public keys: give the .pub file that `edgelora keygen` made")
    return [data[at : at + 32] for at in range(0, len(data), 32)]


TRUST_PATH: str = device.module("_trust").TRUST  # of that file on a board


def pack_trust(target: str, keys: list[bytes]) -> bytes:
    """The file that tells a board its target and the keys that it trusts."""
    if not 0 < len(target.encode()) <= TARGET_SIZE:
        raise BundleError(f"target {target!r}: give 1 to {TARGET_SIZE} bytes, the product's name in releases")
    return target.encode().ljust(TARGET_SIZE, b"\0") + b"".join(keys)
