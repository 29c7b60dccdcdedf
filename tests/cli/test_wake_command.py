"""`edgelora wake`: a wake word learns its owner from files, end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import processes
import pytest
from commands import edgelora, result
from fresh import in_full_runs, slow

from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.wake_manifest import load_manifest, model_beside
from edgelora.core.twin.session import Session
from edgelora.learn.wake.guard import FalseAccepts, Judgement, Recall, StreamScore
from edgelora.learn.wake.household import Household, Member
from edgelora.learn.wake.learning import RECIPE, Learned
from edgelora.learn.wake.word import Rule, imported
from edgelora.model.datasets.capture import Capture, save_wav
from edgelora.model.datasets.wake_speech import DEVELOPMENT, PHRASES, TALK, Sound, say_all

pymicro = pytest.importorskip("pymicro_wakeword")
pytestmark = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed: `make setup`")
MANIFEST = Path(pymicro.__file__).parent / "models" / "okay_nabu.json"
OWNER, PHRASE = DEVELOPMENT[0], PHRASES["okay_nabu"]


def save(path: Path, sound: Sound) -> str:
    save_wav(path, Capture(sound[:, None].astype(float), 16000.0, counts=True))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nabu.elm with its manifest, and an owner's recordings."""
    made = tmp_path_factory.mktemp("wake")
    edgelora("import", str(MANIFEST), "-o", str(made / "nabu.elm"))
    said = say_all([(OWNER, PHRASE.said, i) for i in range(12)], 1)
    for i, (sound, _) in enumerate(said):
        save(made / f"{'word' if i < 6 else 'new'}.{i}.wav", sound)
    for i, (sound, _) in enumerate(say_all([(OWNER, text, 0) for text in PHRASE.misses[:3]], 1)):
        save(made / f"miss.{i}.wav", sound)
    save(made / "talk.wav", np.concatenate([sound for sound, _ in say_all([(OWNER, text, 0) for text in TALK[:8]], 1)]))
    return made


def files(folder: Path, kind: str) -> list[str]:
    return [str(path) for path in sorted(folder.glob(f"{kind}*.wav"))]


def test_the_studio_and_the_bench_have_the_base_of_the_command(folder: Path) -> None:
    manifest = load_manifest(MANIFEST)
    word = imported(model_beside(MANIFEST, manifest).read_bytes(), manifest)
    assert word.base.elm == (folder / "nabu.elm").read_bytes() and word.rule.window == manifest.window


def test_a_training_step_fits_a_pico_beside_its_microphone(folder: Path) -> None:
    elm = (folder / "nabu.elm").read_bytes()
    assert Session(elm, *RECIPE.settings(elm), frames=unpack_model(elm).reach).arena_bytes <= 40 * 1024


@in_full_runs("test_readme.py runs the guide: learn, test, merge")
def test_an_owner_who_was_not_heard_is_heard(folder: Path) -> None:
    given = ("--enrol", *files(folder, "word"), "--miss", *files(folder, "miss"), "--talk", *files(folder, "talk"))
    model, adapter = str(folder / "nabu.elm"), folder / "me.ela"
    found = json.loads(edgelora("wake", "learn", model, *given, "-o", str(adapter), "--json"))
    assert found["better"] and found["output"] == str(adapter) and not found["reason"]
    assert found["adapted"]["own"]["heard"] > found["base"]["own"]["heard"]
    assert found["adapted"]["speech"]["false_accepts"] <= found["base"]["speech"]["false_accepts"]
    assert found["adapted"]["others"]["of"] == 24 and len(found["adapted"]["own"]["interval"]) == 2
    new = ("--said", *files(folder, "new"), "--speech", str(folder / "talk.wav"), "--json")
    base = json.loads(edgelora("wake", "test", model, *new))
    adapted = json.loads(edgelora("wake", "test", model, "--adapter", str(adapter), *new))
    assert base["own"]["heard"] <= 3 and adapted["own"]["heard"] >= 5
    assert adapted["cutoff"] == found["adapted"]["cutoff"] and adapted["speech"]["hours"] > 0.005
    strict = json.loads(edgelora("wake", "test", model, "--adapter", str(adapter), "--window", "99", *new))
    assert strict["own"]["heard"] == 0, "a word is shorter than 3 s"
    merged = folder / "mine.tflite"
    made = json.loads(edgelora("merge", str(MANIFEST), str(adapter), "-o", str(merged), "--json"))["manifest"]
    assert made["micro"]["sliding_window_size"] == found["adapted"]["window"]
    edgelora("import", str(merged.with_suffix(".json")), "-o", str(folder / "merged.elm"))
    again = json.loads(edgelora("wake", "test", str(folder / "merged.elm"), *new))
    assert again["own"]["heard"] >= adapted["own"]["heard"] - 1 and again["window"] == found["adapted"]["window"]


