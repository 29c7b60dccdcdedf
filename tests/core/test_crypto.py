"""X25519, ChaCha20, HMAC, signatures, random numbers: against vectors, `cryptography`, Python, on all emulated cores.

Secrets are new in every run. A wrong answer is shown with its question.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import struct
import sys
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from fresh import FULL, SEED

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from cores import CORES, HOST, SANITIZED, Calls, Core, Program  # noqa: E402

P = 2**255 - 19
BASE = (9).to_bytes(32, "little")
Question = tuple[str, bytes]


@pytest.fixture(scope="module")
def programs() -> Iterator[list[Program]]:
    made = [Program(core) for core in CORES]
    yield made
    for program in made:
        program.close()


def asked(program: Program, questions: list[Question]) -> list[bytes]:
    calls = Calls()
    for k, (what, data) in enumerate(questions):
        calls.crypto(what, data, k % 4)
    answers = program.run(calls)
    assert all(isinstance(answer, bytes) for answer in answers)
    return [bytes(answer) for answer in answers if isinstance(answer, bytes)]


def check(programs: list[Program], questions: list[Question], answers: list[bytes]) -> None:
    for program in programs:
        for question, got, right in zip(questions, asked(program, questions), answers, strict=True):
            assert got.hex() == right.hex(), f"{program.core.name}: {question[0]} of {question[1].hex()}"


def of(programs: list[Program], core: Core) -> Program:
    return next(program for program in programs if program.core is core)


# --- X25519

VECTORS = [  # RFC 7748, 5.2: scalar, u, result
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
]
ITERATED = {  # RFC 7748, 5.2: rounds, result
    1: "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
    1000: "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
    1000000: "7c3911e0ab2586fd864497297e575e6f3bc601c0883c30df5f4dd2d24f665424",
}
AGREED = (  # RFC 7748, 6.1: both secrets, both public keys, the shared secret
    "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
    "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
)


def exchanged(secret: bytes, public: bytes) -> bytes:
    """OpenSSL's answer, and whether it is nonzero."""
    try:
        return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public)) + b"\1"
    except ValueError:
        return bytes(33)


def test_x25519_vectors_of_the_rfc(programs: list[Program]) -> None:
    a, b, public_a, public_b, shared = map(bytes.fromhex, AGREED)
    questions = [("x25519", bytes.fromhex(scalar + u)) for scalar, u, _ in VECTORS]
    questions += [("x25519", a + public_b), ("x25519", b + public_a), ("public", a), ("public", b)]
    answers = [bytes.fromhex(result) + b"\1" for *_, result in VECTORS]
    check(programs, questions, [*answers, shared + b"\1", shared + b"\1", public_a, public_b])


def test_x25519_iterated(programs: list[Program]) -> None:
    program = of(programs, HOST)
    scalar, u = BASE, BASE
    for i in range(1, 1000001 if FULL else 1001):
        scalar, u = asked(program, [("x25519", scalar + u)])[0][:32], scalar
        assert scalar.hex() == ITERATED.get(i, scalar.hex())


def test_x25519_is_that_of_openssl(programs: list[Program]) -> None:
    rng = random.Random(SEED)
    pairs = [(rng.randbytes(32), rng.randbytes(32)) for _ in range(600)]
    questions = [("x25519", secret + u) for secret, u in pairs]
    answers = [exchanged(secret, u) for secret, u in pairs]
    fast = [of(programs, HOST), of(programs, SANITIZED)]
    check(fast, questions, answers)
    check(programs, questions[:8], answers[:8])


