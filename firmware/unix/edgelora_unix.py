# Makes desktop MicroPython look like a board: a littlefs in a flash image of limited size, the model
# at /rom, the agent on the terminal.
import os
import sys
import vfs

BLOCK = 4096
BLOCKS = 256  # 1 MB


class FileFlash:
    """A block device with erase blocks, kept in a file."""

    def __init__(self, path):
        try:
            self.file = open(path, "r+b")
        except OSError:
            with open(path, "wb") as file:
                for _ in range(BLOCKS):
                    file.write(b"\xff" * BLOCK)
            self.file = open(path, "r+b")

    def readblocks(self, block, buffer, offset=0):
        self.file.seek(block * BLOCK + offset)
        self.file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=None):
        self.file.seek(block * BLOCK + (offset or 0))
        self.file.write(buffer)
        self.file.flush()

    def ioctl(self, op, arg):
        if op == 4:
            return BLOCKS
        if op == 5:
            return BLOCK
        return 0  # 6: erase; writing does it


def run(flash_path, rom_path):
    try:
        with open(rom_path, "rb") as file:
            image = file.read()
    except OSError:
        image = b""
    flash = FileFlash(flash_path)
    vfs.umount("/")
    try:
        vfs.mount(vfs.VfsLfs2(flash), "/")
    except OSError:
        vfs.VfsLfs2.mkfs(flash)
        vfs.mount(vfs.VfsLfs2(flash), "/")
    if image:
        vfs.mount(vfs.VfsRom(image), "/rom")
    sys.path[:] = [".frozen", "/lib", "/"]
    import edgelora_agent

    edgelora_agent.run()