@in_full_runs("trains for a minute")
def test_one_adapter_learns_two_owners(folder: Path) -> None:
    """Each is judged; one who is heard less often than by the base is a reason against it."""
    for name, person, words in (("anna", OWNER, PHRASE.said), ("ben", DEVELOPMENT[3], PHRASE.said)):
        for i, (sound, _) in enumerate(say_all([(person, words, i) for i in range(6)], 1), 1):
            (folder / name / "said").mkdir(parents=True, exist_ok=True)
            save(folder / name / "said" / f"{i:03}.wav", sound)
    given = ("--owner", str(folder / "anna"), "--owner", str(folder / "ben"), "--talk", *files(folder, "talk"))
    found = json.loads(
        edgelora("wake", "learn", str(folder / "nabu.elm"), *given, "-o", str(folder / "both.ela"), "--json")
    )
    anna, ben = found["owners"]["anna"], found["owners"]["ben"]
    assert [one[kind]["of"] for one in (anna, ben) for kind in ("base", "adapted")] == [6] * 4
    for kind in ("base", "adapted"):
        assert anna[kind]["heard"] + ben[kind]["heard"] == found[kind]["own"]["heard"]
    assert anna["adapted"]["heard"] >= 4 and ben["adapted"]["heard"] >= 4 and found["better"]


def test_nobody_may_be_heard_less_often() -> None:
    """However much better another owner is heard."""
    judgement = Judgement(
        *[StreamScore(Rule(0.8, 5), Recall(9, 12), Recall(0, 0), Recall(0, 0), FalseAccepts(0, 1))] * 2, ""
    )
    learned = Learned(b"", cast(Any, None), judgement, 0, [], cast(Any, None))
    anna, ben = Member("anna", Recall(1, 6), Recall(6, 6)), Member("ben", Recall(5, 6), Recall(4, 6))
    assert Household(learned, [anna, ben]).reason == "it hears ben 4 of 6 times, the base 5"
    assert Household(learned, [anna]).better


@slow
def test_a_board_gets_the_adapter_and_hears_the_owner(folder: Path) -> None:
    """Counts on a board are the host twin's."""
    board = result("sim", "unix", "--state", str(folder / "board"))
    given = ("--enrol", *files(folder, "word"), "--talk", *files(folder, "talk"), "--epochs", "1", "--name", "anna")
    model, adapter, port = str(folder / "nabu.elm"), str(folder / "anna.ela"), ("--port", board["port"])
    try:
        edgelora("wake", "learn", model, *given, "-o", adapter, *port)
        stored = result("store", "list", *port)
        assert stored["active"] == "anna"
        new = ("--said", *files(folder, "new"), "--speech", str(folder / "talk.wav"), "--adapter", adapter)
        heard = result("wake", "test", model, *new, "--on-board", *port)
    finally:
        result("sim", "unix", "--stop", "--state", str(folder / "board"))
    assert heard == result("wake", "test", model, *new) and heard["own"]["heard"] >= 5


@slow
def test_an_adapter_that_is_not_better_is_not_written(folder: Path) -> None:
    """What is said to be the word may not be accepted: it is also given as other speech."""
    output = folder / "worse.ela"
    again = [(OWNER, text, i) for text in PHRASE.misses[:3] for i in range(1, 4)]
    for i, (sound, _) in enumerate(say_all(again, 1)):
        save(folder / f"again.{i}.wav", sound)
    given = ("--enrol", *files(folder, "miss"), "--speech", *files(folder, "again"), "-o", str(output))
    text = edgelora("wake", "learn", str(folder / "nabu.elm"), *given, code=3)
    assert "not better, and not written: it takes other speech" in text and not output.exists()


def test_an_adapter_that_no_other_speech_judged_says_so(folder: Path) -> None:
    given = ("--enrol", *files(folder, "word"), "-o", str(folder / "few.ela"), "--epochs", "1")
    text = processes.edgelora("wake", "learn", folder / "nabu.elm", *given).stderr
    assert "how often it wakes by mistake is unknown: give --talk or --speech" in text
    assert "from 1 to 1000" in edgelora("wake", "learn", "nabu.elm", "--enrol", "a.wav", "--epochs", "0", code=2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("learn {0}/nabu.elm --enrol {0}/word.0.wav {0}/word.1.wav", "2 enrolments: give 3 or more"),
        (
            "learn {0}/nabu.elm --enrol {0}/word.0.wav {0}/word.1.wav {0}/word.2.wav --talk {0}/word.1.wav",
            "word.1.wav: give each once",
        ),
        ("learn {0}/other.elm --enrol {0}/word.0.wav", "has no manifest, other.json, beside it"),
        ("test {0}/nabu.elm", "nothing to test on: give --said, --speech, or both"),
        ("test {0}/nabu.elm --speech {0}/empty", "has no recordings"),
        ("test {0}/nabu.elm --said {0}/word.0.wav --cutoff 2", "must be a number from 0 to 1"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Path, line: str, said: str) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    shutil.copy(folder / "nabu.elm", folder / "other.elm")
    assert said in edgelora("wake", *line.format(folder).split(), code=1)
