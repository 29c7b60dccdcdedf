"""A member of a fleet and its server in plain Python, from SPEC.md, section 17: never from the C."""

from __future__ import annotations

import functools
import hashlib
import hmac
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

SERVER = 0xFFFF
TASK, READY, COHORT, ADVERT, PEERS, SHARES, INPUT, MASKED, UNMASK, OPENED = range(1, 11)


def stream(key: bytes, size: int, nonce: bytes = bytes(12), block: int = 0) -> bytes:
    return Cipher(algorithms.ChaCha20(key, struct.pack("<I", block) + nonce), None).encryptor().update(bytes(size))


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha512")


def x25519(secret: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def public_of(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


class Pair:
    """What two of a fleet have in common; pads of one round."""

    def __init__(self, secret: bytes, public: bytes, fleet: bytes, number: int) -> None:
        self.prk = mac(b"edgelora fleet 1", x25519(secret, public))
        self.fleet, self.number = fleet, number

    def bind(self, shared: bytes) -> None:
        self.prk = mac(self.prk, shared)

    def pad(self, label: str, source: int, target: int) -> bytes:
        about = label.encode().ljust(8, b"\0") + self.fleet + struct.pack("<IHH", self.number, source, target)
        return mac(self.prk, about)

    def tag(self, label: str, source: int, target: int, data: bytes) -> bytes:
        return mac(self.pad(label, source, target), data)[:16]


def seal(pair: Pair, stage: int, index: int, number: int, body: bytes) -> bytes:
    source, target = (SERVER, index) if stage % 2 else (index, SERVER)
    head = b"ELF1" + struct.pack("<BBHII", stage, 0, index, number, len(body)) + body
    return head + pair.tag("msg", source, target, head)


@dataclass(frozen=True)
class Task:
    roster: int = 1
    base: bytes = bytes(8)
    adapter: bytes = bytes(32)
    parameters: int = 8
    epochs: int = 1
    learning_rate: int = 0
    seed: int = 0
    clip: int = 1000
    sigma: int = 0
    least: int = 2
    neighbours: int = 4
    threshold: int = 3
    masks: int = 1

    def pack(self) -> bytes:
        head = struct.pack(
            "<I8s32sIHHI",
            self.roster,
            self.base,
            self.adapter,
            self.parameters,
            self.epochs,
            self.learning_rate,
            self.seed,
        )
        tail = (self.clip, self.sigma, self.least, self.neighbours, self.threshold, self.masks)
        return (head + struct.pack("<IHHHHH", *tail)).ljust(96, b"\0")


# ---- graph


def ring(key: bytes, cohort: list[int]) -> list[int]:
    words = (struct.unpack("<I", stream(key, 64, block=n // 16)[n % 16 * 4 :][:4])[0] for n in range(1 << 30))
    order = list(cohort)
    for i in range(len(order) - 1, 0, -1):
        word = next(w for w in words if w < 2**32 - 2**32 % (i + 1))
        j = word % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def neighbours_of(task: bytes, number: int, cohort: list[int]) -> tuple[dict[int, list[int]], int]:
    """Index -> its neighbours, ascending; the threshold t'."""
    k, t = struct.unpack_from("<HH", task, 64)
    near = min(k, len(cohort) - 1)
    threshold = max(near // 2 + 1, math.ceil(t * near / k))
    if near == len(cohort) - 1:
        return {i: [j for j in cohort if j != i] for i in cohort}, threshold
    body = struct.pack(f"<H{len(cohort)}H", len(cohort), *cohort)
    order = ring(hashlib.sha512(b"edgelora graph" + task + struct.pack("<I", number) + body).digest()[:32], cohort)
    n = len(order)
    places = [*range(-(k // 2), 0), *range(1, k // 2 + 1)]
    return {i: sorted(order[(p + d) % n] for d in places) for p, i in enumerate(order)}, threshold


# ---- shares


def gf_times(a: int, b: int) -> int:
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


@functools.cache
def products(a: int) -> bytes:
    """a times each byte."""
    return bytes(gf_times(a, b) for b in range(256))


def share(key: bytes, threshold: int, x: int, secret: bytes) -> bytes:
    value, power = secret, 1
    for n in range(1, threshold):
        power = gf_times(power, x)
        value = xor(value, stream(key, 64, block=n).translate(products(power)))
    return value


def joined(shares: dict[int, bytes]) -> bytes:
    """The secret of shares by x: Lagrange at 0."""
    inverse = _inverses()
    size = len(next(iter(shares.values())))
    out = bytearray(size)
    for x, part in shares.items():
        weight = 1
        for other in shares:
            if other != x:
                weight = gf_times(weight, gf_times(other, inverse[other ^ x]))
        for i in range(size):
            out[i] ^= gf_times(part[i], weight)
    return bytes(out)


@functools.cache
def _inverses() -> dict[int, int]:
    return {a: next(b for b in range(1, 256) if gf_times(a, b) == 1) for a in range(1, 256)}


# ---- an update


def clipped(before: NDArray[np.int16], after: NDArray[np.int16], clip: int) -> list[int]:
    d = [int(a) - int(b) for a, b in zip(after, before, strict=True)]
    squares = sum(v * v for v in d)
    norm = math.isqrt(squares) + (math.isqrt(squares) ** 2 < squares)
    if norm <= clip:
        return d
    factor = 65536 * clip // norm
    return [(abs(v) * factor >> 16) * (1 if v >= 0 else -1) for v in d]


class Noise:
    """Discrete Gaussian by digits of a key's stream; `taken` digits so far."""

    def __init__(self, key: bytes) -> None:
        self._digits = self._of(key)
        self.taken = 0

    @staticmethod
    def _of(key: bytes) -> Iterator[int]:
        block = 0
        while True:
            yield from stream(key, 1024, block=block)
            block += 16

    def digit(self) -> int:
        self.taken += 1
        return next(self._digits)

    def chance(self, a: int, d: int) -> bool:
        if a in (0, d):
            return a == d
        while True:
            w = self.digit()
            a *= 256
            if (w + 1) * d <= a:
                return True
            if w * d > a:
                return False
            a -= w * d

    def decay(self, a: int, d: int) -> bool:
        n = 1
        while self.chance(a, n * d):
            n += 1
        return n % 2 == 1

    def low(self, t: int) -> int:
        return (self.digit() + (256 * self.digit() if t > 256 else 0)) % t

    def draw(self, sigma: int) -> int:
        t = next(1 << b for b in range(32) if 2 << 2 * b >= sigma * sigma)
        scale = sigma * t
        while True:
            u = self.low(t)
            while not self.decay(u, t):
                u = self.low(t)
            v = 0
            while self.decay(1, 1):
                v += 1
            y = u + t * v
            minus = self.digit() % 2
            if minus and y == 0:
                continue
            q, r = divmod(abs(y * t - sigma * sigma), scale)
            if not all(self.decay(1, 2) for _ in range(q * q)) or not all(self.decay(r, scale) for _ in range(q)):
                continue
            n = 1
            while self.chance(r, scale) and self.chance(r, 2 * n * scale):
                n += 1
            if n % 2:
                return -y if minus else y

    def draws(self, sigma: int, n: int) -> list[int]:
        return [self.draw(sigma) for _ in range(n)] if sigma else [0] * n


def mask(seed: bytes, number: int, n: int) -> NDArray[np.uint32]:
    return np.frombuffer(stream(seed, 4 * n, struct.pack("<I", number) + bytes(8)), "<u4")


# ---- a member


class Member:
    """The honest answers of one board, with nothing refused: what SPEC.md has it send."""

    def __init__(self, secret: bytes, server: bytes, fleet: bytes, seed: bytes, index: int) -> None:
        self.secret, self.server, self.fleet, self.index = secret, server, fleet, index
        self.next_key = seed

    def answer(
        self, message: bytes, key: Callable[[int], bytes], masters: tuple[NDArray[np.int16], NDArray[np.int16]]
    ) -> bytes:
        stage, number, body = message[4], struct.unpack_from("<I", message, 8)[0], message[16:-16]
        if stage == TASK:
            self.number, self.task = number, body
            self.n, self.clip, self.sigma = (
                struct.unpack_from(f, body, at)[0] for f, at in (("<I", 44), ("<I", 56), ("<H", 60))
            )
            self.masks = struct.unpack_from("<H", body, 68)[0]
            drawn = stream(self.next_key, 160)
            self.next_key = drawn[:32]
            self.e, self.b, self.c, self.z = (drawn[i : i + 32] for i in range(32, 160, 32))
            self.pair = Pair(self.secret, self.server, self.fleet, number)
        answers = {
            TASK: lambda b: b"",
            COHORT: self._advert,
            PEERS: self._shares,
            INPUT: self._masked,
            UNMASK: self._opened,
        }
        self.key, self.masters = key, masters
        return seal(self.pair, stage + 1, self.index, number, answers[stage](body))

    def _advert(self, body: bytes) -> bytes:
        cohort = list(struct.unpack(f"<{len(body) // 2}H", body))[1:]
        near, self.threshold = neighbours_of(self.task, self.number, cohort)
        self.near = near[self.index]
        self.pairs = {j: Pair(self.secret, self.key(j), self.fleet, self.number) for j in self.near}
        public = public_of(self.e)
        return public + b"".join(self.pairs[j].tag("advert", self.index, j, public) for j in self.near)

    def _shares(self, body: bytes) -> bytes:
        entries = [body[i : i + 50] for i in range(0, len(body), 50)]
        self.seeds, out = {}, b""
        for entry in entries:
            j = struct.unpack_from("<H", entry)[0]
            common = x25519(self.e, entry[2:34])
            self.seeds[j] = mac(b"edgelora mask 1", common)[:32]
            self.pairs[j].bind(common)
            part = share(self.c, self.threshold, self.near.index(j) + 1, self.b + self.e)
            sealed = xor(part, self.pairs[j].pad("share", self.index, j))
            out += sealed + self.pairs[j].tag("sharetag", self.index, j, sealed)
        return out

    def _masked(self, body: bytes) -> bytes:
        total = self.update().astype(np.int64).astype(np.uint32)
        if self.masks:
            total = total + mask(self.b, self.number, self.n)
        self.given = {}
        for i in range(2, len(body), 82):
            j = struct.unpack_from("<H", body, i)[0]
            self.given[j] = xor(body[i + 2 : i + 66], self.pairs[j].pad("share", j, self.index))
            common = mask(self.seeds[j], self.number, self.n)
            total = total + common if self.index < j else total - common
        return bytes(total.astype("<u4").tobytes())

    def update(self) -> NDArray[np.int64]:
        """What goes into the sum, clipped and with noise."""
        return np.array(clipped(*self.masters, self.clip)) + np.array(Noise(self.z).draws(self.sigma, self.n))

    def opened(self, body: bytes) -> bytes:
        """The shares that are asked for."""
        parts = [part[:32] if alive else part[32:] for part, alive in zip(self.given.values(), body[2:], strict=True)]
        return b"".join(parts)

    def _opened(self, body: bytes) -> bytes:
        text = self.opened(body)
        return xor(text, stream(self.pair.pad("open", self.index, SERVER)[:32], len(text)))


# ---- a server


@dataclass
class Server:
    """Makes an honest server's messages and takes the sum. keys: public keys of all boards by index."""

    secret: bytes
    keys: list[bytes]
    fleet: bytes
    number: int
    task: Task
    replies: dict[int, dict[int, bytes]] = field(default_factory=dict)  # stage -> index -> body

    def __post_init__(self) -> None:
        self.pairs = {i: Pair(self.secret, key, self.fleet, self.number) for i, key in enumerate(self.keys)}

    def take(self, index: int, reply: bytes) -> None:
        assert reply == seal(self.pairs[index], reply[4], index, self.number, reply[16:-16])
        self.replies.setdefault(reply[4], {})[index] = reply[16:-16]

    def came(self, stage: int, index: int) -> list[int]:
        """The neighbours of a board whose reply of a stage came."""
        return [j for j in self.near[index] if j in self.replies[stage]]

    def message(self, stage: int, index: int) -> bytes:
        return seal(self.pairs[index], stage, index, self.number, self.body(stage, index))

    def body(self, stage: int, index: int) -> bytes:
        if stage == TASK:
            return self.task.pack()
        if stage == COHORT:
            cohort = sorted(self.replies[READY])
            self.near, self.threshold = neighbours_of(self.task.pack(), self.number, cohort)
            return struct.pack(f"<H{len(cohort)}H", len(cohort), *cohort)
        if stage == PEERS:
            return b"".join(self._peer(j, index) for j in self.came(ADVERT, index))
        if stage == INPUT:
            sharers = self.came(SHARES, index) if self.task.masks else []
            return struct.pack("<H", len(sharers)) + b"".join(self._sealed(j, index) for j in sharers)
        alive = self.replies[MASKED]
        return struct.pack("<H", len(alive)) + bytes(j in alive for j in self.came(SHARES, index))

    def _peer(self, j: int, index: int) -> bytes:
        body, place = self.replies[ADVERT][j], self.near[j].index(index)
        return struct.pack("<H", j) + body[:32] + body[32 + 16 * place :][:16]

    def _sealed(self, j: int, index: int) -> bytes:
        place = self.came(ADVERT, j).index(index)
        return struct.pack("<H", j) + self.replies[SHARES][j][80 * place :][:80]

    def total(self) -> NDArray[np.int64]:
        """The sum of what survivors put in; AssertionError if shares are too few."""
        masked, n = self.replies[MASKED], self.task.parameters
        total = np.zeros(n, np.uint32)
        for body in masked.values():
            total = total + np.frombuffer(body, "<u4")
        if self.task.masks:
            opened = {i: self._open(i, body) for i, body in self.replies[OPENED].items()}
            for j in self.replies[SHARES]:
                parts = {self.near[j].index(i) + 1: opened[i][j] for i in self.near[j] if j in opened.get(i, {})}
                assert len(parts) >= self.threshold, f"board {j}: {len(parts)} shares of {self.threshold}"
                secret = joined(dict(list(parts.items())[: self.threshold]))
                total = total - self._of(j, secret)
        return total.astype(np.int32).astype(np.int64)

    def _open(self, i: int, body: bytes) -> dict[int, bytes]:
        text = xor(body, stream(self.pairs[i].pad("open", i, SERVER)[:32], len(body)))
        return {j: text[32 * n :][:32] for n, j in enumerate(self.came(SHARES, i))}

    def _of(self, j: int, secret: bytes) -> NDArray[np.uint32]:
        """What is to be taken from the sum: a survivor's own mask, or those that survivors share with a lost board."""
        n = self.task.parameters
        if j in self.replies[MASKED]:
            return mask(secret, self.number, n)
        assert public_of(secret) == self.replies[ADVERT][j][:32]
        total = np.zeros(n, np.uint32)
        for i in self.came(SHARES, j):
            if i in self.replies[MASKED]:
                common = mask(
                    mac(b"edgelora mask 1", x25519(secret, self.replies[ADVERT][i][:32]))[:32], self.number, n
                )
                total = total + common if i < j else total - common
        return total
