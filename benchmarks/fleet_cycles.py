"""Cycles of a fleet's member on a board, for one round with neighbours on this computer.

The board's core is driven call by call, each timed on the board's clock, less the time of an empty call. The board's
replies are compared with those of a twin with the same secrets.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgelora.base.errors import EdgeloraError
from edgelora.base.progress import Progress, no_progress
from edgelora.board.build import build_firmware
from edgelora.board.link.raw_repl import RawRepl
from edgelora.board.link.serial_line import SerialLine
from edgelora.board.sim.virtual_board import start
from edgelora.fleet.messages import Stage, Task, public_of
from edgelora.fleet.roster import Roster
from edgelora.fleet.secagg import Round

from .fleet_member import Member

PARAMETERS = 640  # rank 8 on human activity recognition has 632
CLIP, SIGMA, NEIGHBOURS = 2000, 400, 24
Took = dict[str, list[int]]  # microseconds of each call, by what it does
NOISE_PIECE = 128  # values that one piece of work draws noise for, see member.c
BOARD = 0  # its index; the others are twins

BEGIN = """
import binascii, json, time
from array import array
from edgelora._fleet import _core

def unhex(text):
    return bytearray(binascii.unhexlify(text))

def timed(f, *arguments):
    start = time.ticks_us()
    f(*arguments)
    return time.ticks_diff(time.ticks_us(), start) - idle

def nothing(a, b=None):
    return None

