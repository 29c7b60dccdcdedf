"""No kernel writes outside the scratch that the planner gives its op."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import sanitized
from fresh import SEED, rounds
from random_models import model_of
from random_ops import DrawnOp, drawn_op, generated

from edgelora.core.formats.elm import pack_model

NARROW = [  # rows of depthwise kernels whose backward step needs more than the forward one
    DrawnOp("depthwise", (1, width, 3), (1, out, 3), (3, 3), padding=(0, 1), seed=width)
    for width in (5, 17, 33, 65)
    for out in (1, 2, width // 2)
] + [
    DrawnOp("depthwise", (size, size, 2), (size // 2, size // 2, 2), (3, 3), (2, 2), padding=(1, 1), seed=size)
    for size in (4, 7, 12, 24)
]


def test_no_op_leaves_its_scratch(tmp_path: Path) -> None:
    program = sanitized.build(Path(__file__).with_name("scratch.c"), tmp_path)
    draw = generated(np.random.default_rng(SEED))
    ops = [*NARROW, *(drawn_op(draw, work=14) for _ in range(rounds(600)))]
    paths = []
    for number, op in enumerate(ops):
        paths.append(tmp_path / f"{number}.elm")
        paths[-1].write_bytes(pack_model(model_of(op)))
    done = subprocess.run([program, *paths], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"seed {SEED}: {done.stderr[-4000:]}"
    assert int(done.stdout) > 6 * len(ops)
