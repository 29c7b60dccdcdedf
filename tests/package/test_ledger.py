"""LEDGER.md describes the current core. If it is stale: `make ledger`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from fresh import slow

from benchmarks.kernels import SHAPES
from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import ledger  # noqa: E402

STALE = "LEDGER.md is stale: `make ledger`"
TEXT = (ROOT / "LEDGER.md").read_text()
WRITTEN = ledger.parse(TEXT)
DEFINITION = re.compile(r"^(?!.*\bstatic\b)\w.*\b(edgelora_\w+)\([^;{]*\{", re.MULTILINE)


def compiler() -> str | None:
    gcc = shutil.which("arm-none-eabi-gcc")
    return gcc and subprocess.run([gcc, "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()


def test_reads_what_it_writes() -> None:
    assert str(WRITTEN) == TEXT, STALE


def test_lists_every_kernel() -> None:
    defined = {name for path in ledger.kernel_sources() for name in DEFINITION.findall(path.read_text())}
    assert {k.name for k in WRITTEN.kernels if k.name.startswith("edgelora_")} == defined, STALE


def test_lists_every_benchmark() -> None:
    for costs in (WRITTEN.cycles, WRITTEN.instructions):
        assert sorted((c.op, c.shape) for c in costs) == sorted((s.op, s.name) for s in SHAPES), STALE


@pytest.mark.skipif(compiler() != WRITTEN.compiler, reason="bytes are another compiler's")
@slow
def test_bytes_are_those_compiled_now() -> None:
    now = ledger.measure(WRITTEN.cycles, WRITTEN.instructions)
    assert WRITTEN.kernels == now.kernels, STALE
    assert WRITTEN.totals == WRITTEN.totals | now.totals, STALE  # native modules may not be built


def test_changes_within_noise_leave_a_line_unchanged() -> None:
    old = ledger.Cycles("dense", "64x64", 50_000, 20_000, 4.88)
    noisy, slower = replace(old, plain=50_140, fast=19_890), replace(old, fast=20_130)
    unknown = replace(old, shape="9x9")
    assert ledger.settled([noisy, unknown], [old]) == [old, unknown]
    assert ledger.settled([slower], [old]) == [slower]


def test_frames_of_assembly() -> None:
    code = (
        "00000000 <two_exits>:\n   0:\tpush\t{r4, r5, lr}\n   2:\tsub\tsp, #32\n   4:\tbne.n\t0xa\n"
        "   6:\tadd\tsp, #32\n   8:\tpop\t{r4, r5, pc}\n   a:\tpush\t{r0, r1}\n   c:\tpop\t{r0, r1}\n   e:\tb.n\t0x6\n"
        "00000010 <leaf.constprop.0>:\n  10:\tldr\tr0, [sp, #4]\n  12:\tbx\tlr\n"
    )
    assert ledger.frames(code) == {"two_exits": 52, "leaf": 0}