idle = 0
idle = min(timed(nothing, array) for _ in range(9))
m = bytearray(_core.member_size({neighbours}))
keys = [unhex(x) for x in ("{secret}", "{server}", "{fleet}", "{seed}")]
_core.member_begin(m, *keys, 0, 1, 0, bytes(16), bytes(8))
before, after = (array("h", unhex(x)) for x in ("{before}", "{after}"))
first = timed(_core.member_work, m)
print(json.dumps([len(m), first]))
"""

ANSWER = """
message = unhex("{message}")
keys = {keys}
took = {"receive": [timed(_core.member_receive, m, message)], "work": []}
near = _core.member_neighbours(m) if keys else b""
for place in range(len(near) // 2):
    _core.member_key(m, place, unhex(keys[near[2 * place]]))
reply = bytearray(_core.member_reply_size(m))
if {update}:
    took["update"] = [timed(_core.member_update, m, before, after, reply)]
while _core.member_next(m) == 1:
    took["work"].append(timed(_core.member_work, m))
took["reply"] = [timed(_core.member_reply, m, reply)]
print(json.dumps([took, str(binascii.hexlify(reply), "ascii")]))
"""


@dataclass(frozen=True)
class MemberCycles:
    """Cycles on the board's clock of a round with `neighbours`. x25519: mean of one operation.

    clip, noise: for all parameters; mask: for one neighbour; stages: of a whole stage without training, by name.
    memory: bytes of the member. down, up: bytes of its messages in a round. equal: its replies equal the twin's.
    """

    parameters: int
    sigma: int
    neighbours: int
    x25519: int
    clip: int
    noise: int
    mask: int
    stages: dict[str, int]
    total: int
    memory: int
    down: int
    up: int
    equal: bool


def bench_member(
    port: str,
    clock_mhz: float,
    neighbours: int = NEIGHBOURS,
    sigma: int = SIGMA,
    progress: Progress = no_progress,
) -> MemberCycles:
    """One round of a board of a virtual fleet. Raises LineLost where the board has no `edgelora._fleet`."""
    line = SerialLine(port)
    try:
        repl = RawRepl(line, port)
        repl.enter()
        cycles = member_cycles(repl, clock_mhz, neighbours, sigma, progress)
        repl.leave()
        return cycles
    finally:
        line.close()


class Board(Protocol):
    """Runs pieces of code in one namespace and returns what they print."""

    def run(self, code: str) -> bytes: ...


def member_cycles(
    board: Board, clock_mhz: float, neighbours: int, sigma: int, progress: Progress = no_progress
) -> MemberCycles:
    """The same on anything that runs MicroPython."""
    return _Bench(board, neighbours, sigma).run(clock_mhz, progress)


def fleet_cycles(
    board: str = "virtual-pico", clock_mhz: float = 125, progress: Progress = no_progress
) -> dict[str, int]:
    """The main figures, on a virtual board started for them; mask, noise and clip of 640 values."""
    with tempfile.TemporaryDirectory() as folder:
        firmware = build_firmware(board, {}, Path(folder) / "bench.uf2")
        handle = start(board, firmware, Path(folder) / "board", die_with_parent=True)
        try:
            found = bench_member(handle.port, clock_mhz, progress=progress)
        finally:
            handle.stop()
    if not found.equal:
        raise EdgeloraError(
            f"{board} and the twin answer differently", remedy="build its firmware anew, `make firmware-rp2`"
        )
    names = ("x25519", "mask", "noise", "clip", "total")
    return {f"{name}_cycles": getattr(found, name) for name in names} | {"member_bytes": found.memory}


def _secret(name: object) -> bytes:
    """32 bytes, always the same: nothing here is secret."""
    return hashlib.sha512(f"bench {name}".encode()).digest()[:32]


class _Bench:
    def __init__(self, board: Board, neighbours: int, sigma: int) -> None:
        self._board, self._neighbours, self._sigma = board, neighbours, sigma
        count = neighbours + 1
        secrets = [_secret(index) for index in range(count)]
        server = _secret("server")
        self._roster = Roster(1, "bench", public_of(server), bytes(32), tuple(map(public_of, secrets)))
        task = Task(
            roster=1,
            base_id=bytes(8),
            adapter_sha256=bytes(32),
            parameters=PARAMETERS,
            epochs=1,
            learning_rate=0,
            seed=1,
            clip=CLIP,
            sigma=sigma,
            least=2,
            cohort=count,
        )
        self._round = Round(task, 1, self._roster, server, range(count))
        drawn = np.random.default_rng(1)
        self._masters = drawn.integers(-9000, 9000, (2, PARAMETERS)).astype(np.int16)
        self._twins = [
            Member(secret, public_of(server), self._roster.fleet, _secret(f"seed {index}"), index, roster=1)
            for index, secret in enumerate(secrets)
        ]
        self._given = {
            "neighbours": neighbours,
            "secret": secrets[BOARD].hex(),
            "server": public_of(server).hex(),
            "fleet": self._roster.fleet.hex(),
            "seed": _secret(f"seed {BOARD}").hex(),
            "before": self._masters[0].tobytes().hex(),
            "after": self._masters[1].tobytes().hex(),
        }

    def run(self, clock_mhz: float, progress: Progress) -> MemberCycles:
        def cycles(microseconds: Iterable[int]) -> int:
            return round(sum(microseconds) * clock_mhz)

        memory, first = json.loads(self._board.run(_filled(BEGIN, self._given)))
        stages: dict[str, Took] = {}
        equal, down, up = True, 0, 0
        while not self._round.done:
            stage = self._round.stage
            message = self._round.message(BOARD) or b""
            stages[stage.name], reply = self._answered(stage, message)
            equal &= reply == self._others(message)
            self._round.receive(BOARD, reply)
            self._round.close_stage()
            down, up = down + len(message), up + len(reply)
            progress(len(stages), 6, stage.name)
        agreed = [first, *stages["COHORT"]["work"], *stages["PEERS"]["work"]]
        pieces = -(-PARAMETERS // NOISE_PIECE) if self._sigma else 0
        work = stages["INPUT"]["work"]
        whole = {name: cycles(part for parts in took.values() for part in parts) for name, took in stages.items()}
        return MemberCycles(
            parameters=PARAMETERS,
            sigma=self._sigma,
            neighbours=self._neighbours,
            x25519=cycles(agreed) // len(agreed),
            clip=cycles(stages["INPUT"]["update"]),
            noise=cycles(work[:pieces]),
            mask=cycles(work[pieces:]) // len(work[pieces:]),
            stages=whole,
            total=sum(whole.values()) + cycles([first]),
            memory=memory,
            down=down,
            up=up,
            equal=equal,
        )

    def _answered(self, stage: Stage, message: bytes) -> tuple[Took, bytes]:
        """The board's times, in microseconds, and its reply."""
        asked = stage is Stage.COHORT
        given = {
            "message": message.hex(),
            "keys": json.dumps([key.hex() for key in self._roster.keys] if asked else []),
            "update": stage is Stage.INPUT,
        }
        took, reply = json.loads(self._board.run(_filled(ANSWER, given)))
        return took, bytes.fromhex(reply)

    def _others(self, message: bytes) -> bytes:
        """Runs all twins; returns the reply of the one with the board's secrets."""
        before, after = self._masters
        replies: list[bytes] = []
        for index, member in enumerate(self._twins):
            own = message if index == BOARD else self._round.message(index) or b""
            reply = member.answer(own, self._roster.keys.__getitem__, masters=lambda: (before, after)) or b""
            replies.append(reply)
            if index != BOARD:
                self._round.receive(index, reply)
        return replies[BOARD]


def _filled(program: str, given: Mapping[str, object]) -> str:
    for key, value in given.items():
        program = program.replace("{" + key + "}", str(value))
    return program
