"""Cuts the power at every flash operation of a store's life, and again while it opens. Runs on MicroPython.

`main(kind, puts, again)`: kind "partition" (raw flash) or "folder" (littlefs on the same flash). Prints a line for each
failure, and finally `CUTS <cuts> <failures>`.
"""

import os

import vfs

import edgelora.store
from edgelora.store import Store

BLOCK = 4096
PAGE = 256
BLOCKS = 24
BASE = b"12345678"


class PowerCut(Exception):
    pass


DEAD = OSError(5)  # raised while unwinding after a cut and for collected files; made before the heap may be locked


class Flash:
    """NOR flash whose power fails at change `cut`: before it takes effect (how 0), half way (1), after it (2).

    A cut at a read leaves the result of the previous change.
    """

    def __init__(self, memory, cut=-1, how=0):
        self.memory = memory
        self.cut, self.how = cut, how
        self.operations = 0

    def _step(self, apply):
        self.operations += 1
        if self.operations > self.cut:
            self.cut = -1
            if self.how:
                apply(self.how / 2)
            raise PowerCut
        apply(1)

    def readblocks(self, block, buffer, offset=0):
        if self.cut < 0:
            raise DEAD
        at = block * BLOCK + offset
        memoryview(buffer)[:] = memoryview(self.memory)[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        if self.cut < 0:
            raise DEAD
        at = block * BLOCK + offset
        assert offset % PAGE == 0 and len(buffer) % PAGE == 0 and offset + len(buffer) <= BLOCK

        def apply(part):
            assert self.memory[at : at + len(buffer)].count(b"\xff") == len(buffer), "programmed without an erase"
            size = int(len(buffer) * part)
            self.memory[at : at + size] = buffer[:size]
            for i in range(size, min(size + 8, len(buffer))):
                self.memory[at + i] = 0xA5 | buffer[i]  # bits on their way to 0

        self._step(apply)

    def ioctl(self, op, arg):
        if op == 4:
            return len(self.memory) // BLOCK
        if op == 5:
            return BLOCK
        if op == 6:
            if self.cut < 0:
                raise DEAD
            at = arg * BLOCK

            def apply(part):
                size = int(BLOCK * part)
                self.memory[at : at + size] = b"\xff" * size
                if size < BLOCK:
                    self.memory[at + size] |= 0x5A  # bits on their way to 1

            self._step(apply)
        return 0


NEVER = 1 << 30  # no cut


def adapter(version, size):
    """Bytes like those of a .ela, distinguishable by version and size."""
    text = b"%d," % version
    return b"ELA1" + bytes(12) + BASE + (text * (size // len(text) + 1))[: size - 24]


def partition(flash):
    return Store(flash, cache=5008, adapters=8)


def mount(flash):
    if any(path == "/s" for _, path in vfs.mount()):
        vfs.umount("/s")
    vfs.mount(vfs.VfsLfs2(flash, progsize=PAGE), "/s")


def folder(flash):
    mount(flash)
    return Store("/s/adapters", cache=5008, adapters=8)


class Model:
    """The parts of a model that a store needs to read adapters into the cache. arena: the bytes in use."""

    base_id = BASE

    def __init__(self):
        self.arena = []


def life(puts):
    """Steps, each with the state after it: {name: (version, size)}, the active name."""
    a, b = 1000, 5000

    def put(name, version, size):
        return lambda s: s.put(name, adapter(version, size), version)

    def install(name, version, size):
        return lambda s: s.install(name, version, adapter(version, size))

    yield put("a", 1, a), {"a": (1, a)}, None
    yield put("b", 1, b), {"a": (1, a), "b": (1, b)}, None
    yield lambda s: s.activate("a"), {"a": (1, a), "b": (1, b)}, "a"
    yield put("a", 2, b), {"a": (2, b), "b": (1, b)}, "a"
    yield lambda s: s.pin("b"), {"a": (2, b), "b": (1, b)}, "a"
    yield lambda s: s.rename("a", "c"), {"c": (2, b), "b": (1, b)}, "c"
    yield put("a", 7, a), {"a": (7, a), "c": (2, b), "b": (1, b)}, "c"
    yield use_in_turn, {"a": (7, a), "c": (2, b), "b": (1, b)}, "c"  # reads into a cache for only one, so it evicts
    yield lambda s: s.remove("b"), {"a": (7, a), "c": (2, b)}, "c"
    yield install("c", 9, a), {"a": (7, a), "c": (2, b)}, "c"
    yield lambda s: s.start(), {"a": (7, a), "c": (9, a)}, "c"
    yield lambda s: s.confirm(), {"a": (7, a), "c": (9, a)}, "c"
    yield install("a", 8, b), {"a": (7, a), "c": (9, a)}, "c"
    yield lambda s: s.start(), {"a": (8, b), "c": (9, a)}, "c"
    yield lambda s: s.start(), {"a": (7, a), "c": (9, a)}, "c"  # not confirmed, so it falls back
    yield put("d", 3, b), {"a": (7, a), "c": (9, a), "d": (3, b)}, "c"
    yield put("e", 10, b), {"a": (7, a), "c": (9, a), "d": (3, b), "e": (10, b)}, "c"
    yield lambda s: s.replace("c", "e", "d"), {"a": (7, a), "c": (10, b)}, "c"
    yield put("c", 9, a), {"a": (7, a), "c": (9, a)}, "c"
    yield lambda s: s.activate(None), {"a": (7, a), "c": (9, a)}, None
    for version in range(10, 10 + puts):  # with 20 the index goes around its whole ring
        yield put("c", version, a), {"a": (7, a), "c": (version, a)}, None


def use_in_turn(store):
    model = Model()
    store.open(model)
    for name in ("a", "c", "a", "c", "a"):
        store.use(name)
        assert bytes(model.arena[-1]) == adapter(*store_state(store)[0][name])


def store_state(store):
    return {e.name: (e.version, e.size) for e in store.list() if store.find(e.name) is e}, store.active


def check(store, allowed):
    """What is wrong, or None: every committed adapter is complete, and the state is an allowed one."""
    state = store_state(store)
    if state not in allowed:
        return f"{state} is none of {allowed}"
    for name, (version, size) in state[0].items():
        if bytes(store.read(name)) != adapter(version, size):
            return name + " is not whole"


def opened(open_store, image, cut=NEVER, how=0):
    """The store after a restart with this flash, or None if the power failed; and the flash."""
    flash = Flash(image, cut, how)
    try:
        return open_store(flash), flash
    except (PowerCut, OSError):
        if flash.cut != -1:
            raise
        return None, flash


def contents(open_store, image):
    """The visible content of flash: a filesystem hides unfinished files."""
    if open_store is partition:
        return image
    mount(Flash(image, NEVER))
    found = []
    for name, *_ in os.ilistdir("/s/adapters"):
        with open("/s/adapters/" + name, "rb") as file:
            found.append((name, file.read()))
    return found


def cut_open(open_store, image, allowed, how):
    """Cuts the power at every operation of opening: the number of operations, and failures after the next start."""
    found = []
    cut = 0
    while True:
        copy = bytearray(image)
        store, _ = opened(open_store, copy, cut, how)
        if store:
            return cut, found
        store, _ = opened(open_store, copy)
        error = check(store, allowed)
        if error:
            found.append(f"open, operation {cut}: {error}")
        cut += 1


def cut_step(open_store, image, step, before, after, cut, how, again):
    """Cuts the power at an operation of a step: the failures, and whether the step had that many operations."""
    image = bytearray(image)
    there = contents(open_store, bytearray(image))
    store, flash = opened(open_store, image)
    flash.operations, flash.cut, flash.how = 0, cut, how
    try:
        step(store)
    except (PowerCut, OSError, ValueError):
        if flash.cut != -1:
            raise
    if flash.cut != -1:
        return [], False
    found = []
    changed = contents(open_store, bytearray(image)) != there
    if how == 1 and cut % again == 0:
        found += cut_open(open_store, image, (before, after), 1)[1]
    store, _ = opened(open_store, image)
    error = check(store, (before, after))
    if error:
        found.append(error)
    if changed and store_state(store) == before != after and not store.notices:
        found.append("a change was lost, and nothing says so")
    store, _ = opened(open_store, image)
    if store.notices:
        found.append(f"told twice: {store.notices}")
    if store_state(store) == before != after:
        step(store)  # repeating it must work
        error = check(store, (after,))
        if error:
            found.append("done again: " + error)
    return found, True


class WithoutLayers:
    """The C functions, except that they accept any bytes as an adapter."""

    def __getattr__(self, name):
        return getattr(edgelora._core, name)

    def adapter_fault(self, arena, data):
        pass

    def switch(self, state, name):
        slot = state[2].get(name) or state[3](name)
        state[1].append(slot[0])
        state[0] = slot[1] = state[0] + 1

    def vacate(self, state, slots, pinned):
        return edgelora._core.vacate([-1] + state[1:], slots, pinned)  # as if no slot were in use


def main(kind, puts, again):
    """puts: number of puts of one more adapter at the end; again: at every `again`-th cut, cut again while opening."""
    edgelora.store._core = WithoutLayers()
    open_store = {"partition": partition, "folder": folder}[kind]
    image = bytearray(b"\xff" * (BLOCK * BLOCKS))
    if kind == "folder":
        vfs.VfsLfs2.mkfs(Flash(image, NEVER), progsize=PAGE)
    before = {}, None
    cuts = failures = 0
    for how in (0, 1, 2):
        count, found = cut_open(open_store, image, [before], how)
        cuts += count
        for text in found:
            failures += 1
            print("FAIL", text)
    opened(open_store, image)  # creates the store
    for number, (step, held, active) in enumerate(life(puts)):
        after = held, active
        for how in (0, 1, 2):
            cut = 0
            while True:
                found, went_on = cut_step(open_store, image, step, before, after, cut, how, again)
                for text in found:
                    failures += 1
                    print(f"FAIL step {number}, operation {cut}, {how}: {text}")
                if not went_on:
                    break
                cut += 1
                cuts += 1
        store, _ = opened(open_store, image)
        step(store)
        error = check(store, [after])
        if error:
            failures += 1
            print(f"FAIL step {number}: {error}")
        before = after
    print("CUTS", cuts, failures)
