"""Has the n-th allocation, flash operation (once, or from there on) and interrupt fail in every action, for all n.

Runs on the firmware of `make firmware-faults`. Here are base.elm, one.ela, two.ela, samples.eld, update.trust and
update.elu. `main(most, *names)`: of each action and fault about so many n, spread over all; 0: all. Prints `LOST` and
`STUCK` lines for what went wrong, a line for each action, and at last `FAULTS <n tried> <lost> <stuck>`.

After a fault an action's state is that before it or that after it: for who goes on with the same objects, and for who
starts anew from flash. Then the action is made again, both ways, and must succeed.
"""

import gc

import faults
import vfs

import edgelora
from edgelora.store import Store, erase

BLOCKS = 48
FAULTS = (
    ("allocation", faults.ALLOCATION, False),
    ("allocation for ever", faults.ALLOCATION, True),
    ("flash", faults.FLASH, False),
    ("flash for ever", faults.FLASH, True),
    ("interrupt", faults.INTERRUPT, False),
)
ERRORS = (MemoryError, OSError, KeyboardInterrupt, ValueError)  # the last: what tells of one of the others
flash = faults.Flash(BLOCKS)


def power(image):
    """A board that starts with this in its flash. What the one before has left in memory can't write any more."""
    global flash
    old, flash = flash, faults.Flash(BLOCKS)
    flash.restore(image)
    old.off()
    gc.collect()


