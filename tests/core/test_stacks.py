"""Stack that calls take on an emulated Cortex-M0+: no deeper than the least that boards leave it."""

from __future__ import annotations

import sys

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import stacks

MOST = 2048  # bytes; MicroPython's stack on an RP2040 has 8 KB
KNOWN = {"open", "begin", "train", "flush", "save", "infer", "merge", "use", "member work", "front_end audio"}
LEAST = 60  # bytes: a call that is refused at once takes about as many


def test_no_call_goes_deep() -> None:
    taken = stacks.deepest(12)
    assert set(taken) >= KNOWN and all(LEAST <= taken[name] <= MOST for name in taken), taken
