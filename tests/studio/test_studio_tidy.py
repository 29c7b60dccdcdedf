"""Mislabelled samples are found, and recordings are trimmed."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sensing import adapters, motion_base
from studio_projects import collect
from studio_user import Visitor, visit

from edgelora.base.errors import InputError
from edgelora.model.datasets.recordings import load_capture
from edgelora.studio.adapter_actions import keep_file
from edgelora.studio.project import Project
from edgelora.studio.sample_map import sample_map
from edgelora.studio.samples import ProjectSamples
from edgelora.studio.trim import seconds_of, trim
from edgelora.studio.views.signals import keep_recording


def swapped(folder: Path) -> tuple[ProjectSamples, list[str]]:
    """Samples of three gestures, two of them with another gesture's label; their ids."""
    collection = collect(folder, {"circle": 10, "wave": 10, "shake": 10})
    wrong = [collection.of("circle")[4].id, collection.of("shake")[2].id]
    collection.relabel(wrong, "wave")
    return collection, wrong


def test_samples_under_a_wrong_name_are_found(tmp_path: Path) -> None:
    collection, wrong = swapped(tmp_path)
    spots = sample_map(collection, motion_base())
    assert [spot.id for spot in spots] == [sample.id for sample in collection.samples]
    assert max(max(abs(spot.x), abs(spot.y)) for spot in spots) == pytest.approx(1)
    found = {spot.id: spot.looks_like for spot in spots if spot.looks_like}
    assert found.items() >= {wrong[0]: "circle", wrong[1]: "shake"}.items() and len(found) <= 4, found
    for sample_id, label in found.items():
        collection.relabel([sample_id], label)
    assert len([spot for spot in sample_map(collection, motion_base()) if spot.looks_like]) < len(found)


def test_few_samples_are_never_suspected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no samples"):
        sample_map(collect(tmp_path, {}), motion_base())
    collection = collect(tmp_path, {"circle": 2, "wave": 2})
    assert not any(spot.looks_like for spot in sample_map(collection, motion_base()))


def test_recordings_are_trimmed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    values = np.arange(1200).reshape(200, 6) / 100
    (tmp_path / "recordings").mkdir()
    np.savetxt(tmp_path / "recordings" / "mine.csv", values, "%.5f", ",")
    assert seconds_of(project, "mine.csv") == 4
    kept = trim(project, "mine.csv", 0.5, 2)
    assert kept == "mine 0_5-2 s.csv"
    assert np.allclose(load_capture(tmp_path / "recordings" / kept).values, values[25:100])
    shutil.copy(tmp_path / "recordings" / "mine.csv", tmp_path / "recordings" / "wave.1.csv")
    assert trim(project, "wave.1.csv", 0.5, 2) == "wave.1 0_5-2 s.csv", "still a recording of wave"
    for start, end in ((2, 2), (3, 1), (-1, 1), (0, 4.1)):
        with pytest.raises(InputError, match="4 s"):
            trim(project, "mine.csv", start, end)
    for name in ("", "../studio.json", "other.csv"):
        with pytest.raises(InputError, match="no recording"):
            trim(project, name, 0, 1)


def test_no_recording_takes_the_place_of_another(tmp_path: Path) -> None:
    """Recordings with equal beginnings, parts with equal names, and two dropped files with one name."""
    project, folder = Project(tmp_path), tmp_path / "recordings"
    folder.mkdir()
    values = np.arange(1200).reshape(200, 6) / 100
    for number in (1, 2):
        np.savetxt(folder / f"{'long' * 20}{number}.csv", values + number, "%.5f", ",")
    first, second = (trim(project, f"{'long' * 20}{number}.csv", 0.5, 2) for number in (1, 2))
    assert first != second
    for number, name in ((1, first), (2, second)):
        assert np.allclose(load_capture(folder / name).values, values[25:100] + number)
    assert trim(project, f"{'long' * 20}1.csv", 0.5, 2) == first, "the same part once more"
    one, other = b"1,2\n3,4\n", b"5,6\n7,8\n"
    names = [keep_recording(project, "wave.csv", content) for content in (one, other, one)]
    assert names == ["wave.csv", "wave.2.csv", "wave.csv"] and (folder / "wave.csv").read_bytes() == one


def test_no_adapter_takes_the_place_of_another(tmp_path: Path) -> None:
    project, (one, other) = Project(tmp_path), adapters(motion_base(), 2)
    names = [keep_file(project, "me.ela", content).name for content in (one, other, one)]
    assert names == ["me.ela", "me-2.ela", "me.ela"] and (tmp_path / "adapters" / "me.ela").read_bytes() == one


def test_the_page_relabels_and_trims(tmp_path: Path) -> None:
    project = tmp_path / "project"
    _, wrong = swapped(project)
    (project / "recordings").mkdir()
    np.savetxt(project / "recordings" / "mine.csv", np.zeros((100, 6)), "%.2f", ",")
    (project / "bases").mkdir()
    (project / "bases" / "bad.elm").write_bytes(b"PK")

    async def story(page: Visitor) -> None:
        await page.open("/")
        await page.see("bad.elm is not a base network")
        await page.open("/collect")
        await page.press("Draw the map")
        await page.press("Relabel 1: wave looks like circle")
        await page.fill("Recording to trim", "mine.csv")
        await page.see("It lasts 2.00 s.")
        await page.fill("To, s", 1)
        await page.press("Save this part")
        await page.see("Saved as mine 0-1 s.csv")

    visit(project, story)
    labels = {sample.id: sample.label for sample in ProjectSamples(SimpleNamespace(folder=project)).samples}
    assert labels[wrong[0]] == "circle" and labels[wrong[1]] == "wave"
    assert (project / "recordings" / "mine 0-1 s.csv").exists()
