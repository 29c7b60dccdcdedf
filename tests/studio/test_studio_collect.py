"""Collecting: samples on disk are complete however the studio ends, dropped files, keys, undo."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import result
from playwright.sync_api import Page
from sensing import motion_base, put_board, waves
from studio_pages import choose, sense
from studio_user import Visitor, visit

from benchmarks.swap import layers_and_adapters
from edgelora.base.errors import InputError
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.npz import write_npz
from edgelora.core.formats.signal import Normal
from edgelora.core.front_ends import AUDIO_SIZE, AudioFrontEnd, audio_signal
from edgelora.learn.streaming.decisions import Take, as_recorded
from edgelora.learn.streaming.sample_windows import alone, lead_of
from edgelora.learn.training.data.base import Base
from edgelora.model.datasets import keywords
from edgelora.model.datasets.dataset import held_out
from edgelora.model.datasets.recordings import inputs_of, load_capture
from edgelora.model.datasets.speech import RATE
from edgelora.studio import samples as samples_module
from edgelora.studio.capture import Taker
from edgelora.studio.samples import ProjectSamples

TAKES = """
import sys
from types import SimpleNamespace
from pathlib import Path
import numpy as np
from sensing import motion_base
from edgelora.studio.samples import ProjectSamples
base = motion_base()
collection = ProjectSamples(SimpleNamespace(folder=Path(sys.argv[1])))
for i in range(100000):
    collection.take("ab"[i % 2], np.full((100, 6), i, np.int16), base.model.signal, base.model.input.shape)
    print(i, flush=True)
    if i % 3 == 2:
        collection.relabel([collection.samples[-1].id], "c")
