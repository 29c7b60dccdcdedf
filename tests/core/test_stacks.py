"""The stack use of calls on an emulated Cortex-M0+ stays below the least stack of all boards."""

from __future__ import annotations

import sys

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import stacks

MOST = 2048  # bytes; MicroPython's stack on an RP2040 has 8 KB
KNOWN = {"open", "begin", "train", "flush", "save", "infer", "merge", "use", "member work", "front_end audio"}
LEAST = 60  # bytes: about what a call needs that is refused at once


def test_no_call_uses_too_much_stack() -> None:
    taken = stacks.deepest(12)
    assert set(taken) >= KNOWN and all(LEAST <= taken[name] <= MOST for name in taken), taken
