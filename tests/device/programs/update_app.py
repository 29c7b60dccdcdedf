"""An application that installs updates, for tests: desktop MicroPython runs it in a folder with the base and the keys.

Each argument is a step: put=VERSION=FILE, start, confirm, fetch=URL, within=MS, without=MODULE. Prints a JSON line: the
result of each fetch, and the store's content.
"""

import binascii
import hashlib
import json
import os
import sys
import time

import edgelora
from edgelora.store import Store
from edgelora.update import Updater, trusted

model = edgelora.Model("har.elm", 8, "infer")
store = Store("store")
store.open(model)
updater = Updater(store, *trusted("update.trust"), model, part="update.part", own=("own.elr", "held.eld"))
fetched = []
confirmed = []
steps = 0  # of all fetches
within = 60000  # limit of a fetch in milliseconds


def put(value):
    version, _, path = value.partition("=")
    store.put("wake", edgelora.read(path), int(version))
    store.activate("wake")


def fetch(url):
    global steps
    try:
        for _ in updater.steps(url, 1000, within):
            steps += 1
            time.sleep_ms(1)
        fetched.append(["installed", updater.version])
    except (ValueError, OSError) as error:
        fetched.append([type(error).__name__, str(error)])


for argument in sys.argv[1:]:
    what, _, value = argument.partition("=")
    if what == "put":
        put(value)
    elif what == "start":
        store.start()
    elif what == "confirm":
        confirmed += store.confirm()
    elif what == "fetch":
        fetch(value)
    elif what == "within":
        within = int(value)
    elif what == "without":
        sys.modules[value] = json  # a module without the expected names

entry = store.find("wake")
try:
    part = os.stat("update.part")[6]
except OSError:
    part = None
print(
    json.dumps(
        {
            "fetched": fetched,
            "steps": steps,
            "confirmed": confirmed,
            "version": entry and entry.version,
            "trial": entry and entry.trial,
            "active": store.active,
            "sha256": entry and binascii.hexlify(hashlib.sha256(store.read("wake")).digest()).decode(),
            "in_use": store.in_use is not None,
            "part": part,
            "notices": store.notices,
            "declined": store.declined(),
        }
    )
)
