"""No branch and no address depends on a secret of a fleet's board: valgrind treats secrets as uninitialized memory.

It then reports branches and addresses that depend on them, as compiled for this machine at two optimization levels.
Values that are derived from secrets but public are marked by `EDGELORA_DECLASSIFY` in the C code, with the reason. Code
from the boards' own compilers and assembly is run with different secrets: the executed instructions must be equal.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fleet_reference as ref
import fresh
import numpy as np
import pytest
from member_calls import round_in_clear, round_of_a_board

from edgelora.base.resources import ROOT
from edgelora.core.twin.fleet_update import clip_update, gaussian_noise

sys.path.insert(0, str(ROOT / "tools"))

from cores import (  # noqa: E402
    CORTEX_M0PLUS,
    CORTEX_M33,
    CRYPTO_CALLS,
    MEMBER_CALLS,
    RV32,
    XTENSAWIN,
    Answers,
    Calls,
    Core,
    built,
)

CORE, CRYPTO, RUNNER = ROOT / "micropython_module/core", ROOT / "micropython_module/crypto", ROOT / "tools/runner"
SOURCES = (
    *(RUNNER / f"{name}.c" for name in ("secrets", "members")),
    *(source for folder in (CRYPTO, CORE / "fleet", CORE / "signal") for source in sorted(folder.glob("*.c"))),
)
KINDS = ("crypto", "member", "clip", "share", "noise", "leak")
FOUND = 9  # exit status if valgrind found something


class Secrets:
    """The calls that secrets.c makes."""

    def __init__(self) -> None:
        self.script, self.answers = b"", list[bytes]()

    def add(self, kind: str, what: int, data: bytes, secret: bytes | range, answer: bytes) -> None:
        """secret: which bytes of data are secret: a flag for each, or their positions."""
        marks = secret if isinstance(secret, bytes) else bytes(i in secret for i in range(len(data)))
        assert len(marks) == len(data)
        self.script += struct.pack("<III", KINDS.index(kind), what, len(data)) + data + marks
        self.answers.append(answer)

    def crypto(self, what: str, data: bytes, secret: range, answer: bytes) -> None:
        self.add("crypto", CRYPTO_CALLS.index(what), data, secret, answer)


@pytest.fixture(scope="module", params=["-O3", "-Os"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = Path(__file__).parent
    out = tmp_path_factory.mktemp("secrets") / "secrets"
    flags = ["-std=gnu99", "-g", request.param, "-Wall", "-Wextra", "-Werror", "-include", here / "declassify.h"]
    include = [f"-I{folder}" for folder in (CORE, CRYPTO, RUNNER, here)]
    subprocess.run(["cc", *flags, *include, here / "secrets.c", *SOURCES, "-o", out], check=True)
    return out


def run(program: Path, calls: Secrets) -> tuple[int, str, list[bytes]]:
    """Runs the calls in valgrind: its exit status, its report, and the answers."""
    options = ["--quiet", f"--error-exitcode={FOUND}", "--track-origins=no", "--undef-value-errors=yes"]
    command = [shutil.which("valgrind") or "valgrind", *options, program]
    done = subprocess.run(command, input=calls.script, capture_output=True, timeout=500, check=False)
    return done.returncode, done.stderr.decode()[-6000:], list(_answers(done.stdout))


def _answers(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def check(program: Path, calls: Secrets) -> None:
    status, said, answers = run(program, calls)
    assert status == 0, said
    assert answers == calls.answers  # so the calls were carried out on the given data


@pytest.mark.parametrize("what", [0, 1], ids=["a branch", "an address"])
def test_what_depends_on_a_secret_is_found(program: Path, what: int) -> None:
    calls = Secrets()
    calls.add("leak", what, b"\2", range(1), b"")
    status, said, _ = run(program, calls)
    assert status == FOUND and ("depends on uninitialised" in said or "Use of uninitialised" in said)


def test_cryptography(program: Path) -> None:
    rng = random.Random(fresh.SEED)
    calls = Secrets()
    for size in (0, 1, 63, 64, 200):
        key, nonce, data = rng.randbytes(32), rng.randbytes(12), rng.randbytes(size)
        stream = ref.stream(key, size, nonce)
        sent = bytes(a ^ b for a, b in zip(data, stream, strict=True))
        where = range(32), range(48, 48 + size)
        marks = bytes(any(i in part for part in where) for i in range(48 + size))
        calls.add("crypto", CRYPTO_CALLS.index("xor"), key + nonce + bytes(4) + data, marks, sent)
        whole = data[: size // 4 * 4]
        for name, sign in (("add", 1), ("subtract", -1)):
            words = np.frombuffer(whole, "<u4") + sign * np.frombuffer(stream[: len(whole)], "<u4").astype(np.int64)
            given = key + nonce + bytes(4) + whole
            calls.crypto(name, given, range(32), (words % 2**32).astype("<u4").tobytes())
        for secret in (key, rng.randbytes(200)):
            given = struct.pack("<I", len(secret)) + secret + data
            calls.crypto("hmac", given, range(4, len(given)), ref.mac(secret, data))
        seed = rng.randbytes(32)
        calls.crypto("random", seed + b"\x20", range(32), ref.stream(seed, 64)[32:])
    for _ in range(2):
        secret, other = rng.randbytes(32), rng.randbytes(32)
        calls.crypto("public", secret, range(32), ref.public_of(secret))
        shared = ref.x25519(secret, ref.public_of(other))
        calls.crypto("x25519", secret + ref.public_of(other), range(32), shared + b"\1")
    check(program, calls)


def test_clip(program: Path) -> None:
    """Updates shorter than the clip, unchanged ones, and the longest."""
    rng = np.random.default_rng(fresh.SEED)
    calls = Secrets()
    for spread, n in ((0, 9), (1, 9), (40, 300), (32767, 300), (32767, 1)):
        before, after = rng.integers(-spread, spread + 1, (2, n)).astype(np.int16)
        for clip in (1, 300, 65535):
            answer = clip_update(before, after, clip).astype("<i4").tobytes()
            data = before.tobytes() + after.tobytes()
            calls.add("clip", clip, data, range(len(data)), answer)
    check(program, calls)


def test_shares_and_noise(program: Path) -> None:
    """The noise's key is secret; its digits are declassified where their comparison begins."""
    rng = random.Random(fresh.SEED)
    calls = Secrets()
    for threshold, x in ((1, 1), (3, 2), (17, 255)):
        key, secret = rng.randbytes(32), rng.randbytes(64)
        answer = ref.share(key, threshold, x, secret)
        calls.add("share", x | threshold << 8, key + secret, range(96), answer)
    for sigma in (1, 400, 65535):
        key = rng.randbytes(32)
        answer = gaussian_noise(key, sigma, 100).astype("<i4").tobytes()
        calls.add("noise", sigma, key, range(32), answer)
    check(program, calls)


