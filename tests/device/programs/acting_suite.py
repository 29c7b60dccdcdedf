# Actions on simulated hardware, and the rule for "nothing": each call prints a line of JSON.

import json
import sys

import micropython

import edgelora
from edgelora import actions
from edgelora.known import Known
from edgelora.pipeline import Pipeline
from edgelora.sources import Recording

told = []


class Pin:
    OUT = 1

    def __init__(self, number, mode=None, value=None):
        self.number = number
        self.now = 0
        self.value(value)

    def value(self, level=None):
        if level is None:
            return self.now
        self.now = int(level)
        told.append([self.number, self.now])


class Machine:
    pass


sys.modules["machine"] = Machine()
Machine.Pin = Pin


class Steps:
    """A pipeline that sees these classes in order."""

    pending = False

    def __init__(self, names, labels):
        self.names, self.model, self.name = names, self, None
        self.labels = labels

    @property
    def ended(self):
        return not self.names

    def step(self):
        self.name = self.names.pop(0)
        told.append(self.name)
        return True


def pins():
    """What each kind of output does as classes change."""
    every = {
        "a": [actions.Hold(1), actions.Set(2, 1), actions.Toggle(3), actions.Pulse(4, ms=1)],
        "b": [actions.Set(2, 0), actions.Say("seen b")],
    }
    told.clear()
    actions.run(Steps(["a", "a", None, "b", "b", "c", "a"], ["a", "b", "c"]), every, idle_ms=3)
    print(json.dumps(told))
    try:
        actions.run(Steps(["a"], ["a"]), {"x": []})
    except ValueError as error:
        print(json.dumps(str(error)))


def talk(port, broker, deaf):
    """Requests, of which two go to ports where nobody answers."""
    every = {
        "a": [
            actions.Get(f"http://127.0.0.1:{port}/lamp?on=1"),
            actions.Post(f"http://127.0.0.1:{port}/log", "h\xe9"),
        ],
        "b": [
            actions.Publish("127.0.0.1", "home/lamp", "x" * 200, port=broker),
            actions.Get(f"http://127.0.0.1:{deaf}/"),
        ],
    }
    actions.run(Steps(["a"] * 60 + ["b"] * 60, ["a", "b"]), every)
    print(json.dumps("done"))


class Stopped(Steps):
    """Simulates Ctrl-C right after a class is seen."""

    def step(self):
        if not self.names[1:]:
            raise KeyboardInterrupt
        return super().step()


def stopped(port):
    """The outputs after Ctrl-C in the middle of a pulse, a key press and a request."""
    Machine.USBDevice = Usb
    get = actions.Get(f"http://127.0.0.1:{port}/")
    every = {"a": [actions.Pulse(4, ms=60_000), actions.Press("b"), get]}
    told.clear()
    Usb.busy = 2
    try:
        actions.run(Stopped(["a", "a"], ["a"]), every)
    except KeyboardInterrupt:
        print(json.dumps([one for one in told if isinstance(one, list)]))
        print(json.dumps(get._job is None))


def cut(port):
    """A request whose response is cut off."""
    actions.run(Steps(["a"] * 60, ["a"]), {"a": [actions.Get(f"http://127.0.0.1:{port}/")]})


def known(path):
    """What a board says about a recording under the rule, with the heap locked."""
    with open(path) as file:
        case = json.load(file)
    model = edgelora.Model(case["base"], 0, "infer")
    if case["adapter"]:
        model = edgelora.Model(case["base"], bytes(case["ranks"]), "infer")
        model.use(model.adapter(case["adapter"]))
    known = Known(model, case["rule"])
    pipeline = Pipeline(known, Recording(case["recording"], known.signal.rate, known.signal.channels, None))
    said = []
    while not pipeline.ended:
        micropython.heap_lock()
        try:
            new = pipeline.step()
        finally:
            micropython.heap_unlock()
        if new:
            said.append(pipeline.name)
    print(json.dumps(said))
    for changed in ("base", "adapter"):
        bad = dict(case["said"])
        bad[changed] = "00" * 8
        try:
            Known(model, bad)
        except ValueError as error:
            print(json.dumps(str(error)))
    model = edgelora.Model(case["base"], bytes(case["ranks"]), "infer")
    if not case["adapter"]:
        model.use(model.adapter("other.ela"))
    try:
        Known(model, case["said"])
    except ValueError as error:
        print(json.dumps(str(error)))


class Usb:
    """Replaces machine.USBDevice and records the calls."""

    class BUILTIN_DEFAULT:
        itf_max, ep_max = 2, 3
        desc_dev = b"D" * 18
        desc_cfg = bytes((9, 2, 75, 0, 2, 1, 0, 128, 125)) + bytes(66)

    def active(self, on):
        told.append(["active", on])

    def config(self, device, config, strings, opened, reset, control, done):
        Usb.configuration, Usb.control = config, control

    busy = 0  # how many reports of a key release are refused while the previous one is being sent

    def submit_xfer(self, endpoint, report):
        if not report[2] and Usb.busy:
            Usb.busy -= 1
            return False
        told.append([endpoint, list(report)])
        return True


def keyboard():
    """The configuration that the computer gets, answers to its requests, and reports of a key."""
    Machine.USBDevice = Usb
    press = [actions.Press("b"), actions.Press("space")]
    told_of = lambda kind, what, value: Usb.control(1, bytes((kind, what, 0, value, 2, 0, 255, 0)))  # noqa: E731
    hid, report = told_of(0x81, 6, 0x21), told_of(0x81, 6, 0x22)
    print(json.dumps([list(Usb.configuration), list(hid), list(report), told_of(0x21, 10, 0), told_of(0x81, 6, 9)]))
    told.clear()
    actions.run(Steps(["a"] + ["c"] * 20, ["a", "c"]), {"a": press[:1]})
    print(json.dumps(told))
    told.clear()
    actions.Press("b")._keyboard.write("aB\b\x07?")
    print(json.dumps(told))
    try:
        actions.Press("F13")
    except ValueError as error:
        print(json.dumps(str(error)))
