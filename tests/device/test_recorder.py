"""A user's samples on desktop MicroPython: windows by a button, undoing them, power cuts at every flash operation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from programs import desktop

from benchmarks.swap import layers_and_adapters
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.twin.session import Session

WINDOW, CHANNELS, SAMPLES = 32, 3, 1000
FINE = WINDOW // 16  # samples: the precision at which a button's press places its window


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base on windows of three axes, and 20 seconds of counts."""
    elm, _ = layers_and_adapters((WINDOW * CHANNELS, 5), 0)
    model = unpack_model(elm)
    normals = tuple(Normal(0.001, 0.1 * i, 1 + i) for i in range(CHANNELS))
    model.signal = Signal(50, CHANNELS, WINDOW, 16, normals, units="g")
    (tmp_path / "base.elm").write_bytes(pack_model(model))
    rng = np.random.default_rng(1)
    counts = (rng.normal(0, 400, (SAMPLES, CHANNELS)).cumsum(0) % 8000 - 4000).astype("<i2")
    (tmp_path / "mine.s16").write_bytes(counts.tobytes())
    return tmp_path


def run(folder: Path, what: str, case: object = None) -> str:
    (folder / "case.json").write_text(json.dumps(case))
    return desktop(folder, f"import recorder_runs; recorder_runs.main({what!r})")


def test_buttons_record_and_undo(folder: Path) -> None:
    """A press records the preceding window with the button's class, a long press undoes the last one, a bounce does
    nothing.

    The window equals the twin's for the same counts, to the byte; the heap is locked.
    """
    presses = [[100, 110], [200, 240], [300, 301], [400, 460], [500, 507]]
    buttons = [[presses, 2], [[[5, 9], [600, 610], [700, 710]], 4]]
    told, kept, steps = json.loads(run(folder, "run", {"buttons": buttons}))
    assert [(taken, counts) for _, taken, counts in told] == [
        (2, [0, 0, 1, 0, 0]),
        (2, [0, 0, 2, 0, 0]),
        (None, [0, 0, 1, 0, 0]),  # the press of 60 samples
        (2, [0, 0, 2, 0, 0]),
        (4, [0, 0, 2, 0, 1]),
        (4, [0, 0, 2, 0, 2]),
    ]
    assert [abs(at - end) <= 2 for (at, *_), end in zip(told, (110, 240, 460, 507, 610, 710), strict=True)] == [
        True
    ] * 6
    assert steps >= SAMPLES
    counts = np.fromfile(folder / "mine.s16", "<i2").reshape(-1, CHANNELS)
    session = Session((folder / "base.elm").read_bytes(), b"\0", "infer", 1)
    for (label, window), (start, wanted) in zip(kept, ((100, 2), (500, 2), (600, 4), (700, 4)), strict=True):
        ends = range(start - FINE, start + 2)
        near = [session.quantize(counts[end - WINDOW : end])[0].tobytes().hex() for end in ends]
        assert label == wanted and window in near
    again = json.loads(run(folder, "run", {"buttons": [[[[100, 110]], 0]]}))
    assert again[0][0][2] == [1, 0, 2, 0, 2] and again[1][:4] == kept, "what was there counts"


def test_calls_under_asyncio_into_a_reservoir(folder: Path) -> None:
    early, taken, counts, held, refused = json.loads(run(folder, "calls"))
    assert not early and taken == [True] * 5 and counts == [3, 2, 0, 0, 0] and held == 5
    assert "can't take samples back" in refused[0] and "class 99: the model has 5" in refused[1]


def test_power_cuts_on_littlefs(folder: Path) -> None:
    """The file is the one before or after; the next sample is appended to it."""
    output = run(folder, "cuts")
    assert "FAIL" not in output, output[:1000]
    assert int(re.search(r"^CUTS (\d+) 0$", output, re.MULTILINE)[1]) > 60