def test_x25519_of_points_that_are_special(programs: list[Program]) -> None:
    """Small order on the curve or its twist, u not below p, top bit set: same results as OpenSSL."""
    order_8 = 0xB8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0
    small = [0, 1, order_8, 39382357235489614581723060781553021112529911719440698176882885853963445705823, P - 1, P]
    points = {u + top for u in [*small, *range(P, 2**255), 2, 9, 2**255 - 1] for top in (0, 2**255)}
    rng = random.Random(SEED)
    scalars = [bytes(32), b"\xff" * 32, rng.randbytes(32)]
    pairs = [(scalar, u.to_bytes(32, "little")) for u in sorted(points) for scalar in scalars]
    answers = [exchanged(*pair) for pair in pairs]
    assert len(answers) - len(list(filter(any, answers))) == 3 * 2 * (len(small) + 1)  # small orders, and p + 1
    questions = [("x25519", scalar + u) for scalar, u in pairs]
    check([of(programs, HOST), of(programs, SANITIZED)], questions, answers)
    some = range(0, len(questions), 11)
    check(programs, [questions[k] for k in some], [answers[k] for k in some])


# --- the field


def operands(rng: random.Random) -> bytes:
    """256 bits: random, or words that cause long carries."""
    if rng.random() < 0.4:
        return rng.randbytes(32)
    words = (0, 1, 2, 37, 38, 39, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFF0000, 0xFFFFFFDA, 0xFFFFFFFF)
    edge = rng.choice(words[-4:])
    return struct.pack("<8I", *(edge if rng.random() < 0.6 else rng.choice(words) for _ in range(8)))


FIELD = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, _: a * a,
    lambda a, _: a * 121665,
    lambda a, _: pow(a, P - 2, P),
    lambda a, b: a * b,
    lambda a, b: a * b,
    lambda a, _: a * a,
    lambda a, _: a % 2**255,
]


def test_field(programs: list[Program]) -> None:
    rng = random.Random(SEED)
    questions, answers = [], []
    edges = [0, 1, 18, 19, 37, 38, P - 1, P, P + 1, 2**255 - 1, 2**255, 2 * P - 1, 2 * P, 2 * P + 1, 2**256 - 1]
    pairs = [(x.to_bytes(32, "little"), y.to_bytes(32, "little")) for x in edges for y in edges]
    pairs += [(operands(rng), operands(rng)) for _ in range(400)]
    for a, b in pairs:
        for k, f in enumerate(FIELD):
            if k != 5 or a[0] % 8 == 0:
                questions.append(("field", bytes([k]) + a + b))
                value = f(int.from_bytes(a, "little"), int.from_bytes(b, "little")) % P
                answers.append(value.to_bytes(32, "little"))
    check(programs, questions, answers)


# --- ChaCha20

SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: "
    b"If I could offer you only one tip for the future, sunscreen would be it."
)
COUNTING = bytes(range(32))
STREAMS = [  # RFC 8439, 2.3.2, 2.4.2: nonce, counter, text, result
    (
        "000000090000004a00000000",
        1,
        bytes(64),
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    ),
    (
        "000000000000004a00000000",
        1,
        SUNSCREEN,
        "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b"
        "f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8"
        "07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736"
        "5af90bbf74a35be6b40b8eedf2785e42874d",
    ),
]


def stream(key: bytes, nonce: bytes, counter: int, size: int) -> bytes:
    """OpenSSL's stream; its counter has 64 bits, of which the upper 32 are the nonce's first word."""
    cipher = Cipher(algorithms.ChaCha20(key, struct.pack("<I", counter) + nonce), None)
    return cipher.encryptor().update(bytes(size))


def test_chacha20_vectors_of_the_rfc(programs: list[Program]) -> None:
    questions = [
        ("xor", COUNTING + bytes.fromhex(nonce) + struct.pack("<I", n) + text) for nonce, n, text, _ in STREAMS
    ]
    check(programs, questions, [bytes.fromhex(result) for *_, result in STREAMS])


