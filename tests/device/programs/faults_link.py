"""Requests of a host to the agent, over the link, in which faults_suite.py injects failures."""

import json
import struct

from faults_actions import BASE, ONE, SAMPLES, OnFlash, X, contents

import edgelora
from edgelora.store import Store

ADAPTERS = "/s/adapters"


class Request(OnFlash):
    """Requests in order, each (op, fields or bytes) as `agent` defines them; `first` precede the failure.

    state: a function that returns the board's resulting state.
    """

    def __init__(self, name, requests, state, first=()):
        self.name, self.requests, self.state, self.first = "link: " + name, requests, state, first

    def prepare(self):
        for path, data in (("/s/base.elm", BASE), ("/s/one.ela", ONE), ("/s/samples.eld", SAMPLES)):
            edgelora.write(path, data)
        store = Store(ADAPTERS, cache=0, adapters=8)
        for name in ("a", "b"):
            store.put(name, ONE)

    def open(self):
        from edgelora.agent import _Agent

        self.agent = _Agent(4096)
        self.agent.line.alive = self.agent.line.working = lambda *_: None
        self.agent._more_by_op()["said"] = None
        for request in self.first:
            self.ask(*request)

    def ask(self, op, fields):
        agent = self.agent
        data = fields if isinstance(fields, (bytes, bytearray)) else json.dumps(fields).encode()
        agent.line.body[: len(data)] = data
        handler = agent._by_op.get(op) or agent._more_by_op()[op]
        return handler(len(data))

    def act(self):
        for op, fields in self.requests:
            self.ask(op, fields)

    def look(self):
        return self.state(self)

    def told_anew(self, seen):
        return () if self.state in (model, labels) else seen


def model(action):
    """The outputs of the open model, and its training state."""
    m = action.agent._more.model
    counts = m.counts()
    return m.infer(memoryview(X)[: m.input_size]), bytes(m.output), counts, bytes(m.save(state=not counts[2]))


def store(action):
    found = action.agent._more and action.agent._more.opened_store(ADAPTERS) or Store(ADAPTERS, cache=0, adapters=8)
    return [(e.name, e.version, e.flags, bytes(found.read(e.name))) for e in found.list()], found.active


def labels(action):
    m = action.agent._more.model
    return m and (list(m.labels), m.infer(memoryview(X)[: m.input_size]))


def file(path):
    return lambda action: contents(path)


OPEN = 0x20, {"path": "/s/base.elm", "ranks": 4, "mode": "frozen_a", "micro_batch": 2}
BEGIN = 0x21, {"seed": 5}
TRAIN = 0x23, struct.pack("<HBB", 9000, 0, 0) + bytes([1]) + bytes(X[:5])


def of_store(name, **fields):
    return Request("store " + fields["do"], [(0x30, {"place": ADAPTERS, "name": name} | fields)], store)


ACTIONS = [
    Request("remove", [(0x16, {"path": "/s/one.ela"})], file("/s/one.ela")),
    Request(
        "stat, list, space", [(0x13, {"path": "/s/one.ela"}), (0x15, {"path": "/s"}), (0x17, {"path": "/s"})], store
    ),
    Request("get", [(0x14, struct.pack("<II", 0, 40) + b"/s/one.ela")], file("/s/one.ela")),
    Request("open a model", [OPEN], labels),
    Request("begin", [BEGIN], model, [OPEN, BEGIN, TRAIN]),
    Request("load", [(0x22, {"path": "/s/one.ela"})], model, [OPEN, BEGIN, TRAIN]),
    Request("train", [TRAIN], model, [OPEN, BEGIN]),
    Request("flush", [(0x25, {"learning_rate": 9000})], model, [OPEN, BEGIN, TRAIN]),
    Request("evaluate, judge", [(0x24, bytes(4) + X[:5]), (0x2C, bytes(4) + b"\1" + X[:5])], model, [OPEN, BEGIN]),
    Request("save", [(0x26, {"path": "/s/one.ela", "state": True})], file("/s/one.ela"), [OPEN, BEGIN, TRAIN, TRAIN]),
    Request("use", [(0x27, {"path": "/s/one.ela"})], model, [OPEN, BEGIN]),
    Request(
        "train from a cache",
        [(0x29, {"count": 1, "path": "/s/cache"}), (0x2A, bytes(4) + X[:5]), (0x2B, TRAIN[1][:4] + b"\1\0\0")],
        model,
        [OPEN, BEGIN],
    ),
    Request("add a class", [(0x31, {"do": "add", "class": "wave", "path": "/s/samples.eld"})], labels, [OPEN]),
    of_store("c", do="put", path="/s/one.ela", version=3),
    of_store("a", do="activate"),
    of_store("a", do="rename", to="d"),
    of_store("a", do="remove"),
    of_store("a", do="pin", on=True),
    of_store("a", do="get"),
    of_store(None, do="list"),
]
