"""Actions in which faults_suite.py injects failures: of models, stores, samples and training."""

import gc
import os
import sys
from array import array

import faults
import vfs

import edgelora
from edgelora import actions, asking, confidence, fleet, frontend, rows, sources, training, update
from edgelora import store as stores
from edgelora.actions import Hold, Pulse
from edgelora.agent import _Agent
from edgelora.drift import Drift
from edgelora.known import Known
from edgelora.learner import Learner
from edgelora.monitor import Monitor
from edgelora.pipeline import Pipeline
from edgelora.recorder import Recorder
from edgelora.reservoir import Reservoir
from edgelora.sources import Channel
from edgelora.store import Store
from edgelora.teaching import Teacher
from edgelora.tokens import Tokens
from edgelora.training import Part, Run, SampleFile, Scheduler
from edgelora.update import Updater, trusted
from edgelora.wake import Rule, WakeWord, cutoff_of
from edgelora.words import Words

BLOCKS = 48
READ = 256  # littlefs' read size in bytes: with 32 there would be eight times as many n, with similar neighbours
flash = faults.Flash(BLOCKS)


def power(image):
    """Starts a board with this flash image. Objects in memory of the previous board can no longer write."""
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


FILES = ("base.elm", "machine.elm", "one.ela", "two.ela", "samples.eld", "own.elm", "word.elm")
BASE, MACHINE, ONE, TWO, SAMPLES, OWN, WORD = (contents(name) for name in FILES)
X = bytes((i * 37) & 255 for i in range(4096))
QUARTER = array("h", (0, 16384, 0, -16384, 0, 0, 0, 0, 16384))


def model(mode="frozen_a", micro_batch=1):
    return edgelora.Model(BASE, ranks=4, mode=mode, micro_batch=micro_batch)


# ---- actions: `make` prepares, `act` runs, `look` returns the state, `anew` opens it after a reset


class Action:
    on_flash = False
    in_parts = False  # each part of the state may be from before or after the action
    littlefs = False  # after a flash error littlefs' memory may differ from its flash, so it must be mounted again

    def make(self):
        pass

    def anew(self):
        self.make()

    def goes_on(self):
        """Checks what must be possible after a reset; None, or what is wrong."""


def stored():
    """Creates a store in a folder of this computer."""
    if not any(entry[0] == "store" for entry in os.ilistdir()):
        Store("store", cache=4096, adapters=8).put("a", TWO)


class OnModel(Action):
    """An action of a model alone, of which nothing survives a reset."""

    def __init__(self, name, act, mode="frozen_a", used=None, micro_batch=1):
        self.name, self.acts, self.mode, self.used, self.micro_batch = name, act, mode, used, micro_batch

    def make(self):
        self.m = model(self.mode, self.micro_batch)
        if self.mode != "infer":
            self.m.begin(5)
            self.m.train(memoryview(X)[: self.m.sample_size], 1, 9000)
        self.first, self.second = self.m.adapter(ONE), self.m.adapter(TWO)
        if self.used == "store":  # used last, so that the model has to switch back
            stored()
            store = Store("store", cache=4096, adapters=8)
            store.open(self.m)
            store.use("a")
        elif self.used:
            self.m.use(self.first)
        if self.used == "merged":
            self.m.merge(0)
        if self.used == "wave":
            self.m.add_class("wave", [sample(self.m)] * 3)
        self.result = None

    def act(self):
        self.result = self.acts(self.m, self)

    def look(self):
        m = self.m
        infers = m.infer(memoryview(X)[: m.input_size]), bytes(m.output), list(m.probabilities()), list(m.labels)
        pending = self.mode != "infer" and m.counts()[2]
        trains = None if self.mode == "infer" else (m.counts(), bytes(m.save(state=not pending)))
        return infers, trains, sorted(m.merged), m.used and bytes(m.used.buffer)


class Opening(Action):
    name = "open a model"

    def make(self):
        self.m = None

    def act(self):
        self.m = model()

    def look(self):
        return self.m and (self.m.infer(memoryview(X)[: self.m.input_size]), bytes(self.m.output))


POSIX = vfs.mount()[0][0]
kept = []  # a file is closed when MicroPython collects it, so its filesystem must not be collected earlier


def mounted(place="/s"):
    """Mounts the flash as a littlefs at a place; this computer's files are at / unless that is the place."""
    for filesystem, path in vfs.mount():
        if path == place or isinstance(filesystem, vfs.VfsLfs2):
            vfs.umount(path)
    if place != "/" and not any(path == "/" for _, path in vfs.mount()):
        vfs.mount(POSIX, "/")
    kept[:] = kept[-3:] + [vfs.VfsLfs2(flash, readsize=READ, progsize=256)]
    vfs.mount(kept[-1], place)


