#!/usr/bin/env python3
"""Manifests of releases: the size and checksum of every file, signed with Ed25519.

manifest.py sign FOLDER [PART]...    writes manifest.json, its signature and SHA256SUMS there: of all files, or of parts
manifest.py verify FOLDER KEY        checks them and every file. KEY: a public key of `edgelora keygen`, 32 bytes

$EDGELORA_RELEASE_KEY is the private key, as text (PEM), as `edgelora keygen` makes it. Where it isn't set, a new key
signs, which nobody trusts: that is a rehearsal. `sha256sum -c SHA256SUMS` checks files without this program.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edgelora import __version__

KEY = "EDGELORA_RELEASE_KEY"
NAME, SIGNATURE, SUMS = "manifest.json", "manifest.json.sig", "SHA256SUMS"
OWN = {NAME, SIGNATURE, SUMS}


class Refused(Exception):
    """A key can't sign, or a folder isn't what its manifest says; the message says why."""


def signing_key() -> Ed25519PrivateKey:
    """The release key from the environment; a new one where it isn't set. Raises Refused."""
    text = os.environ.get(KEY)
    if text is None:
        print(f"signed by a new key, for a rehearsal: a release sets {KEY}", file=sys.stderr)
        return Ed25519PrivateKey.generate()
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        raise Refused(f"{KEY} is not a private key in PEM without a password: `edgelora keygen` makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Refused(f"{KEY} is not an Ed25519 key: `edgelora keygen` makes one")
    return key


def sha256(path: Path) -> str:
    """A file's checksum, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(folder: Path, parts: Iterable[str]) -> list[Path]:
    """The files to list: those below `parts` of the folder, sorted by path, except for a manifest's own."""
    below = (path for part in parts for path in (folder / part).rglob("*") if path.is_file())
    return sorted(path for path in below if path.relative_to(folder).as_posix() not in OWN)


def write(folder: Path, parts: Iterable[str], key: Ed25519PrivateKey) -> None:
    """Lists and signs what lies below `parts`, which are paths in the folder."""
    paths = files_in(folder, parts)
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    files = {names[path]: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths}
    text = (json.dumps({"edgelora": __version__, "files": files}, indent=1) + "\n").encode()
    (folder / NAME).write_bytes(text)
    (folder / SIGNATURE).write_bytes(key.sign(text))
    (folder / SUMS).write_text("".join(f"{sha256(path)}  {names[path]}\n" for path in paths))


def verify(folder: Path, public: bytes) -> int:
    """The number of files, if all are as a holder of the key listed them. Raises Refused."""
    try:
        text = (folder / NAME).read_bytes()
        Ed25519PublicKey.from_public_bytes(public).verify((folder / SIGNATURE).read_bytes(), text)
        listed = json.loads(text)["files"]
    except (InvalidSignature, ValueError):
        raise Refused(f"{folder / NAME} is not signed by this key") from None
    except OSError as error:
        raise Refused(str(error)) from None
    for name, one in listed.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != one["bytes"] or sha256(path) != one["sha256"]:
            raise Refused(f"{path} is missing, or not what {NAME} says")
    return len(listed)


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["sign", folder, *parts]:
                write(Path(folder), parts or ["."], signing_key())
            case ["verify", folder, public]:
                print(f"{verify(Path(folder), Path(public).read_bytes())} files, as they were signed")
            case _:
                sys.exit(__doc__)
    except Refused as refused:
        sys.exit(f"manifest.py: {refused}")
