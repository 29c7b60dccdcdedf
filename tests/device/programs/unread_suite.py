"""Flash that fails once to read: existing files are not taken for missing, and no write undoes another one.

Runs on the firmware of `make firmware-faults`, in the folder that test_faults.py fills. littlefs caches what it has
read, even from a failed read: a board that continues to write may then overwrite the filesystem with an old state.

    asked()        each flash operation fails once in every function that asks whether a file exists; `ASKED <n tried>`
    stopped(most)  about `most` failures in each action on a littlefs, which must end with an error and write nothing
                   after the failure; `STOPPED <n tried>`

`WRONG` lines report failures.
"""

import os

import faults
import faults_actions as board
import faults_fleet
import faults_suite

import edgelora
from edgelora import _update_check, agent, fleet, training, update
from edgelora._trust import trusted
from edgelora.store import Store

KEY, POLICY, HELD = "/fleet.key", "/fleet.json", "/held.eld"
EIO = 5


class Clock:
    """A constant clock, so that what a run saves of it is always the same."""

    sleep_ms = ticks_ms = ticks_us = lambda *_: 0
    ticks_diff = ticks_add = lambda *_: 0


training.time = Clock
fleet._entropy = lambda: bytes(513)  # keys are constant, too


class Files(faults_fleet.OnBoard):
    name = "files"

    def prepare(self):
        super().prepare()
        edgelora.write(POLICY, b'{"masks": 0}')
        edgelora.write(HELD, board.SAMPLES)
        Store("/adapters", cache=0, adapters=8).put("a", board.ONE)


def entries():
    return [(e.name, e.version) for e in Store("/adapters", cache=0, adapters=8).list()]


def created():
    try:
        return fleet.Identity.create()
    except fleet.FleetError as error:
        return str(error)


def held():
    found = _update_check.held_in((HELD,), board.model("infer"))
    found.close()
    return found.count


ASKED = {
    "hash_of": lambda: fleet.hash_of(fleet.ADAPTER),
    "Identity": lambda: fleet.Identity().secret,
    "Identity.create": created,
    "Roster": lambda: fleet.Roster().number,
    "policy": fleet.policy,
    "trusted": lambda: [bytes(key) for key in trusted()[0]],
    "Store": entries,
    "held_in": held,
    "agent": lambda: agent._exists(KEY),
    "update": lambda: update._exists(HELD),
}


def contents(place="/"):
    """All files below a folder."""
    found = {}
    for name, kind, *_ in os.ilistdir(place):
        path = place + name
        found.update(contents(path + "/") if kind == 0x4000 else {path: board.contents(path)})
    return found


files = Files()


def asked():
    files.make()
    before, tried = contents(), 0
    for name, ask in ASKED.items():
        files.make()
        wanted = ask()
        n, failed = 0, True
        while failed:
            files.make()
            faults.arm(faults.FLASH, n, False)
            try:
                said = ask()
            except Exception as error:
                said = error
            failed = faults.disarm() < 0
            if said != wanted and not (isinstance(said, OSError) and said.errno == EIO):
                print("WRONG", name, n, "says", repr(said)[:200])
            board.power(board.flash.image())
            board.mounted("/")
            after = contents()
            if after != before:
                print("WRONG", name, n, "changes", [path for path in before if before[path] != after.get(path)])
            n += 1
        tried += n
    print("ASKED", tried)


def stopped(most):
    tried = 0
    for action in faults_suite.ACTIONS:
        if action.on_flash and action.littlefs:
            faults_suite.states(action)
            left = faults_suite.size(action, faults.FLASH)
            for n in range(0, left, max(1, left // most)):
                tried += one(action, n)
            action.image = None
    print("STOPPED", tried)


def one(action, n):
    """A single flash failure must have the same effect as a permanent one: the action stops at the first failure."""
    ended = []
    for forever in (False, True):
        action.make()
        count, error = faults_suite.attempt(action, faults.FLASH, n, forever)
        if count >= 0:
            return 0
        place = "/" if action.place == "/" else "/s"
        board.power(board.flash.image())
        board.mounted(place)
        ended.append((error, contents(place.rstrip("/") + "/")))
    (error, found), (_, wanted) = ended
    if error is None:
        print("WRONG", action.name, n, "goes on")
    elif found != wanted:
        paths = [path for path in set(found) | set(wanted) if found.get(path) != wanted.get(path)]
        print("WRONG", action.name, n, repr(error), "writes", paths)
    return 1