def test_chacha20_is_that_of_openssl(programs: list[Program]) -> None:
    rng = random.Random(SEED)
    questions, answers = [], []
    for k in range(150):
        key, nonce, counter, size = rng.randbytes(32), rng.randbytes(12), rng.randrange(2**30), 4 * rng.randrange(300)
        data, head = rng.randbytes(size), key + nonce + struct.pack("<I", counter)
        xs, ys = (struct.unpack(f"<{size // 4}I", s) for s in (data, stream(key, nonce, counter, size)))
        for what, sign in (("add", 1), ("subtract", -1)):
            questions.append((what, head + data))
            answers.append(
                struct.pack(f"<{size // 4}I", *((x + sign * y) % 2**32 for x, y in zip(xs, ys, strict=True)))
            )
        odd = data[: max(0, size - k % 5)]
        questions.append(("xor", head + odd))
        answers.append(bytes(x ^ y for x, y in zip(odd, stream(key, nonce, counter, size), strict=False)))
    check(programs, questions, answers)


# --- HMAC-SHA-512

TAGS = [  # RFC 4231: key, data, the tag's first bytes
    (b"\x0b" * 20, b"Hi There", "87aa7cdea5ef619d4ff0b4241a1d6cb0"),
    (b"Jefe", b"what do ya want for nothing?", "164b7a7bfcf819e2e395fbe73b56e0a3"),
    (b"\xaa" * 20, b"\xdd" * 50, "fa73b0089d56a284efb0f0756c890be9"),
    (bytes(range(1, 26)), b"\xcd" * 50, "b0ba465637458c6990e5a8c5f61d4af7"),
    (b"\x0c" * 20, b"Test With Truncation", "415fad6271580a531d4179bc891d87a6"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "80b24263c7c1a3ebb71493c1dd7be8b4",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. "
        b"The key needs to be hashed before being used by the HMAC algorithm.",
        "e37b6a775dc87dbaa4dfa9f96e5e3ffd",
    ),
]


def test_hmac(programs: list[Program]) -> None:
    rng = random.Random(SEED)
    cases = [(key, data) for key, data, _ in TAGS]
    cases += [
        (rng.randbytes(size), rng.randbytes(rng.randrange(500))) for size in [*range(0, 140, 7), 127, 128, 129, 300]
    ]
    tags = [hmac.digest(key, data, hashlib.sha512) for key, data in cases]
    assert [tag[:16].hex() for tag in tags[: len(TAGS)]] == [tag for *_, tag in TAGS]
    check(programs, [("hmac", struct.pack("<I", len(key)) + key + data) for key, data in cases], tags)


# --- signatures, whose attacks test_ed25519.py has


def test_signatures_are_judged_alike(programs: list[Program]) -> None:
    rng = random.Random(SEED)
    questions, answers = [], []
    for k in range(24):
        secret, message = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32)), rng.randbytes(17 * k)
        signature = bytearray(secret.sign(message))
        signature[rng.randrange(64)] ^= (k % 2) << rng.randrange(8)
        questions.append(("verify", secret.public_key().public_bytes_raw() + signature + message))
        answers.append(bytes([k % 2 == 0]))
    check(programs, questions, answers)


# --- random numbers


def drawn(seed: bytes, sizes: list[int]) -> bytes:
    """What crypto.h specifies for these requests; 0 requests a number of 64 bits."""
    key, out, pool = seed, b"", b""

    def request(size: int) -> bytes:
        nonlocal key
        whole = stream(key, bytes(12), 0, 32 + size)
        key = whole[:32]
        return whole[32:]

    for size in sizes:
        if size == 0:
            pool = pool or request(32)
            out, pool = out + pool[:8], pool[8:]
        else:
            out += request(size)
    return out


def test_random_numbers(programs: list[Program]) -> None:
    rng = random.Random(SEED)
    cases = [
        (rng.randbytes(32), [rng.choice((0, 0, 1, 8, 31, 32, 33, 64, 255)) for _ in range(100)]) for _ in range(20)
    ]
    check(programs, [("random", seed + bytes(sizes)) for seed, sizes in cases], [drawn(*case) for case in cases])
