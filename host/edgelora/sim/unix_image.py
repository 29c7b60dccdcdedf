"""What desktop MicroPython as a board is made of: its program, and its ROMFS image."""

from __future__ import annotations

from edgelora import resources
from edgelora.sim.registry import SimError

ROMFS_MAGIC = b"\xd2\xcd\x31"
UNIX_BINARY = resources.micropython()


def check_romfs(image: bytes, name: str) -> None:
    """Raises SimError for what is no ROMFS image at all."""
    if not image.startswith(ROMFS_MAGIC):
        raise SimError(f"{name} is no ROMFS image: make one with `edgelora build --board unix`")