def contents(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


BASE, ONE, TWO = (contents(name) for name in ("base.elm", "one.ela", "two.ela"))
X = bytes((i * 37) & 255 for i in range(4096))


def model(mode="frozen_a"):
    return edgelora.Model(BASE, ranks=4, mode=mode, micro_batch=1)


# ---- what is done: `make` to begin with, `act`, `look` at what there is, `anew` after a reset


class Action:
    on_flash = False
    in_parts = False  # each part of its state is that before or that after
    littlefs = False  # whose own memory is not what its flash holds after an error of that: it has to be mounted anew

    def make(self):
        pass

    def anew(self):
        self.make()


class OnModel(Action):
    """An action of a model alone: a reset would leave nothing of it."""

    def __init__(self, name, act, mode="frozen_a", used=None):
        self.name, self.acts, self.mode, self.used = name, act, mode, used

    def make(self):
        self.m = model(self.mode)
        if self.mode != "infer":
            self.m.begin(5)
            self.m.train(memoryview(X)[: self.m.sample_size], 1, 9000)
        self.first, self.second = self.m.adapter(ONE), self.m.adapter(TWO)
        if self.used:
            self.m.use(self.first)
        self.result = None

    def act(self):
        self.result = self.acts(self.m, self)

    def look(self):
        m = self.m
        infers = m.infer(memoryview(X)[: m.input_size]), bytes(m.output), list(m.probabilities()), list(m.labels)
        return infers, bytes(m.save(state=True)) if self.mode != "infer" else None, sorted(m.merged)


class Opening(Action):
    name = "open a model"

    def make(self):
        self.m = None

    def act(self):
        self.m = model()

    def look(self):
        return self.m and (self.m.infer(memoryview(X)[: self.m.input_size]), bytes(self.m.output))


def mounted():
    if any(path == "/s" for _, path in vfs.mount()):
        vfs.umount("/s")
    vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/s")


class OnFlash(Action):
    """An action on a littlefs, at /s, whose first state is made once."""

    on_flash = littlefs = True
    image = None

    def make(self):
        if self.image is None:
            vfs.VfsLfs2.mkfs(flash, progsize=256)
            mounted()
            self.prepare()
            vfs.umount("/s")
            self.image = flash.image()
        power(self.image)
        self.anew()

    def anew(self):
        mounted()
        self.open()

    def prepare(self):
        pass

    def open(self):
        pass


class OnStore(Action):
    on_flash = True
    images = {}

    def __init__(self, kind, name, act, first=None):
        self.kind, self.name, self.acts, self.first = kind, f"{name} ({kind})", act, first
        self.littlefs = kind == "folder"

    def prepare(self):
        store = Store(self.place(), cache=4096, adapters=8)
        store.put("a", ONE, 3)
        store.put("b", TWO, 1)
        store.put("c", TWO, 1)
        store.open(model("infer"))
        store.activate("a")
        store.install("a", 5, TWO)

    def place(self):
        if self.kind == "partition":
            return flash
        mounted()
        return "/s/adapters"

    def make(self):
        if self.kind not in self.images:
            if self.kind == "partition":
                erase(flash)
            else:
                vfs.VfsLfs2.mkfs(flash, progsize=256)
            self.prepare()
            self.images[self.kind] = flash.image()
        power(self.images[self.kind])
        self.anew()
        if self.first:
            self.first(self.store)

    def anew(self):
        self.store = Store(self.place(), cache=4096, adapters=8)
        self.m = model("infer")
        self.store.open(self.m)

    def act(self):
        self.acts(self.store)

    def look(self):
        store = self.store
        entries = [(e.name, e.version, e.floor, e.flags, bytes(store.read(e.name))) for e in store.list()]
        infers = self.m.infer(memoryview(X)[: self.m.input_size]), bytes(self.m.output)
        return sorted(entries), store.active, store.in_use, infers

    def told_anew(self, seen):
        """Of a state, what a reset leaves."""
        return seen[:2]


class Starting(OnStore):
    """A start with an update to try: one that fails is one that nobody confirmed, and the next falls back."""

    fallen = None

    def look(self):
        if self.fallen is None:
            self.fallen = ()
            self.make()
            self.act()
            self.act()
            self.fallen = self.look()
            self.make()
        found = super().look()[:2]
        return self.after if found == self.fallen and self.fallen else found

    after = None


class Saving(OnFlash):
    name = "save to a file"

    def prepare(self):
        with open("/s/mine.ela", "wb") as file:
            file.write(ONE)

    def open(self):
        self.m = model()
        self.m.begin(5)
        self.m.train(memoryview(X)[: self.m.sample_size], 1, 9000)

    def act(self):
        self.m.save("/s/mine.ela")

    def look(self):
        return contents("/s/mine.ela")


class Samples(OnFlash):
    def __init__(self, name, act):
        self.name, self.acts = name, act

    def prepare(self):
        from edgelora.training import SampleFile

        file = SampleFile.create("/s/mine.eld", model("infer"))
        for i in range(3):
            file.append(memoryview(X)[i : i + file.sample_size], i % 2)
        file.close()

    def open(self):
        from edgelora.training import SampleFile

        self.file = SampleFile("/s/mine.eld", append=True)

    def act(self):
        self.acts(self.file)

    def look(self):
        buffer = bytearray(self.file.sample_size)
        return [(self.file.read(i, buffer), bytes(buffer)) for i in range(self.file.count)]


class Reservoirs(OnFlash):
    """A sample that has a slot may not have been counted yet."""

    name = "reservoir.add"
    in_parts = True

    def prepare(self):
        from edgelora.reservoir import Reservoir

        self.r = Reservoir.create("/s/r.elr", model("infer"), 6, 5)
        for i in range(4):
            self.r.add(memoryview(X)[i : i + 5], i % 2)
        self.r.close()

    def open(self):
        from edgelora.reservoir import Reservoir

        self.r = Reservoir("/s/r.elr")

    def act(self):
        self.r.add(memoryview(X)[50:55], 1)

    def look(self):
        r = self.r
        return list(r.seen), list(r._labels)


class Training(OnFlash):
    """A run to its end; one that was interrupted goes on, and ends alike."""

    name = "a training run"

    def open(self):
        from edgelora.training import Run, SampleFile

        self.store = Store("/s/adapters", cache=0, adapters=8)
        self.run = Run(model(), SampleFile("samples.eld"), self.store, "me", 2, 7, 6000, 2)

    def act(self):
        while not self.run.done:
            self.run.step()

    def look(self):
        return self.store.find("me") and bytes(self.store.read("me"))


class Learning(OnFlash):
    """A learner gets a sample, which may be in its reservoir and not yet learned; or consolidates."""

    in_parts = True

    def __init__(self, name, consolidates):
        self.name, self.consolidates = name, consolidates

    def prepare(self):
        from edgelora.reservoir import Reservoir

        Reservoir.create("/s/r.elr", model("infer"), 24, 5).close()
        self.open()
        for i in range(29):
            self.learner.learn(*self.sample(i))
        self.learner.reservoir.close()

    def sample(self, i):
        return bytes(memoryview(X)[7 * i : 7 * i + 5]), i % 3

    def open(self):
        from edgelora.learner import Learner
        from edgelora.reservoir import Reservoir

        self.m = edgelora.Model(BASE, ranks=4, mode="frozen_a", momentum=3)
        self.store = Store("/s/adapters", cache=4096, adapters=8)
        self.store.open(self.m)
        self.learner = Learner(self.m, Reservoir("/s/r.elr"), self.store, "me", 5, judge_every=2)

    def act(self):
        if self.consolidates:
            for _ in self.learner.consolidate(2):
                pass
        else:
            self.learner.learn(*self.sample(30))

    def look(self):
        learner, store = self.learner, self.store
        entries = [(e.name, bytes(store.read(e.name))) for e in store.list() if e.size and "." not in e.name]
        return list(learner.reservoir.seen), sorted(entries), store.active


class Identity(OnFlash):
    """What a fleet's board is: made once, its rounds only go up; flash may have a round before it is known here."""

    in_parts = True

    def __init__(self, name, act, exists=True):
        self.name, self.acts, self.exists = name, act, exists

    def prepare(self):
        from edgelora.fleet import Identity

        if self.exists:
            Identity.create("/s/fleet.key").take_part(3)

    def open(self):
        from edgelora.fleet import Identity

        self.identity = Identity("/s/fleet.key") if self.exists else None

    def act(self):
        from edgelora.fleet import Identity

        self.acts(self, Identity)

    def look(self):
        from edgelora.fleet import FleetError, Identity

        try:
            found = Identity("/s/fleet.key")
        except FleetError as error:
            assert "no identity yet" in str(error), error
            return None
        return found.round, found.secret if self.exists else b"", self.identity.round if self.exists else 0


class Updating(OnFlash):
    """An update from its first byte to its installation."""

    name = "an update"

    def prepare(self):
        store = Store("/s/adapters", cache=4096, adapters=8)
        store.open(model("infer"))
        store.put("wake", ONE, 7)
        store.activate("wake")

    def open(self):
        from edgelora.update import Updater, trusted

        self.m = model("infer")
        self.store = Store("/s/adapters", cache=4096, adapters=8)
        self.store.open(self.m)
        self.updater = Updater(self.store, *trusted("update.trust"), self.m, part="/s/update.part")

    def act(self):
        bundle = memoryview(contents("update.elu"))
        kept = self.updater.begin(bundle[:256])
        for at in range(256 + kept, len(bundle), 100):
            self.updater.write(bundle[at : at + 100])
        for _ in self.updater.finish():
            pass

    def look(self):
        store = self.store
        return [(e.name, e.version, e.flags) for e in store.list()], store.active, bytes(store.read("wake"))


class Putting(OnFlash):
    """A file that the host sends the agent."""

    name = "a file put by the host"
    DATA = TWO * 3

    def prepare(self):
        with open("/s/file", "wb") as file:
            file.write(ONE)

    def open(self):
        from edgelora.agent import _Agent

        self.agent = _Agent(512)
        self.agent.line.alive = lambda *_: None

    def request(self, handler, body):
        self.agent.line.body[: len(body)] = body
        return handler(len(body))

    def act(self):
        import binascii
        import hashlib
        import json
        import struct

        digest = binascii.hexlify(hashlib.sha256(self.DATA).digest()).decode()
        opened = {"path": "/s/file", "size": len(self.DATA), "sha256": digest}
        reply = self.request(self.agent._put_open, json.dumps(opened).encode())
        for at in range(reply["offset"], len(self.DATA), 200):
            self.request(self.agent._put_data, struct.pack("<I", at) + self.DATA[at : at + 200])
        self.request(self.agent._put_done, b"")

    def look(self):
        return contents("/s/file")


def sample(m):
    return memoryview(X)[100 : 100 + m.sample_size]


ACTIONS = [
    Opening(),
    OnModel("infer", lambda m, a: m.infer(sample(m))),
    OnModel("train", lambda m, a: m.train(sample(m), 2, 9000)),
    OnModel("train, A as well", lambda m, a: m.train(sample(m), 2, 9000), mode="trainable_a"),
    OnModel("begin", lambda m, a: m.begin(9)),
    OnModel("load", lambda m, a: m.load(ONE)),
    OnModel("save", lambda m, a: m.save(state=True)),
    OnModel("use", lambda m, a: m.use(a.first), mode="infer"),
    OnModel("use of another", lambda m, a: m.use(a.second), mode="infer", used=True),
    OnModel("adapter", lambda m, a: m.use(m.adapter(TWO)), mode="infer", used=True),
    OnModel("merge", lambda m, a: m.merge(0), mode="infer", used=True),
    OnModel("blend", lambda m, a: m.use(m.blend([a.first, a.second], [0.5, 0.25])), mode="infer", used=True),
    OnModel("add_class", lambda m, a: m.add_class("wave", [sample(m)] * 3), mode="infer", used=True),
    OnModel("evaluate_all", lambda m, a: m.evaluate_all([sample(m)] * 2, [0, 1])),
    OnModel("features", lambda m, a: m.features(sample(m), bytearray(m.feature_size))),
]
for kind in ("partition", "folder"):
    ACTIONS += [
        OnStore(kind, "put", lambda s: s.put("e", TWO)),
        OnStore(kind, "put again", lambda s: s.put("b", ONE)),
        OnStore(kind, "use", lambda s: s.use("b")),
        OnStore(kind, "activate", lambda s: s.activate("b")),
        OnStore(kind, "remove", lambda s: s.remove("b")),
        OnStore(kind, "rename", lambda s: s.rename("b", "d")),
        Starting(kind, "start", lambda s: s.start()),
        OnStore(kind, "confirm", lambda s: s.confirm(), first=lambda s: s.start()),
        OnStore(kind, "pin", lambda s: s.pin("b")),
        OnStore(kind, "install", lambda s: s.install("b", 9, ONE)),
        OnStore(kind, "replace", lambda s: s.replace("b", "c")),
        OnStore(kind, "decline", lambda s: s.decline("a", 5, "no")),
    ]
ACTIONS += [
    Saving(),
    Samples("append a sample", lambda f: f.append(memoryview(X)[60 : 60 + f.sample_size], 1)),
    Samples("take a sample back", lambda f: f.undo()),
    Reservoirs(),
    Training(),
    Learning("learner.learn", False),
    Learning("learner.consolidate", True),
    Identity("make an identity", lambda a, i: i.create("/s/fleet.key"), exists=False),
    Identity("take part in a round", lambda a, i: a.identity.take_part(4)),
    Identity("draw a key", lambda a, i: a.identity.draw()),
    Updating(),
    Putting(),
]

# ---- the faults


class Count:
    tried = lost = stuck = 0


def complain(what, action, fault, n, why):
    print(what, action.name, "|", fault, n, "|", why)


def seen(action):
    """Its state, or what keeps it from being looked at."""
    try:
        return action.look()
    except ERRORS as error:
        return repr(error)


def right(action, found, before, after):
    if action.in_parts and all(isinstance(state, tuple) for state in (found, before, after)):
        return all(found[i] in (before[i], after[i]) for i in range(len(found)))
    return found in (before, after)


def part(action, state):
    return action.told_anew(state) if hasattr(action, "told_anew") and isinstance(state, tuple) else state


def again(action, after, same):
    """Makes the action anew unless it was made; None, or what is wrong then."""
    try:
        if not same(seen(action), after):
            action.act()
        state = seen(action)
        return None if same(state, after) else "other state " + str(state)[:200]
    except ERRORS as error:
        if same(seen(action), after):
            return None
        return repr(error)


def attempt(action, kind, n, forever):
    """What was counted, as `faults.disarm` tells it, and the error. No interrupt comes after the action."""
    faults.arm(kind, n, forever)
    try:
        action.act()
        return faults.disarm(), None
    except ERRORS as error:
        return faults.disarm(), error


def one(action, fault, kind, forever, n, before, after):
    """Whether something was left to fail."""
    action.make()
    count, error = attempt(action, kind, n, forever)
    if count >= 0:
        return False
    Count.tried += 1
    image = flash.image() if action.on_flash else None
    if action.littlefs and kind == faults.FLASH:
        return started_anew(action, fault, n, error, image, before, after)
    found = seen(action)
    if not right(action, found, before, after) and not (forever and part(action, found) == part(action, after)):
        # where flash can't be read to the end nobody knows what it has: what was in use goes on, then
        Count.lost += 1
        complain("LOST", action, fault, n, f"{error!r}: {str(found)[:300]}")
    wrong = again(action, after, lambda a, b: a == b)
    if wrong:
        Count.stuck += 1
        complain("STUCK", action, fault, n, f"{error!r}: {wrong}")
    if image and not wrong:  # what was made again is in flash
        power(flash.image())
        action.anew()
        found = part(action, seen(action))
        if not right(action, found, part(action, after) if not action.in_parts else before, part(action, after)):
            Count.lost += 1
            complain("LOST", action, fault, n, f"{error!r}, made again, after a reset: {str(found)[:300]}")
    return started_anew(action, fault, n, error, image, before, after) if image else True


def started_anew(action, fault, n, error, image, before, after):
    """After a reset. True."""
    power(image)
    try:
        action.anew()
    except ERRORS as failed:
        Count.lost += 1
        complain("LOST", action, fault, n, f"{error!r}, and after a reset {failed!r}")
        return True
    found = part(action, seen(action))
    if not right(action, found, part(action, before), part(action, after)):
        Count.lost += 1
        complain("LOST", action, fault, n, f"{error!r}, after a reset: {str(found)[:300]}")
    wrong = again(action, after, lambda a, b: part(action, a) == part(action, b))
    if wrong:
        Count.stuck += 1
        complain("STUCK", action, fault, n, f"{error!r}, after a reset: {wrong}")
    return True


def main(most=0, *names):
    for action in ACTIONS:
        if names and action.name not in names:
            continue
        try:
            action.make()
        except OSError as error:
            print("SKIPPED", action.name, error)
            continue
        before = action.look()
        action.act()
        action.after = after = action.look()
        counts = []
        for fault, kind, forever in FAULTS:
            if kind == faults.FLASH and not action.on_flash:
                continue
            action.make()
            faults.arm(kind, 1 << 29, False)
            action.act()
            left = faults.disarm()
            step = max(1, left // most) if most else 1
            tried = Count.tried
            n = 0
            while one(action, fault, kind, forever, n, before, after):
                n += step
                if n > 2 * left + 1000:
                    complain("STUCK", action, fault, n, "never ends")
                    break
            counts.append(f"{fault} {Count.tried - tried}")
            gc.collect()
        print("DONE", action.name + ":", ", ".join(counts))
    print("FAULTS", Count.tried, Count.lost, Count.stuck)
