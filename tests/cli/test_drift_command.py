"""`edgelora listen --drift`: a person's recordings of several days, one of them with the sensor turned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import edgelora, result

from edgelora.core.formats.elm import pack_model
from edgelora.learn.training.data.base import load_base
from edgelora.model.datasets.har import har_takes
from edgelora.studio.training_options import PACKAGED

PERSON = 5
WINDOW, RATE = 100, 50
USUAL, LATEST, MANY = 128, 32, 20
QUESTION = "is the sensor worn another way?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """motion.elm; days of a person's windows in random order: usual.csv, same.csv, and turned.csv, which is same.csv
    with the axes turned by 90 degrees."""
    made = tmp_path_factory.mktemp("drift")
    shutil.copy(PACKAGED / "motion.elm", made / "motion.elm")
    takes = [counts for counts, _ in har_takes(PERSON, "train")]
    order = np.random.default_rng(2).permutation(len(takes))
    usual, same = (np.concatenate([takes[i] for i in part]) for part in (order[:USUAL], order[USUAL : USUAL + 60]))
    turned = np.stack([same[:, 1], -same[:, 0], same[:, 2], same[:, 4], -same[:, 3], same[:, 5]], 1)
    for name, counts in (("usual", usual), ("same", same), ("turned", turned), ("short", same[: WINDOW * 3])):
        np.savetxt(made / f"{name}.csv", counts, "%d", ",")
    return made


def heard(folder: Path, name: str, kept: Path, *more: object) -> dict[str, Any]:
    """What --json says of drift."""
    source = folder / f"{name}.csv"
    told: dict[str, Any] = result("listen", folder / "motion.elm", "--source", source, "--drift", kept, *more)["drift"]
    assert told.pop("file") == str(kept)
    return told


def said(folder: Path, name: str, kept: Path, *more: object) -> str:
    source = folder / f"{name}.csv"
    return edgelora("listen", folder / "motion.elm", "--source", source, "--drift", kept, *more)


@pytest.fixture
def knows(folder: Path, tmp_path: Path) -> Path:
    """The file after the usual days."""
    kept = tmp_path / "worn.drift"
    told = heard(folder, "usual", kept, "--twin")
    assert told == {"windows": USUAL, "left": 0, "new": 0, "alarm": False, "since": None}
    return kept


def test_a_turned_sensor_is_asked_about_once(folder: Path, knows: Path) -> None:
    usual = knows.read_bytes()
    assert QUESTION not in said(folder, "same", knows, "--twin")
    knows.write_bytes(usual)
    same = heard(folder, "same", knows, "--twin")
    assert same["windows"] == 60 and not same["alarm"] and same["since"] is None and same["new"] < MANY
    knows.write_bytes(usual)
    turned = heard(folder, "turned", knows, "--twin")
    assert turned["alarm"] and turned["new"] >= MANY
    assert MANY * WINDOW / RATE <= turned["since"] <= LATEST * WINDOW / RATE
    knows.write_bytes(usual)
    lines = said(folder, "turned", knows, "--twin").splitlines()
    asked = [line for line in lines if QUESTION in line]
    assert len(asked) == 1 and f"{turned['since']:.2f} s" in asked[0] and f"delete {knows}" in asked[0]
    assert f"{turned['new']} of the latest 32 windows are new, an alarm" in lines[-1]


def test_it_goes_on_with_the_file(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "days" / "worn.drift"
    assert "125 more until" in said(folder, "short", kept, "--twin").splitlines()[-1]
    assert heard(folder, "short", kept, "--twin")["left"] == 122
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    every = heard(folder, "same", kept, "--twin", "--drift-every", 8)
    assert (every["windows"], every["left"]) == (15, 107)


def test_with_a_board(folder: Path, knows: Path) -> None:
    """The same of a board's stream as of the twin's, and the question among its decisions."""
    usual = knows.read_bytes()
    twin = heard(folder, "turned", knows, "--twin")
    after = knows.read_bytes()
    board = result("sim", "unix", "--state", folder / "board")
    try:
        knows.write_bytes(usual)
        assert heard(folder, "turned", knows, "--port", board["port"]) == twin and knows.read_bytes() == after != usual
        knows.write_bytes(usual)
        lines = said(folder, "turned", knows, "--port", board["port"]).splitlines()
    finally:
        result("sim", "unix", "--stop", "--state", folder / "board")
    at = next(i for i, line in enumerate(lines) if QUESTION in line)
    assert lines[at].split()[0] == lines[at - 1].split()[0] and at < len(lines) - 3


def test_a_file_that_is_not_its_own_stays(folder: Path, knows: Path, tmp_path: Path) -> None:
    good, other = knows.read_bytes(), bytearray(knows.read_bytes())
    other[40] ^= 1
    notes = b"my notes\n"
    given = ("listen", folder / "motion.elm", "--source", folder / "same.csv", "--twin", "--drift")
    for data in (bytes(other), good[:-1], notes, b""):
        knows.write_bytes(data)
        told = edgelora(*given, knows, code=1)
        assert "damaged" in told and "give --drift another file" in told and str(knows) in told
        assert knows.read_bytes() == data
    knows.write_bytes(bytes(1 << 20))
    assert "too many for this kind of file" in edgelora(*given, knows, code=1)
    assert "not a regular file" in edgelora(*given, tmp_path, code=1)
    alone = ("listen", folder / "motion.elm", "--source", folder / "same.csv", "--twin", "--drift-every", 5)
    assert "give --drift FILE" in edgelora(*alone, code=1)


def test_a_file_of_another_base_stays(folder: Path, knows: Path, tmp_path: Path) -> None:
    model = load_base(folder / "motion.elm").model
    model.ops[0].weights.flat[0] ^= 1
    (tmp_path / "other.elm").write_bytes(pack_model(model))
    before = knows.read_bytes()
    given = ("listen", tmp_path / "other.elm", "--source", folder / "same.csv", "--twin", "--drift", knows)
    assert "another base" in edgelora(*given, code=1) and knows.read_bytes() == before
