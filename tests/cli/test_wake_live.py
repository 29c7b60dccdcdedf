"""Wake words at the microphone of an emulated Pico: enrolment with a button, then hearing with corrections."""

from __future__ import annotations

import signal
import subprocess
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from commands import edgelora, result
from fresh import in_full_runs
from processes import COMMAND

from edgelora.base.resources import ROOT
from edgelora.core.formats.wake_manifest import load_manifest, model_beside
from edgelora.learn.wake.word import imported
from edgelora.model.datasets.capture import Capture, save_wav
from edgelora.model.datasets.wake_speech import DEVELOPMENT, PHRASES, TALK, say_all

pymicro = pytest.importorskip("pymicro_wakeword")
pytestmark = pytest.mark.skipif(not which("espeak-ng"), reason="espeak-ng is not installed: `make setup`")
PICO = ROOT / ".build/rp2/rpi_pico/firmware.uf2"
MANIFEST = Path(pymicro.__file__).parent / "models" / "okay_nabu.json"
PHRASE, RATE, BUTTON = PHRASES["okay_nabu"], 16000, 15


def said(owner: int, text: str, first: int, count: int) -> list[np.ndarray]:
    return [sound for sound, _ in say_all([(DEVELOPMENT[owner], text, i) for i in range(first, first + count)], 1)]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with nabu.elm, its manifest, and a Pico in `pico`."""
    folder = tmp_path_factory.mktemp("live")
    edgelora("import", MANIFEST, "-o", folder / "nabu.elm")
    result("sim", "virtual-pico", "--firmware", PICO, "--state", folder / "pico")
    yield folder
    result("sim", "virtual-pico", "--stop", "--state", folder / "pico")


def play(folder: Path, parts: list[np.ndarray], pressed: set[int]) -> bytes:
    """Lets the board hear these, half a second apart; the button is pressed after those with these numbers."""
    quiet = np.zeros(RATE // 2, np.int16)
    sound, presses = [quiet], []
    for i, part in enumerate(parts):
        sound += [part, quiet]
        if i in pressed:
            presses.append(f"{sum(map(len, sound)) / RATE - 0.1:.2f}")
    whole = np.concatenate(sound)
    save_wav(folder / "heard.wav", Capture(whole[:, None].astype(float), float(RATE), counts=True))
    press = ("--press", f"{BUTTON}@{','.join(presses)}") if presses else ()
    edgelora("sim", "virtual-pico", "--state", folder / "pico", "--i2s", folder / "heard.wav", *press)
    return whole.tobytes()


@contextmanager
def running(folder: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    """A command at the board, once it waits for sound."""
    command = [COMMAND, "wake", *words, "--port", folder / "pico/port", "--button", BUTTON]
    with subprocess.Popen(
        list(map(str, command)),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait(process, "say ", "listening")
        yield process


def wait(process: subprocess.Popen[str], *words: str) -> str:
    """The first line of standard error that begins with one of these."""
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(words):
            return line
    raise AssertionError("".join(lines))


def content(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE, 1)
        return file.readframes(file.getnframes())


@in_full_runs("minutes; the studio's test enrols, learns and listens")
def test_an_owner_enrols_is_learned_and_corrects(board: Path) -> None:
    """What the board records is what its microphone heard; what was learned hears the owner there."""
    words, misses = said(0, PHRASE.said, 0, 6), said(0, PHRASE.misses[0], 0, 2)
    talk = np.concatenate([said(0, text, 0, 1)[0] for text in TALK[:4]])
    with running(board, "enrol", "nabu.elm", "-o", "anna", "--count", 6, "--misses", 2, "--talk", 600) as process:
        heard = play(board, [*words, *misses, talk], set(range(8)))
        wait(process, 'talk about anything else, without "Okay Nabu" (590 s left)')
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "anna: 9 new recordings; now 6 of the word, 2 of close phrases, 1 of other speech" in out
    files = [board / "anna" / name for name in ("said/001.wav", "said/006.wav", "misses/002.wav", "talk/001.wav")]
    assert all(content(file).strip(b"\0") in heard for file in files)
    assert all(content(files[i]).find(part[8000:16000].tobytes()) > 0 for i, part in ((0, words[0]), (1, words[5])))

    (board / "anna/misses").rename(board / "apart")
    learn = ["wake", "learn", board / "nabu.elm", "--owner", board / "anna", "-o", board / "anna.ela", "--force"]
    done = subprocess.run([COMMAND, *map(str, learn)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), "six recordings may be too few to judge by"
    new = said(0, PHRASE.said, 20, 4)
    with running(board, "listen", "nabu.elm", "--adapter", "anna.ela", "-o", "anna", "--seconds", 16) as process:
        play(board, [new[0], new[1], said(0, TALK[5], 0, 1)[0]], {1, 2})
        out, _ = process.communicate(timeout=120)
    assert out.count("heard  (anna)") == 2 and "heard 2 times; 2 corrections in anna" in out
    assert len(list((board / "anna/misses").iterdir())) == 1, "the press right after a wake"
    assert len(list((board / "anna/said").iterdir())) == 7, "the press after what was not heard"


@in_full_runs("trains for a minute")
def test_owners_switch_while_a_board_listens(board: Path) -> None:
    """By a time of the stream or, with a keyboard, by a key: the word counts with the adapter that hears it."""
    manifest = load_manifest(MANIFEST)
    word = imported(model_beside(MANIFEST, manifest).read_bytes(), manifest)
    known = [
        sound
        for sound in said(0, PHRASE.said, 0, 30)
        if not word.rule.wakes(word.outputs(None, [word.heard(sound)])[0])
    ]
    for i, sound in enumerate(known[:6]):
        save_wav(board / f"word.{i}.wav", Capture(sound[:, None].astype(float), float(RATE), counts=True))
    files = [board / f"word.{i}.wav" for i in range(6)]
    edgelora("wake", "learn", board / "nabu.elm", "--enrol", *files, "-o", board / "ben.ela", "--force")
    manifest.save(board / "ben.json")  # the author's rule, for both
    words = ("listen", "nabu.elm", "--adapter", "ben.ela", "--switch", "0=0", "--switch", "8=1", "--seconds", 16)
    with running(board, *words) as process:
        play(board, [known[0], np.zeros(5 * RATE, np.int16), known[1]], set())
        out, _ = process.communicate(timeout=120)
    heard = [line for line in out.splitlines() if "heard  (" in line]
    assert len(heard) == 1 and heard[0].endswith("(ben)") and 8 < float(heard[0].split()[0]) < 14, out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("enrol nabu.elm --pins 4,5", "give SCK, WS, SD"),
        ("listen nabu.elm --switch 3=1", "there are 0 adapters"),
        ("listen nabu.elm --source nothing", "nothing"),
        ("learn nabu.elm --owner a/anna --owner b/anna", "give each folder another name"),
        ("learn nabu.elm --owner nobody", "nobody: no recordings of the word"),
    ],
)
def test_what_cannot_be_done_is_said(board: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str) -> None:
    monkeypatch.chdir(board)
    port = () if line.startswith("learn") else ("--port", "pico/port")
    assert words in edgelora("wake", *line.split(), *port, code=1)
