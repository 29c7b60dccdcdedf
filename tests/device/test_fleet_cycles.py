"""The benchmark of a fleet's member, on desktop MicroPython: a whole round, equal to the twin's byte for byte."""

from __future__ import annotations

import subprocess

from benchmarks.fleet_cycles import PARAMETERS, member_cycles
from edgelora.board.sim.virtual_board import UNIX_BINARY


class Desktop:
    """Runs all code so far again each time: the member's secrets are the same."""

    def __init__(self) -> None:
        self.code: list[str] = []

    def run(self, code: str) -> bytes:
        self.code.append(code)
        program = "\n".join(self.code)
        done = subprocess.run([UNIX_BINARY, "-c", program], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.splitlines()[-1]


def test_bench_of_a_member() -> None:
    found = member_cycles(Desktop(), clock_mhz=1000, neighbours=6, sigma=400)
    assert found.equal
    assert list(found.stages) == ["TASK", "COHORT", "PEERS", "INPUT", "SURVIVORS", "UNMASK"]
    assert found.x25519 > 0 and found.total >= sum(found.stages.values()) > 0
    replies = (64 + 6 * 16) + (32 + 6 * 80) + (32 + 4 * PARAMETERS) + (32 + 6 * 16) + (32 + 6 * 32)
    assert found.up == 32 + replies
