"""The n-th allocation, flash operation or interrupt fails in every action on a board: nothing lost or stuck."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import class_cases
import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fresh import FULL

from edgelora import formats, twin
from edgelora.formats import elu
from edgelora.resources import ROOT
from edgelora.updates import keys

PROGRAMS = Path(__file__).parent / "programs"
FIRMWARE = ROOT / ".build" / "faults" / "micropython"  # make firmware-faults
MOST = 0 if FULL else 8  # of each action and fault; 0: all
GROUPS = {"model": (0, 15), "partition": (15, 27), "folder": (27, 39), "learning": (39, 46), "rest": (46, 60)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small base, two adapters of it, samples, and an update that the board trusts."""
    place = tmp_path_factory.mktemp("faults")
    base = formats.pack_model(class_cases.small_base(np.random.default_rng(3)))
    rng = np.random.default_rng(1)
    (place / "base.elm").write_bytes(base)
    for name in ("one", "two"):
        session = twin.Session(base, bytes([4, 4]), "frozen_a", 1)
        session.begin(5)
        for _ in range(6):
            session.train(rng.integers(-128, 128, (1, 1, 1, 5)).astype(np.int8), int(rng.integers(3)), 30000)
        (place / f"{name}.ela").write_bytes(session.save())
    x = rng.integers(-128, 128, (8, 1, 1, 5)).astype(np.int8)
    (place / "samples.eld").write_bytes(formats.pack_samples(x, np.arange(8) % 3, None, formats.base_id(base)))
    keys.new_key(place / "release.pem")
    key = keys.load_key(place / "release.pem")
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    (place / "update.trust").write_bytes(keys.pack_trust("band", [public]))
    (place / "update.elu").write_bytes(elu.pack((place / "two.ela").read_bytes(), "wake", 8, "band", key, None))
    return place


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_is_lost_or_stuck(group: str, folder: Path) -> None:
    start, end = GROUPS[group]
    code = (
        f"import sys; sys.path.insert(0, {str(PROGRAMS)!r}); import faults_suite; "
        f"faults_suite.main({MOST}, *[action.name for action in faults_suite.ACTIONS[{start}:{end}]])"
    )
    command = [FIRMWARE, "-X", "heapsize=4m", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=850)
    wrong = [line[:400] for line in done.stdout.splitlines() if re.match("LOST|STUCK|SKIPPED", line)]
    assert not wrong, "\n".join(wrong[:10])
    ended = re.search(r"^FAULTS (\d+) 0 0$", done.stdout, re.MULTILINE)
    assert ended, done.stdout[-2000:] + done.stderr[-2000:]
    assert int(ended[1]) > 50
    print(done.stdout)
