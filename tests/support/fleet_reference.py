"""A member of a fleet and its server in plain Python, written from SPEC.md, section 17, and not from the C code."""

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
TASK, READY, COHORT, ADVERT, PEERS, SHARES, INPUT, MASKED, SURVIVORS, CONFIRM, UNMASK, OPENED = range(1, 13)


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
    """The shared key of two members of a fleet; pads of one round."""

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
    cohort: int = 65
    colluders: int = 0
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
        tail = (self.clip, self.sigma, self.least, self.cohort, self.colluders, self.masks)
        return (head + struct.pack("<IHHHHH", *tail)).ljust(96, b"\0")


# ---- a cohort


def context_of(task: bytes, number: int, cohort: list[int]) -> bytes:
    return hashlib.sha512(b"edgelora round" + task + struct.pack("<I", number) + cohort_body(cohort)).digest()[:32]


def cohort_body(cohort: list[int]) -> bytes:
    return struct.pack(f"<H{len(cohort)}H", len(cohort), *cohort)


def thresholds(task: bytes, count: int) -> tuple[int, int]:
    """t and u for a cohort of `count` boards."""
    least = struct.unpack_from("<H", task, 62)[0]
    t = (count - 1 + struct.unpack_from("<H", task, 66)[0]) // 2 + 1
    return t, max(t, least - 1)


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
    """The products of a with each byte in GF(2^8)."""
    return bytes(gf_times(a, b) for b in range(256))


def share(key: bytes, threshold: int, x: int, secret: bytes) -> bytes:
    value, power = secret, 1
    for n in range(1, threshold):
        power = gf_times(power, x)
        value = xor(value, stream(key, 64, block=n).translate(products(power)))
    return value


