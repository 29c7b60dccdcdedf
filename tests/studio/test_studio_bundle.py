"""A project as one file: exporting and importing it, hostile files, and a sample project with one click."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fresh import fresh_seeds
from sensing import adapters, motion_base
from studio_projects import collect
from studio_user import Visitor, visit

from edgelora.base.errors import InputError
from edgelora.learn.streaming.main_program import Act
from edgelora.studio import bundle
from edgelora.studio.actions import Acts
from edgelora.studio.project import Project
from edgelora.studio.samples import ProjectSamples
from edgelora.studio.training_options import PACKAGED


def filled(folder: Path) -> Project:
    collect(folder, {"wave": 3, "circle é": 2})
    project = Project(folder)
    project.of(ProjectSamples).name_class("empty")
    (folder / "bases" / "mine.elm").write_bytes((PACKAGED / "motion.elm").read_bytes())
    (folder / "adapters" / "me.ela").write_bytes(adapters(motion_base(), 1)[0])
    (folder / "keys" / "release.pem").write_text("secret")
    (folder / "recordings").mkdir()
    for name in ("lying still.csv", "wave 0_5-2 s.2.csv", "größe.CSV"):  # names as the studio gives them
        (folder / "recordings" / name).write_text("1,2\n")
    project.of(Acts).add(Act("wave", "hold", "15"))
    return project


def zipped(files: dict[str, bytes], **how: Any) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(zipfile.ZipInfo(name), content, **how)
    return made.getvalue()


def test_a_project_goes_from_one_studio_to_another(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "one"), Project(tmp_path / "two")
    content = bundle.export(one)
    assert content == bundle.export(one) and b"secret" not in content
    assert "keys/release.pem" not in bundle.unpacked(content)
    assert {path.name for path in (one.folder / "recordings").iterdir()} == {
        name.partition("/")[2] for name in bundle.unpacked(content) if name.startswith("recordings/")
    }
    assert bundle.take_in(two, content) == len(bundle.unpacked(content)) - 1  # classes are merged, not copied
    assert set(two.of(ProjectSamples).labels) == {"wave", "circle é", "empty"}
    assert [s.name for s in two.of(ProjectSamples).samples] == [s.name for s in one.of(ProjectSamples).samples]
    assert two.of(Acts).acts == (Act("wave", "hold", "15"),)
    assert bundle.take_in(two, content) == 0, "once more changes nothing"
    (two.folder / "bases" / "mine.elm").write_bytes(b"another")
    with pytest.raises(InputError, match="another bases/mine.elm"):
        bundle.take_in(two, content)


@pytest.mark.parametrize(
    "name",
    [
        "../x.elm",
        "/etc/passwd",
        "bases/../../x.elm",
        "bases\\..\\x.elm",
        "bases/.elm",
        "samples/a/b.1.npz",
        "samples/...1.npz",
        "samples/ wave.1.npz",
        "keys/release.pem",
        "studio.json",
        "boards/x/flash.bin",
        "samples/",
        "recordings/x.py",
    ],
)
def test_names_that_the_studio_never_gives_are_refused(tmp_path: Path, name: str) -> None:
    project = Project(tmp_path / "inner" / "project")
    before = sorted(tmp_path.rglob("*"))
    good = (PACKAGED / "motion.elm").read_bytes()
    with pytest.raises(InputError):
        bundle.take_in(project, zipped({"bases/good.elm": good, name: b"PK"}))
    assert sorted(tmp_path.rglob("*")) == before, "all or nothing"


def test_sizes_are_counted_whatever_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path)
    bomb = zipped({"recordings/x.csv": bytes(bundle.MOST_OF_ONE + 1)})
    with pytest.raises(InputError, match="too large"):
        bundle.take_in(project, bomb)
    for at in (i for i in range(len(bomb)) if bomb[i : i + 4] in (b"PK\1\2", b"PK\3\4")):  # claims a small size
        session = at + (24 if bomb[at + 2] == 1 else 22)
        bomb = bomb[:session] + struct.pack("<I", 10) + bomb[session + 4 :]
    with pytest.raises(InputError):
        bundle.take_in(project, bomb)
    monkeypatch.setattr(bundle, "MOST_FILES", 3)
    with pytest.raises(InputError, match="4 files"):
        bundle.take_in(project, zipped({f"recordings/{i}.csv": b"1" for i in range(4)}))
    monkeypatch.setattr(bundle, "MOST_BYTES", 100)
    with pytest.raises(InputError, match="too large"):
        bundle.take_in(project, zipped({f"recordings/{i}.csv": b"1" * 60 for i in range(2)}))
    for bad in (b"", b"PK", zipped({})):
        with pytest.raises(InputError):
            bundle.take_in(project, bad)
    assert not list((tmp_path / "recordings").glob("*") if (tmp_path / "recordings").exists() else [])


@pytest.mark.parametrize("seed", fresh_seeds(2))
def test_damaged_files_are_refused_in_words(tmp_path: Path, seed: int) -> None:
    """After random changes a file is imported unchanged or refused; nothing else happens."""
    content, rng = bundle.export(filled(tmp_path / "one")), random.Random(seed)
    for round_ in range(60):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            bundle.take_in(
                Project(tmp_path / f"two{round_ % 2}"), bytes(damaged[: rng.choice([len(damaged)] * 3 + [500])])
            )
        except InputError as error:
            assert str(error)


def test_a_sample_project_by_one_click(tmp_path: Path) -> None:
    """Then it is exported as one file, which another project imports."""
    exported = bytearray()

    async def makes(page: Visitor) -> None:
        await page.open("/")
        await page.press("Make a sample project")
        await page.see("virtual-pico-1")
        await page.see("Make a sample project", 0)
        await page.press("Export the project")
        exported.extend((await page.user.download.next(timeout=60)).content)

    async def takes(page: Visitor) -> None:
        await page.open("/")
        await page.drop("Import a project (.zip)", {"mine.zip": bytes(exported)})
        await page.see("files added")

    one, other = (visit(tmp_path / name, story) for name, story in (("project", makes), ("other", takes)))
    collection = one.of(ProjectSamples)
    counts = {label: len(collection.of(label)) for label in collection.labels}
    assert counts == dict.fromkeys(bundle.GESTURES, bundle.SAMPLES)
    assert (tmp_path / "project/recordings/row.csv").exists()
    assert len(other.of(ProjectSamples)) == len(collection)
    with pytest.raises(InputError, match="samples of its own"):
        bundle.put_samples(one)
