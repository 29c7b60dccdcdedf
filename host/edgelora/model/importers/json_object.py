"""JSON of untrusted files."""

from __future__ import annotations

import json
from typing import Any

from edgelora.base.errors import EdgeloraError, InputError

MOST_SHOWN = 60  # characters of a value in a message


def json_object(content: bytes, where: str, error: type[EdgeloraError]) -> dict[str, Any]:
    """The object that a file's bytes are, without names that appear twice; where: what messages begin with.

    Raises `error`.
    """
    try:
        found = json.loads(content.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as cause:
        raise error(f"{where} not valid JSON ({cause}): copy it again") from None
    if not isinstance(found, dict):
        raise error(f"{where} not a JSON object: copy it again")
    return found


def shown(value: object) -> str:
    """A value for a message: the start of a long one."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InputError("a name appears twice")
    return found
