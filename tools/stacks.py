"""Prints the deepest stack of each call on an emulated Cortex-M0+, measured by painting the stack: `make stacks`.

Covers the core as built for boards: random networks with every kind of op in every mode, cryptography, a fleet's round
and the front ends. The figures include the runner's own frames (some 50 to 100 bytes), but not MicroPython's.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import cores
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from class_cases import small_base
from member_calls import round_of_a_board
from random_models import random_frames, random_model, random_ranks, random_sample, random_target, ranks_of

from edgelora.core.formats.elm import pack_model

LOSSES = ("cross_entropy", "binary_cross_entropy", "mean_squared_error")


def calls_of(seed: int) -> cores.Calls:
    """Calls that use, train and save a random network."""
    rng = np.random.default_rng(seed)
    model = random_model(seed, loss=LOSSES[seed % 3]) if seed % 4 else small_base(rng)
    ranks = ranks_of(model, random_ranks(rng, model))
    calls, frames = cores.Calls(), random_frames(rng, model)
    mode = ("frozen_a", "trainable_a")[seed % 2]
    calls.open(pack_model(model), ranks, mode, 2, seed % 3, frames=frames, plain=seed % 5 == 0)
    calls.begin(seed)
    for _ in range(3):
        calls.train(random_sample(rng, model, frames), random_target(rng, model), 9000)
    calls.flush(9000)
    calls.save(state=True)
    calls.infer(random_sample(rng, model, frames)[0])
    for what in cores.SESSION_CALLS:
        calls.session(what, random_sample(rng, model, frames), random_target(rng, model))
    calls.merge(int(np.flatnonzero(np.frombuffer(ranks, np.uint8))[0]))
    calls.use(None)
    return calls


def crypto_calls() -> cores.Calls:
    """Calls of key agreement and signature verification."""
    calls = cores.Calls()
    for what in ("x25519", "public"):
        calls.crypto(what, bytes(range(1, 33)) + bytes([9]) + bytes(31))
    calls.crypto("verify", bytes(32) + bytes(64) + bytes(200))
    return calls


def front_end_calls(seed: int) -> cores.Calls:
    """Calls with two windows of sound, and two of three channels of vibration, as 16-bit and as 8-bit values."""
    calls, rng = cores.Calls(), np.random.default_rng(seed)
    for how in ((0, 0, 0), (1, 0, 0)):
        calls.front_end("audio", how, rng.integers(-32768, 32768, 160 * 6))
    for how in ((0, 0, 0), (2, 0x3D000000, 3)):
        calls.front_end("spectral", (3, 1, 8, *how), rng.integers(-32768, 32768, 512 * 3 * 16))
    return calls


def numbers(program: cores.Program, calls: cores.Calls) -> list[int]:
    """The answer of each call as a number, also for `infer` and `save`."""
    answers = program.run(calls)
    return [int.from_bytes(one, "little") if isinstance(one, bytes) else one for one in answers]


def deepest(count: int) -> dict[str, int]:
    """The deepest stack by call, in bytes. count: of random networks."""
    program = cores.Program(cores.STACKS)
    lives = [*map(calls_of, range(count)), crypto_calls(), front_end_calls(0), round_of_a_board(0).calls]
    found: dict[str, int] = defaultdict(int)
    try:
        for calls in lives:
            for kind, taken in zip(calls.kinds, numbers(program, calls), strict=True):
                found[kind] = max(found[kind], taken)
    finally:
        program.close()
    return dict(found)


def main(count: int = 60) -> None:
    """Prints the table. count: of random networks."""
    cores.build(cores.STACKS)
    print("| call | bytes of stack |\n| --- | --- |")
    for name, taken in sorted(deepest(count).items(), key=lambda row: -row[1]):
        print(f"| `{name}` | {taken:,} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