def test_a_member_in_a_round(program: Path) -> None:
    """A whole round of a board: its secret, the seed of its keys, and the trained masters are secret."""
    for seed in range(fresh.SEED, fresh.SEED + 3):
        made = round_of_a_board(seed)
        calls = Secrets()
        for (what, data), answer in zip(made.made, made.answers, strict=True):
            secret = {"begin": (range(32), range(72, 104)), "update": (range(len(data) // 2, len(data)),)}.get(what, ())
            marks = bytes(any(i in part for part in secret) for i in range(len(data)))
            assert isinstance(answer, bytes)
            calls.add("member", MEMBER_CALLS.index(what), data, marks, answer)
        check(program, calls)


# ---- on boards' cores

BLOCK = re.compile(rb"Trace \d+: 0x[0-9a-f]+ \[[0-9a-f]+/([0-9a-f]+)/")


def path_of(core: Core, calls: Calls, answers: Answers, folder: Path) -> tuple[int, str]:
    """The number of basic blocks that an emulated core executes in these calls, and a hash of their sequence."""
    script = bytes(calls)
    (folder / "calls").write_bytes(struct.pack("<I", len(script)) + script)
    with (folder / "calls").open("rb") as given:
        command = [*core.emulator, "-d", "exec,nochain", "-D", folder / "trace", built(core)]
        done = subprocess.run(command, stdin=given, capture_output=True, timeout=300, check=False)
    assert calls.answers(done.stdout[4:]) == answers
    count, digest = 0, hashlib.sha256()
    with (folder / "trace").open("rb") as trace:
        for line in trace:
            if found := BLOCK.match(line):
                count += 1
                digest.update(found[1])
    return count, digest.hexdigest()


def secret_calls(seed: int, spread: int) -> tuple[Calls, Answers]:
    """A round with secrets of this seed, and the cryptography of masks, shares and nonces."""
    made, rng = round_in_clear(seed, spread), random.Random(seed)
    key, nonce, data = rng.randbytes(32), bytes(12), rng.randbytes(100)
    stream = np.frombuffer(ref.stream(key, len(data), nonce), "<u4")
    masked = np.frombuffer(data, "<u4") + stream
    for what, given, answer in (
        ("add", key + nonce + bytes(4) + data, masked.tobytes()),
        ("random", key + b"\x20", ref.stream(key, 64)[32:]),
        ("public", key, ref.public_of(key)),
    ):
        made.calls.crypto(what, given)
        made.answers.append(answer)
    return made.calls, made.answers


@pytest.mark.parametrize("core", [CORTEX_M0PLUS, CORTEX_M33, RV32, XTENSAWIN], ids=lambda core: core.name)
def test_boards_run_the_same_instructions_for_all_secrets(core: Core, tmp_path: Path) -> None:
    """One update is clipped and one is not, with different keys: both take the same path through the code."""
    paths = {path_of(core, *secret_calls(fresh.SEED + i, spread), tmp_path) for i, spread in enumerate((9, 30000))}
    assert len(paths) == 1 and next(iter(paths))[0] > 10_000, paths
