"""Corrections on MicroPython. Needs base.elm and case.json: calls of a teacher, by name, window in hex and class."""

import binascii
import json

import edgelora
from edgelora.store import Store
from edgelora.teaching import Teacher
from edgelora.training import SampleFile


def main():
    """Makes the calls; prints after each doubt, hints and the adapter in use, then what a reset finds."""
    with open("case.json") as file:
        calls = json.load(file)
    model = edgelora.Model("base.elm", 4)
    files = [SampleFile.create(name, model) for name in ("mine.eld", "not.eld")]
    store = Store("store")
    store.open(model)
    teacher, found = Teacher(model, *files, store, "me"), []
    for name, window, label in calls:
        if name == "undo":
            teacher.undo()
        else:
            getattr(teacher, name)(binascii.unhexlify(window), label)
        used = model.used
        found.append([teacher.doubt, teacher.hinted, used and binascii.hexlify(used.buffer).decode()])
    again = Teacher(model, SampleFile("mine.eld", True), SampleFile("not.eld", True), store, "me")
    print(json.dumps([found, again.doubt, again.hinted, store.active]))