class OnFlash(Action):
    """An action on a littlefs at /s, whose initial state is made once."""

    on_flash = littlefs = True
    image = None
    place = "/s"

    def make(self):
        if self.image is None:
            vfs.VfsLfs2.mkfs(flash, readsize=READ, progsize=256)
            mounted(self.place)
            self.prepare()
            vfs.umount(self.place)
            self.image = flash.image()
        power(self.image)
        self.anew()

    def anew(self):
        mounted(self.place)
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
                stores.erase(flash)
            else:
                vfs.VfsLfs2.mkfs(flash, readsize=READ, progsize=256)
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
        used = self.m.used and bytes(self.m.used.buffer)
        return sorted(entries), store.active, store.in_use, (infers, used)

    def told_anew(self, seen):
        """The part of a state that survives a reset."""
        return seen[:2]


class Opening_(OnStore):
    """Opening a store again after an interrupted start, or creating one."""

    def __init__(self, kind, name, fresh):
        super().__init__(kind, name, None)
        self.fresh = fresh

    def make(self):
        if self.fresh:
            power(bytes(b"\xff" * (4096 * BLOCKS)))
            if self.kind == "folder":
                vfs.VfsLfs2.mkfs(flash, readsize=READ, progsize=256)
            self.store = None
            return
        super().make()
        OnStore.anew(self)
        self.store.start()
        self.store = None

    def anew(self):
        self.store = None

    def act(self):
        self.store = None
        self.store = Store(self.place(), cache=4096, adapters=8)
        self.store.open(model("infer"))

    def look(self):
        store = self.store or Store(self.place(), cache=4096, adapters=8)
        return sorted([(e.name, e.version, e.flags, bytes(store.read(e.name))) for e in store.list()]), store.active


class Erasing(OnStore):
    def act(self):
        stores.erase(flash)

    def look(self):
        store = Store(flash, cache=0, adapters=8)
        return [(e.name, bytes(store.read(e.name))) for e in store.list()], store.active


class Starting(OnStore):
    """A start with an update to try: a failed one is unconfirmed, so the next start falls back."""

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
        file = SampleFile.create("/s/mine.eld", model("infer"))
        for i in range(3):
            file.append(memoryview(X)[i : i + file.sample_size], i % 2)
        file.close()

    def open(self):
        self.file = SampleFile("/s/mine.eld", append=True)

    def act(self):
        self.acts(self.file)

    def look(self):
        buffer = bytearray(self.file.sample_size)
        return [(self.file.read(i, buffer), bytes(buffer)) for i in range(self.file.count)]


class Creating(OnFlash):
    """Creating a file of samples that replaces an existing one."""

    name = "create a file of samples"

    def act(self):
        SampleFile.create("/s/mine.eld", model("infer")).close()

    def look(self):
        return contents("/s/mine.eld")


class Recording(OnFlash):
    """A recorder's buttons; a sample is a window."""

    def __init__(self, name, act):
        self.name, self.acts = name, act

    def prepare(self):
        file = SampleFile.create("/s/mine.eld", model("infer"))
        file.append(memoryview(X)[9 : 9 + file.sample_size], 1)
        file.close()

    def open(self):
        self.file = SampleFile("/s/mine.eld", append=True)
        self.recorder = Recorder(model("infer"), Counts(), self.file)
        for _ in range(3):
            self.recorder.step()

    def act(self):
        self.acts(self.recorder)

    def look(self):
        buffer = bytearray(self.file.sample_size)
        return [(self.file.read(i, buffer), bytes(buffer)) for i in range(self.file.count)], self.recorder.counts[:]


