"""A studio's project with a virtual board that has a sensor: desktop MicroPython with the source `waves`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from random_models import random_adapter

from edgelora.board import virtual_boards
from edgelora.board.devices import Device
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.core.formats.ela import pack_adapter
from edgelora.core.formats.elm import base_id
from edgelora.learn.training.data.base import Base, load_base
from edgelora.studio.board_session import BoardSession
from edgelora.studio.training_options import PACKAGED

WAVES = """
import time

class Waves:
    rate, channels, scales, overruns, ended = 50, 6, None, 0, False

    def __init__(self):
        self.at, self.start = 0, time.ticks_ms()

    def read_into(self, buffer):
        due = time.ticks_diff(time.ticks_ms(), self.start) // 20
        count = min(due - self.at, len(buffer) // 6)
        for i in range(count):
            for c in range(6):
                buffer[6 * i + c] = (self.at + i) * 37 * (c + 1) % 8001 - 4000
        self.at += count
        return count

def source():
    return Waves()
"""


def waves(samples: int) -> np.ndarray:
    """The first samples of that source, int16 [samples, 6]."""
    return (np.arange(samples)[:, None] * 37 * np.arange(1, 7) % 8001 - 4000).astype(np.int16)


def motion_base() -> Base:
    """The base for motion that comes with the studio."""
    return load_base(PACKAGED / "motion.elm")


def adapters(base: Base, count: int) -> list[bytes]:
    """Random adapters with the same ranks."""
    rng = np.random.default_rng(7)
    ranks = {index: 4 for index, op in enumerate(base.model.ops) if op.is_matrix}
    made = [random_adapter(rng, base.model, ranks=ranks) for _ in range(count)]
    for adapter in made:
        adapter.base_id = base_id(base.elm)
    return [pack_adapter(adapter) for adapter in made]


@contextlib.contextmanager
def session_of(state: Path, kind: str = "unix") -> Iterator[BoardSession]:
    """The session of a virtual board in this folder."""
    board = virtual_board.start(kind, None, state, die_with_parent=True)
    session = BoardSession(Device(board.port, "a board", True, kind, state_dir=board.state_dir))
    try:
        yield session
    finally:
        session.close()
        if there := virtual_boards.find(board.port):  # a test may have started it again
            there.stop()


def put_board(folder: Path, name: str = "desk", stored: dict[str, bytes] | None = None) -> Path:
    """Adds a stopped board with the module `waves` and these adapters in its store to a project; its folder."""
    state = folder / "boards" / name
    state.mkdir(parents=True)
    board = virtual_board.start("unix", None, state, die_with_parent=True)
    try:
        with Link.connect(board.port) as link:
            link.put("/waves.py", WAVES.encode())
            for adapter, data in (stored or {}).items():
                link.store_put(adapter, data)
    finally:
        board.stop()
    (folder / "studio.json").write_text(json.dumps({"on": {name: "unix"}}))
    return state
