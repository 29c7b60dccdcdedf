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


def hexed(adapter):
    return adapter and binascii.hexlify(adapter).decode()


class Board:
    """A board with a learner and an empty store; `start` is what follows a reset. added: classes beside the base's."""

    def __init__(self, mode="frozen_a", momentum=3, added=0, adapter=None, **settings):
        self.memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
        self.training = {"ranks": 4, "mode": mode, "momentum": momentum}
        self.settings = settings
        model = edgelora.Model("base.elm", mode="infer")
        Reservoir.create("board.elr", model, SLOTS, SEED, model.output_size + added)
        store = Store(store_cuts.Flash(self.memory, store_cuts.NEVER), cache=4096, adapters=8)
        if adapter:
            store.put(NAME, adapter)
        self.start()

    def start(self, cut=store_cuts.NEVER, how=0):
        self.flash = store_cuts.Flash(self.memory, cut, how)
        self.model = edgelora.Model("base.elm", **self.training)
        store = Store(self.flash, cache=4096, adapters=8)
        store.open(self.model)
        self.learner = Learner(self.model, Reservoir("board.elr"), store, NAME, SEED, **self.settings)

    def consolidate(self, *settings):
        *_, run = self.learner.consolidate(*settings)
        return run

    def in_use(self):
        learner = self.learner
        assert learner.store.active == (learner.in_use and NAME)
        assert learner.in_use is None or learner.in_use == learner.store.read(NAME)
        return hexed(learner.in_use)

    def kept(self):
        return self.learner.reservoir.crc(self.learner.reservoir.count)


def refused(call, *given, told=""):
    try:
        call(*given)
    except ValueError as error:
        assert told in str(error), error
        return
    raise AssertionError("not refused: " + told)


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
    reservoir = Reservoir(path)
    window = bytearray(reservoir.sample_size)
    labels = [reservoir.read(i, window) for i in range(reservoir.count)]
    print("UPGRADED", json.dumps([reservoir.seen, reservoir.time, labels]))


def live(count, resets, consolidated=None, adapter=None):
    """A life of `count` samples with resets and a consolidation. adapter: the one in use at first. Prints what each
    window is classified as, whether that adapter is in use, the matrix at the end, what the learner says, and the
    adapter in use after a reset."""
    first = adapter and contents(adapter)
    board, named, used = Board(adapter=first), [], []
    for i, label, sample in stream():
        if i == count:
            break
        if i == consolidated:
            board.consolidate(3)
        if i in resets:
            board.start()
        board.learner.learn(sample, label)
        named.append(board.learner.infer(sample))
        used.append(board.learner.in_use == first)
    told = [named, used, board.learner.matrix and list(board.learner.matrix), board.learner.notice]
    board.start()
    print("LIVED", json.dumps(told + [board.in_use()]))


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
    board, told = Board(judge_every=EVERY), []
    board.start(cut, how)
    flash = board.flash
    for i, label, sample in stream():
        if i == 80:
            ended = False
            try:
                for run in board.learner.consolidate(epochs):
                    ended = run is not None and run.done
            except store_cuts.PowerCut:
                board.start()
                if unfinished(board.learner.store, NAME) or not ended:
                    board.consolidate(epochs)
                told.append([-1, board.in_use()])
        try:
            board.learner.learn(sample, label)
        except store_cuts.PowerCut:
            board.start()
            told.append([i, board.in_use()])
    told.append([i + 1, board.in_use()])
    print("CUT", json.dumps([flash.operations, told]))


def learn(mode, momentum, epochs):
    """A life: samples, a reset, a consolidation with a reset in it, and more samples."""
    board, told = Board(mode, momentum, judge_every=EVERY), []

    def tell():
        told.append([board.in_use(), hexed(board.learner.model.save()), board.kept()])

    refused(next, board.learner.consolidate())  # nothing judges yet
    for i, label, sample in stream():
        if i == 60:
            board.start()  # unfinished training was discarded
        if i == 80:
            tell()
            for run in board.learner.consolidate(epochs):
                if run and run.judged == 2:
                    break
            run.suspend()
            board.start()
            refused(board.learner.learn, sample, label)  # a consolidation is under way
            for run in board.learner.consolidate(epochs):
                assert run is None or run.resumes == 1
            told.append(run.better)
            tell()
        board.learner.learn(sample, label)
        if i % 16 == 0:
            told.append([board.learner.model.infer(sample), board.learner.updates])
    tell()
    for run in board.learner.consolidate(epochs):
        if run and run.judged == 2:
            break
    board.learner.discard()
    assert [entry.name for entry in board.learner.store.list()] == ([NAME] if board.learner.in_use else [])
    print("LIFE", json.dumps(told))


