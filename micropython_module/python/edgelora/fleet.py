"""A board in a fleet that learns together (SPEC.md, section 17). SPDX-License-Identifier: MIT

    identity = fleet.Identity()  # made once: fleet.Identity.create()
    member = fleet.Member(None, SampleFile("/me.eld"), Store(default_place()), identity)
    poller = fleet.Poller(member, "http://10.0.0.2:8080")
    while True:
        for state in poller.steps():  # one message of the gateway, if it has one: a training, or a few keys
            time.sleep_ms(2)
        time.sleep(60)

A host at the end of a serial line passes messages by `edgelora.agent` instead. What goes out is an update that
is clipped, noised and masked, never a sample; the secret of `/fleet.key` never goes out. Behind its training a round
is in RAM: a board that resets is out of it, and trains again in the next.
"""

import gc
import hashlib
import json
import os
import struct
import sys

from . import _core as _edgelora
from . import _only_absent, _replace, hex_id, write
from ._bases import base_path, open_base, ranks_of
from ._fleet import _core
from ._trust import key_id, text, trusted
from .training import Run, Scheduler, discard, fleet_vector, unfinished

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Iterator
    from typing import Any

    from . import Model
    from ._types import Buffer
    from .store import Store

KEY = "/fleet.key"  # the board's secret, its counters,
ROSTER = "/fleet.roster"  # who is of its fleet,
POLICY = "/fleet.json"  # what it asks of tasks,
ADAPTER = "/fleet.ela"  # and the global adapter of the round
RUN = "fleet"  # name of the round's run in the store
SERVER = 0xFFFF
_IDENTITY = "<4sHHII32sQI"  # magic, version, size, starts, last round, secret, spent, rounds; u32 CRC-32
_IDENTITY_SIZE = 64
_HEADER = "<4sHHII8s24s32s16s"
_SIGNED, _HEADER_SIZE = 96, 160
_REVOKED = bytes(32)  # in a roster; the secret of an identity that was forgotten
_POLICY = "<HHHHHBBI"
RULES = (
    "least_survivors", "least_z", "least_cohort", "most_cohort", "colluders", "survivors_percent", "masks", "budget",
)  # fmt: skip
SAFE = (6, 100, 8, 65, 2, 50, 1, 2600000)  # of a board without a policy of its own
LIMITS: tuple[int, ...] = (65535,) * 5 + (100, 1, 0xFFFFFFFF)  # of these values
_TASK, _COHORT, _INPUT = 1, 3, 7
_MESSAGE, _WORK, _TRAIN, _KEYS, _UPDATE, _REPLY, _OVER = range(7)
_ENTROPY = 513  # bytes that seed a key, one of them the register before
_WINDOW, _MOST, _LONGEST = 128, 927, 121  # bytes, equal bits among them and in a row: with noise, once in 2^30
_STIRS, _MACHINE = 0xD5, sys.implementation._machine  # how an RP2040's os.urandom stirs 8 bits into a byte
_BLOCK = 512
_ELSEWHERE = {"Poller": "_fleet_http", "fetch_roster": "_fleet_http", "personalize": "_fleet_personalize"}

TRAINING, WORKING = "training", "working"


def __getattr__(name):
    # What a round does not take stays out of memory until it is asked for.
    if name not in _ELSEWHERE:
        raise AttributeError(name)
    return getattr(__import__(_ELSEWHERE[name], globals(), None, (name,), 1), name)


class FleetError(ValueError):
    """This board can't do that; the message says why. What it had is as it was."""


def _sha512(*parts):
    state = bytearray(_core.sha512_begin())
    for part in parts:
        _core.sha512_add(state, part)
    return _core.sha512_end(state)


def _read(path, size=None):
    if not isinstance(path, str):
        return path[:size]
    with open(path, "rb") as file:
        return file.read() if size is None else file.read(size)


def hash_of(path: str | bytes) -> bytes | None:
    """SHA-256 of a file, None if there is none; or of bytes."""
    if not isinstance(path, str):
        return hashlib.sha256(path).digest()
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while True:
                block = file.read(_BLOCK)
                if not block:
                    return digest.digest()
                digest.update(block)
    except OSError as error:
        _only_absent(error)
        return None


def _sync():
    if hasattr(os, "sync"):
        os.sync()


