"""The order of samples and other random draws against SPEC.md, section 13, in plain Python."""

from __future__ import annotations

import ctypes
import random

import numpy as np
from fresh import SEED, rounds
from reference import mix

from edgelora.core.twin import binding

GOLDEN, WORD = 0x9E3779B9, 2**32


def mixed(z: int) -> int:
    return int(mix(np.array(z % WORD, np.uint64)))


def stream(seed: int, k: int) -> int:
    return mixed(seed + k * GOLDEN)


def order(seed: int, epoch: int, count: int, place: int) -> int:
    key, x = stream(seed, 2**16 + epoch), place
    for r in range(24):
        y = (mixed(key + 2 * r * GOLDEN) % count - x) % count
        if mixed(mixed(key + (2 * r + 1) * GOLDEN) + max(x, y) * GOLDEN) >= 2**31:
            x = y
    return x


def test_an_epoch_takes_every_sample_once() -> None:
    rng = random.Random(SEED)
    for count in (1, 2, 3, 7, 64, 100, rng.randint(2, 5000)):
        seed, epoch = rng.randrange(WORD), rng.randrange(2**16)
        found = binding.order(seed, epoch, count)
        assert sorted(found.tolist()) == list(range(count)), (seed, epoch, count)
        for place in rng.sample(range(count), min(count, rounds(40))):
            assert found[place] == order(seed, epoch, count, place), (seed, epoch, count, place)


def test_draws_are_evenly_below_a_count() -> None:
    rng = random.Random(SEED)
    for count in (1, 2, 3, 1000, 65536, 2**31 + 1, WORD - 1, rng.randrange(1, WORD)):
        for n in range(rounds(80)):
            seed, k = rng.randrange(WORD), rng.randrange(WORD)
            drawn = binding.library().edgelora_draw(*map(ctypes.c_uint32, (seed, k, n, count)))
            assert drawn == mixed(stream(seed, k) + n * GOLDEN) * count // WORD
