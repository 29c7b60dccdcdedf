"""Named adapters in flash, with a cache in RAM (SPEC.md, section 12). SPDX-License-Identifier: MIT

    store = Store("/adapters", cache=8192)  # a folder, or a dedicated block device: rp2.Flash(...), esp32.Partition
    store.open(model)
    store.start()  # uses the adapter that was active before the reset
    store.use("wake-b")  # later inferences use wake-b; store.use(None): the base alone

Changes are atomic: data goes to free places, then a new index is written, which is valid once complete. After a power
failure at any moment the store opens in the state before or after the change; `notices` lists lost changes.
"""

import gc

from micropython import const

from . import Adapter, _core, _index, hex_id
from ._index import ARMED, NO_SPACE, OUTDATED, PINNED, TRIAL, Entry, StoreError, checked

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    import builtins

    from . import Model
    from ._types import BlockDevice, Buffer

# Items of `Store._now`.
_SWITCHES = const(0)
_ARENA = const(1)
# Items of a slot: see `_slot`.
_BUFFER = const(0)
_LAST = const(1)
_NAME = const(2)
_ROOM = const(3)
_ADAPTER = const(4)
_SAME = 0  # keep the active adapter
_BROKEN_OFF = (OSError, StoreError, MemoryError, KeyboardInterrupt)  # exceptions that can interrupt a change