"""


def csv(rows: np.ndarray, form: str) -> bytes:
    made = io.BytesIO()
    np.savetxt(made, rows, form, ",")
    return made.getvalue()


@pytest.fixture(scope="module")
def base() -> Base:
    return motion_base()


@pytest.fixture
def collection(tmp_path: Path) -> ProjectSamples:
    return ProjectSamples(SimpleNamespace(folder=tmp_path))


def take(collection: ProjectSamples, base: Base, label: str, value: int) -> str:
    assert base.model.signal
    return collection.take(label, np.full((100, 6), value, np.int16), base.model.signal, base.model.input.shape).id


def reopened(collection: ProjectSamples) -> ProjectSamples:
    return ProjectSamples(SimpleNamespace(folder=collection.folder.parent))


def test_samples_train_as_they_were_measured(collection: ProjectSamples, base: Base, tmp_path: Path) -> None:
    """Inputs are computed from counts, a quarter of each class is held out, and commands accept the files."""
    signal = base.model.signal
    assert signal and collection.dataset() is None
    for i in range(9):
        take(collection, base, "up", 100 * i)
    take(collection, base, "dówn it", -5)
    data = collection.dataset()
    assert data and data.labels == ["up", "dówn it"] and data.signal == signal and data.x.shape == (10, 1, 100, 6)
    assert np.allclose(data.x[3, 0], inputs_of(np.full((100, 6), 300, np.int16), signal))
    held = 7 * [False] + 2 * [True] + [False]
    assert collection.held().tolist() == held_out(data.y).tolist() == held
    again = collection.dataset(base)
    assert again and np.array_equal(again.x, data.x)
    (tmp_path / "base.elm").write_bytes(base.elm)
    files = sorted(map(str, collection.folder.glob("*.npz")))
    told = result("convert", *files, "--base", tmp_path / "base.elm", "-o", tmp_path / "all.npz")
    assert told["windows"] == {"dówn it": 1, "up": 9}
    assert [(c.label, c.kept, c.held, bool(c.missing)) for c in collection.classes] == [
        ("up", 7, 2, False),
        ("dówn it", 1, 0, True),
    ]
    with wave.open(io.BytesIO(collection.wav(collection.samples[3]))) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (50, 6, 100)


def test_each_change_can_be_undone(collection: ProjectSamples, base: Base) -> None:
    ids = [take(collection, base, label, i) for i, label in enumerate("aabb")]

    def now() -> list[tuple[str, str]]:
        return [(sample.id, sample.label) for sample in collection.samples]

    changes: list[Callable[[], object]] = [
        lambda: collection.relabel(ids[:2], "b"),
        lambda: collection.remove(ids[1:3]),
        lambda: collection.rename_class("b", "other"),
        lambda: collection.remove_class("other"),
        lambda: collection.name_class("empty"),
        lambda: take(collection, base, "a", 9),
    ]
    before = []
    for change in changes:
        before.append((now(), collection.labels))
        version = collection.version
        change()
        assert (now(), collection.labels) != before[-1] and collection.version > version
        again = reopened(collection)
        assert [(s.id, s.label) for s in again.samples] == now() and again.labels == collection.labels
    while before:
        assert collection.undo() and (now(), set(collection.labels)) == (before[-1][0], set(before[-1][1]))
        before.pop()
    for _ in ids:
        assert collection.undo()
    assert not len(collection) and not collection.can_undo and collection.undo() == ""
    for name in ("", " ", "a/b", "..", "a.b", "x" * 41, "a\nb", "con:", "a\\b", "\u202eabc"):
        with pytest.raises(InputError, match="not a class name"):
            collection.name_class(name)
    with pytest.raises(InputError, match="no longer exists"):
        collection.remove(["7"])


def test_a_killed_studio_leaves_whole_samples(tmp_path: Path) -> None:
    """At any moment: all samples that it reported are there, and each file is complete."""
    path = os.pathsep.join(sys.path)
    for seconds in (0.15, 0.7):
        command = [sys.executable, "-c", TAKES, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})
        assert process.stdout
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        told = 1 + len([line for line in process.communicate()[0].split("\n") if line])
        collection = ProjectSamples(SimpleNamespace(folder=tmp_path))
        assert told <= len(collection) <= told + 1 and not collection.left_out()
        values = [int(collection.window(sample).counts[0, 0]) for sample in collection.samples]
        assert values == list(range(len(collection)))
        for file in collection.folder.glob("*.npz"):
            file.unlink()


def test_files_that_are_dropped_in(collection: ProjectSamples, base: Base) -> None:
    """Recordings by filename, in counts or units; data sets by their labels; nothing from an invalid file."""
    signal = base.model.signal
    assert signal
    counts = waves(260)

    assert len(collection.drop("wave.1.csv", csv(counts, "%d"), "", base)) == 4  # one every 50
    assert np.array_equal(collection.window(collection.samples[1]).counts, counts[50:150])
    units = counts[:100] * np.array(signal.scales)
    (one,) = collection.drop("../../rest.csv", csv(units, "%.9f"), "", base)
    assert one.label == "rest" and np.array_equal(collection.window(one).counts, counts[:100])
    recording = io.BytesIO()
    np.savez(recording, samples=counts[:150], rate=50)
    assert {sample.label for sample in collection.drop("x.npz", recording.getvalue(), "given", base)} == {"given"}
    labelled = io.BytesIO()
    x = inputs_of(counts[:200].reshape(2, 1, 100, 6), signal)
    np.savez(labelled, x=x, y=np.array([1, 0]), labels=np.array(["rest", "wave"]))
    dropped = collection.drop("set.npz", labelled.getvalue(), "", base)
    assert [sample.label for sample in dropped] == ["wave", "rest"]
    assert np.array_equal(collection.window(dropped[1]).counts, counts[100:200])
    assert collection.undo() == "2 samples" and len(collection) == 7
    bad = {
        "short.csv": csv(counts[:99], "%d"),
        "wide.csv": csv(counts[:, :5], "%d"),
        "no.wav": b"RIFF",
        "kind.exe": b"MZ",
        "damaged.npz": recording.getvalue()[:-40],
        "a.csv": b"\xff\xfe" * 100,
        "empty.npz": b"",
        "huge.npz": b"PK\x03\x04" + bytes(100),
    }
    for name, content in bad.items():
        with pytest.raises(InputError) as error:
            collection.drop(name, content, "", base)
        said, remedy = str(error.value), error.value.remedy
        assert "/tmp" not in said, "no folder of this computer is told"
        assert not remedy or said.count(remedy) == 1
    assert len(collection) == 7 and len(reopened(collection)) == 7
    (collection.folder / "odd.77.npz").write_bytes(b"nothing")
    (collection.folder / "no sample.npz").write_bytes(b"nothing")
    damaged = reopened(collection)
    assert len(damaged) == 8 and len(damaged.left_out()) == 1 and len(damaged.dataset() or ()) == 7


def test_pages_do_not_wait_for_a_file_that_is_kept(
    collection: ProjectSamples, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collection answers and adds a class while a thread writes a dropped file."""
    writing, named = threading.Event(), threading.Event()

    def slow(path: Path, arrays: Any) -> None:
        writing.set()
        assert named.wait(60)
        write_npz(path, arrays)

    monkeypatch.setattr(samples_module, "write_npz", slow)
    dropping = threading.Thread(target=collection.drop, args=("wave.csv", csv(waves(300), "%d"), "", base))
    dropping.start()
    assert writing.wait(60)
    assert collection.name_class("rest") == "rest" and collection.dataset(base) is None
    named.set()
    dropping.join(60)
    assert [entry.kept + entry.held for entry in collection.classes] == [0, 5]