class Teaching(OnFlash):
    """Corrections of a person. One may be in its file and not taught yet: then the base alone is in use."""

    in_parts = True

    def __init__(self, name, act):
        self.name, self.acts, self.rows = name, act, None

    def prepare(self):
        m = edgelora.Model(OWN, 4)
        samples, denied = [SampleFile.create(path, m) for path in ("/s/mine.eld", "/s/not.eld")]
        for x, label in owned()[:-1]:
            samples.append(x, label)
        denied.append(owned()[0][0], 1)
        for file in (samples, denied):
            file.close()

    def open(self):
        self.m = edgelora.Model(OWN, 4)
        self.files = SampleFile("/s/mine.eld", True), SampleFile("/s/not.eld", True)
        self.store = Store("/s/adapters", cache=4096, adapters=8)
        self.store.open(self.m)
        self.teacher = Teacher(self.m, *self.files, self.store, "me")
        self.counts = self.counts or [file.count for file in self.files]

    counts = None  # of samples before the action

    def act(self):
        if [file.count for file in self.files] == self.counts:
            self.acts(self.teacher, *owned()[-1])
        else:
            self.teacher.teach()

    def look(self):
        teacher, store = self.teacher, self.store
        rows = teacher.doubt, teacher.hinted, self.m.used and bytes(self.m.used.buffer)
        self.rows = self.rows or rows
        if rows == (0, 0, None):  # as before the action: it has to be done again
            rows = self.rows
        entries = [(e.name, bytes(store.read(e.name))) for e in store.list()]
        return rows, entries, store.active, read_all(self.files[0]), read_all(self.files[1])


def owned():
    """A person's samples: (sample, label)."""
    file = SampleFile("own.eld")
    return [(sample, label) for label, sample in read_all(file)]


def read_all(file):
    """(label or target, sample) of all samples."""
    buffer, found = bytearray(file.sample_size), []
    for i in range(file.count):
        said = file.read(i, buffer)
        found.append((said if isinstance(said, int) else bytes(said), bytes(buffer)))
    return found


class Waking(OnFlash):
    """A wake word that keeps samples. After an error those kept so far may be taken back, and kept again."""

    in_parts = True
    MOST = 20

    def __init__(self, name, act, heard):
        self.name, self.acts, self.heard = name, act, heard

    def prepare(self):
        SampleFile.create("/s/mine.eld", self.model()).close()

    def model(self):
        return edgelora.Model(WORD, 4, "infer", frames=3)

    def open(self):
        self.file = SampleFile("/s/mine.eld", True)
        self.word = WakeWord(self.model(), Voice(), Rule(200, 2), self.file)
        if self.heard:
            hear(self.word)

    def act(self):
        while self.file.count:
            self.file.undo()
        self.acts(self.word)

    def look(self):
        kept = read_all(self.file)
        return tuple(kept + [None] * (self.MOST - len(kept)))


def hear(word):
    word.source.at = 0
    word.reset()
    while not word.ended:
        word.step()


def talk(word):
    word.talking = True
    hear(word)


def say(word):
    word.false_wake()
    word.pressed()
    word.enrol()
    word.missed()


class Writing(OnFlash):
    """An owner's words, of which a store keeps what helps; "ann" has an adapter from the beginning."""

    in_parts = True

    def __init__(self, name, act, owner="me"):
        self.name, self.acts, self.owner = name, act, owner

    def prepare(self):
        self.open()
        learn(self.words, "ann")
        assert self.words.kept

    def open(self):
        self.words = Words("text.elm", Store("/s/adapters", cache=0, adapters=8), self.owner)

    def act(self):
        self.acts(self.words)

    def look(self):
        words = self.words
        kept = [words.store.find(name) and bytes(words.store.read(name)) for name in ("me", "ann")]
        anns = words.name == "ann" and words.adapter
        return kept[0], kept[1], bytes(anns) if anns else None


def learn(words, name="me"):
    words.use(name)
    with open("typed.txt") as file:
        for line in file:
            words.type(line)
            while words.busy:
                words.step()


def forget(words):
    if words.name != "ann":
        words.use("ann")
    words.forget()


class Asking(Action):
    """Asks for a window, beside one that was skipped and two with labels."""

    in_parts = True

    def __init__(self, name, act):
        self.name, self.acts = name, act

    def make(self):
        self.m, self.result = edgelora.Model(OWN, 4), None
        self.asking = asking.Asking(self.m, SampleFile("own.eld"))
        self.asking.skip(self.asking.ask())
        for label in (0, 2):
            self.asking.label(self.asking.ask(), label)
        self.number, self.count = self.asking.ask(), 2

    def act(self):
        if self.asking.labelled.count == self.count:
            self.acts(self.asking, self.number)
        self.result = self.asking.ask(), self.asking.said, self.asking.margin

    def look(self):
        asking = self.asking
        return read_all(asking.labelled), bytes(asking._done), self.result, self.m.used and bytes(self.m.used.buffer)


