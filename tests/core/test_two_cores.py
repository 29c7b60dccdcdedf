"""Parts of an op on two cores keep out of each other's memory, and learn what one core learns."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import sanitized
from fresh import SEED, rounds, slow
from random_models import random_model
from random_transformers import LONGEST, Sizes, Transformers, random_transformer

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel

MIXED = Sizes(8, 8, 3, 2, 2, 64, 9)  # heads as large as the format allows, not causal


def of_many_positions(height: int, width: int) -> QuantModel:
    """Norms of more rows than 16 bits can count the words of what they keep."""
    rows = Transformers(np.random.default_rng(height), Sizes(height, width, 2, 1, 1, 2, 9), False)
    rows.tokens()
    rows.feed_forward()
    rows.norm()
    rows.model.loss = "mean_squared_error"
    rows.matrix(2, grid=(0.02, 0))
    return rows.model


@slow
def test_parts_of_an_op_share_no_memory(tmp_path: Path) -> None:
    """Of drawn networks, with drawn ranks and outputs that are recomputed; under ThreadSanitizer."""
    program = sanitized.build_for_threads(Path(__file__).with_name("two_cores.c"), tmp_path)
    seeds = [int(seed) for seed in np.random.default_rng(SEED).integers(1 << 30, size=rounds(40))]
    drawn = [random_transformer(s) if i % 2 else random_model(s, "medium") for i, s in enumerate(seeds)]
    large = [random_transformer(seeds[0], sizes) for sizes in (LONGEST, MIXED)]
    paths = []
    for number, model in enumerate([of_many_positions(160, 200), *large, *drawn]):
        paths.append(tmp_path / f"{number}.elm")
        paths[-1].write_bytes(pack_model(model))
    done = subprocess.run([program, *paths], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"seed {SEED}: {done.stderr[:4000]}"
    assert int(done.stdout) > 20 * len(paths)