def given(pairs, names, only=None, epochs=2, harmful=()):
    """The active adapters: after classes `names` of square waves are added, after samples of the stream with these
    labels, and after a consolidation, if there are enough held-out samples; then the reservoir's counts. only: the
    classes that count; harmful: numbers of samples that no class can be added from before the consolidation."""
    board = Board(added=len(names) + bool(harmful), judge_every=EVERY, only=only)
    learner, model = board.learner, board.model
    file, sample = SampleFile("stream.eld"), bytearray(model.sample_size)
    for turn, name in enumerate(names):
        learner.add_class(name, [waved(k + 40 * turn, model.sample_size) for k in range(10)])
    told = [board.in_use()]
    for i, label in pairs:
        file.read(i, sample)
        learner.learn(sample if label < model.output_size else waved(i + label, len(sample)), label)
    told.append(board.in_use())
    if harmful:
        taken, known = [], len(model.labels)
        for i in harmful:
            file.read(i, sample)
            taken.append(bytes(sample))
        refused(learner.add_class, "wave", taken, told="would be correct")
        assert len(model.labels) == known and board.in_use() == told[-1]
    try:
        told.append(board.consolidate(epochs).better)
    except ValueError:
        told.append(None)
    told.append(board.in_use())
    assert [entry.name for entry in learner.store.list()] in ([], [NAME])
    print("GIVEN", json.dumps(told + [learner.reservoir.seen]))


def waved(i, size):
    """A sample of a class that the base does not know: a square wave."""
    return bytes((i % 40 + 60 * (k // 30 % 2 * 2 - 1)) & 255 for k in range(size))


def add(epochs, cut=store_cuts.NEVER, how=0):
    """A life with an added class: added, learned, consolidated, removed.

    The power fails at the store's change `cut` of the consolidation, if it has that many.
    """
    board, told = Board(added=1, judge_every=EVERY), []

    def tell():
        told.append([board.in_use(), board.kept()])

    for i, label, sample in stream():
        if i == 40:
            number = board.learner.add_class("wave", [waved(k, len(sample)) for k in range(10)])
            assert number == board.model.output_size and board.model.labels[number] == "wave"
            tell()
        if i == 80:
            tell()
            board.start(cut, how)
            try:
                board.consolidate(epochs, 2)
                operations = board.flash.operations
            except store_cuts.PowerCut:
                operations = cut
                board.start()
                board.consolidate(epochs, 2)  # if it was complete, repeating it is no improvement
            board.start()
            tell()
        board.learner.learn(sample, label)
        if i % 4 == 0 and i >= 40:
            board.learner.learn(waved(i, len(sample)), number)
            told.append([board.model.infer(waved(i + 1, len(sample))), board.learner.updates])
    tell()
    board.learner.remove_class("wave")
    tell()
    refused(board.learner.learn, waved(0, len(sample)), number)
    print("ADDED", json.dumps([operations, told]))


def dropped():
    """A run under the name of an adapter with added classes is refused before anything is written."""
    board = Board()
    model, store = board.model, board.learner.store
    store.put(NAME, model.add_class("wave", [waved(k, model.sample_size) for k in range(10)]).buffer)
    before, samples = bytes(board.memory), SampleFile("stream.eld")
    for held in (None, split(samples)[1]):
        refused(lambda held=held: Run(model, samples, store, NAME, epochs=1, held=held), told="has added classes")
    assert bytes(board.memory) == before
    Run(model, samples, store, "other", epochs=1)
    print('DROPPED "kept"')
