"""The twin works in threads with small stacks, such as 128 KB, part of which Python uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edgelora.base.resources import ROOT

PROGRAM = Path(__file__).with_name("small_stack.py")


def test_every_engine_runs_in_a_thread_of_128_kb() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests" / "support")}
    done = subprocess.run(
        [sys.executable, PROGRAM, "128"], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:] or f"ended by signal {-done.returncode}"
    engines = {tuple(line.split()[:2]) for line in done.stdout.splitlines()}
    assert engines == {(e, m) for e in ("vectors", "packed", "plain") for m in ("frozen_a", "trainable_a")}
