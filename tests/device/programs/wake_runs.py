"""A wake word that listens to a recording and keeps samples, on MicroPython. Needs word.elm, said.wav and case.json."""

import json

import micropython

import edgelora
from edgelora.sources import Recording
from edgelora.training import SampleFile
from edgelora.wake import Rule, WakeWord


def main():
    """Listens with the heap locked. Calls a method at each of the case's frames; reports frames of wakes, and calls."""
    with open("case.json") as file:
        case = json.load(file)
    model = edgelora.Model("word.elm", 0, "infer", frames=case["frames"])
    samples = SampleFile.create("mine.eld", model)
    word = WakeWord(model, Recording("said.wav"), Rule.read("word.json"), samples)
    wakes, calls = [], []
    while not word.ended:
        micropython.heap_lock()
        woke = word.step()
        micropython.heap_unlock()
        if woke:
            wakes.append(word.windows)
        for at, name, given in case["calls"]:
            if word.windows == at:
                case["calls"].remove([at, name, given])
                try:
                    calls.append(getattr(word, name)(*given))
                except ValueError as error:
                    calls.append(str(error))
    print(json.dumps([wakes, calls, word.wakes, word.kept]))
