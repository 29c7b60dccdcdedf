"""The view Learn."""

from __future__ import annotations

from ..desk import Desk
from . import parts


def page(desk: Desk) -> None:
    """Builds the view."""
    parts.title("Learn")
