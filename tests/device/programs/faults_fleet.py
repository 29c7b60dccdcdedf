"""Actions of a fleet's board in which faults_suite.py injects failures: rosters, every message of a round, HTTP.

The board draws fixed values for a round: so messages that fault_cases.py has made with its twin are valid for it, and
its replies must be the twin's, to the byte.
"""

import json
import sys

import faults_actions as board
from faults_actions import OnFlash, contents

import edgelora
from edgelora import fleet, training
from edgelora.store import Store

FILES = {name: contents(name) for name in ("global.ela", "fleet.roster", "old.roster", "update.trust", "update.elu")}
ROUNDS = json.loads(contents("rounds.json") or b"{}")
SECRET, SEED = (bytes.fromhex(ROUNDS[name]) for name in ("secret", "seed"))
_draw = fleet.Identity.draw


def draw(identity):
    _draw(identity)
    return SEED


fleet.Identity.draw = draw


class OnBoard(OnFlash):
    """An action on a board whose whole filesystem is a littlefs, as a fleet's files have fixed paths."""

    place = "/"
    in_parts = True
    roster = "fleet.roster"

    def prepare(self):
        for path, data in (
            ("/base.elm", board.BASE),
            ("/fleet.ela", FILES["global.ela"]),
            ("/fleet.roster", FILES[self.roster]),
            ("/update.trust", FILES["update.trust"]),
            ("/samples.eld", board.SAMPLES),
        ):
            if data and path not in self.missing:
                edgelora.write(path, data)
        fleet._save(fleet.KEY, 1, 3, SECRET)

    missing = ()

    def member(self, model=None):
        from edgelora.training import SampleFile

        store = Store("/adapters", cache=0, adapters=8)
        return fleet.Member(model, SampleFile("/samples.eld"), store, fleet.Identity(), rules={"masks": 0})


class Round(OnBoard):
    """A message of a round. A board that restarts after its training is out of the round, and answers the next one."""

    def __init__(self, kind, stage, opened=False):
        self.kind, self.stage, self.opened = kind, stage, opened
        self.messages = [bytes.fromhex(message) for message, _ in ROUNDS[kind]]
        self.replies = [bytes.fromhex(reply) for _, reply in ROUNDS[kind]]
        self.name = f"round {kind}, message {stage + 1} of {len(self.messages)}" + (
            " (a model is open)" if opened else ""
        )

    def open(self):
        self.m = self.member(fleet.open_model() if self.opened else None)

    def make(self):
        super().make()
        for message in self.messages[: self.stage]:
            self.m.answer(message)

    def act(self):
        first = self.stage if self.m.round else 0
        for i in range(first, self.stage + 1):
            self.result = self.m.answer(self.messages[i])

    def look(self):
        reply = self.m.reply and bytes(self.m.reply)
        assert reply is None or reply in self.replies[: self.stage + 1], "another reply than the twin's"
        if reply != self.replies[self.stage]:
            reply = None  # still the reply to the previous message
        taken_part = fleet.Identity().round
        last = len(self.messages) - 1
        assert not reply or self.stage == 0 or taken_part == 4, "a reply left that might be given again"
        left = reply and self.stage >= len(self.messages) - 1 - 2 * (self.kind == "masked")
        assert not left or fleet.Identity().rounds == 1 and fleet.Identity().spent, (
            "an update left that was not counted"
        )
        return taken_part, self.stage < last or self.m.store.find("fleet.run") is None, reply

    def told_anew(self, seen):
        return seen[:1] if self.stage else (seen[0], seen[2])

    def goes_on(self):
        message, reply = (bytes.fromhex(text) for text in ROUNDS["next"])
        return None if self.member().answer(message) == reply else "another reply to the next round"


class Installing(OnBoard):
    """Installing a newer roster in place of the old one."""

    name = "install a roster"
    roster = "old.roster"
    in_parts = False

    def open(self):
        self.identity = fleet.Identity()

    def act(self):
        edgelora.write("/new.roster", FILES["fleet.roster"])
        for _ in fleet.install("/new.roster", self.identity):
            pass

    def look(self):
        roster = fleet.Roster()
        for _ in roster.check():
            pass
        return roster.number


class Model(OnBoard):
    """Opening the model of a fleet's adapter."""

    name = "open a fleet's model"
    in_parts = False

    def open(self):
        self.m = None

    def act(self):
        self.m = (fleet.policy(), fleet.hash_of(fleet.ADAPTER)) and fleet.open_model()

    def look(self):
        return self.m and (self.m.infer(memoryview(board.X)[: self.m.input_size]),)

    def told_anew(self, seen):
        return None