class Drifting(Action):
    """Windows that are compared with the first ones. windows: how many came before."""

    in_parts = True

    def __init__(self, name, act, windows):
        self.name, self.acts, self.windows = name, act, windows

    def make(self):
        self.drift = Drift(model("infer"), None, 4, 6)
        for i in range(self.windows):
            self.drift.add(memoryview(X)[i : i + 5])
        self.count = self.drift.seen, self.drift._bits

    def act(self):
        if (self.drift.seen, self.drift._bits) == self.count:
            self.acts(self.drift)

    def look(self):
        return self.drift.seen, self.drift._bits, bytes(self.drift._usual), self.drift.kept


class Reservoirs(OnFlash):
    """A sample that has a slot may not be counted yet."""

    in_parts = True

    def __init__(self, name, act):
        self.name, self.acts = name, act

    def prepare(self):
        self.r = Reservoir.create("/s/r.elr", model("infer"), 6, 5)
        for i in range(4):
            self.r.add(memoryview(X)[i : i + 5], i % 2)
        self.r.close()

    def open(self):
        self.r = Reservoir("/s/r.elr")

    def act(self):
        self.acts(self.r)

    def look(self):
        r = self.r
        return (list(r.seen), r.since, r.resting, str(r.turns)) + tuple(r._labels)


class NewReservoir(OnFlash):
    """Creating a reservoir that replaces an existing one."""

    name = "create a reservoir"

    def act(self):
        Reservoir.create("/s/r.elr", model("infer"), 6, 5).close()

    def look(self):
        return contents("/s/r.elr")


class Training(OnFlash):
    """A whole training run; an interrupted one resumes, with the same result."""

    def __init__(self, name, held=0):
        self.name, self.held = name, held

    def place_of_store(self):
        return "/s/adapters"

    def open(self):
        samples, held = SampleFile("samples.eld"), None
        if self.held:
            held = Part(samples, range(2, 2 + self.held))
        self.store = Store(self.place_of_store(), cache=0, adapters=8)
        self.run = Run(model(), Part(samples, (0, 3, 5, 7)), self.store, "me", 2, 7, 6000, 2, held=held)

    def act(self):
        while not self.run.done:
            self.run.step()

    def look(self):
        return self.store.find("me") and bytes(self.store.read("me"))


class Judging(Training):
    """A run with held-out samples, its store in a partition."""

    littlefs = False

    def place_of_store(self):
        return flash

    def make(self):
        if self.image is None:
            power(bytes(b"\xff" * (4096 * BLOCKS)))
            self.image = flash.image()
        power(self.image)
        self.open()

    def anew(self):
        self.open()


def suspend(run):
    run.suspend()
    training.begun(run.store, "me")


def scheduled(run):
    run.watch = None
    scheduler = Scheduler(run, budget_ms=0, sleep=lambda ms: None)
    scheduler.spend()
    scheduler.suspend()


class Suspending(Training):
    """A suspended run: its result is the same as without suspending."""

    def __init__(self, name, act):
        super().__init__(name, 0)
        self.acts = act

    def open(self):
        super().open()
        for _ in range(3):
            self.run.step()

    def act(self):
        self.acts(self.run)

    def look(self):
        run, position = self.run, self.run.position
        del run
        return position > 8

    def goes_on(self):
        super().act()
        found = super().look()
        self.ends = self.ends or found
        return None if found == self.ends else "another end"

    ends = None


class Discarding(Suspending):
    def __init__(self):
        super().__init__("discard a run", None)

    def act(self):
        training.discard(self.store, "me")

    def look(self):
        return training.unfinished(self.store, "me"), training.begun(self.store, "me")

    def anew(self):
        mounted()
        self.store = Store("/s/adapters", cache=0, adapters=8)

    def make(self):
        super().make()
        OnFlash.anew(self)

    def goes_on(self):
        pass


