"""The reservoir and the learner, on MicroPython. Needs base.elm, and stream.eld with the samples in order."""

import binascii
import json

import store_cuts

import edgelora
from edgelora.learner import Learner
from edgelora.reservoir import Reservoir
from edgelora.store import Store
from edgelora.training import Run, SampleFile, split, unfinished

SLOTS, SEED, EVERY = 40, 5, 4
NAME = "me"


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def stream():
    file = SampleFile("stream.eld")
    buffer = bytearray(file.sample_size)
    for i in range(file.count):
        yield i, file.read(i, buffer), buffer


def fill(path, slots):
    """Prints the slots that samples get; the reservoir is reopened half way."""
    reservoir = Reservoir.create(path, edgelora.Model("base.elm", mode="infer"), slots, SEED)
    got = []
    for i, label, sample in stream():
        if i == 50:
            reservoir.close()
            reservoir = Reservoir(path)
        got.append(reservoir.add(sample, label))
    learned, held = reservoir.parts()
    told = [got, reservoir.seen, learned.count, held.count if held else 0, reservoir.crc(reservoir.count)]
    print("FILLED", json.dumps(told))


def upgrade(path):
    """Prints counts, time and labels of a reservoir of an earlier version; its file is of this version then."""
    reservoir, window = Reservoir(path), None
    window = bytearray(reservoir.sample_size)
    labels = [reservoir.read(i, window) for i in range(reservoir.count)]
    print("UPGRADED", json.dumps([reservoir.seen, reservoir.time, labels]))


def turns(epochs):
    """A life with resets and a consolidation in which the sensor's axes are turned: what each window is classified as,
    the matrix at the end, and what the learner says."""
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    named = []
    Reservoir.create("turned.elr", edgelora.Model("base.elm", mode="infer"), SLOTS, SEED)

    def born():
        model = edgelora.Model("base.elm", ranks=4, mode="frozen_a", momentum=3)
        store = Store(store_cuts.Flash(memory, store_cuts.NEVER), cache=4096, adapters=8)
        store.open(model)
        return Learner(model, Reservoir("turned.elr"), store, NAME, SEED)

    learner = born()
    for i, label, sample in stream():
        if i in (64, 100, 128):
            if i == 64:
                for _ in learner.consolidate(epochs):
                    pass
            learner = born()
        learner.learn(sample, label)
        named.append(learner.infer(sample))
    print("TURNED", json.dumps([named, list(learner.matrix), learner.notice]))


def rests(count):
    """Whether bad.ela is in use after each of the first samples."""
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    Reservoir.create("rests.elr", edgelora.Model("base.elm", mode="infer"), SLOTS, SEED)
    bad, used = contents("bad.ela"), []

    def born():
        model = edgelora.Model("base.elm", ranks=4, mode="frozen_a", momentum=3)
        store = Store(store_cuts.Flash(memory, store_cuts.NEVER), cache=4096, adapters=8)
        store.open(model)
        if not used:
            store.put(NAME, bad)
        learner = Learner(model, Reservoir("rests.elr"), store, NAME, SEED)
        assert store.active == (learner.in_use and NAME)
        return learner

    learner = born()
    for i, label, sample in stream():
        if i == count:
            break
        if i == 12:
            learner = born()
        learner.learn(sample, label)
        used.append(learner.in_use == bad)
    assert born().in_use is None
    print("RESTED", json.dumps(used))


def torn():
    """Cuts the writing of every sample at many bytes: it has its slot or not, is counted or not; others stay."""
    path, cuts = "torn.elr", 0
    reservoir = Reservoir.create(path, edgelora.Model("base.elm", mode="infer"), 12, SEED)
    for _, label, sample in stream():
        before, labels, seen = contents(path), list(reservoir._labels), list(reservoir.seen)
        slot = reservoir.add(sample, label)
        after, spans = contents(path), [(reservoir._counts_at(reservoir.time & 1), len(reservoir._counts))]
        if slot is not None:
            spans.insert(0, (reservoir._at(slot), len(reservoir._record)))
        data = before
        for at, size in spans:
            for written in range(0, size + 1, 67 if size > 100 else 9):
                with open("cut.elr", "wb") as file:
                    file.write(data[:at] + after[at : at + written] + data[at + written :])
                found = Reservoir("cut.elr")
                assert found.seen in (seen, reservoir.seen) and (found.seen == seen or at == spans[-1][0])
                for i in range(12):
                    allowed = {labels[i]} if i != slot else {labels[i], -1, label}
                    assert found._labels[i] in allowed, (i, slot, written)
                found.add(sample, label)
                found.close()
                cuts += 1
            data = data[:at] + after[at : at + size] + data[at + size :]
        assert data == after
    print("TORN", cuts)


