"""README.md and docs/ are correct: marked blocks run as printed, commands parse, lines fit.

Marked blocks of a page run in order in a folder as `make demo` leaves it, including the board's flash, with this
checkout's tools on the path. Usual runs draw half of the pages, full runs have all.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from documents import all_blocks, blocks, pages
from fresh import FULL, in_full_runs, some

import edgelora
from edgelora.base.resources import ROOT
from edgelora.board import virtual_boards
from edgelora.board.sim.virtual_board import UNIX_BINARY
from edgelora.board.sim.world import set_world
from edgelora.cli.parser import make_parser
from edgelora.core.formats.wake_manifest import load_manifest
from edgelora.model.datasets import speech
from edgelora.model.datasets.capture import Capture
from edgelora.model.datasets.recordings import save_capture
from edgelora.model.datasets.wake_speech import DEVELOPMENT, PHRASES, TALK, phrase_sound
from edgelora.model.importers.tflite.convert import import_tflite

GUIDES = ["getting-started", "streaming", "budget", "peft", "merge", "store", "updates", "from-sensor-to-decision"]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
README = ROOT / "README.md"
START = "docs/guides/getting-started.md"
BOARD = "out/har/virtual-pico.board"
# The demo's result by its own steps, except for training on the board, which takes minutes.
DEMO = f"""
edgelora pretrain har:3 --epochs 10 -o base.npz
mkdir -p out/har
edgelora quantize base.npz --data har:3 -o out/har/har.elm
edgelora train-adapter out/har/har.elm --data har:3 --epochs 2 -o out/har/adapter.ela
edgelora build --board virtual-pico --model out/har/har.elm -o out/har/virtual-pico.uf2
edgelora sim virtual-pico --firmware out/har/virtual-pico.uf2 --state {BOARD}
edgelora sim virtual-pico --stop --state {BOARD}
"""


def run(script: str, folder: Path) -> str:
    """The output of a shell script, which must succeed. Boards that it starts are stopped."""
    try:
        done = subprocess.run(
            ["bash", "-euxc", script],
            cwd=folder,
            env=os.environ | {"PATH": PATH},
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout
    finally:
        for board in virtual_boards.running():
            if board.state_dir.startswith(str(folder)):
                board.stop()


@pytest.fixture(scope="module")
def after_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name in ("examples", ".build"):
        (folder / name).symlink_to(ROOT / name)
    run(DEMO, folder)
    return folder


def on_board(code: str, folder: Path) -> str:
    """A line that runs code on the demo's board."""
    (folder / "device.py").write_text(code)
    return f"mpremote connect {BOARD}/port run device.py\n"


# ---- marked blocks


def test_readme(after_demo: Path) -> None:
    [shell], [device] = blocks(README, "sh", "tested"), blocks(README, "python", "tested")
    last = run(shell + on_board(device, after_demo), after_demo).splitlines()[-1]
    assert last.startswith("1 b'"), "it tells the two levels apart"


@pytest.mark.parametrize("name", some(GUIDES, 2))
def test_guide(after_demo: Path, name: str) -> None:
    page = f"docs/guides/{name}.md"
    script = "".join(blocks(page, "sh", "tested"))
    assert script
    if "(getting-started.md#a-board-to-work-with)" in (ROOT / page).read_text():
        script = blocks(START, "sh", "tested")[0] + script
    for code in blocks(page, "python", "tested"):
        script += on_board(code, after_demo)
    printed = run(script, after_demo)
    if name == "store":
        assert printed.splitlines()[-1] == "run []"
    if name == "from-sensor-to-decision":
        told = re.findall(r"^ +\d+\.00 s  ", printed, re.MULTILINE)
        assert len(told) == 2 * 29, "both the board and the twin decided about each window"
        assert "29 windows, 0 values clipped, 0 lost" in printed


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed: `make setup`")
@in_full_runs("takes minutes; the commands are in tests/cli/test_wake_command.py")
def test_wake_word(tmp_path: Path) -> None:
    """From a deployed model and recordings to a model and a manifest for the same devices."""
    owner, close = DEVELOPMENT[0], PHRASES["okay_nabu"].misses
    for i in range(6):
        said = {"word": ("okay nabu", i), "new": ("okay nabu", 10 + i), "close": (close[i], 0), "talk": (TALK[i], 0)}
        for name, (phrase, number) in said.items():
            counts = phrase_sound(owner, phrase, number)[0].astype(float)[:, None]
            save_capture(Capture(counts, speech.RATE, counts=True), tmp_path / f"{name}.{i}.wav")
    printed = run("".join(blocks("docs/guides/wake-word.md", "sh", "tested: wake word")), tmp_path)
    heard = re.search(r"heard: (\d) of 6", printed)
    assert heard and int(heard[1]) >= 4, printed
    manifest, learned = load_manifest(tmp_path / "mine.json"), load_manifest(tmp_path / "me.json")
    assert manifest.model == "mine.tflite" and (manifest.cutoff, manifest.window) == (learned.cutoff, learned.window)
    assert import_tflite((tmp_path / "mine.tflite").read_bytes()).output.size == 1


