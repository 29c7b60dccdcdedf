"""Random operations on a store, with real networks and power cuts, against a simple model of it. Runs on MicroPython.

`main(folder, operations, seed)`: the folder has `soak.elm` and adapters `0.ela` to `7.ela` for it. Prints `WEAR least
most` (erases of a block), `HEAP bytes` (leaked by the second half of the operations), counts, and finally `SOAK
<operations> <cuts>`.
"""

import gc
import random

import micropython
import store_cuts
from store_cuts import BLOCK, NEVER, PowerCut

import edgelora
from edgelora.store import Store, StoreError

BLOCKS = 8  # so few that the store is sometimes full
NAMES = ["wake", "sleep", "walk", "run", "sit"]
CACHE = 2 * 4096


class Flash(store_cuts.Flash):
    """Flash that counts its erases."""

    def __init__(self):
        super().__init__(bytearray(b"\xff" * (BLOCK * BLOCKS)), NEVER)
        self.erases = [0] * BLOCKS

    def ioctl(self, op, arg):
        if op == 6:
            self.erases[arg] += 1
        return super().ioctl(op, arg)

    def power(self, cut=NEVER, how=0):
        self.operations, self.cut, self.how = 0, cut, how


class Expected:
    """A store's expected content, by name. held: [version, content, pinned]; waiting: [version, content, started]."""

    def __init__(self, other=None):
        self.held = {n: list(e) for n, e in other.held.items()} if other else {}
        self.waiting = {n: list(e) for n, e in other.waiting.items()} if other else {}
        self.active = other.active if other else None

    def state(self):
        rows = [(n, e[0], e[2], False) for n, e in self.held.items()]
        return sorted(rows + [(n, e[0], False, True) for n, e in self.waiting.items()]), self.active

    def content(self, name):
        """The adapter that `use` must select."""
        waiting = self.waiting.get(name)
        return waiting[1] if waiting and waiting[2] else self.held[name][1]

    def usable(self):
        started = [n for n, e in self.waiting.items() if e[2]]
        return sorted(set(list(self.held) + started))

    # The store's changes. None: it must refuse.

    def put(self, name, content):
        if name in self.waiting:
            return None
        version, _, pinned = self.held.get(name, (0, 0, False))
        self.held[name] = [version + 1, content, pinned]
        return self

    def install(self, name, content, version):
        self.waiting[name] = [version, content, False]
        return self

    def start(self):
        for name in list(self.waiting):
            if self.waiting[name][2]:
                self.waiting.pop(name)
            else:
                self.waiting[name][2] = True
        return self

    def confirm(self):
        for name in list(self.waiting):
            if self.waiting[name][2]:
                version, content, _ = self.waiting.pop(name)
                self.held[name] = [version, content, self.held.get(name, (0, 0, False))[2]]
        return self

    def rename(self, old, new):
        if old in self.waiting or new in self.waiting or new in self.held:
            return None
        self.held[new] = self.held.pop(old)
        if self.active == old:
            self.active = new
        return self

    def remove(self, name):
        self.held.pop(name, None)
        self.waiting.pop(name, None)
        if self.active == name:
            self.active = None
        return self

    def pin(self, name, on):
        self.held[name][2] = on
        return self

    def activate(self, name):
        self.active = name
        return self


def state_of(store):
    return sorted([(e.name, e.version, e.pinned, e.trial) for e in store.list()]), store.active


