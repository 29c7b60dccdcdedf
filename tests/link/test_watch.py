"""WATCH: samples of the board's own source and the board's decisions on them, in one answer."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from class_cases import small_base
from random_models import random_model

from edgelora.base.resources import ROOT
from edgelora.board.link.client import Link
from edgelora.board.link.replies import DeviceError, LinkError, WatchReply
from edgelora.board.link.transport import Interrupted
from edgelora.board.sim import virtual_board
from edgelora.board.sim.world import set_world
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.twin.session import Session
from edgelora.learn.streaming.decisions import listen_on_twin
from edgelora.learn.training.board.board_learner import BoardLearner
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.recipe import inference

PICO = ROOT / ".build/rp2/rpi_pico/firmware.uf2"
DRAWN = """
from array import array

class Drawn:
    rate, channels, scales, overruns, ended = 50, 3, {scales}, 0, False

    def __init__(self):
        self.at = 0

    def read_into(self, buffer):
        count = min({step}, len(buffer) // 3, {most} - self.at)
        for i in range(3 * count):
            buffer[i] = (3 * self.at + i) * 7919 % 12001 - 6000
        self.at += count
        return count

def source():
    return Drawn()
"""


def drawn(samples: int) -> np.ndarray:
    return (np.arange(3 * samples) * 7919 % 12001 - 6000).astype(np.int16).reshape(-1, 3)


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    board = virtual_board.start("unix", None, tmp_path_factory.mktemp("unix"), die_with_parent=True)
    with Link.connect(board.port) as link:
        yield link
    board.stop()


@pytest.fixture(scope="module")
def base() -> Base:
    model = random_model(3, "medium", ("conv", "dense"), edges=False)
    normals = tuple(Normal(model.input.scale * (0.02 + 0.01 * i), 0.5, 1 + i) for i in range(3))
    model.signal = Signal(50, 3, model.input.size // 3, 4, normals, units="g")
    elm = pack_model(model)
    return Base("base.elm", elm, unpack_model(elm))


def opened(link: Link, base: Base, name: str, **settings: object) -> None:
    link.put(f"/{name}.py", DRAWN.format(**{"scales": None, "most": 400, "step": 37} | settings).encode())
    BoardLearner(link, base, inference(bytes(len(base.model.ops))))
    assert link.sense(name) == (50, 3)


def watched(link: Link, samples: int) -> list[WatchReply]:
    replies = [link.watch()]
    while sum(len(reply.counts) for reply in replies) < samples:
        replies.append(link.watch())
    return replies


def test_samples_come_with_what_the_board_says_of_them(link: Link, base: Base) -> None:
    """Every sample in order, and for each window all outputs as on the twin; the heap stays locked."""
    opened(link, base, "drawn")
    link.listen((2, 3), sensor=True)
    replies = watched(link, 400)
    assert max(len(reply.counts) for reply in replies) == 37, "what the source had"
    assert np.array_equal(np.concatenate([reply.counts for reply in replies]), drawn(400))
    said = [decision for reply in replies for decision in reply.decisions]
    wanted = [decision for reply in listen_on_twin(base, [], drawn(400)) for decision in reply.decisions]
    assert len(said) == len(wanted) > 50
    for mine, other in zip(said, wanted, strict=True):
        assert (mine.end, mine.seen, mine.probability) == (other.end, other.seen, other.probability)
        assert np.array_equal(mine.outputs, other.outputs)
    assert sum(reply.elapsed_us for reply in replies) > 0 and replies[-1].down == frozenset()
    assert not len(link.watch().counts) and not link.watch().decisions, "the source has no more"


def test_an_answer_holds_no_more_than_fits(link: Link, base: Base) -> None:
    """If every sample ends a window, decisions take up the space: an answer has fewer samples, but none is lost."""
    dense = replace(base.model, signal=replace(base.model.signal, hop=1))
    elm = pack_model(dense)
    many = Base("many.elm", elm, unpack_model(elm))
    opened(link, many, "greedy", most=3000, step=3000)
    link.listen(sensor=True)
    replies = watched(link, 3000)
    assert 37 < max(len(reply.counts) for reply in replies) < 1000
    assert sum(len(reply.decisions) for reply in replies) == 3000 - many.model.signal.window + 1
    assert np.array_equal(np.concatenate([reply.counts for reply in replies]), drawn(3000))


def test_raw_samples_alone_and_what_is_refused(link: Link, base: Base) -> None:
    opened(link, base, "raw")
    link.listen()
    assert link.watch().decisions == [], "what listens is for samples that the host sends"
    opened(link, base, "other", scales="[1.0, 1.0, 1.0]")
    with pytest.raises(DeviceError, match="the source's counts are of"):
        link.listen(sensor=True)
    with pytest.raises(LinkError, match="is malformed"):
        WatchReply.of(bytes(12), 3, 5)
    with pytest.raises(LinkError, match="is malformed"):
        WatchReply.of(bytes(12) + b"\x09" + bytes(3), 3, 5)
    with pytest.raises(DeviceError, match="no module named"):
        link.sense("nothing_of_that_name")
    with pytest.raises(DeviceError, match="no source is open"):
        link.watch()


def test_probabilities_of_all_classes(link: Link) -> None:
    """Including added classes with gaps in their numbers; the heap stays locked although classes are added while
    listening."""
    model = small_base(np.random.default_rng(5))
    model.signal = Signal(50, 5, 1, 1, [Normal(model.input.scale)] * 5)
    elm = pack_model(model)
    base = Base("gaps.elm", elm, unpack_model(elm))
    BoardLearner(link, base, inference(bytes(2)))
    counts = np.random.default_rng(6).integers(-100, 100, (300, 5)).astype(np.int16)
    link.listen(probabilities=True)
    for name, part in (("hop", counts[:9]), ("skip", counts[9:30])):
        x = np.clip(part + model.input.zero_point, -128, 127).astype(np.int8)
        link.put("/part.eld", pack_samples(x, np.zeros(len(x), np.int64), None, base_id(elm)))
        link.class_add(name, "/part.eld")
    link.class_remove("hop")
    adapter = link.class_get()
    assert [row.number for row in unpack_adapter(adapter, base.model).classes] == [4]
    session = Session(elm, bytes(2), "infer", 1)
    session.use(adapter)
    said = [decision for reply in link.hear(counts) for decision in reply.decisions]
    assert len(said) == 300 and {decision.seen for decision in said} >= {2, 4}
    for decision, row in zip(said, counts, strict=True):
        x, _ = session.quantize(row)
        assert session.infer(x.reshape(-1)) == decision.seen
        assert decision.probabilities is not None and not len(decision.outputs)
        assert np.array_equal(decision.probabilities, session.probabilities() / 32768)
        assert decision.probability == decision.probabilities.max()


def test_a_picos_sensor_and_buttons(tmp_path: Path) -> None:
    """The MPU-6050's values in order, and the pressed button, in the same answers."""
    motion = np.random.default_rng(1).uniform(-1, 1, (40, 6))
    np.savetxt(tmp_path / "motion.csv", motion, "%.6f", ",")
    board = virtual_board.start("virtual-pico", PICO, tmp_path / "pico", die_with_parent=True)
    try:
        set_world(tmp_path / "pico", tmp_path / "motion.csv", [])
        with Link.connect(board.port) as link:
            scales = [1 / 4096] * 3 + [math.radians(1 / 16.4)] * 3
            assert link.sense("mpu6050", pins=[4, 5], bus=0, rate=100, scales=scales, buttons=[14, 15]) == (100, 6)
            replies = [link.watch() for _ in range(3)]
            set_world(tmp_path / "pico", None, [(15, 0.05)])
            while not replies[-1].down:
                replies.append(link.watch())
                assert len(replies) < 500
            assert replies[-1].down == {1} and not any(reply.down for reply in replies[:-1])
            while replies[-1].down:
                replies.append(link.watch())
    finally:
        board.stop()
    counts = np.concatenate([reply.counts for reply in replies])
    wanted = np.rint(motion / scales)
    first = [int(np.abs(wanted - row).sum(1).argmin()) for row in counts[:8]]
    assert len(counts) >= 8 and np.abs(wanted[first] - counts[:8]).max() <= 2
    assert all((b - a) % 40 in (0, 1) for a, b in zip(first, first[1:], strict=False)), "50 a second, measured at 100"


@pytest.mark.parametrize("module", ["while True:\n    pass\n", "while True:\n    print('for ever')\n"])
def test_a_source_that_never_ends_is_interrupted(tmp_path: Path, module: str) -> None:
    """Ctrl-C interrupts it, also on the board; the session continues."""
    board = virtual_board.start("unix", None, tmp_path, die_with_parent=True)
    wanted = threading.Event()
    with Link.connect(board.port, interrupted=wanted.is_set) as mine:
        mine.put("/endless.py", module.encode())
        threading.Timer(1, wanted.set).start()
        with pytest.raises(Interrupted):
            mine.sense("endless")
    with Link.connect(board.port) as mine:
        assert mine.hello().resumed
    board.stop()