def test_python(tmp_path: Path) -> None:
    """All of `import edgelora` in order, with a virtual board."""
    [script] = blocks("docs/reference/python.md", "python", "tested: on the computer")
    assert len(script.split("\n\n")[1].splitlines()) <= 10
    (tmp_path / "way.py").write_text(script)
    planned, ran = run("python way.py", tmp_path).splitlines()
    assert "rpi_pico: arena " in planned and re.search(r"accuracy \d\d\.\d% -> \d\d\.\d%, 728 bytes", ran)
    base = edgelora.load(tmp_path / "base.elm")
    adapter = edgelora.load(tmp_path / "person3.ela", base)
    assert edgelora.evaluate(base, "har:3", adapter) > edgelora.evaluate(base, "har:3")


@in_full_runs("needs TensorFlow")
def test_from_keras_to_a_report(after_demo: Path) -> None:
    """Trains and converts a Keras model in TensorFlow's environment, then continues up to training on the emulated
    Pico."""
    [script] = blocks(README, "sh", "tested: own network")
    first, rest = script.split("\n", 1)
    assert first == "make frameworks"  # already run by whoever runs the tests
    run(rest, after_demo)
    report = json.loads((after_demo / "out/run/report.json").read_text())
    assert report["host_twin_identical"] and "RP2040" in report["board"]
    assert report["base_accuracy"] < report["adapted_accuracy"] > 0.8
    assert report["arena_bytes"] <= 16 * 1024
    assert (after_demo / "out/run/report.html").exists()


