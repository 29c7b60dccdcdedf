"""ESP32-S3's kernels run on its vector instructions; an error in the table of these does not go unseen.

What is executed is counted, and its cycles are estimated by rules.

Their results are compared with those of all cores in `test_cores.py`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from drawn_runs import runs_of
from fresh import FULL, fresh_seeds
from random_models import random_input
from random_ops import DrawnOp

from benchmarks.instructions import count_kernels
from benchmarks.kernels import SHAPES
from benchmarks.networks import network
from edgelora.base.resources import ROOT
from edgelora.core.formats.elm import pack_model
from tools import esp32s3

sys.path.insert(0, str(ROOT / "tools"))

from cores import CORE, ESP32_S3, INCLUDE, Calls, Program, link_xtensa, objects_of  # noqa: E402

TABLE = CORE / "kernels" / "simd" / "pie.h"
ENTRIES = [match.span() for match in re.finditer(r"0x[0-9a-f]{6,8}", TABLE.read_text())]
MATRICES = ("dense", "conv1x1", "conv3x3", "conv10x4", "conv1x5")
# one for each function of vector code, forward and backward
OPS = (
    DrawnOp("conv", (5, 5, 20), (5, 5, 12), (3, 3), padding=(1, 1), rank=4, trainable_a=True),
    DrawnOp("dense", (1, 1, 40), (1, 1, 10), rank=3),
    DrawnOp("depthwise", (9, 8, 20), (9, 8, 20), (3, 3), padding=(1, 1)),
)


def test_kernels_run_on_vectors() -> None:
    """At most 16 products for each instruction that the handler carries out; none for plain kernels."""
    shapes = [shape for shape in SHAPES if shape.op in MATRICES or "depthwise" in shape.op]
    calls = Calls()
    for shape in shapes:
        model = network([shape])
        x = random_input(np.random.default_rng(1), model)
        for plain in (False, True):
            calls.open(pack_model(model), b"\0", "infer", plain=plain)
            calls.infer(x)
            calls.count(x, 0, 1)
    program = Program(ESP32_S3)
    answers = program.run(calls)
    program.close()
    assert len(shapes) > 10
    for k, shape in enumerate(shapes):
        fast, plain = answers[6 * k : 6 * k + 3], answers[6 * k + 3 : 6 * k + 6]
        assert fast[:2] == plain[:2], shape
        assert plain[2] == 0 and int(fast[2]) > shape.macs / 16, shape


def test_cycles_follow_the_rules_of_the_pipeline() -> None:
    program = {
        0: "76 83 0b",  # loop a3, 15
        3: "24 01 83",  # ee.vld.128.ip q0, a2, 16
        6: "c4 08 1a",  # ee.vmulas.s8.accx q0, q1: waits for q0
        9: "40 65 82",  # mull a6, a5, a4
        12: "40 55 80",  # add a5, a5, a4
        15: "16 26 00",  # beqz a6, 21: is taken
        18: "f0 20 00",  # nop
        21: "28 04",  # l32i.n a2, a4, 0
        23: "29 14",  # s32i.n a2, a4, 4: waits for a2
    }
    words = {at: bytes.fromhex(text) for at, text in program.items()}
    decoded = esp32s3.decode(set(words.values()))
    trace = [0, *[3, 6, 9, 12] * 2, 15, 21, 23]
    assert esp32s3.cycles_of(trace, {at: decoded[word] for at, word in words.items()}) == 12 + 2 + 2 + 1


def test_instructions_on_an_esp32s3_are_counted() -> None:
    shapes = [shape for shape in SHAPES if shape.name in ("64x64", "8x8x32")]
    for count in count_kernels("esp32-s3", shapes):
        vectors = "pool" not in count.op  # which the packed engine has
        assert count.macs / (16 if vectors else 2) < count.fast < 8 * count.macs, count
        assert count.cycles and count.fast < count.cycles < 2 * count.fast, count


def differs(program: Program) -> bool:
    """Does the program die or give another answer?"""
    try:
        return any(program.run(runs.calls) != runs.answers for runs in map(runs_of, OPS))
    except RuntimeError:
        return True
    finally:
        program.close()


def test_no_error_in_the_table_of_instructions_goes_unseen(tmp_path: Path) -> None:
    """One wrong bit in an entry: in all of them, or in some that are drawn anew."""
    rng = np.random.default_rng(fresh_seeds(1)[0])
    others = [file for file in objects_of(ESP32_S3).iterdir() if not file.name.endswith("_pie.o")]
    damaged = tmp_path / "kernels" / "simd" / "pie.h"
    damaged.parent.mkdir(parents=True)
    assert len(ENTRIES) > 15
    assert not differs(Program(ESP32_S3))
    for start, end in ENTRIES if FULL else rng.permutation(ENTRIES)[:3]:
        text = TABLE.read_text()
        wrong = int(text[start:end], 16) ^ 1 << 16
        damaged.write_text(f"{text[:start]}{wrong:#x}{text[end:]}")
        command = [
            *ESP32_S3.compiler,
            f"-I{tmp_path}",
            *INCLUDE,
            "-c",
            TABLE.with_suffix(".c"),
            "-o",
            tmp_path / "pie.o",
        ]
        subprocess.run(command, check=True)
        link_xtensa([*others, tmp_path / "pie.o"], tmp_path / "runner")
        assert differs(Program(ESP32_S3, tmp_path / "runner")), text[start:end]
