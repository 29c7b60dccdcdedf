"""Opens a store in the state after a power cut at each of a Pico's recorded flash commands. Runs on MicroPython.

`main(folder)`: the folder has `flash` (the initial image), `record` (of flash_recorder.py) and `steps.json`: offsets of
the storage and the store in the flash, CRCs of the versions, and for each step its number of records and the state
after it. Prints a line for each failure, and finally `CUTS <cuts> <failures>`.
"""

import json
import struct

import store_cuts
import vfs

import edgelora
from edgelora.store import Store

BLOCK, PAGE = store_cuts.BLOCK, store_cuts.PAGE


class Flash:
    """Part of an image as a block device."""

    def __init__(self, memory):
        self.memory = memory

    def readblocks(self, block, buffer, offset=0):
        at = block * BLOCK + offset
        memoryview(buffer)[:] = memoryview(self.memory)[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        at = block * BLOCK + offset
        self.memory[at : at + len(buffer)] = buffer

    def ioctl(self, op, arg):
        if op == 4:
            return len(self.memory) // BLOCK
        if op == 5:
            return BLOCK
        if op == 6:
            at = arg * BLOCK
            self.memory[at : at + BLOCK] = b"\xff" * BLOCK
        return 0


def state_of(store):
    adapters = [[e.name, e.version, e.pinned, e.trial] for e in store.list()]
    return [sorted(adapters), store.active]


def check_store(memory, allowed, crcs):
    """What is wrong, or None."""
    store = Store(Flash(bytearray(memory)), cache=0)
    state = state_of(store)
    if state not in allowed:
        return f"{state} is none of {allowed}"
    for entry in store.list():
        data = bytearray(entry.size)
        store._flash.read(entry.places, data)
        if edgelora._core.crc32(data, 0) != crcs[f"{entry.name} {entry.version}"]:
            return f"{entry.name} {entry.version} is not whole"
    return None


def check_files(memory):
    try:
        vfs.VfsLfs2(Flash(memory), progsize=PAGE)
    except OSError as error:
        return f"the filesystem does not mount: {error}"


def half(there, data):
    """The result of a command cut off half way: the first half of the new data, then the old data."""
    return data[: len(data) // 2] + there[len(data) // 2 :]


def main(folder):
    with open(folder + "/steps.json") as file:
        told = json.load(file)
    storage, partition, crcs = told["storage"], told["store"], told["crcs"]
    with open(folder + "/flash", "rb") as file:
        file.seek(storage)
        files = bytearray(file.read(partition - storage))
        store = bytearray(file.read())
    cuts = failures = 0
    state = told["state"]
    with open(folder + "/record", "rb") as record:
        for step in told["steps"]:
            allowed = [state, step["state"]]
            for number in range(step["records"]):
                offset, size = struct.unpack("<II", record.read(8))
                data = record.read(size)
                memory, at = (store, offset - partition) if offset >= partition else (files, offset - storage)
                there = bytes(memory[at : at + size])
                for content in (half(there, data), data):
                    memory[at : at + size] = content
                    cuts += 1
                    error = check_store(store, allowed, crcs) if memory is store else check_files(files)
                    if error:
                        failures += 1
                        print(f"FAIL {step['name']}, command {number}: {error}")
            state = step["state"]
            error = check_store(store, [state], crcs)
            if error:
                failures += 1
                print(f"FAIL after {step['name']}: {error}")
    print("CUTS", cuts, failures)