class Personal(OnBoard):
    """Making a board's own adapter after the rounds. Trials may stay until it is made."""

    name = "personalize a fleet's board"
    in_parts = False

    def make(self):
        training.LEAST_UPDATES, training.LEAST_EPOCHS = 2, 1  # the real values would take a thousand times as long
        super().make()

    def open(self):
        self.m, self.samples = fleet.open_model(), Few()
        self.store = Store("/adapters", cache=0, adapters=8)

    def act(self):
        for _ in fleet.personalize(self.m, self.samples, self.store, "me"):
            pass

    def look(self):
        return self.store.find("me") and bytes(self.store.read("me"))

    def goes_on(self):
        if [e.name for e in self.store.list()] != ["me"]:
            self.act()
        left = [e.name for e in self.store.list()]
        return None if left == ["me"] else "trials are left"


class Few:
    """Samples of two classes, just enough for held-out samples."""

    count, sample_size, target_size = 24, 5, 0

    def read(self, i, buffer):
        for k in range(5):
            buffer[k] = (100 * (i % 2) + 7 * k + i) & 255
        return i % 2


# ---- a web server, in place of the network


class Socket:
    """A client socket that also plays the server: it answers the request it was sent."""

    def __init__(self, *_):
        self.asked, self.answer = b"", None

    def setblocking(self, _):
        pass

    def connect(self, _):
        pass

    def close(self):
        pass

    def write(self, data):
        self.asked += bytes(data)
        return len(data)

    def readinto(self, buffer):
        if self.answer is None:
            head, _, body = self.asked.partition(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
            self.answer = respond(method, path, body)
        part, self.answer = self.answer[: len(buffer)], self.answer[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


class Web:
    """Replaces the modules `socket` and `select`."""

    AF_INET = SOCK_STREAM = 0
    socket = Socket
    served = {}
    posted = None

    @staticmethod
    def getaddrinfo(*_):
        return [((0, 0),)]

    @staticmethod
    def poll():
        return Poll()


class Poll:
    def register(self, _):
        pass

    modify = lambda self, *_: None  # noqa: E731

    def poll(self, _):
        return True


CHALLENGE = b"Fleet: 09" + b"0" * 94 + b"\r\n\r\n"  # a gateway's public key and a challenge of zeros


def respond(method, path, body):
    data = Web.served.get(path)
    if method == "POST":
        Web.posted = bytes(body)
        return b"HTTP/1.0 204 No content\r\n" + CHALLENGE
    if data is None:
        return b"HTTP/1.0 404 None\r\nContent-Length: 0\r\n\r\n"
    return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n" % len(data) + CHALLENGE + data


class OnAir(OnBoard):
    def make(self):
        sys.modules["socket"] = sys.modules["select"] = Web
        Web.posted = None
        super().make()


class Fetching(OnAir):
    """Fetching the gateway's roster."""

    name = "fetch a roster"
    roster = "old.roster"
    in_parts = False

    def open(self):
        self.identity = fleet.Identity()
        Web.served = {"/fleet/roster": FILES["fleet.roster"]}

    def act(self):
        for _ in fleet.fetch_roster("http://gateway", self.identity):
            pass

    look = Installing.look


class Polling(OnAir):
    """A task from a gateway that requires fetching roster and adapter. "draw a key" tests the noise source."""

    name = "poll a gateway"
    roster = "old.roster"
    missing = ("/fleet.ela",)

    def make(self):
        fleet._healthy = lambda data: True
        super().make()

    def open(self):
        message = bytes.fromhex(ROUNDS["masked"][0][0])
        digest = edgelora.hex_id(message[28:60])
        self.m = self.member()
        self.poller = fleet.Poller(self.m, "http://gateway")
        Web.served = {
            "/fleet/roster": FILES["fleet.roster"],
            "/fleet/adapter/" + digest: FILES["global.ela"],
            "/fleet/0": message,
        }

    def act(self):
        for _ in self.poller.steps():
            pass

    def look(self):
        assert Web.posted in (None, bytes.fromhex(ROUNDS["masked"][0][1]))
        roster = fleet.Roster()
        for _ in roster.check():
            pass
        return roster.number, fleet.hash_of(fleet.ADAPTER), Web.posted is not None

    def told_anew(self, seen):
        return seen[:2]

    def goes_on(self):
        self.act()
        return None if Web.posted else "no reply"


class Downloading(OnAir):
    """Downloading an update from a web server."""

    name = "fetch an update"
    in_parts = False

    def prepare(self):
        super().prepare()
        store = Store("/adapters", cache=4096, adapters=8)
        store.put("wake", board.ONE, 7)
        store.activate("wake")

    def open(self):
        from edgelora.update import Updater, trusted

        Web.served = {"/wake.elu": FILES["update.elu"]}
        self.store = Store("/adapters", cache=4096, adapters=8)
        self.updater = Updater(self.store, *trusted())

    def act(self):
        self.updater.fetch("http://server/wake.elu")

    def look(self):
        store = self.store
        return [(e.name, e.version, e.flags) for e in store.list()], store.active, bytes(store.read("wake"))


ACTIONS = [Round("masked", stage) for stage in range(6)] + [Round("plain", 1, opened=True)]
ACTIONS += [
    Installing(),
    Model(),
    Personal(),
    Fetching(),
    Polling(),
    Downloading(),
]