class Port:
    """The output of a board's program."""

    def __init__(self, port: Path) -> None:
        self._fd = os.open(port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        self.said = ""

    def until(self, pattern: str, times: int = 1) -> list[str]:
        """Matching lines, once this many have come since the call; a board's clock is slow on a busy computer."""
        end, start = time.monotonic() + 600, len(self.said)
        while len(found := re.findall(pattern, self.said[start:], re.MULTILINE)) < times:
            assert time.monotonic() < end, self.said[-2000:]
            with contextlib.suppress(BlockingIOError):
                self.said += os.read(self._fd, 4096).decode().replace("\r", "")
            time.sleep(0.05)
        return found

    def close(self) -> None:
        os.close(self._fd)


@in_full_runs("takes a minute, as the wake word does")
def test_first_gesture(after_demo: Path) -> None:
    """Three gestures recorded by buttons, learned, kept over a power cut; then a fourth one is added. The Pico's own
    driver reads motion that was measured on a person's watch, by the page's own commands."""
    page, folder = "docs/guides/first-gesture.md", after_demo
    start, record, fourth = (blocks(page, "sh", f"tested: {part}")[0] for part in ("start", "record", "fourth"))
    names = ("circle", "wave", "shake", "knock")
    state = folder / "pico"

    def recognized(name: str) -> bool:
        """Whether most decisions on a later part of the recording are its name."""
        set_world(state, f"demo:{name}-later", [])
        said = port.until(f"^(?:{'|'.join(names)})$", 4)[2:]  # the first windows still contain earlier samples
        return said.count(name) > len(said) / 2

    def shell(script: str) -> None:
        command = ["bash", "-euc", script]
        done = subprocess.run(command, cwd=folder, env=os.environ | {"PATH": PATH}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    try:
        shell(start)
        port = Port(state / "port")
        port.until("^ready$")
        shell(record)
        port.until(r"^learned: (\d+) of 6 right, before \d+$")
        assert "recorded: circle 8, wave 8, shake 8, knock 0" in port.said
        port.close()
        virtual_boards.find(state / "port").kill()  # type: ignore[union-attr]
        shell("edgelora sim virtual-pico --state pico")
        port = Port(state / "port")
        assert recognized("wave"), "kept over a power cut"
        if FULL:
            assert recognized("circle") and recognized("shake")
        shell(fourth)
        port.until("^added: knock$")
        assert recognized("knock")
        if FULL:
            assert recognized("circle") and recognized("wave") and recognized("shake")
        port.close()
    finally:
        for board in virtual_boards.running():
            if board.state_dir.startswith(str(folder)):
                board.kill()


# An MPU-6050 with five samples in its FIFO at every read.
FIFO = """
import sys

class machine:
    def Pin(number):
        return number

    class I2C:
        def __init__(self, *args, **options):
            self.looks = 0
        def writeto_mem(self, address, register, data):
            pass
        def readfrom_mem_into(self, address, register, buffer):
            for i in range(len(buffer)):
                buffer[i] = 0x10 if i % 12 in (0, 9) else 0
            if register == 0x75:
                buffer[0] = 0x68
            elif register == 0x3A:
                buffer[0] = 0
            elif register == 0x72:
                self.looks += 1
                if self.looks > 100:
                    sys.exit()
                buffer[0], buffer[1] = 0, 60

sys.modules["machine"] = machine
exec(open("sensor_loop.py").read())
"""


def test_a_sensor_and_a_pipeline(after_demo: Path) -> None:
    """The guide's program with a simulated sensor: ten seconds of samples are nine windows."""
    [code] = blocks("docs/guides/from-sensor-to-decision.md", "python", "tested: sensor")
    (after_demo / "sensor_loop.py").write_text(code.replace("/rom/har.elm", "out/har/har.elm"))
    (after_demo / "fifo.py").write_text(FIFO)
    command = [UNIX_BINARY, "fifo.py"]
    done = subprocess.run(command, cwd=after_demo, capture_output=True, text=True, timeout=120, check=False)
    names = done.stdout.split()
    assert len(names) == 9 and names[:2] == ["None", "None"] and len(set(names[2:])) == 1, done.stderr


# ---- all blocks and lines


def commands(text: str) -> list[list[str]]:
    """The arguments of every `edgelora` command in a shell block or transcript."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [re.sub(r"^\$ ", "", line) for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in found if line.startswith("edgelora ")]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_page(page: Path) -> None:
    """Commands parse, Python compiles, named files exist, and lines are short, except for tables and links."""
    for block in all_blocks(page):
        if block.language in ("sh", ""):
            for arguments in commands(block.text):
                make_parser().parse_args(arguments)  # exits with a message if the command has no such option
        elif block.language == "python" and not block.text.startswith("--8<--"):
            ast.parse(block.text)
    text = page.read_text()
    named = re.findall(r"(?<![\w./])(?:examples|firmware|micropython_module|tests|tools)/[\w./]*\w", text)
    assert not [path for path in named if not (ROOT / path).exists()]
    for number, line in enumerate(text.splitlines(), 1):
        assert len(line) <= 100 or line.startswith("|") or "](" in line, f"{page.name}:{number} is too long"


PROSE = [*pages(), *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "DESIGN", "SPEC", "LEDGER"))]


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.stem)
def test_a_number_that_ends_a_sentence_begins_no_list(page: Path) -> None:
    """A line that begins with `6. ` renders as a list item, so it must follow item 5."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)
    for block in re.split(r"\n(?=#)", text):
        last = 0
        for number in map(int, re.findall(r"^ *(\d+)[.] ", block, re.M)):
            assert number in (1, last + 1), f"{page.name}: a line begins with {number}."
            last = number


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as on GitHub and the site."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower()) for text in headings}


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: no file {link}"
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), f"{page.name}: no heading {link}"


def test_make_docs_fails_where_a_link_is_broken(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="make docs installs it")
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text("site_name: x\nvalidation: {links: {anchors: warn}}\n")
    page, stamp = tmp_path / "docs" / "index.md", tmp_path / ".build" / "stamps" / "docs"
    stamp.parent.mkdir(parents=True)
    stubs = tmp_path / "dist" / "stubs" / "edgelora" / "__init__.pyi"
    made = ["-o", stamp, "-o", stubs]
    command = ["make", "-f", ROOT / "Makefile", "-C", tmp_path, f"VENV={ROOT / '.venv'}", *made, "mkdocs"]
    for text, works in (("# One\n\n[there](#one)\n", True), ("# One\n\n[nowhere](#two)\n", False)):
        page.write_text(text)
        done = subprocess.run(command, env=os.environ | {"MAKEFLAGS": ""}, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == works, done.stdout + done.stderr
        assert works or "#two" in done.stdout


@pytest.mark.parametrize("name", ["CHANGELOG", "CONTRIBUTING", "DESIGN", "SPEC"])
def test_lines_of_prose_are_short(name: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / f"{name}.md").read_text(), flags=re.M | re.S)
    long = [line for line in text.splitlines() if len(line) > 100 and not line.startswith(("|", "    "))]
    assert not long


def test_readme_begins_with_what_to_run() -> None:
    """Two targets of the Makefile."""
    asked = re.findall(r"^make (\S+)", blocks(README, "sh")[0], re.M)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert asked == ["demo", "test"] and set(asked) <= set(targets)


def test_readme_is_one_page() -> None:
    assert len(README.read_text().splitlines()) <= 135


def test_an_experiment_has_question_answer_figures_and_a_page_in_git() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", text, re.M)
    rows = [row for row in rows if row[0] not in ("question", "---")]
    assert len(rows) > 50 and len(rows) == len({row[0] for row in rows})
    found = set()
    for question, _, _, kept in rows:
        pages = re.fullmatch(r"[0-9a-f]{8} [a-z0-9-]+(?:, [0-9a-f]{8} [a-z0-9-]+)*", kept)
        assert question.endswith("?") and pages, question
        found |= {tuple(page.split()) for page in kept.split(", ")}
    shallow = subprocess.run(["git", "rev-parse", "--is-shallow-repository"], cwd=ROOT, capture_output=True, text=True)
    if (ROOT / ".git").exists() and shallow.stdout.strip() == "false":  # else the history is not here
        for commit, name in found:
            page = f"{commit}:docs/{'figures' if name == 'figures' else f'experiments/{name}'}.md"
            assert subprocess.run(["git", "cat-file", "-e", page], cwd=ROOT, check=False).returncode == 0, page
