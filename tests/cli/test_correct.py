"""Corrections on the command line: what a person says of a recording teaches at once, on the twin and a board."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh import slow
from processes import edgelora, result
from studio_projects import reported

from edgelora.learn.report.record import Sureness
from edgelora.learn.training.data.base import load_base
from edgelora.model.datasets.dataset import load_dataset
from edgelora.model.datasets.har import har_takes
from edgelora.studio.training_options import PACKAGED

PERSON = 3  # not in the base's training data
WINDOW, RATE = 100, 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """motion.elm, a person's windows one after the other as mine.csv."""
    made = tmp_path_factory.mktemp("correct")
    shutil.copy(PACKAGED / "motion.elm", made / "motion.elm")
    takes = har_takes(PERSON, "train")
    np.savetxt(made / "mine.csv", np.concatenate([counts for counts, _ in takes]), "%d", ",")
    np.save(made / "truth.npy", [label for _, label in takes])
    return made


def heard(folder: Path, *more: object) -> list[dict[str, Any]]:
    """Decisions on the windows of takes: a base's hop is half a window, so every second one is of a single take."""
    told = result("listen", folder / "motion.elm", "--source", folder / "mine.csv", "--twin", *more)
    return [one for one in told["decisions"] if one["end"] % WINDOW == 0]


def told(folder: Path, decisions: list[dict[str, Any]], names: list[str]) -> list[str]:
    """What a person says: a window of each class, three times, then what the board named wrong; a fifth only "no"."""
    truth, said, counts, mistakes = np.load(folder / "truth.npy"), [], dict.fromkeys(names, 0), 0
    for one in decisions:
        name = names[truth[one["end"] // WINDOW - 1]]
        counts[name] += 1
        if counts[name] <= 3:
            said += ["--was", f"{one['seconds']}={name}"]
        elif one["name"] != name:
            mistakes += 1
            said += ["--not", str(one["seconds"])] if mistakes % 5 == 0 else ["--was", f"{one['seconds']}={name}"]
    return said


def right(folder: Path, words: list[str], decisions: list[dict[str, Any]]) -> int:
    """How many windows with a label are named as the person did."""
    named = {one["seconds"]: one["name"] for one in decisions}
    pairs = (word.split("=") for word in words if "=" in word)
    return sum(named[float(seconds)] == name for seconds, name in pairs)


@slow
def test_corrections_teach_a_board(folder: Path) -> None:
    base = load_base(folder / "motion.elm")
    words = told(folder, heard(folder), base.model.labels)
    kept, adapter = folder / "kept.npz", folder / "corrected.ela"
    task = ("correct", folder / "motion.elm", "--source", folder / "mine.csv", "--samples", kept)
    board = result("sim", "unix", "--state", folder / "board")
    try:
        port = ("--port", board["port"])
        first = result(*task, *words[: 2 * 30], "-o", adapter)
        made = result(*task, *words[2 * 30 :], "-o", adapter, "--name", "mine", *port)
        assert made["taught"] and made["samples"] == words.count("--was") and made["denied"] == words.count("--not") > 0
        assert first["samples"] + first["denied"] == 30
        stored = result("store", "list", *port)
        assert stored["active"] == "mine"
        edgelora("store", "get", "mine", "-o", folder / "stored.ela", *port)
    finally:
        result("sim", "unix", "--stop", "--state", folder / "board")
    assert (folder / "stored.ela").read_bytes() == adapter.read_bytes()
    before, after = (right(folder, words, heard(folder, *more)) for more in ((), ("--adapter", adapter)))
    assert after > before
    assert len(load_dataset(kept)) == made["samples"] and set(load_dataset(kept).labels) == set(base.model.labels)


def test_a_no_without_samples_is_kept_and_teaches_nothing(folder: Path) -> None:
    given = ("correct", folder / "motion.elm", "--source", folder / "mine.csv", "--samples", folder / "none.npz")
    made = result(*given, "--not", 8, "-o", folder / "none.ela")
    assert (made["samples"], made["denied"], made["taught"], made["output"]) == (0, 1, False, None)
    assert not (folder / "none.ela").exists() and not (folder / "none.npz").exists()
    assert len(load_dataset(folder / "none.not.npz")) == 1
    (folder / "old.ela").write_bytes(b"of earlier corrections")
    printed = edgelora(*given, "--not", 9, "-o", folder / "old.ela").stdout
    assert "old.ela is from before, without these corrections" in printed
    assert (folder / "old.ela").read_bytes() == b"of earlier corrections"


@slow
def test_answers_that_are_not_sure_say_so(folder: Path) -> None:
    """By a probability, or by the report of a run."""
    everything = heard(folder)
    unsure = heard(folder, "--sure", "0.9")
    assert [one["unsure"] for one in unsure] == [one["probability"] < 0.9 for one in everything]
    assert 0 < sum(one["unsure"] for one in unsure) < len(unsure) and not any(one["unsure"] for one in everything)
    listen = ("listen", folder / "motion.elm", "--source", folder / "mine.csv", "--twin")
    text = edgelora(*listen, "--sure", "0.9").stdout
    assert text.count(" unsure  0.") == sum(one["unsure"] for one in result(*listen, "--sure", "0.9")["decisions"])
    voted = edgelora(*listen, "--sure", "0.9", "--vote", "2/3").stdout
    assert "(window: unsure)" in voted
    report, _ = reported(folder)
    path = folder / "report.json"
    path.write_text(replace(report, confidence=Sureness(29491, 6, 6, 0, 6, 6, 0, 0)).to_json())
    assert [one["unsure"] for one in heard(folder, "--sure", path)] == [one["unsure"] for one in unsure]
    path.write_text(replace(report, confidence=None).to_json())
    assert "too few samples" in edgelora(*listen, "--sure", path, code=1).stderr
    assert "give 0 to 1" in edgelora(*listen, "--sure", "2", code=1).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "nothing is corrected"),
        ("--was 8=flying", "'flying' is no class of motion.elm"),
        ("--was 1=PEN", "no window of the recording ends there"),
        ("--sure", "no option --sure"),
    ],
)
def test_what_cannot_be_corrected_is_said(folder: Path, words: str, said: str) -> None:
    given = ("correct", folder / "motion.elm", "--source", folder / "mine.csv", "--samples", folder / "x.npz")
    assert said in edgelora(*given, *words.split(), code=2 if words == "--sure" else 1).stderr
    assert not (folder / "x.npz").exists()
