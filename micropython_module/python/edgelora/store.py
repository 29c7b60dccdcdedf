"""Named adapters in flash, the ones in use in RAM (SPEC.md, section 12). SPDX-License-Identifier: MIT

    store = Store("/adapters", cache=8192)  # a folder, or a block device of its own: rp2.Flash(...), esp32.Partition
    store.open(model)
    store.start()  # goes on with the adapter that was active before the reset
    store.use("wake-b")  # from here on inference is that of wake-b; store.use(None) is the bare base

What is committed stays: data goes to new places, then one new index, which counts if it is whole. After a power cut at any
moment the store opens as it was before or after the change under way, and `notices` tells of a change that was lost.
"""

import os
import struct

import edgelora

_MAGIC = b"ELS1"
_VERSION = 1
# magic, version, entries, sequence, size, CRC, cursor, 0, active, name and version of what is being written
_HEAD = "<4sHHIIIHH24s24sI4x"
_HEAD_SIZE = 80
_ENTRY = "<24sIIII8sBBH"  # name, version, size, CRC, floor, base id, flags, places, 0; the places follow, u16 each
_ENTRY_SIZE = 52
_FIELDS = ("name", "version", "size", "crc", "floor", "base_id", "flags", "places")
_PAGE = 256  # what flash programs at once
_RING = 8  # most blocks that take turns in holding the index

_PINNED, _ARMED, _TRIAL = 1, 2, 4
_EXISTS, _NO_SPACE = 17, 28  # errno
_SAME = 0  # leave active what is
_ABSENT = 0, 0  # sequence and size of an index that is not there, or not whole
_OUTDATED = "another Store has changed this one since it was opened: open it again"


class StoreError(ValueError):
    """A store can't do what was asked; the message says why and what would help. Nothing has changed."""


class Entry:
    """A committed adapter, or other bytes. size 0: removed, but its `floor` is kept."""

    def __init__(self, name, version, size, crc, floor, base_id, flags, places):
        self.name, self.version, self.size, self.crc, self.floor = name, version, size, crc, floor
        self.base_id, self.flags, self.places = base_id, flags, places

    @property
    def pinned(self):
        return bool(self.flags & _PINNED)

    @property
    def trial(self):
        """An update that has not been confirmed."""
        return bool(self.flags & (_ARMED | _TRIAL))

    def changed(self, **changes):
        return Entry(*[changes.get(name, getattr(self, name)) for name in _FIELDS])


