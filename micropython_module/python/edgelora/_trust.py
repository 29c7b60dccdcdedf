"""Whom a board trusts: the target that it is, and the keys that sign for it. SPDX-License-Identifier: MIT"""

import hashlib

from . import _only_absent

TRUST = "/update.trust"  # the board's target and the keys it trusts


class UpdateError(ValueError):
    """What came is refused; the message says why. What the board had is as it was."""


def trusted(path: str = TRUST) -> tuple[list[bytes], str]:
    """(keys, target) of the file that `edgelora update --trust` puts on a board. UpdateError without one."""
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
    """What bundles call a public key, 8 bytes."""
    return hashlib.sha256(key).digest()[:8]


def text(field):
    """A name of a file that came, padded with 0."""
    try:
        return bytes(field).rstrip(b"\0").decode()
    except ValueError:
        raise UpdateError("a received name is not text") from None
