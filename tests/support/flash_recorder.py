"""A virtual Pico (`edgelora.board.sim`) that also records its flash writes: FILE, then the Pico's arguments.

A record is u32 offset, u32 size in bytes, and the bytes after the command: an erased sector or a programmed page.
"""

import struct
import sys

from edgelora.board.sim import __main__, pico

record = open(sys.argv.pop(1), "ab")  # noqa: SIM115  for as long as the process lives
write_through = pico._Flash.write_through


def write_and_record(flash: pico._Flash, offset: int, size: int) -> None:
    write_through(flash, offset, size)
    record.write(struct.pack("<II", offset, size) + flash.memory[offset : offset + size])
    record.flush()


if __name__ == "__main__":
    pico._Flash.write_through = write_and_record  # type: ignore[method-assign]
    sys.exit(__main__.main())