class Learning(OnFlash):
    """Learning a sample, which may be in the reservoir but not learned yet; or a consolidation."""

    in_parts = True

    def __init__(self, name, act, added=False, begun=False, infers=True):
        self.name, self.acts, self.added, self.begun, self.infers = name, act, added, begun, infers

    def prepare(self):
        Reservoir.create("/s/r.elr", model("infer"), 24, 5, classes=5).close()
        self.open()
        for i in range(29):
            self.learner.learn(*self.sample(i))
        if self.added:
            self.learner.add_class("wave", waves(4))
        if self.begun:
            next(run for run in self.learner.consolidate(2) if run)
        self.learner.reservoir.close()

    def sample(self, i):
        return sample_of(i)

    def open(self):
        self.m = edgelora.Model(BASE, ranks=4, mode="frozen_a", momentum=3)
        self.store = Store("/s/adapters", cache=4096, adapters=8)
        self.store.open(self.m)
        self.learner = Learner(self.m, Reservoir("/s/r.elr"), self.store, "me", 5, judge_every=2)

    def act(self):
        self.acts(self.learner)

    def look(self):
        learner, store = self.learner, self.store
        entries = [(e.name, bytes(store.read(e.name))) for e in store.list() if e.size and "." not in e.name]
        unfinished = self.begun and [e.name for e in store.list() if "." in e.name] != []
        used, m = learner.in_use and bytes(learner.in_use), self.m
        is_used = entries and not learner.reservoir.resting
        assert used == (entries[0][1] if is_used else None) or self.begun, "it goes on with another than the store has"
        infers = used  # while a consolidation is unfinished, also the samples learned last
        if self.infers:
            infers = used, m.infer(memoryview(X)[: m.input_size]), bytes(m.output), list(m.labels)
        seen = list(learner.reservoir.seen)
        added = "wave" in m.labels and seen[m.output_size] or None  # counts of a class that does not exist are ignored
        return seen[: m.output_size], added, sorted(entries), store.active, unfinished, infers

    def told_anew(self, seen):
        return seen[:5]


def sample_of(i):
    return bytes(memoryview(X)[7 * i : 7 * i + 5]), i % 3


def waves(count):
    return [bytes((100 + i, 10, 200, 5 * i, 7)) for i in range(count)]


def consolidate(learner):
    for _ in learner.consolidate(2):
        pass


class Identity(OnFlash):
    """The identity of a fleet's board: created once, its round only increases; flash may be ahead of memory."""

    in_parts = True

    def __init__(self, name, act, exists=True):
        self.name, self.acts, self.exists = name, act, exists

    def prepare(self):
        if self.exists:
            fleet.Identity.create("/s/fleet.key").take_part(3)

    def open(self):
        try:
            self.identity = fleet.Identity("/s/fleet.key")
        except ValueError:
            self.identity = None

    def act(self):
        self.acts(self, fleet.Identity)

    def look(self):
        try:
            found = fleet.Identity("/s/fleet.key")
        except fleet.FleetError as error:
            assert "no identity yet" in str(error), error
            return None
        return found.round, found.secret if self.exists else b"", self.identity.round if self.identity else 0


class Updating(OnFlash):
    """An update from its first byte to its installation."""

    name = "an update"

    def prepare(self):
        store = Store("/s/adapters", cache=4096, adapters=8)
        store.open(model("infer"))
        store.put("wake", ONE, 7)
        store.activate("wake")

    def open(self):
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
    """A file that the host sends to the agent."""

    name = "a file put by the host"
    DATA = TWO * 3

    def prepare(self):
        with open("/s/file", "wb") as file:
            file.write(ONE)

    def open(self):
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


class File(OnModel):
    """An adapter file that is used in place and opened in the action."""

    def act(self):
        with_file = edgelora.AdapterFile("one.ela")
        try:
            self.m.use_file(with_file)
        finally:
            with_file.close()


class Watching(Action):
    """A monitor of a machine: its stages, a window of each, its record. `until`: the stage the action completes."""

    in_parts = False
    STAGES = (("scale", 6), ("learn", 6), ("residuals", 6), ("threshold", 39), ("watch", 0))

    def __init__(self, name, until, act, missing=0):
        self.name, self.until, self.acts, self.missing = name, until, act, missing

    def make(self):
        self.m = edgelora.Model(MACHINE, ranks=4)
        self.monitor = Monitor(self.m, 2, 3, 10)
        self.at = 0
        for stage, count in self.STAGES[: self.until]:
            self.monitor.calibrate(stage, count, self if stage == "learn" else None)
            last = stage == self.STAGES[self.until - 1][0]
            for _ in range(count - self.missing if last else count):
                self.monitor.update(self.row())
        self.values, self.result = self.row(), None

    def row(self):
        """The machine's next values."""
        self.at += 1
        return array("h", [(i * 977 + self.at * (131 + 7 * i)) % 4000 - 2000 for i in range(self.m.input_size)])

    def append(self, x, target):
        """Like a SampleFile's."""

    def act(self):
        self.result = self.acts(self.monitor, self)

    def look(self):
        m = self.monitor
        told = m.stage, m.left, m.threshold, m.alarm, m._above, m._taken, m._done, not m.left and m.score
        learned = [bytes(part) for part in (m.means, m.gains, m.residual_means, m.residual_gains, m._largest)]
        sums = [bytes(part) for part in (m._sums, m._low, m._high)] if m.left else None
        self.m.infer(memoryview(X)[: self.m.input_size])
        return told, learned, sums, bytes(self.m.output)