class Store:
    """Adapters by name in `place`: a folder or a dedicated block device.

    cache: bytes of RAM for adapters in use. adapters: maximum number of entries.
    """

    place: str
    notices: list[str]  # changes undone by a power failure, updates rejected; the next open does not repeat them

    def __init__(self, place: str | BlockDevice, cache: int = 8192, adapters: int = 32) -> None:
        self.notices = []
        self._limit = adapters
        self.place = place if isinstance(place, str) else "a partition of its own"
        self._flash = _flash(place)
        gc.collect()  # as Model does
        room = min(_index.room(adapters, self._flash.blocks), self._flash.index_limit)
        self._index = bytearray(room // _index.PAGE * _index.PAGE)
        self._model = None
        self._cache_size, self._cache = cache, None  # allocated by `open`
        self._bare = _slot(None)
        self._slots, self._cached = [], {None: self._bare}
        self._now = [0, None, self._cached, self._fetch]  # what `_core.switch` takes: switches, the model's arena
        self._slot_size = 0
        self._sequence = self._cursor = 0
        self._hold(None, [], {})
        self._unsure = False  # whether the index in flash may differ from the one in RAM
        size, torn = self._flash.load_index(self._index)
        if size:
            writing = self._unpack()
            if writing:
                self.notices.append(
                    "%s version %d was being written when the power failed: it is lost, put it again" % writing
                )
            if torn and not self.notices:
                self.notices.append("a change was cut off by a power failure: the store is as it was before it")
        else:
            self._save([])
        if self.notices:  # save, so that the next open does not repeat them
            self._save(self._entries)
            self._flash.sweep(self._used())

    # --- contents

    @property
    def active(self) -> str | None:
        """The adapter that `start` uses; None: the base alone."""
        self._settle()
        return self._active

    @property
    def _entries(self):
        self._settle()
        return self._all

    @property
    def _by_name(self):
        self._settle()
        return self._named

    def list(self) -> builtins.list[Entry]:
        """All entries, including updates on trial."""
        return [entry for entry in self._entries if entry.size]

    def find(self, name: str) -> Entry | None:
        """The entry that `use` would load, or None."""
        return self._by_name.get(name)

    def read(self, name: str) -> bytearray:
        """Returns the data of an entry after checking its CRC-32."""
        entry = self._entry(name)
        data = bytearray(entry.size)
        self._flash.read(entry.places, data)
        if _core.crc32(data, 0) != entry.crc:
            raise StoreError("%s is damaged in flash: remove it, or put it again" % name)
        return data

    def floor(self, name: str) -> int:
        """The highest version that this name has had; an update must have a higher one."""
        return max([max(entry.version, entry.floor) for entry in self._entries if entry.name == name] or [0])

    def free(self) -> int:
        """Free bytes."""
        return self._flash.free(self._used())

    # --- changes

    def put(self, name: str, data: Buffer, version: int | None = None) -> int:
        """Commits data under a name (1 to 24 bytes), replacing the old data; returns its version.

        The version is the previous one + 1 unless given.
        """
        self._not_on_trial(name)
        old = self._by_name.get(name)
        if version is None:
            version = old.version + 1 if old else 1
        floor, flags = (old.floor, old.flags) if old else (0, 0)
        self._add(old, name, data, version, floor, flags)
        return version

    def install(self, name: str, version: int, data: Buffer) -> None:
        """Installs an update beside the current version; its trial begins at the next `start`."""
        if version <= self.floor(name):
            raise StoreError("version %d of %s is not above %d" % (version, name, self.floor(name)))
        old = [entry for entry in self._entries if entry.name == name and entry.trial]
        self._add(old[0] if old else None, name, data, version, version, ARMED)

    def confirm(self) -> builtins.list[str]:
        """Confirms the updates on trial: each replaces the previous version. Returns their names."""
        good = [entry.name for entry in self._entries if entry.flags & TRIAL]
        if good:
            pinned = [e.name for e in self._entries if e.pinned]
            kept = [e for e in self._entries if e.name not in good]
            for entry in self._entries:
                if entry.flags & TRIAL:
                    kept.append(entry.changed(flags=PINNED if entry.name in pinned else 0))
            self._save(kept)
            self._flash.sweep(self._used())
        return good

    def decline(self, name: str, version: int, why: str) -> None:
        """Rejects an update: `install` refuses this name up to this version from now on. why: text for `notices`."""
        old = [entry for entry in self._entries if entry.name == name]
        new = [entry.changed(floor=max(entry.floor, version)) for entry in old]
        new = new or [Entry(checked(name), 0, 0, 0, version, bytes(8), 0, ())]
        self._save([entry for entry in self._entries if entry not in old] + new)
        self.notices.append(why)

    def declined(self) -> builtins.list[tuple[str, int]]:
        """(name, version) of updates that were declined or not confirmed in time."""
        return [
            (e.name, e.floor) for e in self._by_name.values() if e.floor > e.version and self.floor(e.name) == e.floor
        ]

    def rename(self, old: str, new: str) -> None:
        """Renames an adapter; an active adapter stays active."""
        entry = self._entry(old)
        self._not_on_trial(old, new)
        if new in self._by_name:
            raise StoreError("%s is taken: remove it first, or choose another name" % new)
        entries = self._without(entry) + [entry.changed(name=checked(new), floor=max(entry.floor, self.floor(new)))]
        entries = [e for e in entries if e.size or e.name != new]
        self._save(entries, new if self.active == old else self.active, renamed=new)

    def remove(self, *names: str) -> None:
        """Removes adapters and their updates on trial in one change. The adapter in use stays in RAM until the next
        `use`."""
        for name in names:
            if not any(e.name == name and e.size for e in self._entries):
                self._entry(name)
        self._drop(names, self._entries, self.active)

    def replace(self, name: str, source: str, *removed: str) -> None:
        """Moves the data of the entry `source` to `name` and removes the entries `removed`, in one change.

        The version is the last one of `name` + 1. `name` is active afterwards if it or `source` was.
        """
        new, old = self._entry(source), self._by_name.get(checked(name))
        self._not_on_trial(name, source)
        last = self.floor(name)
        floor, flags = (old.floor, old.flags) if old else (last, 0)
        entries = [e for e in self._entries if e is not new and e.name != name]
        entries.append(new.changed(name=name, version=last + 1, floor=floor, flags=flags))
        self._drop(removed, entries, name if self.active == source else self.active)

    def _drop(self, names, entries, active):
        # Saves `entries` without the named ones, whose floors it keeps.
        for entry in [e for e in entries if e.name in names and e.size]:
            entries = self._without(entry, entries)
        self._save(entries, None if active in names else active)
        self._flash.sweep(self._used())

    def pin(self, name: str, on: bool = True) -> None:
        """Pins or unpins an adapter. A pinned adapter stays in RAM once loaded."""
        entry = self._entry(name)
        flags = entry.flags | PINNED if on else entry.flags & ~PINNED
        if flags != entry.flags:
            self._save([e.changed(flags=flags) if e is entry else e for e in self._entries])

    # --- switching

    def open(self, model: Model) -> None:
        """Binds the store to a model, whose adapters `use` switches, and empties the cache."""
        self._model = model
        if self._cache is None:
            gc.collect()
            self._cache = bytearray(self._cache_size)
        model.store = self  # keeps the cache alive
        self._sort_out()
        self._now[_ARENA] = model.arena
        self._empty([], 0)
        self.use = _core.bind(_core.switch, self._now)  # one call, which allocates nothing for a cached adapter

    def use(self, name: str | None) -> None:
        """Selects the adapter (None: the base alone) for the next inferences. Writes nothing to flash."""
        raise StoreError("no model is open: call open first")  # `open` replaces this method with a faster one

    @property
    def in_use(self) -> str | None:
        """The argument of the last `use`; also None if that adapter has left the cache since."""
        return self._in_use()[_NAME]

    @property
    def used(self) -> Adapter | None:
        """The adapter in use, as an argument for Model.use; None: the base alone."""
        return self._in_use()[_ADAPTER]

    @property
    def switches(self) -> int:
        """The number of switches so far."""
        return self._now[_SWITCHES]

    def _in_use(self):
        # The slot that was used last.
        for slot in self._slots:
            if slot[_LAST] and slot[_LAST] == self._now[_SWITCHES]:
                return slot
        return self._bare

    def activate(self, name: str | None) -> None:
        """Calls `use`, and makes the adapter active: `start` uses it after a reset."""
        before = self._in_use()[_NAME] if self._model else None
        try:
            if self._model:
                self.use(name)
            elif name is not None:
                self._entry(name)
            if name != self.active:
                self._save(self._entries, name)
        except _BROKEN_OFF:
            if self._model and not self._remembers(name):
                self.use(before)
            raise

    def _remembers(self, name):
        # Whether this adapter is the active one; False if the index can't be read.
        try:
            return name == self.active
        except _BROKEN_OFF:
            return False

    def start(self) -> None:
        """Call this once after a reset: it uses the active adapter, or that adapter's update on trial.

        An update gets one start. Unless the application calls `confirm` before the next, the old version is restored.
        """
        entries = self._entries
        for entry in entries:
            if entry.flags & TRIAL:
                entries = self._fallen_back(entry, entries)
            elif entry.flags & ARMED:
                entries = [e.changed(flags=TRIAL) if e is entry else e for e in entries]
        if entries is not self._entries:
            self._save(entries)
            self._flash.sweep(self._used())
        if self._model and self._by_name.get(self.active):
            try:
                self.use(self.active)
            except ValueError:
                if not self.find(self.active).trial:
                    raise
                self.start()  # the update can't be loaded: restore the old version

    # --- entries

    def _entry(self, name):
        if self._unsure:
            self._settle()
        entry = self._named.get(name)
        if entry is None:
            raise StoreError("no adapter named %s here" % name)
        return entry

    def _not_on_trial(self, *names):
        for entry in self._entries:
            if entry.name in names and entry.trial:
                raise StoreError("an update of %s is on trial: confirm it, or restart to fall back" % entry.name)

    def _without(self, entry, entries=None):
        # The entries without this one; its floor is kept if updates have raised it.
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
        return entries

    def _add(self, old, name, data, version, floor, flags):
        checked(name)
        data = memoryview(data)
        base_id = self._bound(name, data)
        if not 0 < version < 1 << 32:
            raise StoreError("version %d: give one from 1 to 2^32 - 1" % version)
        entries = [e for e in self._entries if e is not old]
        if len(entries) >= self._limit:
            raise StoreError("the store holds %d entries, its limit: remove one" % self._limit)
        places = self._flash.pick(self._used(), len(data), self._cursor)
        entry = Entry(name, version, len(data), _core.crc32(data, 0), floor, base_id, flags, places)
        entries.append(entry)
        self._pack(entries)  # raises StoreError if the index is full, before flash is written
        self._save(self._entries, writing=(name, version))
        try:
            self._flash.write(places, data)
            self._cursor = places[-1] + 1
            self._save(entries)
        except (OSError, StoreError) as error:
            error = _explained(error, name)
            if isinstance(error, StoreError):  # after an OSError, flash is not written: see `edgelora._only_absent`
                self._flash.sweep(self._used())
                self._save(self._entries)
            raise error
        self._flash.sweep(self._used())

    def _bound(self, name, data):
        # The base id in an adapter's data, checked against the open model; 8 zero bytes for other data.
        if not len(data):
            raise StoreError("%s: there is nothing to put" % name)
        if bytes(data[:4]) != b"ELA1" or len(data) < 48:
            return bytes(8)
        if self._model and bytes(data[16:24]) != self._model.base_id:
            raise StoreError(
                "%s was made for base %s, the open model is %s"
                % (name, hex_id(data[16:24]), hex_id(self._model.base_id))
            )
        return bytes(data[16:24])

    def _used(self):
        return {place for entry in self._entries for place in entry.places}

    # --- index

    def _pack(self, entries, active=None, writing=None):
        return _index.pack(self._index, entries, self._sequence + 1, self._cursor, active, writing)

    def _save(self, entries, active=_SAME, writing=None, renamed=None):
        # Every change of the store writes a new index here. Memory is allocated before flash is written; after a write
        # that was interrupted, `_settle` reads the result from flash. renamed: the new name of a renamed adapter.
        active = self.active if active is _SAME else active
        named = _by_name(entries)
        changed = _changed(self._named, named)
        size = self._pack(entries, active, writing)
        self._unsure = True
        try:
            self._flash.save_index(memoryview(self._index), size)
        except OSError as error:
            raise _explained(error, "the index")
        except StoreError as error:
            self._unsure = str(error) != OUTDATED  # OUTDATED: nothing was written, and the store must be opened again
            raise
        for name in changed:
            self._forget(name, renamed)
        self._sequence += 1
        self._hold(active, entries, named)
        self._unsure = False

    def _settle(self):
        # After an interrupted change, reads from flash whether it was made.
        if self._unsure:
            size, _ = self._flash.load_index(self._index)
            if not size:  # the index in RAM may be the one that was not written
                raise StoreError("the index can't be read: try again, or reset the board")
            self._unpack()
            self._unsure = False

    def _unpack(self):
        entries, sequence, cursor, active, writing = _index.unpack(self._index)
        named = _by_name(entries)
        for name in _changed(self._named, named):
            self._forget(name)
        self._sequence, self._cursor = sequence, cursor
        self._hold(active, entries, named)
        return writing

    def _hold(self, active, entries, named):
        self._active, self._all, self._named = active, entries, named
        self._pinned = [entry.name for entry in named.values() if entry.flags & PINNED]
        self._sort_out()

    def _sort_out(self):
        # `_fitting`: the entries that the open model can use.
        base_id = self._model and self._model.base_id
        self._fitting = {name: entry for name, entry in self._named.items() if entry.base_id == base_id}

    # --- cache

    def _lay_out(self, size):
        # Divides the cache into slots of one size, which fits an adapter of `size` and all pinned ones.
        size = max([size] + [e.size for e in self._entries if e.flags & PINNED]) + 7 & ~7
        cache = memoryview(self._cache)
        self._empty([_slot(cache[at : at + size]) for at in range(0, len(cache) - size + 1, size)], size)

    def _empty(self, slots, size):
        _core.switch(self._now, None)
        self._cached.clear()
        self._cached[None] = self._bare
        self._slots, self._slot_size = slots, size

    # `_fetch` and what it calls have so few variables that their calls allocate nothing: a search for free memory takes
    # an RP2040 tens of microseconds.

    def _fetch(self, name):
        # Loads an adapter from flash for `use`. On failure the previous adapter is used again, unless it was evicted.
        entry = self._fitting.get(name)
        if entry is None or self._unsure:
            entry = self._fit(name)
        return self._load(entry) if entry.size <= self._slot_size else self._load_larger(entry)

    def _fit(self, name):
        entry = self._entry(name)
        if entry.base_id != self._model.base_id:
            raise StoreError("%s is not an adapter for this model's base %s" % (name, hex_id(self._model.base_id)))
        return entry

    def _load_larger(self, entry):
        before = self._in_use()[_NAME]
        try:
            self._lay_out(entry.size)
            return self._load(entry)
        except _BROKEN_OFF:
            if before not in (None, entry.name):
                self.use(before)
            raise

    def _load(self, entry):
        slot = _core.vacate(self._now, self._slots, self._pinned)
        if slot is None:
            self._refuse_room(entry)
        if len(slot[_BUFFER]) != entry.size:
            slot[_BUFFER] = slot[_ROOM][: entry.size]
            slot[_ADAPTER] = Adapter(slot[_BUFFER])
        self._flash.read(entry.places, slot[_BUFFER])
        fault = _core.adapter_fault(self._now[_ARENA], slot[_BUFFER])
        if fault is not None:
            raise StoreError("%s: %s" % (entry.name, fault))
        slot[_NAME] = entry.name
        self._cached[entry.name] = slot
        return slot

    def _refuse_room(self, wanted):
        raise StoreError(
            "no room in the cache of %d bytes for %s, which takes %d: pinned adapters fill it; "
            "unpin one, or give it more" % (len(self._cache), wanted.name, wanted.size)
            if self._slots
            else "a cache of %d bytes can't hold an adapter of %d: give it more" % (len(self._cache), self._slot_size)
        )

    def _forget(self, name, renamed=None):
        # Drops a cached adapter that was replaced or removed, or renames it; one in use stays so until the next `use`.
        slot = self._cached.pop(name, None)
        if slot and renamed:
            self._cached[renamed] = slot
            slot[_NAME] = renamed
        elif slot:
            if slot is not self._in_use():
                slot[_LAST] = 0
            slot[_NAME] = None


def _slot(room):
    # RAM for one adapter: its bytes in use, the count of switches when it was used last, and what `_core.switch` does
    # not know: the adapter's name, all of the RAM, and the adapter, if there is one.
    return [room, 0, None, room, room and Adapter(room)]


def _by_name(entries):
    # The entries that `find` returns; an update on trial replaces the version before it.
    found = {e.name: e for e in entries if e.size and not e.flags & (ARMED | TRIAL)}
    found.update({e.name: e for e in entries if e.flags & TRIAL})
    return found


def _changed(old, new):
    # Names whose data was replaced or removed.
    return [name for name in old if name not in new or new[name].places != old[name].places]


def _explained(error, what):
    if isinstance(error, StoreError) or error.errno != NO_SPACE:
        return error
    return StoreError("no room in flash for %s: remove an adapter; nothing has changed" % what)


def _flash(place):
    # Imports only the class that is needed, to save RAM. Both classes have:
    #   blocks: maximum number of places; index_limit: maximum bytes of an index
    #   load_index(index) -> (its size or 0, whether a newer one is incomplete); save_index(index, size)
    #   pick(used, size, cursor) -> places for `size` bytes; write and read access data in places
    #   free(used) -> bytes; sweep(used), which frees all places but the used ones
    if isinstance(place, str):
        from ._folder import Folder

        return Folder(place)
    from ._partition import Partition

    return Partition(place)


def default_place() -> str | BlockDevice:
    """The place of this board's store: the partition that its firmware reserves, else a folder."""
    try:
        import edgelora_flash
    except ImportError:
        return "/adapters"
    return edgelora_flash.store()


def erase(device: BlockDevice) -> None:
    """Erases a whole partition, including other data; the next Store on it is empty."""
    for block in range(device.ioctl(4, 0)):
        device.ioctl(6, block)
