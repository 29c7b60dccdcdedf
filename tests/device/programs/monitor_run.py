"""A monitor through its stages, on MicroPython, with the heap locked. Needs base.elm, mine.ela, values.s16."""

import json
from array import array

import micropython

import edgelora
from edgelora.monitor import Monitor
from edgelora.training import SampleFile

STAGES = ("scale", "learn", "residuals", "threshold", "watch")


def windows(size):
    with open("values.s16", "rb") as file:
        while True:
            row = array("h", bytes(2 * size))
            if not file.readinto(row):
                return
            yield row


def feed(monitor, rows, count, lock):
    told = []
    for _ in range(count):
        row = next(rows)
        if lock:
            micropython.heap_lock()
        try:
            score = monitor.update(row)
        finally:
            if lock:
                micropython.heap_unlock()
        told.append((score, monitor.alarm))
    return told


def main(counts, least, votes, one_in):
    """Runs the stages, each with this many windows; prints the last one's scores and alarms, and saves what was
    learned."""
    model = edgelora.Model("base.elm", ranks=4)
    monitor = Monitor(model, least, votes, one_in)
    rows = windows(model.input_size)
    told = None
    for at, count in enumerate(counts):
        stage = STAGES[at]
        if stage == "residuals":
            model.use(model.adapter("mine.ela"))
        samples = SampleFile.create("learned.eld", model) if stage == "learn" else None
        monitor.calibrate(stage, 0 if stage == "watch" else count, samples)
        told = feed(monitor, rows, count, stage != "learn")
        if samples:
            samples.close()
    edgelora.write("machine.ela", monitor.adapter().buffer)
    other = Monitor(edgelora.Model("base.elm", ranks=4))
    other.use(other.model.adapter("machine.ela"))
    again = feed(other, rows, count, True)
    print(json.dumps([told, again, monitor.threshold, other.stage]))


def refuse(count):
    """Loads hostile0.ela and so on; each must leave the monitor unchanged."""
    monitor = Monitor(edgelora.Model("base.elm", ranks=4))
    monitor.use(monitor.model.adapter("machine.ela"))
    body, used = bytes(monitor.record()), monitor.model.used
    refused = []
    for i in range(count):
        try:
            monitor.use(monitor.model.adapter(f"hostile{i}.ela"))
        except ValueError as e:
            if monitor.record() == body and monitor.model.used is used:
                refused.append(str(e))
    print(json.dumps(refused))


def order():
    """Prints the errors of stages that are called too early."""
    monitor = Monitor(edgelora.Model("base.elm", ranks=4))
    told = []
    for call in (
        lambda: monitor.calibrate("threshold", 60),
        lambda: monitor.record(),
        lambda: monitor.calibrate("scale", 1),
        lambda: monitor.calibrate("scale", 2) or monitor.calibrate("residuals", 2),
        lambda: monitor.use(monitor.model.adapter("mine.ela")),
        lambda: Monitor(edgelora.Model("other.elm")),
    ):
        try:
            call()
        except ValueError as e:
            told.append(str(e))
    print(json.dumps(told))
