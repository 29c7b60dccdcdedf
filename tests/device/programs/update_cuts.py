"""Cuts the power at every flash operation of an update, from its first byte to its confirmation. Runs on MicroPython.

`main()` needs har.elm, 7.ela, update.trust and update.elu in the folder. The store and the unfinished update share a
littlefs. Prints a line for each failure, and finally `CUTS <cuts> <failures>`.
"""

import store_cuts
import vfs
from store_cuts import BLOCK, BLOCKS, NEVER, PAGE, Flash, PowerCut

import edgelora
from edgelora.store import Store
from edgelora.update import NotNewer, Updater, trusted


def opened(image, model, cut=NEVER, how=0):
    """(store, updater, flash) after a start on this flash."""
    flash = Flash(image, cut, how)
    store_cuts.mount(flash)
    store = Store("/s/adapters")
    store.open(model)
    return store, Updater(store, *trusted("update.trust"), model, part="/s/update.part"), flash


def update(store, updater, bundle):
    """Installs the bundle unless the store has it already, and confirms it after a start."""
    try:
        kept = updater.begin(bundle[:256])
        for at in range(256 + kept, len(bundle), 512):
            updater.write(bundle[at : at + 512])
        for _ in updater.finish():
            pass
    except NotNewer:
        pass
    store.start()
    store.confirm()


def interrupted(image, model, bundle, cut, how):
    """Updates with a power cut at this flash operation. False if the update has fewer operations."""
    store, updater, flash = opened(image, model)
    flash.operations, flash.cut, flash.how = 0, cut, how
    try:
        update(store, updater, bundle)
        return False
    except (PowerCut, OSError, ValueError):  # ValueError: a check found that nothing is written any more
        if flash.cut >= 0:
            raise
        try:  # noqa: SIM105  MicroPython has no contextlib
            updater.close()
        except OSError:
            pass  # the flash has no power
    return True


def faults_after(image, model, bundle, old):
    """Restarts after a cut, updates again, and restarts once more; yields what is wrong."""
    store, updater, _ = opened(image, model)
    entry = store.find("wake")
    held = bytes(store.read("wake"))
    if entry.version not in (7, 8) or (entry.version == 7) != (held == old) or store.active != "wake":
        yield "version", entry.version
    update(store, updater, bundle)
    # If the cut came after the trial's start, that start was not confirmed: version 7 is active again.
    fell_back = any("not confirmed" in notice for notice in store.notices)
    store, _, _ = opened(image, model)
    store.start()
    entry = store.find("wake")
    if (entry.version, entry.trial) != (7 if fell_back else 8, False):
        yield "not done again, version", entry.version


def main():
    model = edgelora.Model("har.elm", 8, "infer")
    old, bundle = bytes(edgelora.read("7.ela")), bytes(edgelora.read("update.elu"))
    first = bytearray(b"\xff" * (BLOCK * BLOCKS))
    vfs.VfsLfs2.mkfs(Flash(first, NEVER), progsize=PAGE)
    store, _, _ = opened(first, model)
    store.put("wake", old, 7)
    store.activate("wake")
    cuts = failures = 0
    for how in (0, 1, 2):
        cut, image = 0, bytearray(first)
        while interrupted(image, model, bundle, cut, how):
            cut += 1
            cuts += 1
            for fault in faults_after(image, model, bundle, old):
                failures += 1
                print("FAIL cut", cut, how, *fault)
            image = bytearray(first)
    print("CUTS", cuts, failures)