class Identity:
    """What a board is: an X25519 secret, how often it began to draw keys, the last round that it took part in, how many
    these were, and what they have cost (in millionths of 1 / z^2).

    All in one file, which is written as a whole or not at all. FleetError if there is none, or it is damaged.
    """

    round: int
    rounds: int
    spent: int

    def __init__(self, path: str = KEY) -> None:
        self._path = path
        try:
            data = _read(path)
        except OSError as error:
            _only_absent(error)
            raise FleetError("this board has no identity yet: edgelora fleet enroll --port PORT makes one") from None
        if not _is_identity(data):
            raise FleetError("%s is damaged: forget it, and enroll the board again" % path)
        self._starts, self.round, self._secret, self.spent, self.rounds = struct.unpack_from("<II32sQI", data, 8)
        self._calls = self._counted = 0
        if self._secret == _REVOKED:
            raise FleetError("this board's identity was forgotten: edgelora fleet enroll --port PORT makes another")

    @staticmethod
    def exists(path: str = KEY) -> bool:
        """Whether there is one, be it damaged."""
        data = _identity_in(path)
        return data is not None and (not _is_identity(data) or data[16:48] != _REVOKED)

    @classmethod
    def create(cls, path: str = KEY) -> "Identity":
        """A new one; the board has to be enrolled then. FleetError if there is one, or the chip's noise is none.

        What the board's rounds have cost so far stays: its samples are the same person's.
        """
        if cls.exists(path):
            raise FleetError("this board has an identity: forget it first if it is to be another one; revoke the old")
        old = _identity_in(path)
        spent, rounds = struct.unpack_from("<QI", old, 48) if old else (0, 0)
        _save(path, 1, 0, _key(bytes(32), 1, 1), spent, rounds)
        return cls(path)

    @staticmethod
    def forget(path: str = KEY) -> None:
        """Removes it: this board is no longer who it was, and can't become it again. What its rounds cost stays."""
        data = _read(path)
        spent, rounds = struct.unpack_from("<QI", data, 48) if _is_identity(data) else (0, 0)
        if rounds:
            _save(path, 0, 0, _REVOKED, spent, rounds)
        else:
            os.remove(path)

    @property
    def secret(self) -> bytes:
        return self._secret

    @property
    def public(self) -> bytes:
        """The public key that a roster has, 32 bytes."""
        return _core.x25519_public(self._secret)

    def draw(self) -> bytes:
        """32 bytes that nobody can tell, and that never come again."""
        if not self._calls:
            self._starts += 1
            self._save(self.round, self.spent, self.rounds)
        self._calls += 1
        return _key(self._secret, self._starts, self._calls)

    def take_part(self, number: int) -> None:
        """From here on this board answers no round up to this number; it is in flash before this returns."""
        if number <= self.round:
            raise FleetError("round %d is over for this board: the last one was %d" % (number, self.round))
        self._save(number, self.spent, self.rounds)
        self.round = number  # not before: what could not be written may be written again

    def spend(self, number: int, spent: int) -> None:
        """The same, for a round of which an update is about to leave. spent: what all rounds cost with this one."""
        if number != self._counted:
            self._save(number, spent, self.rounds + 1)
            self.round, self.spent, self.rounds = number, spent, self.rounds + 1
            self._counted = number

    def _save(self, number, spent, rounds):
        _save(self._path, self._starts, number, self._secret, spent, rounds)


def _identity_in(path):
    # What the file has, None if there is none.
    try:
        return _read(path)
    except OSError as error:
        _only_absent(error)


def _is_identity(data):
    versions = b"ELK1\1\0\x40\0", b"ELK1\2\0\x40\0"  # the first counted no costs
    return len(data) == _IDENTITY_SIZE and data[:8] in versions and _edgelora.crc32(data, 0) == 0x2144DF1C


def _save(path, starts, number, secret, spent=0, rounds=0):
    data = struct.pack(_IDENTITY, b"ELK1", 2, _IDENTITY_SIZE, starts, number, secret, spent, rounds)
    write(path, data + struct.pack("<I", _edgelora.crc32(data, 0)))
    _sync()


def _key(secret, starts, calls):
    return _sha512(_entropy(), secret, struct.pack("<II", starts, calls))[:32]


def _entropy():
    # Bytes of the chip's noise, whose health was tested.
    urandom = getattr(os, "urandom", None)
    if not urandom:
        raise FleetError("this MicroPython has no os.urandom, so no key can be made: use one that has it")
    data = urandom(_ENTROPY)
    if not _healthy(data):
        raise FleetError(
            "the chip's source of noise is stuck, so no key can be made: cut the power for a while, and if this "
            "happens again, don't use this board in a fleet"
        )
    return data