def cut_life(cut, how, epochs):
    """A life with a power cut at the store's change `cut` (`how`: before, half way, after it). Prints `CUT`: the number
    of changes, where the cut was (a sample's number, -1: in the consolidation) and the active adapter then and at the
    end."""
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    path, told = "cutlife.elr", []
    Reservoir.create(path, edgelora.Model("base.elm", mode="infer"), SLOTS, SEED)

    def born(flash):
        model = edgelora.Model("base.elm", ranks=4, mode="frozen_a", momentum=3)
        store = Store(flash, cache=4096, adapters=8)
        store.open(model)
        return Learner(model, Reservoir(path), store, NAME, SEED, judge_every=EVERY)

    def in_use():
        assert learner.store.active == (learner.in_use and NAME)
        return learner.in_use and binascii.hexlify(learner.in_use).decode()

    born(store_cuts.Flash(memory, store_cuts.NEVER))  # creates an empty store
    flash = store_cuts.Flash(memory, cut, how)
    learner = born(flash)
    for i, label, sample in stream():
        if i == 80:
            ended = False
            try:
                for run in learner.consolidate(epochs):
                    ended = run is not None and run.done
            except store_cuts.PowerCut:
                learner = born(store_cuts.Flash(memory, store_cuts.NEVER))
                if unfinished(learner.store, NAME) or not ended:
                    for _ in learner.consolidate(epochs):
                        pass
                told.append([-1, in_use()])
        try:
            learner.learn(sample, label)
        except store_cuts.PowerCut:
            learner = born(store_cuts.Flash(memory, store_cuts.NEVER))
            told.append([i, in_use()])
    told.append([i + 1, in_use()])
    print("CUT", json.dumps([flash.operations, told]))


def learn(mode, momentum, epochs):
    """A life: samples, a reset, a consolidation with a reset in it, and more samples."""
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    path, told = "life.elr", []
    Reservoir.create(path, edgelora.Model("base.elm", mode="infer"), SLOTS, SEED)

    def born():
        model = edgelora.Model("base.elm", ranks=4, mode=mode, momentum=momentum)
        store = Store(store_cuts.Flash(memory, store_cuts.NEVER), cache=4096, adapters=8)
        store.open(model)
        return Learner(model, Reservoir(path), store, NAME, SEED, judge_every=EVERY)

    def tell():
        in_use = learner.in_use and binascii.hexlify(learner.in_use).decode()
        assert learner.store.active == (in_use and NAME)
        assert learner.in_use is None or learner.in_use == learner.store.read(NAME)
        told.append(
            [in_use, binascii.hexlify(learner.model.save()).decode(), learner.reservoir.crc(learner.reservoir.count)]
        )

    learner = born()
    try:
        next(learner.consolidate())
        raise AssertionError("nothing judges yet")
    except ValueError:
        pass
    for i, label, sample in stream():
        if i == 60:
            learner = born()  # unfinished training was discarded
        if i == 80:
            tell()
            for run in learner.consolidate(epochs):
                if run and run.judged == 2:
                    break
            run.suspend()
            learner = born()
            try:
                learner.learn(sample, label)
                raise AssertionError("a consolidation is under way")
            except ValueError:
                pass
            for run in learner.consolidate(epochs):
                assert run is None or run.resumes == 1
            told.append(run.better)
            tell()
        learner.learn(sample, label)
        if i % 16 == 0:
            told.append([learner.model.infer(sample), learner.updates])
    tell()
    for run in learner.consolidate(epochs):
        if run and run.judged == 2:
            break
    learner.discard()
    assert [entry.name for entry in learner.store.list()] == ([NAME] if learner.in_use else [])
    print("LIFE", json.dumps(told))


def given(pairs, names, only=None, epochs=2):
    """The active adapters: after classes `names` of square waves are added, after samples of the stream with these
    labels, and after a consolidation, if there are enough held-out samples. only: the classes that count."""
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    model = edgelora.Model("base.elm", ranks=4, mode="frozen_a", momentum=3)
    reservoir = Reservoir.create("given.elr", model, SLOTS, SEED, model.output_size + len(names))
    store = Store(store_cuts.Flash(memory, store_cuts.NEVER), cache=4096, adapters=8)
    store.open(model)
    learner = Learner(model, reservoir, store, NAME, SEED, judge_every=EVERY, only=only)
    for turn, name in enumerate(names):
        learner.add_class(name, [waved(k + 40 * turn, model.sample_size) for k in range(10)])
    told = [learner.in_use and binascii.hexlify(learner.in_use).decode()]
    file, sample = SampleFile("stream.eld"), bytearray(model.sample_size)
    for i, label in pairs:
        file.read(i, sample)
        learner.learn(sample if label < model.output_size else waved(i + label, len(sample)), label)
    told.append(learner.in_use and binascii.hexlify(learner.in_use).decode())
    try:
        *_, run = learner.consolidate(epochs)
        told.append(run.better)
    except ValueError:
        told.append(None)
    told.append(learner.in_use and binascii.hexlify(learner.in_use).decode())
    assert store.active == (learner.in_use and NAME) and [entry.name for entry in store.list()] in ([], [NAME])
    print("GIVEN", json.dumps(told))


