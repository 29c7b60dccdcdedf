"""The board's target, and the keys whose signatures it trusts. SPDX-License-Identifier: MIT"""

import hashlib

from . import _only_absent

TRUST = "/update.trust"  # the board's target and the keys it trusts


class UpdateError(ValueError):
    """The board refuses received data; the message says why. The board's state is unchanged."""


def trusted(path: str = TRUST) -> tuple[list[bytes], str]:
    """Returns (keys, target) from the file that `edgelora update --trust` writes to a board. UpdateError without it."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        _only_absent(error)
        raise UpdateError("this board trusts no key yet: edgelora update --trust KEY.pub --target NAME") from None
    if len(data) < 56 or (len(data) - 24) % 32:
        raise UpdateError("%s is damaged: put the key on the board again" % path)
    return [data[at : at + 32] for at in range(24, len(data), 32)], text(data[:24])


def key_id(key: bytes) -> bytes:
    """Returns the 8 bytes that identify a public key in bundles."""
    return hashlib.sha256(key).digest()[:8]


def text(field):
    """Decodes a name in a received file, padded with 0."""
    try:
        return bytes(field).rstrip(b"\0").decode()
    except ValueError:
        raise UpdateError("a received name is not text") from None
