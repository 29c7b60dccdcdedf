"""A board in a fleet that learns together (SPEC.md, section 17). SPDX-License-Identifier: MIT

    identity = fleet.Identity()  # made once: fleet.Identity.create()
    member = fleet.Member(None, SampleFile("/me.eld"), Store(default_place()), identity)
    poller = fleet.Poller(member, "http://10.0.0.2:8080")
    while True:
        for state in poller.steps():  # handles a message of the gateway, if any: training or exchanging keys
            time.sleep_ms(2)
        time.sleep(60)

A host on a serial port passes messages through `edgelora.agent` instead. What a board learns leaves it only as a
clipped, noised and masked update; samples and the secret in `/fleet.key` never leave it. After training, the state of
a round is only in RAM: a board that resets drops out of the round, and trains again in the next.
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

KEY = "/fleet.key"  # the board's secret and counters
ROSTER = "/fleet.roster"  # the boards of its fleet
POLICY = "/fleet.json"  # the owner's requirements of tasks
ADAPTER = "/fleet.ela"  # the global adapter of the round
RUN = "fleet"  # name of the round's run in the store
SERVER = 0xFFFF
_IDENTITY = "<4sHHII32sQI"  # magic, version, size, starts, last round, secret, spent, rounds; u32 CRC-32
_IDENTITY_SIZE = 64
_HEADER = "<4sHHII8s24s32s16s"
_SIGNED, _HEADER_SIZE = 96, 160
_REVOKED = bytes(32)  # the key of a revoked board in a roster; the secret in a forgotten identity
_POLICY = "<HHHHHBBI"
RULES = (
    "least_survivors", "least_z", "least_cohort", "most_cohort", "colluders", "survivors_percent", "masks", "budget",
)  # fmt: skip
SAFE = (6, 100, 8, 65, 2, 50, 1, 2600000)  # the policy of a board without a policy file
LIMITS: tuple[int, ...] = (65535,) * 5 + (100, 1, 0xFFFFFFFF)  # maximum of each rule
_TASK, _COHORT, _INPUT = 1, 3, 7
_MESSAGE, _WORK, _TRAIN, _KEYS, _UPDATE, _REPLY, _OVER = range(7)
_ENTROPY = 513  # bytes that seed a key; the first is the register's initial state
_WINDOW, _MOST, _LONGEST = 128, 927, 121  # bytes; limits of equal bits in them, in a row: 1 false alarm in 2^30
_STIRS, _MACHINE = 0xD5, sys.implementation._machine  # feedback of the 8-bit register in an RP2040's os.urandom
_BLOCK = 512
_ELSEWHERE = {"Poller": "_fleet_http", "fetch_roster": "_fleet_http", "personalize": "_fleet_personalize"}

TRAINING, WORKING = "training", "working"


def __getattr__(name):
    # Modules that a round does not need are imported on first use.
    if name not in _ELSEWHERE:
        raise AttributeError(name)
    return getattr(__import__(_ELSEWHERE[name], globals(), None, (name,), 1), name)


class FleetError(ValueError):
    """This board can't do that; the message says why. Its state is unchanged."""


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
    """SHA-256 of bytes, or of the file at a path; None if there is no file."""
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
    """A board's identity: an X25519 secret, the number of starts in which it drew keys, the last round that it took
    part in, the number of rounds with its updates, and their privacy cost (in millionths of 1 / z^2).

    All of this is in one file, written atomically. FleetError if the file is missing or damaged.
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
        """Whether this board has an identity, even a damaged one."""
        data = _identity_in(path)
        return data is not None and (not _is_identity(data) or data[16:48] != _REVOKED)

    @classmethod
    def create(cls, path: str = KEY) -> "Identity":
        """Creates an identity, to be enrolled next. FleetError if the board has one, or the chip's noise source fails.

        The cost of the board's past rounds is kept: its samples are still the same person's.
        """
        if cls.exists(path):
            raise FleetError("this board has an identity: forget it first if it is to be another one; revoke the old")
        old = _identity_in(path)
        spent, rounds = struct.unpack_from("<QI", old, 48) if old else (0, 0)
        _save(path, 1, 0, _key(bytes(32), 1, 1), spent, rounds)
        return cls(path)

    @staticmethod
    def forget(path: str = KEY) -> None:
        """Removes the identity for good: the board can't get it back. The cost of its rounds is kept."""
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
        """The board's public key, as listed in a roster, 32 bytes."""
        return _core.x25519_public(self._secret)

    def draw(self) -> bytes:
        """32 unpredictable bytes, never the same twice."""
        if not self._calls:
            self._starts += 1
            self._save(self.round, self.spent, self.rounds)
        self._calls += 1
        return _key(self._secret, self._starts, self._calls)

    def take_part(self, number: int) -> None:
        """Saves in flash that this board takes part in a round; it refuses all rounds up to this number afterwards."""
        if number <= self.round:
            raise FleetError("round %d is over for this board: the last one was %d" % (number, self.round))
        self._save(number, self.spent, self.rounds)
        self.round = number  # only after saving: a failed save can be tried again

    def spend(self, number: int, spent: int) -> None:
        """Saves that a round's update is about to be sent. spent: the cost of all rounds, including this one."""
        if number != self._counted:
            self._save(number, spent, self.rounds + 1)
            self.round, self.spent, self.rounds = number, spent, self.rounds + 1
            self._counted = number

    def _save(self, number, spent, rounds):
        _save(self._path, self._starts, number, self._secret, spent, rounds)