class Store:
    """place: a folder or a block device. cache: bytes of RAM for adapters in use. adapters: the most it can hold."""

    def __init__(self, place, cache=8192, adapters=32):
        self.notices = []
        self._limit = adapters
        self.place = place if isinstance(place, str) else "a partition of its own"
        self._flash = _Folder(place) if isinstance(place, str) else _Partition(place)
        room = _HEAD_SIZE + adapters * (_ENTRY_SIZE + 4) + 2 * self._flash.blocks + _PAGE
        self._index = bytearray(min(room, self._flash.index_limit) // _PAGE * _PAGE)
        self._model = None
        self._cache_size, self._cache = cache, None  # made when there is a model
        self._bare = _Slot(None)
        self._now = _Now(self._fetch)
        self._slots, self._cached = [], {None: self._bare}
        self._slot_size = 0
        self._sequence = self._cursor = 0
        self.active = None
        self._adopt([])
        size, torn = self._flash.load_index(self._index)
        if size:
            self._unpack(size)
            if torn and not self.notices:
                self.notices.append("a change was cut off by a power failure: the store is as it was before it")
        else:
            self._save([])
        if self.notices:  # tell it once
            self._save(self._entries)
            self._flash.sweep(self._used())

    # --- what it holds

    def list(self):
        """The entries, those on trial included."""
        return [entry for entry in self._entries if entry.size]

    def find(self, name):
        """The entry that `use` takes, or None."""
        return self._by_name.get(name)

    def read(self, name):
        """The bytes of an entry, checked."""
        entry = self._entry(name)
        data = bytearray(entry.size)
        self._flash.read(entry.places, data)
        if edgelora.core_crc32(data, 0) != entry.crc:
            raise StoreError("%s is damaged in flash: remove it, or put it again" % name)
        return data

    def floor(self, name):
        """The highest version there has been of this name: an update must be above it."""
        return max([max(entry.version, entry.floor) for entry in self._entries if entry.name == name] or [0])

    def free(self):
        """Bytes that can be put."""
        return self._flash.free(self._used())

    # --- changes

    def put(self, name, data, version=None):
        """Commits data under a name, in place of what it had; its version is the last one's + 1 unless given."""
        self._not_on_trial(name)
        old = self._by_name.get(name)
        if version is None:
            version = old.version + 1 if old else 1
        floor, flags = (old.floor, old.flags) if old else (0, 0)
        self._add(old, name, data, version, floor, flags)
        return version

    def install(self, name, version, data):
        """An update: kept beside the one in use, on trial from the next `start` on."""
        if version <= self.floor(name):
            raise StoreError("version %d of %s is not above %d" % (version, name, self.floor(name)))
        old = [entry for entry in self._entries if entry.name == name and entry.trial]
        self._add(old[0] if old else None, name, data, version, version, _ARMED)

    def confirm(self):
        """The updates on trial are good: they replace what they update. Returns their names."""
        good = [entry.name for entry in self._entries if entry.flags & _TRIAL]
        if good:
            pinned = [e.name for e in self._entries if e.pinned]
            kept = [e for e in self._entries if e.name not in good]
            for entry in self._entries:
                if entry.flags & _TRIAL:
                    kept.append(entry.changed(flags=_PINNED if entry.name in pinned else 0))
            self._save(kept)
            self._flash.sweep(self._used())
        return good

    def rename(self, old, new):
        """Gives an adapter another name; one that is active stays so."""
        entry = self._entry(old)
        self._not_on_trial(old, new)
        if new in self._by_name:
            raise StoreError("%s is taken: remove it first, or choose another name" % new)
        entries = self._without(entry) + [entry.changed(name=_checked(new), floor=max(entry.floor, self.floor(new)))]
        entries = [e for e in entries if e.size or e.name != new]
        self._save(entries, new if self.active == old else self.active)
        if old in self._cached:
            self._cached[new] = self._cached.pop(old)
            self._cached[new].name = new

    def remove(self, name):
        """Removes an adapter, an update of it on trial included. The one in use stays in RAM until the next `use`."""
        entries = self._entries
        doomed = [e for e in entries if e.name == name and e.size]
        if not doomed:
            self._entry(name)
        for entry in doomed:
            entries = self._without(entry, entries)
        self._save(entries, None if self.active == name else self.active)
        self._forget(name)
        self._flash.sweep(self._used())

    def pin(self, name, on=True):
        """A pinned adapter stays in RAM once it is there."""
        entry = self._entry(name)
        flags = entry.flags | _PINNED if on else entry.flags & ~_PINNED
        if flags != entry.flags:
            self._save([e.changed(flags=flags) if e is entry else e for e in self._entries])

    # --- switching

    def open(self, model):
        """Binds the store to an edgelora.Model, whose adapters `use` switches. The cache is empty then."""
        self._model = model
        if self._cache is None:
            self._cache = bytearray(self._cache_size)
        model.store = self  # keeps the cache
        self._empty([], 0)
        self.use = _switch(self._now, model.arena, self._cached.get, edgelora.core_use)

    def use(self, name):
        """Inference is that of this adapter (None: the bare base) from the next call on. Nothing is written."""
        raise StoreError("no model is open: call open first")  # open puts a faster one here

    @property
    def in_use(self):
        """What `use` was called with last; None as well if that was given up to make room."""
        return self._in_use().name

    def _in_use(self):
        # The slot that was used last.
        for slot in self._slots:
            if slot.tick and slot.tick == self._now.tick:
                return slot
        return self._bare

    def activate(self, name):
        """`use`, and remembered: `start` goes on with it after a reset."""
        if self._model:
            self.use(name)
        elif name is not None:
            self._entry(name)
        if name != self.active:
            self._save(self._entries, name)

    def start(self):
        """Once after a reset: uses the active adapter, updates on trial among them.

        An update gets one start. If the application has not called `confirm` by the next, the old version is back.
        """
        entries = self._entries
        for entry in entries:
            if entry.flags & _TRIAL:
                entries = self._fallen_back(entry, entries)
            elif entry.flags & _ARMED:
                self._forget(entry.name)
                entries = [e.changed(flags=_TRIAL) if e is entry else e for e in entries]
        if entries is not self._entries:
            self._save(entries)
            self._flash.sweep(self._used())
        if self._model and self._by_name.get(self.active):
            try:
                self.use(self.active)
            except ValueError:
                if not self.find(self.active).trial:
                    raise
                self.start()  # an update that can't even be used

    # --- entries

    def _entry(self, name):
        entry = self._by_name.get(name)
        if entry is None:
            raise StoreError("no adapter named %s here" % name)
        return entry

    def _not_on_trial(self, *names):
        for entry in self._entries:
            if entry.name in names and entry.trial:
                raise StoreError("an update of %s is on trial: confirm it, or restart to fall back" % entry.name)

    def _without(self, entry, entries=None):
        # What a removal leaves: its floor, if updates have raised one.
        entries = [e for e in entries or self._entries if e is not entry]
        if entry.floor and not any(e.name == entry.name for e in entries):
            entries.append(Entry(entry.name, 0, 0, 0, entry.floor, bytes(8), 0, ()))
        return [e.changed(floor=entry.floor) if e.name == entry.name and e.floor < entry.floor else e for e in entries]

    def _fallen_back(self, entry, entries):
        entries = self._without(entry, entries)
        old = [e for e in entries if e.name == entry.name and e.size]
        self.notices.append(
            "update %s %d was not confirmed: %s"
            % (entry.name, entry.version, "version %d is back" % old[0].version if old else "it is removed")
        )
        self._forget(entry.name)
        return entries

    def _add(self, old, name, data, version, floor, flags):
        _checked(name)
        data = memoryview(data)
        base_id = self._bound(name, data)
        if not 0 < version < 1 << 32:
            raise StoreError("version %d: give one from 1 to 2^32 - 1" % version)
        entries = [e for e in self._entries if e is not old]
        if len(entries) >= self._limit:
            raise StoreError("the store holds %d entries, its limit: remove one" % self._limit)
        places = self._flash.pick(self._used(), len(data), self._cursor)
        entry = Entry(name, version, len(data), edgelora.core_crc32(data, 0), floor, base_id, flags, places)
        entries.append(entry)
        self._pack(entries, self.active, None)  # does it fit?
        self._save(self._entries, writing=(name, version))
        try:
            self._flash.write(places, data)
            self._cursor = places[-1] + 1
            self._save(entries)
        except (OSError, StoreError) as error:
            self._flash.sweep(self._used())
            self._save(self._entries)
            raise _explained(error, name)
        self._forget(name)
        self._flash.sweep(self._used())

    def _bound(self, name, data):
        # The base that data belongs to, checked as far as it can be.
        if not len(data):
            raise StoreError("%s: there is nothing to put" % name)
        if bytes(data[:4]) != b"ELA1" or len(data) < 48:
            return bytes(8)
        if self._model and bytes(data[16:24]) != self._model.base_id:
            raise StoreError(
                "%s was made for base %s, the open model is %s"
                % (name, edgelora.hex_id(data[16:24]), edgelora.hex_id(self._model.base_id))
            )
        return bytes(data[16:24])

    def _used(self):
        return {place for entry in self._entries for place in entry.places}

    def _adopt(self, entries):
        self._entries = entries
        self._by_name = {e.name: e for e in entries if e.size and not e.flags & (_ARMED | _TRIAL)}
        self._by_name.update({e.name: e for e in entries if e.flags & _TRIAL})

    # --- index

    def _pack(self, entries, active, writing):
        at = _HEAD_SIZE
        index = self._index
        if at + sum(_ENTRY_SIZE + 2 * len(e.places) for e in entries) > len(index):
            raise StoreError("the index has no room for another adapter: remove one")
        for e in entries:
            struct.pack_into(
                _ENTRY,
                index,
                at,
                e.name.encode(),
                e.version,
                e.size,
                e.crc,
                e.floor,
                e.base_id,
                e.flags,
                len(e.places),
                0,
            )
            at += _ENTRY_SIZE
            for place in e.places:
                struct.pack_into("<H", index, at, place)
                at += 2
        name, version = writing or ("", 0)
        struct.pack_into(
            _HEAD, index, 0, _MAGIC, _VERSION, len(entries), self._sequence + 1, at, 0, self._cursor & 0xFFFF, 0,
            (active or "").encode(), name.encode(), version,
        )  # fmt: skip
        struct.pack_into("<I", index, 16, _index_crc(index, at))
        return at

    def _save(self, entries, active=_SAME, writing=None):
        # The one way in which the store changes: a new index.
        active = self.active if active is _SAME else active
        try:
            self._flash.save_index(memoryview(self._index), self._pack(entries, active, writing))
        except OSError as error:
            raise _explained(error, "the index")
        self._sequence += 1
        self.active = active
        self._adopt(entries)

    def _unpack(self, size):
        index = self._index
        _, _, count, self._sequence, _, _, self._cursor, _, active, name, version = struct.unpack_from(_HEAD, index)
        self.active = _text(active) or None
        entries = []
        at = _HEAD_SIZE
        for _ in range(count):
            fields = list(struct.unpack_from(_ENTRY, index, at))
            at += _ENTRY_SIZE
            fields[0] = _text(fields[0])
            fields[7:] = [struct.unpack_from("<%dH" % fields[7], index, at)]
            at += 2 * len(fields[7])
            entries.append(Entry(*fields))
        self._adopt(entries)
        if version:
            self.notices.append(
                "%s version %d was being written when the power failed: it is lost, put it again"
                % (_text(name), version)
            )

    # --- cache

    def _lay_out(self, size):
        # Slots of one size in the cache's bytes: for an adapter of `size` and for those that are pinned.
        size = max([size] + [e.size for e in self._entries if e.flags & _PINNED]) + 7 & ~7
        cache = memoryview(self._cache)
        self._empty([_Slot(cache[at : at + size]) for at in range(0, len(cache) - size + 1, size)], size)

    def _empty(self, slots, size):
        self._use_bare()
        self._cached.clear()
        self._cached[None] = self._bare
        self._slots, self._slot_size = slots, size

    def _use_bare(self):
        edgelora.core_use(self._model.arena, None)
        self._bare.tick = self._now.tick = self._now.tick + 1

    def _fetch(self, name):
        # What `use` takes from flash. If that fails, what was in use is so again, unless it had to give up its room.
        before = self._in_use()
        try:
            return self._read_into_slot(name)
        except (OSError, StoreError):
            if before.name not in (None, name) and before is not self._in_use():
                self.use(before.name)
            raise

    def _read_into_slot(self, name):
        entry = self._entry(name)
        size = entry.size
        model = self._model
        if entry.base_id != model.base_id:
            raise StoreError("%s is no adapter of this model's base %s" % (name, edgelora.hex_id(model.base_id)))
        if size > self._slot_size:
            self._lay_out(size)
        slot = self._victim(entry)
        if slot is self._in_use():
            self._use_bare()
        if slot.name is not None:
            self._cached.pop(slot.name)
            slot.name = None
        if len(slot.buffer) != size:
            slot.buffer = slot.room[:size]
        self._flash.read(entry.places, slot.buffer)
        try:
            edgelora.core_adapter_check(model.arena, slot.buffer)
        except ValueError as error:
            raise StoreError("%s: %s" % (name, error))
        slot.name = name
        self._cached[name] = slot
        return slot

    def _victim(self, wanted):
        # The slot for an adapter: the least recently used that is not pinned.
        best = None
        for slot in self._slots:
            entry = self._by_name.get(slot.name)
            if entry and entry.flags & _PINNED:
                continue
            if best is None or slot.tick < best.tick:
                best = slot
        if best is None:
            raise StoreError(
                "no room in the cache of %d bytes for %s, which takes %d: pinned adapters fill it; unpin one, or give it more"
                % (len(self._cache), wanted.name, wanted.size)
                if self._slots
                else "a cache of %d bytes can't hold an adapter of %d: give it more"
                % (len(self._cache), self._slot_size)
            )
        return best

    def _forget(self, name):
        # What is cached under a name is no longer what the name means; one in use goes on until the next `use`.
        slot = self._cached.pop(name, None)
        if slot:
            if slot is not self._in_use():
                slot.tick = 0
            slot.name = None


class _Now:
    # What `use` changes, apart from the store, whose attributes take three times as long to set. tick: of switches.
    def __init__(self, fetch):
        self.fetch, self.tick = fetch, 0


def _switch(now, arena, cached, core_use):
    # `Store.use`. It looks up as little as it can, and has few enough variables to be called without the heap.
    def use(name):
        slot = cached(name)
        if slot is None:
            slot = now.fetch(name)
        core_use(arena, slot.buffer)
        slot.tick = now.tick = now.tick + 1

    return use


class _Slot:
    # Room for an adapter in RAM; `buffer` is what core_use takes.
    def __init__(self, room):
        self.room = self.buffer = room
        self.name = None
        self.tick = 0


# A name may become part of a path or be printed: no separators, no escapes, and no file that is hidden or a parent.
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def _checked(name):
    if not isinstance(name, str) or _text(name.encode()) != name or not 0 < len(name) <= 24:
        raise StoreError("name %r: give 1 to 24 of A-Z a-z 0-9 - _ and, but not first, ." % name)
    return name


def _text(field):
    # A name in flash, "_" in place of what a name can't have.
    text = "".join([chr(c) if c in _LETTERS else "_" for c in field.rstrip(b"\0")])
    return "_" + text[1:] if text[:1] == "." else text


def _explained(error, what):
    if isinstance(error, StoreError) or error.errno != _NO_SPACE:
        return error
    return StoreError("no room in flash for %s: remove an adapter; nothing has changed" % what)


def _index_crc(index, size):
    # CRC-32 of an index without the CRC's own field.
    view = memoryview(index)
    return edgelora.core_crc32(view[20:size], edgelora.core_crc32(view[:16], 0))


def _whole_index(read, page, room, limit):
    # (sequence, size) of what read(at, page) reads, if it is a whole index of at most `limit` bytes, else _ABSENT.
    read(0, page)
    magic, version, _, sequence, size, crc = struct.unpack_from("<4sHHIII", page)
    if magic != _MAGIC or version != _VERSION or not _HEAD_SIZE <= size <= limit:
        return _ABSENT
    view = memoryview(page)
    found = _index_crc(page, min(size, _PAGE))
    for at in range(_PAGE, size, _PAGE):
        read(at, page)
        found = edgelora.core_crc32(view[: size - at], found)
    if found != crc:
        return _ABSENT
    if size > room:
        raise StoreError("the store's index takes %d bytes: open it with more adapters=" % size)
    return sequence, size


# Both kinds of flash have: blocks, the most places there are; index_limit, bytes of the largest index; load_index(index) ->
# (its size or 0, whether a newer one is not whole); save_index(index, size); pick(used, size, cursor) -> places for so many
# bytes; write, read of what is in places; free(used) -> bytes; sweep(used), which drops what is in no used place.


class _Partition:
    # A block device of its own. The first blocks take turns in holding the index, whose versions follow one another page by page;
    # the others are places, which are written one after the other, all round.

    def __init__(self, device):
        self._device = device
        self._block = device.ioctl(5, 0)
        self.blocks = device.ioctl(4, 0)
        self._ring = max(2, min(_RING, self.blocks // 8))
        if self._block < 1024 or self.blocks < self._ring + 1:
            raise StoreError("a store takes at least 3 blocks of 1024 bytes or more")
        self.index_limit = self._block
        self._page = bytearray(_PAGE)
        self._at, self._next = self._ring - 1, self._block  # where the next index goes: a block of the ring, a byte in it
        self._newest = -1  # the block that holds the last

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
                at += self._pages(length) if sequence else _PAGE
        if not best:
            if written > 1:
                self._refuse(written)
            return 0, False
        self._newest = self._at
        self._next = end = start + self._pages(size)
        for at in range(end, self._block, _PAGE):
            if not self._blank(self._at, at):
                self._next = at + _PAGE
        torn = self._next != end
        following = (self._at + 1) % self._ring
        if not self._blank(following, 0) and not self._whole(following, 0, len(index))[0]:
            torn = True
            self._next = self._block  # so that it is erased
        self._make_room(self._pages(size))
        self._read(self._newest, start, memoryview(index)[: self._pages(size)])
        return size, torn

    def _refuse(self, written):
        # Something is there, but no index: another's data, or a ruin. What one cut-off first index leaves is a single page.
        raise StoreError(
            "no store in this partition, but %d pages of other data: from edgelora.store import erase, default_place; "
            "erase(default_place()) makes it empty"
            % written
        )

    def _whole(self, block, at, room):
        # (sequence, size) of a whole index here, else _ABSENT.
        return _whole_index(lambda skip, page: self._read(block, at + skip, page), self._page, room, self._block - at)

    def save_index(self, index, size):
        end = self._pages(size)
        if self._next < self._block and not self._blank(self._at, self._next):
            raise StoreError(_OUTDATED)
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
        # Ahead of the next index, so that a cut while it is written leaves a trace.
        if self._next + size + _PAGE > self._block:
            self._turn()

    def _turn(self):
        # The index's next block of the ring, erased.
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
            whole = len(part) // _PAGE * _PAGE
            self._device.ioctl(6, place)
            if whole:
                self._device.writeblocks(place, part[:whole], 0)
            if whole < len(part):
                page = self._page
                for at in range(_PAGE):
                    page[at] = part[whole + at] if whole + at < len(part) else 0xFF
                self._device.writeblocks(place, page, whole)
            if not self._holds(place, 0, part):
                raise StoreError("block %d of the flash does not keep what is written: it is worn out" % place)

    def read(self, places, data):
        block = self._block
        if len(data) <= block:
            self._device.readblocks(places[0], data, 0)
            return
        data = memoryview(data)
        for i, place in enumerate(places):
            self._device.readblocks(place, data[i * block : (i + 1) * block], 0)

    def free(self, used):
        return (self.blocks - self._ring - len(used)) * self._block

    def sweep(self, used):
        pass  # a block that is not used is free

    def _pages(self, size):
        return (size + _PAGE - 1) // _PAGE * _PAGE

    def _read(self, block, at, buffer):
        self._device.readblocks(block, buffer, at)

    def _blank(self, block, at):
        self._read(block, at, self._page)
        return self._page.count(b"\xff") == _PAGE

    def _holds(self, block, at, data):
        page = self._page
        for start in range(0, len(data), _PAGE):
            part = data[start : start + _PAGE]
            self._read(block, at + start, page)
            if memoryview(page)[: len(part)] != part:
                return False
        return True


def default_place():
    """Where this board's store is: the partition that the firmware keeps for it, else a folder."""
    try:
        import edgelora_flash
    except ImportError:
        return "/adapters"
    return edgelora_flash.store()


def erase(device):
    """Makes a partition empty, whatever is in it: the next Store on it begins anew."""
    for block in range(device.ioctl(4, 0)):
        device.ioctl(6, block)


class _Folder:
    # A folder of files named by numbers, one for an entry, and the index in two files in turn.

    blocks = 1 << 8
    index_limit = 1 << 14

    def __init__(self, path):
        self._path = path.rstrip("/")
        try:
            os.mkdir(self._path)
        except OSError as error:
            if error.errno != _EXISTS:
                raise
        self._turn = 0  # of the two index files, the older

    def _name(self, what):
        return "%s/%s" % (self._path, what)

    def load_index(self, index):
        found = [self._whole(turn, len(index)) for turn in range(2)]
        torn = _ABSENT in found
        sizes = [whole or _ABSENT for whole in found]
        newest = 0 if sizes[0] >= sizes[1] else 1
        self._turn = 1 - newest
        size = sizes[newest][1]
        if size:
            with open(self._name("index.%d" % newest), "rb") as file:
                file.readinto(index)
        elif torn and self._numbers():
            raise StoreError("the index in %s is damaged: remove the folder to begin anew" % self._path)
        return size, torn

    def _whole(self, turn, room):
        # (sequence, size) of the index in this file, _ABSENT if it is not whole; None without a file.
        try:
            with open(self._name("index.%d" % turn), "rb") as file:

                def read(at, page):
                    file.seek(at)
                    file.readinto(page)

                return _whole_index(read, bytearray(_PAGE), room, self.index_limit)
        except OSError:
            return None

    def save_index(self, index, size):
        if (self._whole(self._turn, len(index)) or _ABSENT)[0] >= struct.unpack_from("<I", index, 8)[0]:
            raise StoreError(_OUTDATED)
        reserve = self._name("reserve")
        try:
            self._store("index.%d" % self._turn, index[:size])
        except OSError as error:
            if error.errno != _NO_SPACE or not _removed(reserve):
                raise
            self._store("index.%d" % self._turn, index[:size])
        self._turn = 1 - self._turn
        try:
            os.stat(reserve)
        except OSError:
            try:
                self._store("reserve", bytes(2 * len(index)))  # lets the index be written on a full filesystem
            except OSError:
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
                raise StoreError("file %04x of the store is too short: it was changed by another hand" % places[0])

    def free(self, used):
        info = os.statvfs(self._path)
        return info[0] * info[3] if 0 <= info[3] <= info[2] else 0  # a full littlefs: below 0, as an unsigned number

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
    except OSError:
        return False
