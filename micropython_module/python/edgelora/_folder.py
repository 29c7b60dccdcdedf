"""Storage of a store in a folder. SPDX-License-Identifier: MIT"""

import os
import struct

from . import _only_absent
from ._index import ABSENT, NO_SPACE, OUTDATED, PAGE, StoreError, whole

_EXISTS = 17  # errno


class Folder:
    """A folder with one numbered file per entry, and two index files that are written in turn."""

    blocks = 1 << 8
    index_limit = 1 << 14

    def __init__(self, path):
        self._path = path.rstrip("/")
        try:
            os.mkdir(self._path)
        except OSError as error:
            if error.errno != _EXISTS:
                raise
        self._turn = 0  # the older of the two index files

    def _name(self, what):
        return "%s/%s" % (self._path, what)

    def load_index(self, index):
        found = [self._whole(turn, len(index)) for turn in range(2)]
        torn = ABSENT in found
        sizes = [whole or ABSENT for whole in found]
        newest = 0 if sizes[0] >= sizes[1] else 1
        self._turn = 1 - newest
        size = sizes[newest][1]
        if size:
            with open(self._name("index.%d" % newest), "rb") as file:
                file.readinto(index)
        elif torn and self._numbers():
            raise StoreError("the index in %s is damaged: remove the folder to start again" % self._path)
        return size, torn

    def _whole(self, turn, room):
        # (sequence, size) of the index in this file; ABSENT if it is incomplete, None if there is no file.
        try:
            with open(self._name("index.%d" % turn), "rb") as file:

                def read(at, page):
                    file.seek(at)
                    file.readinto(page)

                return whole(read, bytearray(PAGE), room, self.index_limit)
        except OSError as error:
            _only_absent(error)
            return None

    def save_index(self, index, size):
        if (self._whole(self._turn, len(index)) or ABSENT)[0] >= struct.unpack_from("<I", index, 8)[0]:
            raise StoreError(OUTDATED)
        reserve = self._name("reserve")
        try:
            self._store("index.%d" % self._turn, index[:size])
        except OSError as error:
            if error.errno != NO_SPACE or not _removed(reserve):
                raise
            self._store("index.%d" % self._turn, index[:size])
        self._turn = 1 - self._turn
        try:
            os.stat(reserve)
        except OSError as error:
            _only_absent(error)
            try:
                self._store("reserve", bytes(2 * len(index)))  # room for the index on a full filesystem
            except OSError as error:
                if error.errno != NO_SPACE:
                    raise
                _removed(reserve)

    def _store(self, what, data):
        with open(self._name(what), "wb") as file:
            file.write(data)
        if hasattr(os, "sync"):
            os.sync()

    def pick(self, used, size, cursor):
        while cursor & 0xFFFF in used:
            cursor += 1
        return (cursor & 0xFFFF,)

    def write(self, places, data):
        self._store("%04x" % places[0], data)

    def read(self, places, data):
        with open(self._name("%04x" % places[0]), "rb") as file:
            if file.readinto(data) != len(data):
                raise StoreError("file %04x of the store is too short: something else changed it" % places[0])

    def free(self, used):
        info = os.statvfs(self._path)
        return info[0] * info[3] if 0 <= info[3] <= info[2] else 0  # a full littlefs: negative, read as unsigned

    def _numbers(self):
        return [name for name, *_ in os.ilistdir(self._path) if len(name) == 4]

    def sweep(self, used):
        for name in self._numbers():
            if int(name, 16) not in used:
                os.remove(self._name(name))


def _removed(path):
    try:
        os.remove(path)
        return True
    except OSError as error:
        _only_absent(error)
        return False