def _identity_in(path):
    # The data of an identity's file, None if there is no file.
    try:
        return _read(path)
    except OSError as error:
        _only_absent(error)


def _is_identity(data):
    versions = b"ELK1\1\0\x40\0", b"ELK1\2\0\x40\0"  # version 1 did not count costs
    return len(data) == _IDENTITY_SIZE and data[:8] in versions and _edgelora.crc32(data, 0) == 0x2144DF1C


def _save(path, starts, number, secret, spent=0, rounds=0):
    data = struct.pack(_IDENTITY, b"ELK1", 2, _IDENTITY_SIZE, starts, number, secret, spent, rounds)
    write(path, data + struct.pack("<I", _edgelora.crc32(data, 0)))
    _sync()


def _key(secret, starts, calls):
    return _sha512(_entropy(), secret, struct.pack("<II", starts, calls))[:32]


def _entropy():
    # Random bytes of the chip's noise source, after a health test.
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
    # Whether bytes of os.urandom may come from noise: they are not the cycle of an 8-bit register without input, and
    # the raw bits (an RP2040's register is undone) pass NIST SP 800-90B, 4.4, with 1/4 bit of entropy each.
    if sum(data.find(data[i : i + 2]) == i for i in range(len(data) - 1)) * 4 < len(data) * 3:  # distinct pairs
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
    """An installed roster: the boards of the fleet.

    FleetError if no roster is installed, or this board does not trust its signer.
    """

    number: int  # higher with every change
    count: int  # entries
    target: str
    server: bytes  # public key of the server that sums updates
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
        """The public key of a board, 32 bytes; all 0 if the board was revoked or the index is not in the roster."""
        if index >= self.count:
            return _REVOKED
        with open(self._path, "rb") as file:
            file.seek(_HEADER_SIZE + 32 * index)
            return file.read(32)

    def index(self, public: Buffer) -> int:
        """The index of a board in the roster. FleetError if it is not listed."""
        with open(self._path, "rb") as file:
            file.seek(_HEADER_SIZE)
            found = _found(file, self.count, public)
        if found is None:
            raise FleetError("this board is not enrolled in roster %d, or revoked" % self.number)
        return found

    def check(self) -> Iterator[None]:
        """FleetError unless the signature is valid and the target is this board's. A generator of short steps."""
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
    # The index of a key among the next `count` keys in a file, None if it is not among them.
    for start in range(0, count, _BLOCK // 32):
        block = file.read(_BLOCK)
        for at in range(0, len(block) - 31, 32):
            if block[at : at + 32] == public:
                return start + at // 32


def open_model(adapter: str | bytes = ADAPTER, base: bytes | None = None, **more: Any) -> Model:
    """Opens a model that can train an adapter (its path or bytes), with the adapter's ranks, mode and momentum.
    base: bytes of a base; None: the adapter's base on the board. more: other arguments of `Model`."""
    head = _read(adapter, 48 + 12 * 511)
    if len(head) < 48 or head[:4] != b"ELA1":
        raise FleetError("the global adapter is not an adapter")
    flags, momentum, threshold = struct.unpack_from("<H10xHH", head, 28)
    if not base and base_path(head[16:24]) is None:
        raise FleetError("the adapter is for base %s, which this board does not have" % hex_id(head[16:24]))
    mode = "trainable_a" if flags & 4 else "frozen_a"
    return open_base(base or head[16:24], ranks_of(head), mode, momentum=momentum, threshold=threshold, **more)


def install(path: str, identity: Identity, to: str = ROSTER) -> Iterator[None]:
    """Checks the roster in a file and replaces the old roster by it atomically. A generator of short steps.

    FleetError unless a key that this board trusts has signed it, it is for this board's target, its number is higher
    than the installed roster's, and this board is in it.
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
    """What the owner of this board requires of every task (SPEC.md, section 17); safe defaults without a file.

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
    # The rules as bytes, in the core's format.
    for name, value in rules.items():
        if name not in RULES or not isinstance(value, int) or not 0 <= value <= LIMITS[RULES.index(name)]:
            raise FleetError("%s of %s: give whole numbers for some of %s" % (name, path, ", ".join(RULES)))
    return struct.pack(_POLICY, *[int(rules.get(name, 0)) for name in RULES])


def board_seed(seed: int, index: int) -> int:
    """Derives the seed of a board's run from the round's seed and the board's index in the roster."""
    return (seed + 0x9E3779B1 * index) & 0xFFFFFFFF


class Member:
    """This board in the rounds of its fleet: it takes a message, works in short steps, and leaves its `reply`.

    model: in a training mode, with the global adapter's ranks; None: opened only for training. samples: training
    samples (`split` holds some out first). store: keeps the run's checkpoint. neighbours: the maximum number of other
    boards in a cohort. pace: arguments of `Scheduler` for the training (clock_hz, sleep_ms, budget_ms ...).
    """

    model: Model | None
    samples: Any
    store: Store
    adapter: str | bytes  # the global adapter of the round, its path or its bytes
    identity: Identity
    roster: Roster
    index: int  # of this board
    run: Any  # the round's `Run`, while it trains
    keeps: bool  # whether the model stays open after training: by default, a given one does
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
        self.keeps = model is not None  # if not, the model is closed after training, which frees RAM for messages
        self.adapter = adapter
        self.identity, self._pace, self._commit_every = identity, pace, commit_every
        self._rules = _packed(policy() if rules is None else rules)
        self._memory = bytearray(_core.member_size(neighbours))
        self.begin()

    def begin(self) -> None:
        """Starts again with the roster installed now. A round under way is dropped, except for its run in the store."""
        roster, identity = self._roster(), self.identity
        self.index = roster.index(identity.public)
        _core.member_begin(
            self._memory, identity.secret, roster.server, roster.fleet, identity.draw(), identity.round, roster.number,
            self.index, self._rules, struct.pack("<Q", identity.spent),
        )  # fmt: skip
        self.roster, self.run, self.reply = roster, None, None
        self._values = None  # of an unfinished update
        self._taking = 0  # the round that this member joins, set just before its number is saved

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
        """Handles a message and returns this board's reply; blocks."""
        for _ in self.steps(message):
            pass
        return self.reply

    def steps(self, message: Buffer) -> Iterator[str]:
        """`answer` as a generator, which yields between short steps (TRAINING, WORKING, or PAUSED at the end of a
        window) and sets `reply` at its end.

        message: bytes. ValueError if it is refused; nothing has changed then, and the right message is still accepted.
        Called again with the same message after an interruption, it continues.
        """
        memory = self._memory
        while _core.member_next(memory) == _WORK:  # left unfinished by an earlier call
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
            self.reply = None  # the reply to the previous message
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
            discard(self.store, RUN)  # a run of another round
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
        # Makes the reply with this board's update, in place.
        self.run = None
        gc.collect()
        self._task()  # check again: whoever replaced the adapter meanwhile could choose the update
        before = fleet_vector(_read(self.adapter))
        after = fleet_vector(self.store.read(RUN + ".run"))
        self._values = bytearray(32 + 2 * len(before))  # the core keeps using it, even after a failure
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
            if self._taking != number or self.identity.round != number:  # else this member has saved it
                self.identity.take_part(number)
        elif stage == _INPUT:
            self.identity.spend(number, int.from_bytes(_core.member_spent(memory), "little"))
        _core.member_reply(memory, reply)
        self.reply, self.run, self._values = reply, None, None
        if not self.keeps:
            self.model = None
