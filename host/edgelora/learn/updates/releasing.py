"""A directory of releases, which any web server can serve unchanged.

NAME.elu            the newest release, whole
NAME.from-V.elu     the newest release as a difference from version V, where that is smaller
NAME.vV.elu         each release, whole: what later differences start from

The directory is not trusted, as others may write to it: only files with the owner's signature count.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats import elu
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elu import HEADER_SIZE, Bundle, BundleError, check_name, public_bytes
from edgelora.core.formats.files import read_bounded, write_atomic
from edgelora.core.formats.limits import MAX_UPDATE
from edgelora.learn.training.data.base import Base

ORIGINS = 4  # differences start from this many of the last releases


class ReleaseError(EdgeloraError, RuntimeError):
    """The release is refused; the message says why and what to do. The directory is unchanged."""


@dataclass(frozen=True)
class ReleasedFile:
    """A bundle in the directory. from_version: of a difference, else 0; written: not if larger than the whole."""

    path: str
    bytes: int
    from_version: int
    written: bool = True


@dataclass(frozen=True)
class Release:
    """A release. key_id, base_id: hex; adapter_bytes: of the `.ela`."""

    name: str
    version: int
    target: str
    base_id: str
    key_id: str
    adapter_bytes: int
    files: tuple[ReleasedFile, ...]


def release(
    site: Path,
    adapter: bytes,
    name: str,
    key: Ed25519PrivateKey,
    *,
    version: int | None = None,
    target: str | None = None,
    origins: Mapping[int, bytes] | None = None,
    base: Base | None = None,
    compress: bool = True,
    force: bool = False,
    signers: Sequence[bytes] = (),
) -> Release:
    """Signs an `.ela`; writes it and its differences from earlier versions to the directory `site`, each atomically.

    version: by default the last release's plus 1; target: by default the last release's. origins: earlier adapters, by
    version, that were not released here. base: checks the adapter against it. force: releases even if key, target or
    base differ from the last release's. signers: public keys, 32 bytes each, whose signatures on earlier releases are
    accepted besides this key's. Raises ReleaseError, BundleError or FormatError.
    """
    check_name(name)
    made = unpack_adapter(adapter, name=name)
    if base:
        base.adapter(adapter, name)
    trusted = [public_bytes(key), *signers]
    newest = site / f"{name}.elu"
    last = _released(newest, name, trusted) if os.path.lexists(newest) else None
    if version is None:
        version = last.version + 1 if last else 1
    if target is None:
        if not last:
            raise ReleaseError(f"the first release of {name}: name the product that it is for with --target")
        target = last.target
    if last:
        _check_follows(last, version, target, made.base_id, elu.key_id(public_bytes(key)), force)
    whole = elu.pack(adapter, name, version, target, key, compress=compress)
    files = {site / f"{name}.v{version}.elu": whole}
    listed = []
    for earlier, origin in _origins(site, name, version, made.base_id, trusted, origins or {}).items():
        delta = elu.pack(adapter, name, version, target, key, (earlier, origin), compress)
        path = site / f"{name}.from-{earlier}.elu"
        listed.append(ReleasedFile(str(path), len(delta), earlier, len(delta) < len(whole)))
        if listed[-1].written:
            files[path] = delta
    files[newest] = whole
    for path, content in files.items():
        write_atomic(path, content)
    for stale in site.glob(f"{name}.from-*.elu"):
        if stale not in files:
            stale.unlink()
    signer = elu.key_id(public_bytes(key)).hex()
    listed.insert(0, ReleasedFile(str(newest), len(whole), 0))
    return Release(name, version, target, made.base_id.hex(), signer, len(adapter), tuple(listed))


def releases(site: Path, name: str, trusted: Sequence[bytes]) -> dict[int, Bundle]:
    """All releases of a name in the directory, whole, by version. ReleaseError unless a trusted key signed each."""
    found: dict[int, Bundle] = {}
    for path in sorted(site.glob(f"{name}.v*.elu")):
        earlier = _released(path, name, trusted)
        if path.name != f"{name}.v{earlier.version}.elu":
            raise ReleaseError(f"{path} holds version {earlier.version}: remove it, it was copied or renamed")
        found[earlier.version] = earlier
    return found


def _check_follows(last: Bundle, version: int, target: str, base_id: bytes, signer: bytes, force: bool) -> None:
    if version <= last.version:
        raise ReleaseError(
            f"version {version} of {last.name} is not above {last.version}, the last release: boards would refuse it. "
            "To go back to an earlier adapter, release it under a new version"
        )
    for what, was, now in (
        ("key", last.key_id.hex(), signer.hex()),
        ("target", last.target, target),
        ("base", last.base_id.hex(), base_id.hex()),
    ):
        if was != now and not force:
            raise ReleaseError(
                f"{last.name} {last.version} was released for {what} {was}, this is {now}: boards that follow it would "
                "refuse this; --force if you mean it"
            )


def _released(path: Path, name: str, trusted: Sequence[bytes]) -> Bundle:
    """An earlier release, whole. ReleaseError unless one of the trusted keys signed it, for this name."""
    found = elu.unpack(read_bounded(path, MAX_UPDATE + HEADER_SIZE, follow=False), str(path))
    signer = next((key for key in trusted if elu.key_id(key) == found.key_id), None)
    if signer is None:
        raise ReleaseError(
            f"{path} is signed by key {found.key_id.hex()}, not by yours, so no release can follow it: remove it if "
            "you did not release it; if you did, give the public half of that key with --signed-by (and --force)"
        )
    try:
        found.verify(signer)
    except BundleError:
        raise ReleaseError(
            f"{path} has a wrong signature, someone has changed it: remove it, and see who can write there"
        ) from None
    if found.name != name or found.from_version:
        raise ReleaseError(f"{path} is not a full release of {name}: remove it")
    return found


def _origins(
    site: Path, name: str, version: int, base_id: bytes, trusted: Sequence[bytes], given: Mapping[int, bytes]
) -> dict[int, bytes]:
    """Earlier adapters of this base, by version."""
    found = {
        number: earlier.adapter()
        for number, earlier in releases(site, name, trusted).items()
        if earlier.base_id == base_id and number < version
    }
    found = {number: found[number] for number in sorted(found, reverse=True)[:ORIGINS]}
    for older, origin in given.items():
        unpack_adapter(origin, name=f"{name} {older}")
        if not 0 < older < version:
            raise ReleaseError(f"a difference from version {older} to {version}: give an earlier version")
        found[older] = origin
    return found
