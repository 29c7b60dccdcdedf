"""The adapter store on real MicroPython: power cuts at every flash operation, use with a real model."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from edgelora import sim

DEVICE = Path(__file__).parent / "device"


def run_device(code: str, heap: str = "4m", timeout: int = 300) -> str:
    """The output of code on desktop MicroPython, with this folder's device scripts at hand."""
    done = subprocess.run(
        [sim.UNIX_BINARY, "-X", f"heapsize={heap}", "-c", code],
        cwd=DEVICE,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.stdout + done.stderr


def check_cuts(output: str, least: int) -> None:
    """No failure, and at least so many cuts were made."""
    failures = [line for line in output.splitlines() if line.startswith("FAIL")]
    assert not failures, failures[:10]
    ended = re.search(r"^CUTS (\d+) 0$", output, re.MULTILINE)
    assert ended, output[-2000:]
    assert int(ended[1]) >= least


def test_power_cut_at_every_operation_of_a_partition() -> None:
    check_cuts(run_device("import store_cuts; store_cuts.main('partition', 20, 1)"), 1400)