class Soak:
    def __init__(self, folder, seed):
        random.seed(seed)
        self.contents = [bytes(edgelora.read(f"{folder}/{i}.ela")) for i in range(8)]
        base = edgelora.read(folder + "/soak.elm")
        self.model, self.twin = edgelora.Model(base, 4), edgelora.Model(base, 4)
        for model in (self.model, self.twin):
            model.begin(seed)
        self.flash = Flash()
        self.expected = Expected()
        self.window = bytearray(self.model.input_size)
        self.cuts = self.refused = self.full = self.notices = 0
        self.counts = {}
        self.store = None
        self.reset()

    def reset(self):
        """Restores the power and opens the store; the application starts."""
        self.flash.power()
        self.store = store = Store(self.flash, CACHE, adapters=16)
        self.notices += len(store.notices)
        store.open(self.model)

    def content_used(self, name):
        self.twin.use(None if name is None else self.twin.adapter(self.expected.content(name)))

    def infer(self):
        """The network's outputs must be those of its twin, which gets the adapters without the store."""
        for i in range(len(self.window)):
            self.window[i] = random.getrandbits(8)
        assert self.model.infer(self.window) == self.twin.infer(self.window)
        assert bytes(self.model.output) == bytes(self.twin.output), "inference is not the adapter's in use"

    def train(self):
        label = random.getrandbits(1)
        losses = [model.train(self.window, label, 4000) for model in (self.model, self.twin)]
        assert losses[0] == losses[1], "training differs"

    def change(self, after, call):
        """A change of the store, sometimes with a power cut: it is made, refused, or without effect."""
        before = self.expected
        if random.getrandbits(3) == 0:
            self.flash.power(random.getrandbits(3), random.getrandbits(8) % 3)
        try:
            call(self.store)
            assert after is not None, "not refused"
            self.expected = after
        except StoreError as error:
            text = str(error)
            if "no room" in text and "flash" in text:
                self.full += 1
            else:
                assert after is None, text
                self.refused += 1
        except PowerCut:
            self.cuts += 1
            noticed = self.notices
            self.reset()
            state = state_of(self.store)
            if after is not None and state == after.state():
                self.expected = after
            else:
                assert state == before.state(), state
            assert self.notices <= noticed + 1
            self.started()
        self.flash.power()
        assert state_of(self.store) == self.expected.state(), (state_of(self.store), self.expected.state())

    def started(self):
        self.store.start()
        self.expected = Expected(self.expected).start()
        used = self.store.in_use
        assert used == (self.expected.active if self.expected.active in self.expected.usable() else None)
        self.content_used(used)

    def step(self):
        """One random operation."""
        expected, store = self.expected, self.store
        what = random.choice(OPERATIONS)
        self.counts[what] = self.counts.get(what, 0) + 1
        name = random.choice(NAMES)
        usable = expected.usable()
        known = random.choice(usable) if usable else None
        after = Expected(expected)
        if what == "infer":
            self.infer()
        elif what == "train":
            self.train()
        elif what == "use":
            known = random.choice([None] + usable)
            locked = known in store._cached
            if locked:
                micropython.heap_lock()  # switching to a cached adapter must not allocate
            try:
                store.use(known)
            finally:
                if locked:
                    micropython.heap_unlock()
            assert store.in_use == known
            self.content_used(known)
            self.infer()
        elif what == "put":
            content = random.choice(self.contents)
            self.change(after.put(name, content), lambda s: s.put(name, content))
        elif what == "put trained":
            content = bytes(self.model.save())
            assert content == bytes(self.twin.save())
            self.change(after.put(name, content), lambda s: s.put(name, content))
        elif what == "install":
            content, version = random.choice(self.contents), store.floor(name) + 1 + random.getrandbits(2)
            self.change(after.install(name, content, version), lambda s: s.install(name, version, content))
        elif what == "confirm":
            self.change(after.confirm(), lambda s: s.confirm())
        elif what == "reset":
            self.reset()
            assert state_of(self.store) == expected.state()
            self.started()
        elif what == "another Store":
            self.another(name)
        elif known is None:
            return
        elif what == "rename":
            if known != name:
                self.change(after.rename(known, name), lambda s: s.rename(known, name))
        elif what == "remove":
            self.change(after.remove(known), lambda s: s.remove(known))
        elif what == "pin":
            if known not in expected.waiting:
                on = not expected.held[known][2] and not any(e[2] for e in expected.held.values())
                self.change(after.pin(known, on), lambda s: s.pin(known, on))
        elif what == "activate":
            self.change(after.activate(known), lambda s: s.activate(known))
            if self.store.in_use == known:
                self.content_used(known)
                self.infer()

    def another(self, name):
        """A second Store on the same flash: the first must not overwrite its changes."""
        content = self.contents[0]
        after = Expected(self.expected).put(name, content)
        try:
            Store(self.flash, CACHE, adapters=16).put(name, content)
        except StoreError:
            return
        for _ in range(3):
            try:
                self.store.put(name, content)
                raise AssertionError("a Store that is out of date has written")
            except StoreError as error:
                assert "another Store" in str(error)
        self.expected = after
        self.reset()
        assert state_of(self.store) == after.state()
        self.started()

    def check(self):
        """Checks that every adapter is complete, the cache within its size, and no block used twice."""
        store, expected = self.store, self.expected
        for name in expected.usable():
            assert bytes(store.read(name)) == expected.content(name), name + " is not whole"
        assert len(store._slots) * store._slot_size <= CACHE
        assert {name for _, _, name, _, _ in store._slots if name} == {n for n in store._cached if n}
        places = [place for entry in store._entries for place in entry.places]
        assert len(places) == len(set(places)) and store.free() == (BLOCKS - 2 - len(places)) * BLOCK


OPERATIONS = ["infer"] * 6 + ["train"] * 6 + ["use"] * 8 + ["put"] * 4 + [
    "put trained", "install", "confirm", "reset", "rename", "remove", "pin", "activate", "activate", "another Store"
]  # fmt: skip


def main(folder, operations, seed):
    soak = Soak(folder, seed)
    free = None
    for number in range(operations):
        try:
            soak.step()
            if number % 100 == 99:
                soak.check()
        except Exception as error:
            print("FAIL operation", number, seed)
            raise error
        if number == operations // 2:
            gc.collect()
            free = gc.mem_free()
    gc.collect()
    print("HEAP", free - gc.mem_free())
    places = soak.flash.erases[2:]
    print("WEAR", min(places), max(places))
    print("COUNTS", soak.counts, "refused", soak.refused, "full", soak.full, "notices", soak.notices)
    print("SOAK", operations, soak.cuts)
