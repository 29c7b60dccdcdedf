"""Update bundles (SPEC.md, section 14): an adapter, or its difference from an earlier one, under a signed header."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgelora.base.errors import EdgeloraError

from .limits import MAX_UPDATE

MAGIC, VERSION = b"ELU1", 1
HEADER_SIZE = 256
SIGNED_SIZE = 192
WHOLE, DELTA = 1, 2
STORED, DEFLATE = 0, 1
WINDOW_BITS = 10  # a board unpacks it with 1 KB of memory
TARGET_SIZE = 24
NAME = re.compile(r"[A-Za-z0-9_-]{1,24}")  # part of URLs
# Magic, format, header size, kind, packing, 0, version, from version, payload and result size, 0, base id, key id,
# name, target, SHA-256 of payload, result, origin.
_HEADER = struct.Struct("<4sHHBBHIIIII8s8s24s24s32s32s32s")


class BundleError(EdgeloraError, ValueError):
    """A bundle is invalid, or can't be made; the message says why and what to do."""


@dataclass(frozen=True)
class Bundle:
    """A bundle with correct hashes, whose origin is unknown until `verify`.

    from_version: 0 for a full one; payload: unpacked; key_id, base_id: 8 bytes.
    """

    name: str
    version: int
    from_version: int
    target: str
    base_id: bytes
    key_id: bytes
    payload: bytes
    result_sha256: bytes
    data: bytes

    def verify(self, public: bytes) -> None:
        """Raises BundleError unless the owner of this public key (32 bytes) signed it."""
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(
                self.data[SIGNED_SIZE:HEADER_SIZE], self.data[:SIGNED_SIZE]
            )
        except InvalidSignature:
            raise BundleError(f"{self.name} {self.version}: not signed by key {key_id(public).hex()}") from None

    def adapter(self, origin: bytes = b"") -> bytes:
        """The resulting `.ela`; a delta needs its origin."""
        result = _added(self.payload, origin) if self.from_version else self.payload
        if hashlib.sha256(result).digest() != self.result_sha256:
            raise BundleError(
                f"{self.name} {self.version} is a change of version {self.from_version}, not of the given one"
            )
        return result


def check_name(name: str) -> None:
    """Raises BundleError unless an adapter can be released under this name."""
    if not NAME.fullmatch(name):
        raise BundleError(f"name {name!r}: give 1 to 24 letters, digits, - and _ (it is part of the file's address)")


def pack(
    adapter: bytes,
    name: str,
    version: int,
    target: str,
    key: Ed25519PrivateKey,
    origin: tuple[int, bytes] | None = None,
    compress: bool = True,
) -> bytes:
    """A signed bundle of a full `.ela`, or of its difference from `origin`, (version, `.ela`). Raises BundleError."""
    check_name(name)
    if len(adapter) > MAX_UPDATE:
        raise BundleError(
            f"the adapter has {len(adapter)} bytes, the limit of an update is {MAX_UPDATE}: use lower ranks"
        )
    if not 0 < len(target.encode()) <= TARGET_SIZE or "\0" in target:
        raise BundleError(
            f"target {target!r}: give 1 to {TARGET_SIZE} bytes, the name of a product that boards compare"
        )
    if not 0 < version < 1 << 32:
        raise BundleError(f"version {version}: give one from 1 to 2^32 - 1")
    from_version, start = origin or (0, b"")
    content = _subtracted(adapter, start) if origin else adapter
    packed = _deflated(content) if compress else content
    packing = DEFLATE if len(packed) < len(content) else STORED
    payload = packed if packing else content
    signed = _HEADER.pack(
        MAGIC,
        VERSION,
        HEADER_SIZE,
        DELTA if origin else WHOLE,
        packing,
        0,
        version,
        from_version,
        len(payload),
        len(adapter),
        0,
        adapter[16:24],
        key_id(public_bytes(key)),
        name.encode(),
        target.encode(),
        hashlib.sha256(payload).digest(),
        hashlib.sha256(adapter).digest(),
        hashlib.sha256(start).digest() if origin else bytes(32),
    )
    return signed + key.sign(signed) + payload


def unpack(data: bytes, where: str = "bundle") -> Bundle:
    """Reads a bundle, and checks everything but the signature. Raises BundleError; `where` is for its message."""
    if len(data) < HEADER_SIZE or data[:4] != MAGIC:
        raise BundleError(f"{where} is not an update bundle: `edgelora release` makes one")
    fields = _HEADER.unpack_from(data)
    form, size, kind, packing, _, version, from_version, payload_size, result_size, _, base_id, signer = fields[1:13]
    if (form, size) != (VERSION, HEADER_SIZE) or kind not in (WHOLE, DELTA) or packing > DEFLATE:
        raise BundleError(f"{where} has format {form}.{kind}.{packing}: a newer edgelora made it: update this one")
    payload = data[HEADER_SIZE:]
    if result_size > MAX_UPDATE:
        raise BundleError(f"{where} unpacks to {result_size} bytes, the limit of an update is {MAX_UPDATE}")
    if len(payload) != payload_size or hashlib.sha256(payload).digest() != fields[15]:
        raise BundleError(f"{where} is damaged: remove it, and release or fetch it again")
    try:
        content = _inflated(payload, result_size) if packing else payload
        name, target = (field.rstrip(b"\0").decode() for field in fields[13:15])
    except (zlib.error, UnicodeDecodeError) as error:
        raise BundleError(f"{where} is damaged ({error}): remove it, and release or fetch it again") from None
    return Bundle(name, version, from_version, target, base_id, signer, content, fields[16], data)


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -WINDOW_BITS, 9)
    return packer.compress(content) + packer.flush()


def _inflated(payload: bytes, size: int) -> bytes:
    return zlib.decompressobj(-WINDOW_BITS).decompress(payload, size + 1)


def _subtracted(adapter: bytes, origin: bytes) -> bytes:
    return bytes((a - b) & 255 for a, b in zip(adapter, origin.ljust(len(adapter), b"\0"), strict=False))


def _added(difference: bytes, origin: bytes) -> bytes:
    return bytes((a + b) & 255 for a, b in zip(difference, origin.ljust(len(difference), b"\0"), strict=False))


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The public key, 32 bytes (RFC 8032)."""
    return key.public_key().public_bytes_raw()


def key_id(public: bytes) -> bytes:
    """A key's id in bundles: the first 8 bytes of its SHA-256."""
    return hashlib.sha256(public).digest()[:8]
