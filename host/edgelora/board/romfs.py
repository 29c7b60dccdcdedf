"""ROMFS images: files that firmware reads in place."""

from __future__ import annotations

from collections.abc import Mapping

from edgelora.base.errors import EdgeloraError

from .virtual_boards import SimError

FILE_ALIGNMENT = 16  # of files in the image and so in memory, bytes
ROMFS_SUFFIX = ".romfs"


class BuildError(EdgeloraError, RuntimeError):
    """Firmware could not be built, or its files do not fit."""


def make_romfs(files: Mapping[str, bytes]) -> bytes:
    """A ROMFS image of `files`, each aligned to `FILE_ALIGNMENT` bytes. Names are plain file names."""
    for name in files:
        if not name or "/" in name or not name.isascii():
            raise BuildError(f"{name!r} cannot be a file in ROMFS; use a plain ASCII name")
    for header_bytes in range(4, 9):
        image, actual = _romfs(files, header_bytes)
        if actual == header_bytes:
            return image
    raise BuildError("the files are too big for ROMFS")


def _romfs(files: Mapping[str, bytes], header_bytes: int) -> tuple[bytes, int]:
    """An image aligned for a header of the assumed size, and the header's actual size."""
    from mpremote.romfs import VfsRomWriter

    writer = VfsRomWriter()
    position = header_bytes

    def fill(ahead: int) -> int:
        """Aligns `position` plus `ahead` by a filler record, which has 2 bytes of overhead; returns its size."""
        filler = -(position + 2 + ahead) % FILE_ALIGNMENT
        writer.mkdata(bytes(filler))
        return 2 + filler

    for name, data in files.items():
        alone = VfsRomWriter()
        alone.mkfile(name, data)
        overhead = alone.mkdata(b"") - 2 - len(data)
        position += fill(overhead)
        writer.mkfile(name, data)
        position += overhead + len(data)
    position += fill(0)  # keeps the header's size independent of the files; the header makes the image's length even
    image = bytes(writer.finalise())
    return image, len(image) - (position - header_bytes)


ROMFS_MAGIC = b"\xd2\xcd\x31"


def check_romfs(image: bytes, name: str) -> None:
    """Raises SimError if the bytes are not a ROMFS image."""
    if not image.startswith(ROMFS_MAGIC):
        raise SimError(f"{name} is not a ROMFS image: make one with `edgelora build --board unix`")