def _healthy(data):
    # Whether bytes of os.urandom may come from noise: they are not what a register of 8 bits does by itself, and the
    # bits that an RP2040's takes in pass the tests of NIST SP 800-90B, 4.4, for 1/4 bit of noise each.
    if sum(data.find(data[i : i + 2]) == i for i in range(len(data) - 1)) * 4 < len(data) * 3:  # unlike pairs
        return False
    last, run, ones = -1, 0, 0
    state = data[0]
    for i in range(1, len(data)):
        raw = data[i]
        if "RP2040" in _MACHINE:
            for _ in range(8):
                state = (state << 1 ^ (_STIRS if state & 128 else 0)) & 255
            raw, state = raw ^ state, raw
        for _ in range(8):
            bit = raw >> 7
            raw = raw << 1 & 255
            run = run + 1 if bit == last else 1
            last = bit
            ones += bit
            if run == _LONGEST:
                return False
        if i % _WINDOW == 0:
            if not 8 * _WINDOW - _MOST <= ones <= _MOST:
                return False
            ones = 0
    return True


class Roster:
    """Who is of the fleet: an installed roster.

    FleetError if there is none, or this board does not trust its signer.
    """

    number: int  # higher with every change
    count: int  # entries
    target: str
    server: bytes  # public key of the server that adds updates up
    release: bytes  # the key that signed
    fleet: bytes  # id, 8 bytes

    def __init__(self, path: str = ROSTER) -> None:
        self._path = path
        try:
            head = _read(path, _HEADER_SIZE)
        except OSError as error:
            _only_absent(error)
            raise FleetError("this board has no roster yet: edgelora fleet roster --push") from None
        self.number, self.count, signer, self._target, self.server = _roster_head(head, path)
        self.target = text(self._target)
        self.release = [key for key in trusted()[0] if key_id(key) == signer]
        if not self.release:
            raise FleetError("%s is signed by key %s, which this board does not trust" % (path, hex_id(signer)))
        self.release = self.release[0]
        self.fleet = _sha512(b"edgelora fleet", self.release, self._target)[:8]

    def key(self, index: int) -> bytes:
        """The public key of a board, 32 bytes; all 0: it was revoked, or never was."""
        if index >= self.count:
            return _REVOKED
        with open(self._path, "rb") as file:
            file.seek(_HEADER_SIZE + 32 * index)
            return file.read(32)

    def index(self, public: Buffer) -> int:
        """The place of a board in it. FleetError if it has none."""
        with open(self._path, "rb") as file:
            file.seek(_HEADER_SIZE)
            found = _found(file, self.count, public)
        if found is None:
            raise FleetError("this board is not enrolled in roster %d, or revoked" % self.number)
        return found

    def check(self) -> Iterator[None]:
        """FleetError unless every byte is what was signed, for this board's target. A generator of short steps."""
        target = trusted()[1]
        if self.target != target:
            raise FleetError("the roster is for %s, this board is %s" % (self.target, target))
        state = bytearray(_core.sha512_begin())
        with open(self._path, "rb") as file:
            head = file.read(_HEADER_SIZE)
            left = 32 * self.count
            while left:
                block = file.read(min(left, _BLOCK))
                if not block:
                    break
                left -= len(block)
                _core.sha512_add(state, block)
                yield
            more = file.read(1)
        signed = head[:_SIGNED] + _core.sha512_end(state)
        if left or more or not _edgelora.verify(self.release, signed, head[_SIGNED:]):
            raise FleetError("the roster's signature is wrong: it is damaged or forged")


def _roster_head(head, path):
    if len(head) != _HEADER_SIZE or head[:4] != b"ELG1":
        raise FleetError("%s is not a roster" % path)
    _, version, size, number, count, signer, target, server, zeros = struct.unpack_from(_HEADER, head)
    if (version, size) != (1, _HEADER_SIZE):
        raise FleetError("a roster of format %d: this firmware is older, update it" % version)
    if not number or not 0 < count <= 65535 or zeros != bytes(16):
        raise FleetError("%s is damaged: send it again" % path)
    return number, count, signer, target, server


