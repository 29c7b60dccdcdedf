"""The C verification of Ed25519 signatures against RFC 8032's vectors, `cryptography` and a slow reference."""

from __future__ import annotations

import hashlib
import itertools
import random
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgelora.base.resources import ROOT
from edgelora.core.twin import binding

CRYPTO = ROOT / "micropython_module" / "crypto"

# --- the reference: the curve as RFC 8032 defines it, points as (x / z, y / z)

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def sum_of(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
    (x1, y1, z1), (x2, y2, z2) = a, b
    z = z1 * z2 % P
    t = D * x1 * x2 * y1 * y2 % P
    plus, minus = (z * z + t) % P, (z * z - t) % P
    return z * minus * (x1 * y2 + x2 * y1) % P, z * plus * (y1 * y2 + x1 * x2) % P, plus * minus % P


def affine(x: int, y: int, z: int) -> Point:
    return x * pow(z, -1, P) % P, y * pow(z, -1, P) % P


def add(a: Point, b: Point) -> Point:
    return affine(*sum_of((*a, 1), (*b, 1)))


def times(n: int, a: Point) -> Point:
    out, power = (0, 1, 1), (*a, 1)
    while n:
        out = sum_of(out, power) if n & 1 else out
        power, n = sum_of(power, power), n >> 1
    return affine(*out)


def negative(a: Point) -> Point:
    return -a[0] % P, a[1]


def encode(a: Point) -> bytes:
    return (a[1] | (a[0] & 1) << 255).to_bytes(32, "little")


def root(a: int) -> int | None:
    """A square root modulo P, where P = 5 modulo 8."""
    x = pow(a, (P + 3) // 8, P)
    x = x if x * x % P == a else x * pow(2, (P - 1) // 4, P) % P
    return x if x * x % P == a else None


def decode(data: bytes) -> Point | None:
    number = int.from_bytes(data, "little")
    y, sign = number % 2**255, number >> 255
    x = root((y * y - 1) * pow(D * y * y + 1, -1, P) % P) if y < P else None
    if x is None or (x == 0 and sign):
        return None
    return (x if x & 1 == sign else P - x), y


def base_point() -> Point:
    base = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    assert base
    return base


NEUTRAL: Point = (0, 1)
BASE = base_point()


def challenge(r: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


@dataclass(frozen=True)
class Case:
    """A signature to verify."""

    key: bytes
    message: bytes
    signature: bytes

    def payload(self) -> bytes:
        return self.key + self.signature + self.message


def sound(key: bytes) -> bool:
    """Whether the key is a canonical point that is not of small order."""
    point = decode(key)
    return point is not None and times(8, point) != NEUTRAL


def valid(case: Case) -> bool:
    """Whether crypto.h says that the signature is accepted."""
    s = int.from_bytes(case.signature[32:], "little")
    if s >= L or not sound(case.key):
        return False
    k = challenge(case.signature[:32], case.key, case.message)
    point = decode(case.key)
    assert point
    return encode(add(times(s, BASE), times(k, negative(point)))) == case.signature[:32]


# --- the C code


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("ed25519") / "cases"
    flags = ["-std=c99", "-g", "-O1", "-Wall", "-Wextra", "-Werror"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{CRYPTO}"]
    sources = [
        Path(__file__).parent / "ed25519_cases.c",
        *(CRYPTO / f"{name}.c" for name in ("sha512", "field", "secret")),
    ]
    subprocess.run(["cc", *flags, *map(str, sources), "-o", str(program)], check=True)
    return program


def run(program: Path, what: str, payloads: list[bytes]) -> list[str]:
    told = b"".join(what.encode() + struct.pack("<I", len(data)) + data for data in payloads)
    done = subprocess.run([program], input=told, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return done.stdout.decode().split()


def verdicts(cases: list[Case], program: Path) -> list[bool]:
    """The sanitized program's answers; the twin's must be equal."""
    answers = [answer == "1" for answer in run(program, "v", [case.payload() for case in cases])]
    assert answers == [binding.verify(case.key, case.message, case.signature) for case in cases]
    return answers


def openssl(case: Case) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(case.key).verify(case.signature, case.message)
    except InvalidSignature:
        return False
    return True


# --- honest signatures

VECTORS = [  # RFC 8032, 7.1: public key, message, the signature's R and S
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155",
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac",
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").digest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589",
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


def signed(seed: int, message: bytes) -> Case:
    secret = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"key %d" % seed).digest())
    return Case(secret.public_key().public_bytes_raw(), message, secret.sign(message))


def test_vectors_of_the_rfc(sanitized: Path) -> None:
    cases = [Case(bytes.fromhex(key), message, bytes.fromhex(r + s)) for key, message, r, s in VECTORS]
    assert verdicts(cases, sanitized) == [True] * len(cases)
    assert all(map(valid, cases))


def test_accepts_what_cryptography_signs(sanitized: Path) -> None:
    """All message lengths up to more than two blocks of SHA-512; none for another message."""
    rng = random.Random(0)
    cases = [signed(i, rng.randbytes(i if i < 300 else rng.randrange(2000))) for i in range(400)]
    others = [Case(a.key, b.message, a.signature) for a, b in itertools.pairwise(cases)]
    assert verdicts(cases + others, sanitized) == [True] * len(cases) + [False] * len(others)
    more = [signed(i, rng.randbytes(i % 97)) for i in range(1000, 4000)]
    assert all(binding.verify(case.key, case.message, case.signature) for case in more)


def test_refuses_every_flipped_bit(sanitized: Path) -> None:
    case = signed(1, b"an adapter's bytes")
    whole = case.payload()
    flipped = []
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        flipped.append(Case(bytes(data[:32]), bytes(data[96:]), bytes(data[32:96])))
    assert not any(verdicts(flipped, sanitized))
    assert binding.verify(case.key, case.message, case.signature)


# --- signatures of attackers


def torsion() -> list[Point]:
    """The eight points whose order divides 8."""
    for y in itertools.count(2):
        point = decode(y.to_bytes(32, "little"))
        generator = times(L, point) if point else NEUTRAL
        if times(4, generator) != NEUTRAL:
            return [times(i, generator) for i in range(8)]
    raise AssertionError


TORSION = torsion()
SECRET, NONCE = 0x1234567890ABCDEF << 160 | 77, 0xFEDCBA0987654321 << 170 | 99


def forged(a: int, key: bytes, r: int, nonce: bytes, message: bytes) -> Case:
    """A signature with a key and an R in any encoding, whose components of order L are a B and r B."""
    s = (r + challenge(nonce, key, message) * a) % L
    return Case(key, message, nonce + s.to_bytes(32, "little"))


def messages() -> list[bytes]:
    return [b"message %d" % i for i in range(16)]


def cases_of_small_order() -> list[Case]:
    """Keys and R's from the torsion points, alone and added to points of order L."""
    points = [
        (a, encode(add(times(a, BASE), t)), r, encode(add(times(r, BASE), u)))
        for a, r in ((SECRET, NONCE), (0, NONCE), (SECRET, 0), (0, 0))
        for t in TORSION
        for u in (TORSION[0], TORSION[1], TORSION[4])
    ]
    return [forged(a, key, r, nonce, message) for a, key, r, nonce in points for message in messages()[:8]]


def test_points_of_small_and_mixed_order(sanitized: Path) -> None:
    cases = cases_of_small_order()
    answers = verdicts(cases, sanitized)
    assert answers == [valid(case) for case in cases]
    for case, answer in zip(cases, answers, strict=True):
        assert answer == (openssl(case) and sound(case.key))
    # Both verdicts occur for keys with a torsion component, and for an R of small order.
    mixed = {answer for case, answer in zip(cases, answers, strict=True) if times(L, decode(case.key)) != NEUTRAL}
    small = {answer for case, answer in zip(cases, answers, strict=True) if decode(case.signature[:32]) in TORSION}
    assert mixed == small == {True, False}
    assert any(openssl(case) for case in cases if not sound(case.key))


def test_other_encodings_of_s_and_r(sanitized: Path) -> None:
    case = signed(2, b"message")
    s = int.from_bytes(case.signature[32:], "little")
    wrong = [s + n * L for n in range(1, 16) if s + n * L < 2**256] + [0, L - 1, L, L + 1, 2**255, 2**256 - 1]
    cases = [Case(case.key, case.message, case.signature[:32] + n.to_bytes(32, "little")) for n in wrong]
    assert len(cases) > 15
    key = encode(times(SECRET, BASE))
    for y, sign in ((1, 1), (1 + P, 0), (1 + P, 1)):  # other encodings of the neutral element
        cases.append(forged(SECRET, key, 0, (y | sign << 255).to_bytes(32, "little"), b"message"))
    assert not any(verdicts(cases, sanitized))
    assert verdicts([forged(SECRET, key, 0, encode(NEUTRAL), b"message")], sanitized) == [True]


def test_decodes_canonical_points_alone(sanitized: Path) -> None:
    ends = [*range(40), *range(P - 40, 2**255)]
    data = [(y | sign << 255).to_bytes(32, "little") for y in ends for sign in (0, 1)]
    rng = random.Random(1)
    data += [rng.randbytes(32) for _ in range(500)]
    right = [decode(point) is not None for point in data]
    assert run(sanitized, "d", data) == [str(int(answer)) for answer in right]
    assert 200 < sum(right) < len(right) - 200
