"""The flash of desktop MicroPython as a board: image files in the current folder."""

BLOCK = 4096
STORE_BLOCKS = 64  # 256 KB


class FileFlash:
    """A block device with erase blocks, kept in a file."""

    def __init__(self, path, blocks):
        self._blocks = blocks
        try:
            self.file = open(path, "r+b")
        except OSError:
            with open(path, "wb") as file:
                for _ in range(blocks):
                    file.write(b"\xff" * BLOCK)
            self.file = open(path, "r+b")

    def readblocks(self, block, buffer, offset=0):
        self.file.seek(block * BLOCK + offset)
        self.file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        self.file.seek(block * BLOCK + offset)
        self.file.write(buffer)
        self.file.flush()

    def ioctl(self, op, arg):
        if op == 4:
            return self._blocks
        if op == 5:
            return BLOCK
        if op == 6:
            self.writeblocks(arg, b"\xff" * BLOCK)
        return 0


_store = None


def store():
    """The partition of adapters: a file, opened before the host's folders become inaccessible."""
    global _store
    if _store is None:
        _store = FileFlash("store", STORE_BLOCKS)
    return _store
