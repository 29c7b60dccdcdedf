"""A recorder, on MicroPython. Needs base.elm, mine.s16 and case.json."""

import asyncio
import binascii
import json
import time

import micropython
import vfs

# The recorder's clock follows the stream: a sample is 20 ms.
clock = [0]


class Time:
    ticks_diff = staticmethod(time.ticks_diff)

    @staticmethod
    def ticks_ms():
        return clock[0]


import edgelora  # noqa: E402
from edgelora import recorder as module  # noqa: E402
from edgelora.recorder import Recorder  # noqa: E402
from edgelora.reservoir import Reservoir  # noqa: E402
from edgelora.sources import Recording  # noqa: E402
from edgelora.training import SampleFile  # noqa: E402


class Button:
    """A button that is pressed from one sample of the stream to another."""

    def __init__(self, presses):
        self.presses = presses

    def value(self):
        at = clock[0] // 20
        for start, end in self.presses:
            if start <= at < end:
                return 0
        return 1


def contents(samples):
    window = bytearray(samples.sample_size)
    return [[samples.read(i, window), binascii.hexlify(window).decode()] for i in range(samples.count)]


def run(case):
    """Buttons by a script. CRCs are small integers here, so nothing is allocated."""
    module.time = Time
    clock[0] = 0
    model = edgelora.Model("base.elm", 0, "infer")
    signal = model.signal
    try:
        samples = SampleFile("mine.eld", append=True)
    except OSError:
        samples = SampleFile.create("mine.eld", model)
    buttons = [(Button(presses), label) for presses, label in case["buttons"]]
    recorder = Recorder(model, Recording("mine.s16", signal.rate, signal.channels), samples, buttons, chunk=1)
    told, steps = [], 0
    while not recorder.ended:
        micropython.heap_lock()
        new = recorder.step()
        micropython.heap_unlock()
        steps += 1
        clock[0] = recorder.samples * 20
        if new:
            told.append([recorder.samples, recorder.taken, list(recorder.counts)])
    samples.close()
    again = SampleFile("mine.eld")
    print(json.dumps([told, contents(again), steps]))


def calls():
    """Records into a reservoir without buttons, under asyncio."""
    model = edgelora.Model("base.elm", 0, "infer")
    reservoir = Reservoir.create("mine.elr", model, 8)
    recorder = Recorder(model, Recording("mine.s16", model.signal.rate, model.signal.channels), reservoir, chunk=5)
    early, taken = recorder.take(0), []

    async def user():
        while not recorder.ended:
            await asyncio.sleep_ms(0)
            if recorder.ready and len(taken) < 5:
                taken.append(recorder.take(len(taken) % 2))

    async def both():
        await asyncio.gather(recorder.run(), user())

    asyncio.run(both())
    refused = []
    for call in (recorder.undo, lambda: recorder.take(99)):
        try:
            call()
        except ValueError as error:
            refused.append(str(error))
    print(json.dumps([early, taken, list(recorder.counts), reservoir.count, refused]))


class Flash:
    """Flash in RAM that records its operations."""

    BLOCK = 4096

    def __init__(self, memory):
        self.memory = memory
        self.done = []

    def readblocks(self, block, buffer, offset=0):
        at = block * self.BLOCK + offset
        memoryview(buffer)[:] = memoryview(self.memory)[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        self._put(block * self.BLOCK + offset, bytes(buffer))

    def _put(self, at, data):
        self.done.append((at, data))
        self.memory[at : at + len(data)] = data

    def ioctl(self, op, arg):
        if op == 4:
            return len(self.memory) // self.BLOCK
        if op == 5:
            return self.BLOCK
        if op == 6:
            self._put(arg * self.BLOCK, b"\xff" * self.BLOCK)
        return 0


def cuts():
    """Recording and undoing samples on littlefs, with a power cut before, within and after each flash operation."""
    flash = Flash(bytearray(24 * Flash.BLOCK))
    vfs.VfsLfs2.mkfs(flash, progsize=256)
    model = edgelora.Model("base.elm", 0, "infer")
    window = bytearray(model.sample_size)
    vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/flash")
    samples = SampleFile.create("/flash/mine.eld", model)
    number, kept, steps = 0, [], []
    for what in "aauauuaaaaaauua":
        before = list(kept)
        memory, flash.done = bytes(flash.memory), []
        if what == "a":
            number += 1
            window[0] = number
            samples.append(window, number % 3)
            kept.append(number)
        else:
            assert samples.undo() == kept.pop() % 3
        steps.append((memory, flash.done, before, list(kept)))
    vfs.umount("/flash")
    count = failures = 0
    for memory, done, before, after in steps:
        memory = bytearray(memory)
        for at, data in [(0, b"")] + done:
            there = bytes(memory[at : at + len(data)])
            for content in (data[: len(data) // 2] + there[len(data) // 2 :], data):
                memory[at : at + len(data)] = content
                count += 1
                vfs.mount(vfs.VfsLfs2(Flash(bytearray(memory)), progsize=256), "/flash")
                samples = SampleFile("/flash/mine.eld", append=True)
                found = []
                for i in range(samples.count):
                    label = samples.read(i, window)
                    found.append(window[0])
                    failures += label != window[0] % 3
                if found not in (before, after):
                    failures += 1
                    print("FAIL", found, before, after)
                window[0] = 77
                samples.append(window, 77 % 3)
                samples.close()
                failures += SampleFile("/flash/mine.eld").count != len(found) + 1
                vfs.umount("/flash")
    print("CUTS", count, failures)


def main(what):
    with open("case.json") as file:
        case = json.load(file)
    run(case) if what == "run" else calls() if what == "calls" else cuts()