def joined(shares: dict[int, bytes]) -> bytes:
    """The secret from shares by x: Lagrange interpolation at 0."""
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
    """Discrete Gaussian noise from the digits of a key's stream. taken: digits used so far."""

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
    """The answers of an honest board by SPEC.md; it refuses nothing."""

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
            SURVIVORS: self._confirms,
            UNMASK: self._opened,
        }
        self.key, self.masters = key, masters
        return seal(self.pair, stage + 1, self.index, number, answers[stage](body))

    def _advert(self, body: bytes) -> bytes:
        self.cohort = list(struct.unpack(f"<{len(body) // 2}H", body))[1:]
        self.context = context_of(self.task, self.number, self.cohort)
        self.threshold, self.agreeing = thresholds(self.task, len(self.cohort))
        self.others = [j for j in self.cohort if j != self.index]
        self.pairs = {j: self._agree(j) for j in self.others}
        public = public_of(self.e)
        return public + b"".join(self.pairs[j].tag("advert", self.index, j, public) for j in self.others)

    def _agree(self, j: int) -> Pair:
        pair = Pair(self.secret, self.key(j), self.fleet, self.number)
        pair.bind(self.context)
        return pair

    def _shares(self, body: bytes) -> bytes:
        self.seeds, out = {}, b""
        for i in range(0, len(body), 50):
            j = struct.unpack_from("<H", body, i)[0]
            common = x25519(self.e, body[i + 2 : i + 34])
            self.seeds[j] = mac(b"edgelora mask 1", common)[:32]
            self.pairs[j].bind(common)
            part = share(self.c, self.threshold, self.others.index(j) + 1, self.b + self.e)
            sealed = xor(part, self.pairs[j].pad("share", self.index, j))
            out += sealed + self.pairs[j].tag("sharetag", self.index, j, sealed)
        return out

    def _masked(self, body: bytes) -> bytes:
        total = self.update().astype(np.int64).astype(np.uint32)
        if self.masks:
            total = total + mask(self.b, self.number, self.n)
        self.given = {}
        for at in range(2, len(body), 82):
            j = struct.unpack_from("<H", body, at)[0]
            self.given[j] = xor(body[at + 2 : at + 66], self.pairs[j].pad("share", j, self.index))
            common = mask(self.seeds[j], self.number, self.n)
            total = total + common if self.index < j else total - common
        return bytes(total.astype("<u4").tobytes())

    def _confirms(self, body: bytes) -> bytes:
        bits = body[2 + 2 * len(self.cohort) :]
        alive = [j for i, j in enumerate(self.cohort) if bits[i // 8] >> i % 8 & 1]
        self.alive = [j for j in self.given if j in alive]
        self.survivors = hashlib.sha512(b"edgelora survivors" + self.context + bits).digest()[:32]
        return b"".join(self.confirm(j) for j in self.alive)

    def confirm(self, j: int) -> bytes:
        """The tag that confirms to another board the survivors that this board has seen."""
        return self.pairs[j].tag("confirm", self.index, j, self.survivors)

    def update(self) -> NDArray[np.int64]:
        """The update, clipped and with noise."""
        return np.array(clipped(*self.masters, self.clip)) + np.array(Noise(self.z).draws(self.sigma, self.n))

    def opened(self) -> bytes:
        """The shares of the survivors' b and of the other boards' e."""
        return b"".join(part[:32] if j in self.alive else part[32:] for j, part in self.given.items())

    def _opened(self, body: bytes) -> bytes:
        text = self.opened()
        return xor(text, stream(self.pair.pad("open", self.index, SERVER)[:32], len(text)))


# ---- a server


@dataclass
class Server:
    """Makes an honest server's messages and computes the sum. keys: public keys of all boards by index."""

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

    def others(self, stage: int, index: int) -> list[int]:
        """The other boards of the cohort whose reply of a stage has arrived, ascending."""
        return [j for j in self.cohort if j != index and j in self.replies[stage]]

    def message(self, stage: int, index: int) -> bytes:
        return seal(self.pairs[index], stage, index, self.number, self.body(stage, index))

    def body(self, stage: int, index: int) -> bytes:
        if stage == TASK:
            return self.task.pack()
        if stage == COHORT:
            self.cohort = sorted(self.replies[READY])
            self.threshold, self.agreeing = thresholds(self.task.pack(), len(self.cohort))
            return cohort_body(self.cohort)
        if stage == PEERS:
            return b"".join(self._advert(j, index) for j in self.others(ADVERT, index))
        if stage == INPUT:
            sharers = self.others(SHARES, index) if self.task.masks else []
            return struct.pack("<H", len(sharers)) + b"".join(self._sealed(j, index) for j in sharers)
        if stage == SURVIVORS:
            return cohort_body(self.cohort) + self.bits()
        return b"".join(struct.pack("<H", j) + self._confirm(j, index) for j in self.others(CONFIRM, index))

    def bits(self) -> bytes:
        """The survivors, as one bit for each board of the cohort."""
        bits = bytearray((len(self.cohort) + 7) // 8)
        for place, j in enumerate(self.cohort):
            bits[place // 8] |= (j in self.replies[MASKED]) << place % 8
        return bytes(bits)

    def _advert(self, j: int, index: int) -> bytes:
        body, place = self.replies[ADVERT][j], [i for i in self.cohort if i != j].index(index)
        return struct.pack("<H", j) + body[:32] + body[32 + 16 * place :][:16]

    def _sealed(self, j: int, index: int) -> bytes:
        return struct.pack("<H", j) + self.replies[SHARES][j][80 * self.others(ADVERT, j).index(index) :][:80]

    def _confirm(self, j: int, index: int) -> bytes:
        asked = [i for i in self.others(SHARES, j) if i in self.replies[MASKED]]
        return self.replies[CONFIRM][j][16 * asked.index(index) :][:16]

    def total(self) -> NDArray[np.int64]:
        """The sum of the survivors' updates; AssertionError if there are too few shares."""
        masked, n = self.replies[MASKED], self.task.parameters
        total = np.zeros(n, np.uint32)
        for body in masked.values():
            total = total + np.frombuffer(body, "<u4")
        if self.task.masks:
            opened = {i: self._open(i, body) for i, body in self.replies[OPENED].items()}
            for j in self.replies[SHARES]:
                holders = enumerate((i for i in self.cohort if i != j), 1)
                parts = {x: opened[i][j] for x, i in holders if j in opened.get(i, {})}
                assert len(parts) >= self.threshold, f"board {j}: {len(parts)} shares of {self.threshold}"
                secret = joined(dict(list(parts.items())[: self.threshold]))
                total = total - self._of(j, secret)
        return total.astype(np.int32).astype(np.int64)

    def _open(self, i: int, body: bytes) -> dict[int, bytes]:
        text = xor(body, stream(self.pairs[i].pad("open", i, SERVER)[:32], len(body)))
        return {j: text[32 * n :][:32] for n, j in enumerate(self.others(SHARES, i))}

    def _of(self, j: int, secret: bytes) -> NDArray[np.uint32]:
        """The mask to subtract from the sum: a survivor's own, or those that survivors share with a lost board."""
        n = self.task.parameters
        if j in self.replies[MASKED]:
            return mask(secret, self.number, n)
        assert public_of(secret) == self.replies[ADVERT][j][:32]
        total = np.zeros(n, np.uint32)
        for i in self.others(SHARES, j):
            if i in self.replies[MASKED]:
                common = mask(
                    mac(b"edgelora mask 1", x25519(secret, self.replies[ADVERT][i][:32]))[:32], self.number, n
                )
                total = total + common if i < j else total - common
        return total