def _found(file, count, public):
    # The place of a key among those that follow in a file.
    for start in range(0, count, _BLOCK // 32):
        block = file.read(_BLOCK)
        for at in range(0, len(block) - 31, 32):
            if block[at : at + 32] == public:
                return start + at // 32


def open_model(adapter: str | bytes = ADAPTER, base: bytes | None = None, **more: Any) -> Model:
    """The model that learns from an adapter, its path or its bytes: with its ranks, mode and momentum, of its base on
    the board or, if given, of the bytes of a base. more: as `Model` takes it."""
    head = _read(adapter, 48 + 12 * 511)
    if len(head) < 48 or head[:4] != b"ELA1":
        raise FleetError("the global adapter is not an adapter")
    flags, momentum, threshold = struct.unpack_from("<H10xHH", head, 28)
    if not base and base_path(head[16:24]) is None:
        raise FleetError("the adapter is for base %s, which this board does not have" % hex_id(head[16:24]))
    mode = "trainable_a" if flags & 4 else "frozen_a"
    return open_base(base or head[16:24], ranks_of(head), mode, momentum=momentum, threshold=threshold, **more)


def install(path: str, identity: Identity, to: str = ROSTER) -> Iterator[None]:
    """Checks the roster in a file and puts it in the old one's place, in one step. A generator of short steps.

    FleetError unless a key that this board trusts has signed it, for this board's target, with a higher number than the
    one that is here, and this board is in it.
    """
    roster = Roster(path)
    yield
    yield from roster.check()
    try:
        number = Roster(to).number
    except ValueError:
        number = 0
    if roster.number <= number:
        raise FleetError("roster %d is not newer than %d, which this board has" % (roster.number, number))
    roster.index(identity.public)
    _replace(path, to)
    _sync()


def policy(path: str = POLICY) -> dict[str, int]:
    """What the owner of this board asks of every task (SPEC.md, section 17); without a file what is safe.

    least_survivors, least_z (hundredths), least_cohort, most_cohort, colluders, survivors_percent, masks, budget.
    """
    try:
        wanted = json.loads(_read(path))
    except OSError as error:
        _only_absent(error)
        return dict(zip(RULES, SAFE))
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict):
        raise FleetError("%s is not a JSON object: give some of %s" % (path, ", ".join(RULES)))
    _packed(wanted, path)
    return wanted


def _packed(rules, path=POLICY):
    # As the core takes them.
    for name, value in rules.items():
        if name not in RULES or not isinstance(value, int) or not 0 <= value <= LIMITS[RULES.index(name)]:
            raise FleetError("%s of %s: give whole numbers for some of %s" % (name, path, ", ".join(RULES)))
    return struct.pack(_POLICY, *[int(rules.get(name, 0)) for name in RULES])


def board_seed(seed: int, index: int) -> int:
    """The seed of a board's run in a round, from the round's seed and the board's index in the roster."""
    return (seed + 0x9E3779B1 * index) & 0xFFFFFFFF