def test_a_sample_that_somebody_put_there_may_be_large(collection: ProjectSamples, base: Base) -> None:
    (one,) = collection.drop("wave.csv", csv(waves(100), "%d"), "", base)
    np.savez_compressed(collection.folder / one.name, samples=np.zeros(64 << 20, np.int8))
    assert len(collection.left_out(base)) == 1 and "once unpacked" in collection.left_out(base)[0]


def test_a_folder_that_is_gone_and_a_disk_that_is_full(
    collection: ProjectSamples, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is partly kept or saved elsewhere, existing samples stay, and it works again as soon as possible."""
    assert base.model.signal
    window = np.zeros((100, 6), np.int16), base.model.signal, base.model.input.shape
    labels = ["\u0645\u0648\u062c\u0629", "\U0001f44b", *(f"class {i}" for i in range(60))]
    collection.take_all([(label, window[0]) for label in labels], *window[1:])
    moved = collection.folder.rename(tmp_path / "moved")
    for change in (lambda: collection.take("wave", *window), lambda: collection.name_class("wave")):
        with pytest.raises(InputError, match="no longer exists"):
            change()
        assert not collection.folder.exists()
    moved.rename(collection.folder)
    made: list[Path] = []
    keep = os.replace

    def full(source: str, target: str) -> None:
        if made:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        made.append(Path(target))
        keep(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            collection.take_all([("wave", window[0])] * 3, *window[1:])
    assert made and list(collection.folder.glob("wave.*")) == []
    again = ProjectSamples(SimpleNamespace(folder=tmp_path))
    assert [sample.label for sample in again.samples] == labels == [sample.label for sample in collection.samples]
    assert collection.take("wave", *window).label == "wave"


def test_sound_is_kept_raw_and_trains_as_a_board_records_it(collection: ProjectSamples) -> None:
    elm, _ = layers_and_adapters((3 * AUDIO_SIZE, 5), 0)
    model = unpack_model(elm)
    model.signal = audio_signal(3, 1, Normal(0.01))
    base = Base("sound.elm", pack_model(model), model)
    window = model.signal.window
    sound = np.random.default_rng(1).normal(0, 3000, (4 * window, 1)).astype(np.int16)
    for label, start in (("yes", 0), ("no", window), ("yes", 2 * window)):
        collection.take(label, sound[start : start + window], model.signal, model.input.shape)
    data = collection.dataset(base)
    windows = [(label, sound[start : start + window]) for label, start in ((0, 0), (1, window), (0, 2 * window))]
    takes = [Take(np.concatenate([lead_of(counts, model.signal), counts]), label) for label, counts in windows]
    assert data and np.array_equal(base.samples(data).x, as_recorded(base, takes).x)
    assert collection.thumbnail(collection.samples[0])["kind"] == "sound"
    other = replace(model.signal, rate=8000.0)
    collection.take("yes", sound[:window], other, model.input.shape)
    assert len(collection.left_out(base)) == 1 and len(collection.dataset(base) or ()) == 3


def test_windows_begin_after_the_countdown(collection: ProjectSamples, base: Base) -> None:
    """Counted in samples: the window begins when the countdown ends; lost samples are reported."""
    signal = base.model.signal
    assert signal
    live: Any = SimpleNamespace(
        is_running=True, base=base, end=0, run=1, source=SimpleNamespace(buttons=(15, 14)), on_fed=None, on_press=None
    )
    live.metadata = SimpleNamespace(rate=50.0, window=100)
    live.window = lambda end, size: None if live.lost else waves(end)[end - size :]
    live.lost = False
    taker = Taker(live, collection)
    with pytest.raises(InputError, match="no class"):
        taker.begin()
    collection.name_class("wave"), collection.name_class("rest")
    taker.label, taker.seconds, taker.count = "wave", 1, 2

    def feed(to: int) -> list[str]:
        phases = []
        while live.end < to:
            live.end += 5
            live.on_fed()
            phases.append(taker.phase)
        return phases

    feed(200)
    taker.begin()
    assert set(feed(245)) == {"counting"} and set(feed(345)) == {"recording"} and taker.left == 2
    feed(350)
    assert len(collection) == 1 and np.array_equal(collection.window(collection.samples[0]).counts, waves(350)[250:])
    assert taker.phase == "counting"
    live.lost = True
    feed(520)
    assert len(collection) == 1 and "lost" in taker.problem and taker.phase == "idle"
    live.lost = False
    live.on_press(1)
    assert collection.samples[-1].label == "rest" and taker.last == "rest: 1"
    live.on_press(5)
    assert "no class" in taker.problem and len(collection) == 2
    taker.begin()
    live.run = 2
    feed(530)
    assert "restarted" in taker.problem and taker.phase == "idle"


def test_a_person_collects(studios: Callable[..., Any], pages: Callable[..., Page], tmp_path: Path) -> None:
    """By key and by button, relabelling, deleting, undo, a dropped file: the folder contains the result."""
    put_board(tmp_path / "project")
    page = pages(studios("project"))
    folder = tmp_path / "project/samples"
    sense(page, "Collect")
    page.locator(".signal-numbers", has_text="50 Hz").wait_for()
    for name in ("<i>no</i>", "wave"):
        page.get_by_label("New class").fill(name)
        page.get_by_role("button", name="Add class").click()
    page.get_by_role("button", name="wave", exact=True).wait_for()
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_text("wave in 2").wait_for()
    page.reload()  # during the countdown
    page.get_by_role("button", name="Stop", exact=True).and_(page.locator(".record")).wait_for()
    page.get_by_text("Recorded: wave: 1").wait_for()
    choose(page, "Countdown", "at once")
    page.locator("h1, .view-name").first.click()
    thumbs = page.get_by_role("group", name="Samples of wave").get_by_role("button")
    for count in range(2, 5):
        page.keyboard.press("Space")
        page.wait_for_function("(count) => document.querySelectorAll('.thumb').length == count", arg=count)
    page.get_by_role("button", name="wave, sample 4, to test").wait_for()
    page.get_by_role("region", name="Class wave").get_by_text("3 to train, 1 to test").wait_for()
    page.get_by_label("New class").fill("rest")
    page.get_by_label("New class").press("Enter")
    page.get_by_role("button", name="rest", exact=True).wait_for()
    page.wait_for_function("document.querySelector('.thumb canvas').width > 50")
    thumbs.nth(0).click()
    choose(page, "Relabel as", "rest")
    page.get_by_role("button", name="Relabel", exact=True).click()
    page.get_by_role("button", name="rest, sample 1", exact=True).wait_for()
    thumbs.nth(0).press("Delete")
    page.wait_for_function("document.querySelectorAll('.thumb').length == 3")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("document.querySelectorAll('.thumb').length == 4")
    thumbs.nth(1).press("p")
    page.locator(".player:visible").wait_for()
    rows = "\n".join(",".join(map(str, row)) for row in waves(200).tolist())
    given = {"circle.1.csv": rows.encode(), "empty.csv": b"", "notes.txt": b"1,2"}
    files = [{"name": name, "mimeType": "", "buffer": content} for name, content in given.items()]
    page.get_by_label("Drop files here, or choose them").set_input_files(files)
    page.get_by_role("button", name="circle, sample 3").wait_for()
    for words in ("empty.csv: is empty", "notes.txt: can't be used here"):  # not sent
        page.get_by_role("alert").filter(has_text=words).wait_for()
    names = sorted(path.name.split(".")[0] for path in folder.glob("*.npz"))
    assert names == ["circle"] * 3 + ["rest"] + ["wave"] * 3
    assert json.loads((folder / "classes.json").read_text()) == ["wave", "rest"]
    assert load_capture(next(folder.glob("circle.*"))).values.shape == (100, 6)


def test_what_is_wrong_with_files_is_told_while_pages_go_on(tmp_path: Path) -> None:
    """Each dropped file reports its result: read, refused, or doubtful."""
    rows = np.random.default_rng(1).normal(0, 1, (200, 6))
    bomb = io.BytesIO()
    np.savez_compressed(bomb, samples=np.zeros((300 << 20 >> 3, 4), np.int16))
    given = {
        "wave.csv": csv(rows, "%.5f"),
        "still.csv": csv(0 * rows, "%d"),
        "nan.csv": csv(rows * np.nan, "%g"),
        "bomb.npz": bomb.getvalue(),
        "empty.csv": b"",
        "notes.txt": b"1,2",
        "<b>\x1b.csv": b"hello",
    }

    async def story(page: Visitor) -> None:
        await page.open("/collect")
        await page.drop("Drop files here, or choose them", given)
        await page.see("wave.csv is read")  # the server answers meanwhile
        for words in (
            "still.csv: all values are 0",
            "nan.csv: has values that are not finite",
            "bomb.npz: not a readable .npz file (its arrays have 314572928 bytes once unpacked",
            "empty.csv: has no samples",
            "notes.txt: .txt is no",
            "<b>\\x1b.csv: ",
        ):
            await page.see(words)
        await page.see(" is read", 0)

    visit(tmp_path, story)
    labels = sorted(path.name.split(".")[0] for path in (tmp_path / "samples").glob("*.npz"))
    assert labels == ["still"] * 3 + ["wave"] * 3


def test_a_sample_of_sound_is_what_a_board_hears_in_a_room() -> None:
    """Alone, as in the middle of noise: a front end that starts with the window would take the noise for sound."""
    rng = np.random.default_rng(1)
    signal, rows = keywords.SIGNAL, keywords.ROWS
    room = rng.normal(0, 300, 3 * RATE)
    room[2 * RATE : 2 * RATE + RATE // 2] += rng.normal(0, 6000, RATE // 2)
    heard = room.astype(np.int16)[:, None]
    end = 2 * RATE + RATE * 3 // 4 // 160 * 160
    front = AudioFrontEnd()
    stream = inputs_of(front.feed(heard[:end])[-rows:], signal)[..., None]
    window = heard[end - signal.window : end]
    cold = inputs_of(AudioFrontEnd().feed(window)[-rows:], signal)[..., None]
    mine = alone(window, signal, stream.shape)
    far, near = (np.abs(one - stream)[: rows // 3].mean() for one in (cold, mine))
    assert near < 0.25 * far, (near, far)