def waved(i, size):
    """A sample of a class that the base does not know: a square wave."""
    return bytes((i % 40 + 60 * (k // 30 % 2 * 2 - 1)) & 255 for k in range(size))


def add(epochs, cut=store_cuts.NEVER, how=0):
    """A life with an added class: added, learned, consolidated, removed.

    The power fails at the store's change `cut` of the consolidation, if it has that many.
    """
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    path, told = "classlife.elr", []
    first = edgelora.Model("base.elm", mode="infer")
    Reservoir.create(path, first, SLOTS, SEED, first.output_size + 1)

    def born(flash):
        model = edgelora.Model("base.elm", ranks=4, mode="frozen_a", momentum=3)
        store = Store(flash, cache=4096, adapters=8)
        store.open(model)
        return Learner(model, Reservoir(path), store, NAME, SEED, judge_every=EVERY)

    def tell():
        in_use = learner.in_use and binascii.hexlify(learner.in_use).decode()
        assert learner.store.active == (in_use and NAME)
        told.append([in_use, learner.reservoir.crc(learner.reservoir.count)])

    learner = born(store_cuts.Flash(memory, store_cuts.NEVER))
    for i, label, sample in stream():
        if i == 40:
            number = learner.add_class("wave", [waved(k, len(sample)) for k in range(10)])
            assert number == first.output_size and learner.model.labels[number] == "wave"
            tell()
        if i == 80:
            tell()
            flash = store_cuts.Flash(memory, cut, how)
            learner = born(flash)
            try:
                for _ in learner.consolidate(epochs, 2):
                    pass
                operations = flash.operations
            except store_cuts.PowerCut:
                operations = cut
                learner = born(store_cuts.Flash(memory, store_cuts.NEVER))
                for _ in learner.consolidate(epochs, 2):  # if it was complete, repeating it is no improvement
                    pass
            learner = born(store_cuts.Flash(memory, store_cuts.NEVER))
            tell()
        learner.learn(sample, label)
        if i % 4 == 0 and i >= 40:
            learner.learn(waved(i, len(sample)), number)
            told.append([learner.model.infer(waved(i + 1, len(sample))), learner.updates])
    tell()
    learner.remove_class("wave")
    tell()
    try:
        learner.learn(waved(0, len(sample)), number)
        raise AssertionError("it was removed")
    except ValueError:
        pass
    print("ADDED", json.dumps([operations, told]))


def harm():
    """A class added from two samples of another one: the active adapters before and after, the reservoir's counts."""
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    model = edgelora.Model("base.elm", ranks=4, mode="frozen_a", momentum=3)
    store = Store(store_cuts.Flash(memory, store_cuts.NEVER), cache=4096, adapters=8)
    store.open(model)
    reservoir = Reservoir.create("harm.elr", model, SLOTS, SEED, model.output_size + 1)
    learner, taken = Learner(model, reservoir, store, NAME, SEED, judge_every=EVERY), []
    for _, label, sample in stream():
        learner.learn(sample, label)
        if label == 0:
            taken.append(bytes(sample))
    told, before = [learner.in_use and binascii.hexlify(learner.in_use).decode()], len(model.labels)
    try:
        learner.add_class("wave", taken[:2])
        raise AssertionError("it harms the others")
    except ValueError as error:
        assert "would be correct" in str(error), error
    assert len(model.labels) == before
    told.append(learner.in_use and binascii.hexlify(learner.in_use).decode())
    print("HARM", json.dumps(told + [reservoir.seen]))


def dropped():
    """A run under the name of an adapter with added classes is refused before anything is written."""
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    flash = store_cuts.Flash(memory, store_cuts.NEVER)
    model = edgelora.Model("base.elm", ranks=4, mode="frozen_a", momentum=3)
    store = Store(flash, cache=4096, adapters=8)
    store.open(model)
    adapter = model.add_class("wave", [waved(k, model.sample_size) for k in range(10)])
    store.put(NAME, adapter.buffer)
    before = bytes(memory)
    samples = SampleFile("stream.eld")
    for held in (None, split(samples)[1]):
        try:
            Run(model, samples, store, NAME, epochs=1, held=held)
            raise AssertionError("the run would lose its classes")
        except ValueError as error:
            assert "has added classes" in str(error), error
    assert bytes(memory) == before
    Run(model, samples, store, "other", epochs=1)
    print("DROPPED kept")
