"""Storage of a store in raw flash. SPDX-License-Identifier: MIT"""

from . import _core
from ._index import OUTDATED, PAGE, StoreError, whole

_RING = 8  # maximum number of blocks in the index's ring


class Partition:
    """A block device dedicated to one store.

    The first blocks are a ring for the index, whose versions are appended page by page. The other blocks are places
    for data, which are written round-robin.
    """

    def __init__(self, device):
        self._device = device
        self._block = device.ioctl(5, 0)
        self.blocks = device.ioctl(4, 0)
        self._ring = max(2, min(_RING, self.blocks // 8))
        if self._block < 1024 or self.blocks < self._ring + 1:
            raise StoreError("a store takes at least 3 blocks of 1024 bytes or more")
        self.index_limit = self._block
        self._page = bytearray(PAGE)
        try:
            self._mapped = memoryview(device)  # flash that is read as memory
        except TypeError:
            self._mapped = None
        # Where the next index goes: the block of the ring, and the offset in that block.
        self._at, self._next = self._ring - 1, self._block
        self._newest = -1  # the block that holds the newest index

    def load_index(self, index):
        best = size = written = 0
        for block in range(self._ring):
            at = 0
            while at < self._block:
                sequence, length = self._whole(block, at, len(index))
                if sequence > best:
                    best, size, self._at, start = sequence, length, block, at
                if sequence or not self._blank(block, at):
                    written += 1
                at += self._pages(length) if sequence else PAGE
        if not best:
            if written > 1:
                self._refuse(written)
            return 0, False
        self._newest = self._at
        self._next = end = start + self._pages(size)
        for at in range(end, self._block, PAGE):
            if not self._blank(self._at, at):
                self._next = at + PAGE
        torn = self._next != end
        following = (self._at + 1) % self._ring
        if not self._blank(following, 0) and not self._whole(following, 0, len(index))[0]:
            torn = True
            self._next = self._block  # so that `_turn` erases the following block
        self._make_room(self._pages(size))
        self._read(self._newest, start, memoryview(index)[: self._pages(size)])
        return size, torn

    def _refuse(self, written):
        # There is data but no index: foreign data or a damaged store. A first index that was cut off leaves one page.
        raise StoreError(
            "no store in this partition, but %d pages of other data: "
            "from edgelora.store import default_place, erase; erase(default_place()) makes it empty" % written
        )

    def _whole(self, block, at, room):
        # (sequence, size) of a complete index at this offset, else ABSENT.
        return whole(lambda skip, page: self._read(block, at + skip, page), self._page, room, self._block - at)

    def save_index(self, index, size):
        end = self._pages(size)
        if self._next < self._block and not self._blank(self._at, self._next):
            raise StoreError(OUTDATED)
        for at in range(size, end):
            index[at] = 0xFF
        while True:
            if self._next + end > self._block:
                self._turn()
            at, self._next = self._next, self._next + end
            self._device.writeblocks(self._at, index[:end], at)
            if self._holds(self._at, at, index[:end]):
                break
            self._next = self._block
        self._newest = self._at
        self._make_room(end)

    def _make_room(self, size):
        # Erases the next index's block in advance, so that a power failure during its write leaves a trace.
        if self._next + size + PAGE > self._block:
            self._turn()

    def _turn(self):
        # Moves on to the ring's next block and erases it.
        self._at, self._next = (self._at + 1) % self._ring, 0
        if self._at == self._newest:
            raise StoreError("the flash does not keep what is written: it is worn out")
        self._device.ioctl(6, self._at)

    def pick(self, used, size, cursor):
        count = -(-size // self._block)
        first, total = self._ring, self.blocks - self._ring
        start = cursor - first if cursor >= first else 0
        places = []
        for i in range(total):
            place = first + (start + i) % total
            if place not in used:
                places.append(place)
                if len(places) == count:
                    return tuple(places)
        raise StoreError(
            "no room: %d bytes take %d blocks of flash, %d are free; remove an adapter" % (size, count, len(places))
        )

    def write(self, places, data):
        for i, place in enumerate(places):
            part = data[i * self._block : (i + 1) * self._block]
            whole = len(part) // PAGE * PAGE
            self._device.ioctl(6, place)
            if whole:
                self._device.writeblocks(place, part[:whole], 0)
            if whole < len(part):
                page = self._page
                for at in range(PAGE):
                    page[at] = part[whole + at] if whole + at < len(part) else 0xFF
                self._device.writeblocks(place, page, whole)
            if not self._holds(place, 0, part):
                raise StoreError("block %d of the flash does not keep what is written: it is worn out" % place)

    def read(self, places, data):
        if self._mapped is not None and len(places) == 1:
            _core.copy(self._mapped, places[0] * self._block, data)  # the usual case, in one call
        else:
            self._read_parts(places, memoryview(data))

    def _read_parts(self, places, data):
        block = self._block
        for i, place in enumerate(places):
            self._read(place, 0, data[i * block : (i + 1) * block])

    def free(self, used):
        return (self.blocks - self._ring - len(used)) * self._block

    def sweep(self, used):
        pass  # an unused block is free already

    def _pages(self, size):
        return (size + PAGE - 1) // PAGE * PAGE

    def _read(self, block, at, buffer):
        if self._mapped is None:
            self._device.readblocks(block, buffer, at)
        else:
            _core.copy(self._mapped, block * self._block + at, buffer)

    def _blank(self, block, at):
        self._read(block, at, self._page)
        return self._page.count(b"\xff") == PAGE

    def _holds(self, block, at, data):
        page = self._page
        for start in range(0, len(data), PAGE):
            part = data[start : start + PAGE]
            self._read(block, at + start, page)
            if memoryview(page)[: len(part)] != part:
                return False
        return True
