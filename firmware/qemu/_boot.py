# Mounts the flash: a part of the machine's memory that QEMU keeps in a file.
import sys

import uctypes
import vfs

ADDRESS = 0x8080_0000
BLOCK = 4096
BLOCKS = 512  # 2 MB, as on an ESP32-C3 with 4 MB of flash


class Flash:
    def __init__(self):
        self.memory = memoryview(uctypes.bytearray_at(ADDRESS, BLOCK * BLOCKS))

    def readblocks(self, block, buffer, offset=0):
        at = block * BLOCK + offset
        buffer[:] = self.memory[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        at = block * BLOCK + offset
        self.memory[at : at + len(buffer)] = buffer

    def ioctl(self, op, arg):
        if op == 4:
            return BLOCKS
        if op == 5:
            return BLOCK
        return 0  # 6: erase; writing does it


flash = Flash()
SIZES = {"readsize": 256, "progsize": 256, "lookahead": 64}  # fewer calls of this file for a block
try:
    vfs.mount(vfs.VfsLfs2(flash, **SIZES), "/")
except OSError:
    vfs.VfsLfs2.mkfs(flash, **SIZES)
    vfs.mount(vfs.VfsLfs2(flash, **SIZES), "/")
sys.path.append("/lib")