class Member:
    """This board in the rounds of its fleet: a message goes in, work is done in short steps, `reply` goes out.

    model: in a mode that trains, of the global adapter's ranks and mode; None: open while it trains. samples: what it
    learns, all of it (`split` to hold some back). store: where the training under way is kept. neighbours: others
    of a cohort that it has room for. pace: how it trains, as `Scheduler` takes it (clock_hz, sleep_ms, budget_ms ...).
    """

    model: Model | None
    samples: Any
    store: Store
    adapter: str | bytes  # the global adapter of the round, its path or its bytes
    identity: Identity
    roster: Roster
    index: int  # of this board
    run: Any  # the round's `Run`, while it trains
    keeps: bool  # the model open after its training, as one that was given
    reply: bytearray | None

    def __init__(
        self,
        model: Model | None,
        samples: Any,
        store: Store,
        identity: Identity,
        adapter: str | bytes = ADAPTER,
        neighbours: int = 32,
        rules: dict[str, int] | None = None,
        commit_every: int = 32,
        **pace: Any,
    ) -> None:
        self.model, self.samples, self.store = model, samples, store
        self.keeps = model is not None  # the model open after its training; else there is more room for messages
        self.adapter = adapter
        self.identity, self._pace, self._commit_every = identity, pace, commit_every
        self._rules = _packed(policy() if rules is None else rules)
        self._memory = bytearray(_core.member_size(neighbours))
        self.begin()

    def begin(self) -> None:
        """Anew, with the roster that is installed now. Of a round under way nothing is left but its training."""
        roster, identity = self._roster(), self.identity
        self.index = roster.index(identity.public)
        _core.member_begin(
            self._memory, identity.secret, roster.server, roster.fleet, identity.draw(), identity.round, roster.number,
            self.index, self._rules, struct.pack("<Q", identity.spent),
        )  # fmt: skip
        self.roster, self.run, self.reply = roster, None, None
        self._values = None  # of an update that is under way
        self._taking = 0  # the round that this member takes part in, once its number is about to go to flash

    def _roster(self):
        return Roster()

    def _open(self):
        return open_model(self.adapter)

    @property
    def round(self) -> int:
        """The number of the round under way, 0 for none."""
        return _core.member_state(self._memory)[0]

    @property
    def over(self) -> bool:
        """Whether the round is over for this board."""
        return _core.member_next(self._memory) == _OVER

    def answer(self, message: Buffer) -> bytearray:
        """What this board replies to a message, at once; blocks."""
        for _ in self.steps(message):
            pass
        return self.reply

    def steps(self, message: Buffer) -> Iterator[str]:
        """The same as a generator, which yields between short steps (TRAINING, WORKING, or PAUSED at the end of a
        window): `reply` is there when it ends.

        message: bytes. ValueError if it is refused; nothing has changed then, and the right one is taken after it.
        Begun again with the same message, it goes on where it was.
        """
        memory = self._memory
        while _core.member_next(memory) == _WORK:  # what was left
            self.reply = None
            self._work()
            yield WORKING
        data = bytearray(message)
        _core.member_receive(memory, data)
        del data
        while True:
            waits = _core.member_next(memory)
            if waits in (_MESSAGE, _OVER):
                break
            self.reply = None  # which was to the message before
            if waits == _WORK:
                self._work()
                yield WORKING
            elif waits == _TRAIN and not (self.run and self.run.done):
                yield from self._train()
            elif waits == _KEYS:
                indices = _core.member_neighbours(memory)
                for place in range(len(indices) // 2):
                    _core.member_key(memory, place, self.roster.key(indices[2 * place] | indices[2 * place + 1] << 8))
            elif waits == _UPDATE:
                self._update()
            else:
                self._reply()
        if not self.reply:
            raise FleetError("this round is over for this board")
        if waits == _OVER:
            discard(self.store, RUN)

    def _work(self):
        try:
            _core.member_work(self._memory)
        except ValueError as error:
            culprit = _core.member_state(self._memory)[2]
            whose = "the server" if culprit == SERVER else "board %d" % culprit
            raise FleetError("%s (%s)" % (error, whose)) from None

    def _task(self):
        task = _core.member_task(self._memory)
        if hash_of(self.adapter) != task[1]:
            raise FleetError("the adapter is not this round's: put that in its place, then send the message again")
        return task

    def _train(self):
        base, _, parameters, epochs, rate, seed, _ = self._task()
        if self.model is None:
            self.model = self._open()
        if base != self.model.base_id:
            said = hex_id(base), hex_id(self.model.base_id)
            raise FleetError("the round is for base %s, the model that is open is %s" % said)
        count = len(fleet_vector(_read(self.adapter))) // 2
        if count != parameters:
            raise FleetError("the task has %d parameters, its adapter %d" % (parameters, count))
        gc.collect()
        seed = board_seed(seed, self.index)
        self.run = None
        try:
            self.run = self._begin(epochs, seed, rate)
        except ValueError:
            if not unfinished(self.store, RUN):
                raise
            discard(self.store, RUN)  # another round's
            self.run = self._begin(epochs, seed, rate)
        scheduler = Scheduler(self.run, **self._pace)
        while not self.run.done:
            yield from scheduler

    def _begin(self, epochs, seed, rate):
        return Run(
            self.model, self.samples, self.store, RUN, epochs, seed, rate, self._commit_every, start=self.adapter,
            keep_state=True,
        )  # fmt: skip

    def _update(self):
        # What was learned goes into the reply, which is made in place.
        self.run = None
        gc.collect()
        self._task()  # or whoever exchanged the adapter meanwhile would choose the update
        before = fleet_vector(_read(self.adapter))
        after = fleet_vector(self.store.read(RUN + ".run"))
        self._values = bytearray(32 + 2 * len(before))  # the core works on in it, whatever fails meanwhile
        _core.member_update(self._memory, before, after, self._values)
        del before, after
        gc.collect()
        self._reply()

    def _reply(self):
        memory = self._memory
        while _core.member_next(memory) == _WORK:
            self._work()
        number, stage, _ = _core.member_state(memory)
        reply = self._values if stage == _INPUT else bytearray(_core.member_reply_size(memory))
        if stage == _COHORT:
            if number > self.identity.round:
                self._taking = number
            if self._taking != number or self.identity.round != number:  # else it is in flash already, by this member
                self.identity.take_part(number)
        elif stage == _INPUT:
            self.identity.spend(number, int.from_bytes(_core.member_spent(memory), "little"))
        _core.member_reply(memory, reply)
        self.reply, self.run, self._values = reply, None, None
        if not self.keeps:
            self.model = None
