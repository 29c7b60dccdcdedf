"""Runs a learner and a recorder on a Pico's flash, and resumes them after a power cut, from the state in flash alone.
Runs on the emulated Pico, which records its flash commands, and on desktop MicroPython.

`pico(until)` uses the Pico's own flash; `main(folder, cuts)` resumes from the states that recorded commands leave. The
folder has `flash` (the initial image), `record` (of flash_recorder.py) and `layout.json`: offsets of storage and store,
and the cuts: [command, whether it was only half done].
"""

import binascii
import json
import struct

import edgelora
from edgelora.learner import Learner
from edgelora.recorder import Recorder
from edgelora.reservoir import Reservoir
from edgelora.sources import Host
from edgelora.store import Store
from edgelora.training import SampleFile

SLOTS, SEED, EVERY, NAME = 24, 5, 4, "me"
CONSOLIDATED, EPOCHS = 28, 40  # number of samples before the consolidation, and its epochs


class Life:
    def __init__(self, root, place):
        model = edgelora.Model(root + "base.elm", ranks=4, mode="frozen_a", micro_batch=4, momentum=2)
        try:
            reservoir = Reservoir(root + "samples.elr")
            samples = SampleFile(root + "mine.eld", append=True)
        except OSError:
            reservoir = Reservoir.create(root + "samples.elr", model, SLOTS, SEED)
            samples = SampleFile.create(root + "mine.eld", model)
        store = Store(place, cache=2048, adapters=8)
        store.open(model)
        self.learner = Learner(model, reservoir, store, NAME, SEED, judge_every=EVERY)
        self.stream = SampleFile(root + "stream.eld")
        self.source = Host(model.signal.rate, model.signal.channels)
        self.recorder = Recorder(model, self.source, samples)

    def live(self, until):
        learner, window = self.learner, bytearray(self.stream.sample_size)
        while sum(learner.reservoir.seen) < until:
            n = sum(learner.reservoir.seen)
            if n == CONSOLIDATED:
                for _ in learner.consolidate(EPOCHS, commit_every=2):
                    pass
            label = self.stream.read(n, window)
            learner.learn(window, label)
            self.source.put(bytes(i + n & 255 for i in range(2 * len(window))))
            while self.source._count():
                self.recorder.step()
            self.recorder.take(n % 4)
            if n % 3 == 2:
                self.recorder.undo()

    def taken(self):
        # The recorder's samples in flash: one label each.
        samples, window = self.recorder.store, bytearray(self.stream.sample_size)
        return [samples.read(i, window) for i in range(samples.count)]

    def told(self):
        learner, reservoir = self.learner, self.learner.reservoir
        with open(reservoir.path, "rb") as file:
            content = binascii.hexlify(file.read()).decode()
        in_use = learner.in_use and binascii.hexlify(learner.in_use).decode()
        return {"in_use": in_use, "seen": list(reservoir.seen), "file": content, "taken": self.taken()}

    def close(self):
        for file in (self.learner.reservoir, self.stream, self.recorder.store):
            file.close()


def pico(until):
    from edgelora.store import default_place

    life = Life("/", default_place())
    life.live(until)
    print("TOLD", json.dumps(life.told()))


def main(folder, until):
    import vfs
    from store_cuts import NEVER, Flash

    with open(folder + "/layout.json") as file:
        layout = json.load(file)
    storage, partition, cuts = layout["storage"], layout["store"], [tuple(cut) for cut in layout["cuts"]]
    with open(folder + "/flash", "rb") as file:
        flash = bytearray(file.read())
    with open(folder + "/record", "rb") as record:
        for number in range(layout["records"]):
            offset, size = struct.unpack("<II", record.read(8))
            data = record.read(size)
            there = bytes(flash[offset : offset + size])
            for content, is_half in ((data[: size // 2] + there[size // 2 :], True), (data, False)):
                flash[offset : offset + size] = content
                if (number, is_half) not in cuts:
                    continue
                files, store = Flash(flash[storage:partition], NEVER), Flash(flash[partition:], NEVER)
                vfs.mount(vfs.VfsLfs2(files, progsize=256), "/flash")
                life = Life("/flash/", store)
                found = life.told()
                life.live(until)
                print("CUT", json.dumps([number, found, life.told()]))
                life.close()
                vfs.umount("/flash")