class OfAnother(Watching):
    """A watching monitor loads another machine's record."""

    def make(self):
        super().make()
        m = self.monitor
        other = m.adapter()
        body = bytearray(other.record(2))
        for at in range(16, len(body) - 3, 4):
            body[at] ^= 1
        body[4] ^= 1
        self.other = self.m.with_record(self.m.used, 2, body)


def suggested(action):
    """What is suggested for a text, with an adapter that begins to learn."""
    stored()
    words = Words("text.elm", Store("store", cache=4096, adapters=8), "me")
    taken = words.type("Bacola dufe g\b\bgi" * 8)
    while words.busy:
        words.step()
    return taken, words.suggest(), words.complete(), bytes(words.in_training()), words.learned


def tokenized(action):
    tokens = Tokens(contents("text.elt"))
    made = tokens.encode("a banana")
    return made, tokens.decode(made)


class Told(Action):
    """Objects that are created on every call: either there is a result or not."""

    def __init__(self, name, act, make=None):
        self.name, self.acts, self.makes = name, act, make

    def make(self):
        self.m, self.result = model("infer"), None
        if self.makes:
            self.makes(self)

    def act(self):
        self.result = self.acts(self)

    def look(self):
        return self.result


class Acting(Action):
    """A run of actions: however it ends, no pin stays high."""

    name = "actions.run"

    def make(self):
        self.m = model("infer")
        Pin.levels.clear()
        self.pipeline = Pipeline(self.m, Counts(), vote=(1, 2))
        self.every = {name: [Hold(i), Pulse(8 + i, 50000)] for i, name in enumerate(self.m.labels)}

    def act(self):
        self.pipeline.source.at = 0
        self.pipeline.reset()
        actions.run(self.pipeline, self.every, idle_ms=0)

    def look(self):
        return [level for level in Pin.levels.values() if level]


class Pin:
    """Replaces machine.Pin."""

    OUT = 1
    levels = {}

    def __init__(self, number, mode=None, value=None):
        self.number = number
        self.value(value or 0)

    def value(self, level=None):
        if level is None:
            return self.levels[self.number]
        self.levels[self.number] = level


class Machine:
    Pin = Pin


sys.modules["machine"] = Machine


class Counts:
    """A source with five channels."""

    rate, channels, scales, overruns, samples = 50, 5, None, 0, 12

    def __init__(self):
        self.at = 0

    @property
    def ended(self):
        return self.at >= self.samples

    def read_into(self, buffer):
        count = min(len(buffer) // 5, self.samples - self.at)
        for i in range(5 * count):
            buffer[i] = ((5 * self.at + i) * 7919) % 2001 - 1000
        self.at += count
        return count


class Voice(Counts):
    """A source whose channels, but for the first, are loud for a while."""

    samples = 45

    def read_into(self, buffer):
        count = min(len(buffer) // 5, self.samples - self.at)
        for i in range(5 * count):
            buffer[i] = 12000 if i % 5 and 20 <= self.at + i // 5 < 27 else -200
        self.at += count
        return count


def decisions(action):
    action.pipeline.source.at = 0
    action.pipeline.reset()
    told = []
    while not action.pipeline.ended:
        if action.pipeline.step():
            told.append((action.pipeline.label, action.pipeline.name, bytes(action.pipeline.probabilities())))
    return told


def piped(wrap=None):
    def make(action):
        action.pipeline = Pipeline(wrap(action.m) if wrap else action.m, Counts(), vote=(2, 3))

    return make


def known(m):
    RULE["base"] = edgelora.hex_id(m.base_id)
    return Known(m, RULE)


def sure(m):
    return confidence.Sure(m, 20000)


def least(action):
    return confidence.least_chance([9000, 30000, 20000, 31000], [False, True, True, True])


def own_rows(action):
    """Rows of a person, and how they were judged."""
    m = edgelora.Model(OWN, 4)
    own = rows.OwnRows(m, training.SampleFile("own.eld"))
    own.collect()
    for _ in own.judge():
        pass
    made = own.adapter()
    doubt = rows.doubt_of(made.record(training.CLASSES)[4:])
    return doubt, own.before, own.after, rows.errors_of(own.count, own.doubt, own.doubtful), bytes(made.buffer)


def ruled(action):
    """A wake word's decisions."""
    rule = Rule.read("word.json")
    rule.reset()
    return cutoff_of(0.8), rule.cutoff, rule.window, [rule.step(p) for p in (0, 220, 255, 190, 0)]


RULE = {
    "version": 2,
    "base": None,
    "adapter": "",
    "classes": [0, 2],
    "moves": {"means": [[0] * 5] * 2, "gains": [300] * 5, "limits": [2000, 900]},
    "last": None,
}


def featured(kind):
    """The features of a stream, from its beginning."""

    def act(action):
        front = frontend.Audio() if kind == "audio" else frontend.Spectral(frames=8)
        samples, out, told = array("h", bytes(2 * front.window)), array(front.typecode, bytes(2 * front.size)), []
        for i in range(len(samples)):
            samples[i] = (i * 7919) % 4001 - 2000
        for i in range(11):
            if i == 1:
                front.reset()
            if front.step(samples, out):
                told.append(bytes(out))
        return told

    return act


def recorded(action):
    """The decisions for a recording."""
    told = []
    for name in ("counts.csv", "counts.s16"):
        source = sources.Recording(name, 50, 5)
        try:
            pipeline = Pipeline(action.m, source)
            while not pipeline.ended:
                if pipeline.step():
                    told.append(pipeline.label)
        finally:
            source.close()
    source, buffer = Channel(Counts(), 3), array("h", bytes(24))
    return told, source.read_into(buffer), bytes(buffer)


def divided(action):
    """The split of a file into training and held-out samples, the training part's checksum, and a fleet's share."""
    samples = training.SampleFile("samples.eld")
    learned, held = training.split(samples)
    shared = bytes(training.fleet_vector(contents("global.ela")))
    return learned.count, held and held.count, learned.crc(3), Reservoir.crc(samples, 2), shared


def learning():
    m = model()
    m.begin(1)
    return m


def trusting(action):
    found, target = update.trusted("update.trust")
    return target, [update.key_id(key) for key in found]


def evaluated(m):
    loss = bytearray(4)
    return m.evaluate(sample(m), 1, loss), bytes(loss)


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
    OnModel("use, after a merge", lambda m, a: m.use(a.second), mode="infer", used="merged"),
    OnModel("begin, beside a store", lambda m, a: m.begin(9), used="store"),
    OnModel("load, beside a store", lambda m, a: m.load(ONE), used="store"),
    OnModel("use, beside a store", lambda m, a: m.use(a.second), mode="infer", used="store"),
    OnModel("adapter", lambda m, a: m.use(m.adapter(TWO)), mode="infer", used=True),
    OnModel("merge", lambda m, a: m.merge(0), mode="infer", used=True),
    OnModel("blend", lambda m, a: m.use(m.blend([a.first, a.second], [0.5, 0.25])), mode="infer", used=True),
    OnModel("add_class", lambda m, a: m.add_class("wave", [sample(m)] * 3), mode="infer", used=True),
    OnModel("evaluate_all", lambda m, a: m.evaluate_all([sample(m)] * 2, [0, 1])),
    OnModel("features", lambda m, a: m.features(sample(m), bytearray(m.feature_size))),
    OnModel("infer_features", lambda m, a: m.infer_features(bytes(range(m.feature_size)))),
    OnModel("train_features", lambda m, a: m.train_features(bytes(range(m.feature_size)), 2, 9000)),
    OnModel("infer_sample", lambda m, a: m.infer_sample(sample(m))),
    OnModel("evaluate", lambda m, a: evaluated(m)),
    OnModel("train, with samples pending", lambda m, a: m.train(sample(m), 2, 9000), micro_batch=4),
    OnModel("flush", lambda m, a: (m.flush(9000), m.counts()), micro_batch=4),
    OnModel("reset", lambda m, a: m.reset()),
    OnModel("remove_class", lambda m, a: m.remove_class("wave"), mode="infer", used="wave"),
    OnModel("with_record", lambda m, a: m.use(m.with_record(a.first, 1, None)), mode="infer", used=True),
    OnModel("quantize", lambda m, a: m.quantize([0.5] * m.input_size, bytearray(m.input_size))),
    OnModel("quantize_counts", lambda m, a: m.quantize_counts(array("h", range(5)), bytearray(5))),
    OnModel("ops of an inference", lambda m, a: (m.forward_range(sample(m), 0, 1), m.signal.units)),
    Told("measure a backward pass", lambda a: learning().backward_range(memoryview(X)[:5], 0, 1)),
    Told("which samples teach", divided),
    Told("whom updates are trusted of", trusting),
    File("use_file", None, mode="infer", used=True),
    Told("a pipeline", decisions, piped()),
    Told("a pipeline that knows nothing", decisions, piped(known)),
    Told("a pipeline that is unsure", decisions, piped(sure)),
    Told("when to be unsure", least),
    Told("own rows", own_rows),
    Told("a wake word's rule", ruled),
    Told("suggestions", suggested),
    Told("symbols of a text", tokenized),
    Asking("asking.ask", lambda a, number: None),
    Asking("asking.label", lambda a, number: a.label(number, 1)),
    Asking("asking.skip", lambda a, number: a.skip(number)),
    Drifting("drift.add: what is usual", lambda d: d.add(bytes(5)), 5),
    Drifting("drift.add: a new window", lambda d: d.add(b"\x70\x90\x70\x90\x70"), 7),
    Drifting("drift.restart", lambda d: d.restart(), 7),
    Told("a recording's decisions", recorded),
    Told("sound", featured("audio")),
    Told("vibration", featured("spectral")),
    Acting(),
    Watching("monitor: scale ends", 1, lambda m, a: m.calibrate("learn", 6, a)),
    Watching("monitor: residuals end", 3, lambda m, a: m.calibrate("threshold", 39)),
    Watching("monitor: threshold ends", 4, lambda m, a: m.calibrate("watch")),
    Watching("monitor: a window", 5, lambda m, a: m.update(a.values)),
    Watching("monitor.reset", 5, lambda m, a: m.reset()),
    Watching("monitor: a window of scale", 1, lambda m, a: m.update(a.values), 3),
    Watching("monitor: a window of residuals", 3, lambda m, a: m.update(a.values), 3),
    Watching("monitor: a window of threshold", 4, lambda m, a: m.update(a.values), 3),
    OfAnother("monitor.use", 5, lambda m, a: m.use(a.other)),
    Watching("monitor.adapter", 5, lambda m, a: bytes(m.adapter().buffer)),
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
for kind in ("partition", "folder"):
    ACTIONS += [Opening_(kind, "open", False), Opening_(kind, "open where there is none", True)]
ACTIONS += [
    Erasing("partition", "erase", None),
    OnStore("folder", "what there is", lambda s: [s.find("a"), s.floor("a"), s.free(), s.declined(), s.list()]),
    Saving(),
    Creating(),
    Samples("append a sample", lambda f: f.append(memoryview(X)[60 : 60 + f.sample_size], 1)),
    Samples("take a sample back", lambda f: f.undo()),
    Recording("recorder.take", lambda r: r.take(2)),
    Recording("recorder.undo", lambda r: r.undo()),
    Recording("recorder.step", lambda r: (r.reset(), r.step())),
    Teaching("teacher.correct", lambda t, x, label: t.correct(x, label)),
    Teaching("teacher.deny", lambda t, x, label: t.deny(x, (label + 1) % 3)),
    Teaching("teacher.undo", lambda t, x, label: t.undo()),
    Waking("wake: other speech", talk, False),
    Waking("wake: what a person says", say, True),
    Reservoirs("reservoir.add", lambda r: r.add(memoryview(X)[50:55], 1)),
    Reservoirs("reservoir.forget", lambda r: r.forget(1)),
    Reservoirs("reservoir.drop", lambda r: r.drop(2)),
    Reservoirs("reservoir.rest", lambda r: r.rest(True)),
    Reservoirs("reservoir.turn", lambda r: (r.turn(QUARTER, 128, 2), r.turned(X[:6], bytearray(6)))),
    NewReservoir(),
    Training("a training run"),
    Judging("a training run that is judged", 6),
    Suspending("suspend a run", suspend),
    Suspending("a window of a run", lambda r: scheduled(r)),
    Discarding(),
    Learning("learner.learn", lambda a: a.learn(*sample_of(30))),
    Learning("learner.infer", lambda a: a.infer(sample_of(3)[0])),
    Learning("learner.judge", lambda a: a.judge()),
    Learning("learner.consolidate", consolidate, infers=False),
    Learning("learner.add_class", lambda a: a.add_class("wave", waves(4))),
    Learning("learner.remove_class", lambda a: a.remove_class("wave"), added=True),
    Learning("learner.discard", lambda a: a.discard(), begun=True),
    Identity("make an identity", lambda a, i: i.create("/s/fleet.key"), exists=False),
    Identity("take part in a round", lambda a, i: a.identity.take_part(4)),
    Identity("draw a key", lambda a, i: a.identity.draw()),
    Identity("forget an identity", lambda a, i: i.forget("/s/fleet.key")),
    Updating(),
    Putting(),
    Writing("words: learn", learn),
    Writing("words: forget", forget, "ann"),
    Writing("words: another's", lambda words: words.use("ann")),
]
