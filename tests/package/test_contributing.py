"""CONTRIBUTING.md's tables are correct: the files of a row exist, and eight examples change no others.

`changes/NAME.diff` is the example of a task. All are applied to one copy of the checkout, where each has its effect.
"""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

CHANGES = Path(__file__).with_name("changes")
TASKS = {
    "board": "another board",
    "flag": "a flag of one command",
    "operator": "a new operator",
    "report_section": "a report section",
    "rule": "the rule by which an adapter replaces another",
    "sensor": "a sensor",
    "tflite_operator": "a TFLite operator made of ops that exist",
    "view": "a view of the studio",
}
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


@dataclass(frozen=True)
class Row:
    """A task and its cells: the last names tests, all others name files."""

    task: str
    cells: tuple[str, ...]

    @property
    def files(self) -> list[str]:
        return re.findall(r"`([\w.-]+/[^` ]+|\w+[.](?:md|yml))`", " ".join(self.cells[1:-1]))

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`(\w+[.]py)`", self.cells[-1])

    def allows(self, name: str) -> bool:
        """Whether it names a file, or a file or folder beside a new one."""
        parents = [Path(name).parent, Path(name).parent.parent]
        return name in self.files or (
            not (ROOT / name).exists() and any(Path(one).parent == parents[(ROOT / one).is_dir()] for one in self.files)
        )


def rows() -> dict[str, Row]:
    text = TEXT.split("\n## Add\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ") and "`" in line]
    return {cells[0].strip(): Row(cells[0].strip(), tuple(cells)) for cells in lines}


ROWS = rows()


@pytest.mark.parametrize("one", ROWS.values(), ids=lambda one: one.task)
def test_row_names_existing_files(one: Row) -> None:
    """One to three files, except for tasks that concern C, the host and a document; and tests."""
    assert not [path for path in one.files if not (ROOT / path).exists()]
    assert one.tests and not [name for name in one.tests if not list((ROOT / "tests").rglob(name))]
    assert 1 <= len(one.files) <= (3 if len(one.cells) == 3 else 12)


def test_other_names_exist() -> None:
    named = re.findall(r"`([\w.-]+/[^` ]+|[A-Z]+\.md)`", TEXT)
    made = ("dist/", ".build/")  # by the commands that CONTRIBUTING names
    assert not [path for path in named if not (path.startswith(made) or (ROOT / path).exists())]


@pytest.mark.parametrize("name", TASKS)
def test_an_example_changes_the_files_of_its_row(name: str) -> None:
    row, text = ROWS[TASKS[name]], (CHANGES / f"{name}.diff").read_text()
    changed = re.findall(r"^diff --git a/\S+ b/(\S+)$", text, re.MULTILINE)
    assert changed and not [one for one in changed if not row.allows(one)]


# ---- their effects


@dataclass(frozen=True)
class Tree:
    """A copy of what is changed. Its files are hard links: an edit replaces one, and the checkout stays unchanged."""

    root: Path

    def run(self, *command: str | Path) -> str:
        """The output of a command that succeeds. Python gets -S, so that it imports the copy's package."""
        paths = [self.root / "host", ROOT / "tests" / "support", ROOT, *site.getsitepackages()]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def python(self, code: str) -> str:
        return self.run(sys.executable, "-S", "-c", code)

    def edgelora(self, *arguments: str) -> str:
        return self.run(sys.executable, "-S", "-m", "edgelora", *arguments)

    def build_twin(self) -> None:
        """Compiles its core to a library, without optimization, which is quick."""
        made, module = self.root / ".build" / "twin", self.root / "micropython_module"
        made.mkdir(parents=True)
        digest = self.python("from edgelora.base.resources import core_digest; print(core_digest())").strip()
        (made / "twin_sources.h").write_text(f'#define EDGELORA_SOURCES "{digest}"\n')
        sources = [*(module / "core").rglob("*.c"), *(module / "crypto").rglob("*.c"), self.root / "host/native/twin.c"]
        options = ["-std=c99", "-O0", "-fPIC", "-Wall", "-Wextra", "-Werror", "-shared"]
        includes = [f"-I{folder}" for folder in (module / "core", module / "crypto", made)]
        self.run(os.environ.get("CC", "cc"), *options, *includes, *sources, "-o", made / "libedgelora.so")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    root = tmp_path_factory.mktemp("changed")
    for name in ("host", "micropython_module", "boards", "docs", "tools"):
        shutil.copytree(ROOT / name, root / name, copy_function=_link)
    _link(ROOT / "SPEC.md", root / "SPEC.md")
    one = Tree(root)
    _link(ROOT / "pyproject.toml", root / "pyproject.toml")
    one.run("git", f"--git-dir={root}", "apply", "--whitespace=nowarn", *(CHANGES / f"{name}.diff" for name in TASKS))
    one.build_twin()
    return one


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another filesystem
        shutil.copy2(source, target)


def test_a_board(tree: Tree) -> None:
    assert "my_board" in tree.edgelora("boards")
    code = """
from pathlib import Path
from edgelora.board.profiles import load_board, verification_table
print(load_board("mine").description, verification_table() in Path("docs/boards.md").read_text())
"""
    assert tree.python(code) == "My board True\n"


def test_a_flag(tree: Tree) -> None:
    assert "--gently" in tree.edgelora("train-adapter", "--help")
    assert "--gently" not in tree.edgelora("personalize", "--help")


def test_a_tflite_operator(tree: Tree) -> None:
    code = """
import numpy as np
from tflite_writer import BUILTIN, Sketch
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin.session import Session
from edgelora.model.importers.tflite.convert import import_tflite
sketch = Sketch(1, 1, 1, 4, grid=(0.1, 0)).add(BUILTIN.SQUARE, None, (1, 1, 1, 4), grid=(0.1, -128))
model = import_tflite(sketch.file())
session = Session(pack_model(model), bytes(1), "infer", 1)
print(session.activations(np.array([-20, 0, 10, 30], np.int8), model)[-1].ravel().tolist())
"""
    assert tree.python(code) == "[-88, -128, -118, -38]\n"


def test_a_report_section(tree: Tree) -> None:
    code = f"""
import inspect, json, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests" / "report")!r})
from test_report import example
from edgelora.learn.report import builder
from edgelora.learn.report.record import read_report
from edgelora.learn.report.sections import render_html, write_report
folder = Path("report")
write_report(example(weather="wet"), folder)
print("Weather" in render_html(read_report(folder / "report.json")), 'weather="dry"' in inspect.getsource(builder))
print(json.loads((folder / "report.json").read_text())["weather"])
"""
    assert tree.python(code) == "True True\nwet\n"


def test_a_rule(tree: Tree) -> None:
    """On boards, the host and the page."""
    code = """
import sys
sys.path.insert(0, "tools")
import try_page
from edgelora.core.twin import device
print(device.module("learner")._exceeds_chance(3, 0), "(_pyfunc_op_mult(3, (" in try_page.rules())
"""
    assert tree.python(code) == "False True\n"


def test_a_view(tree: Tree) -> None:
    code = "from edgelora.studio.views import layout\nprint([view.name for view in layout.VIEWS][-2:])"
    assert tree.python(code) == "['Sea', 'Reports']\n"


def test_a_sensor(tree: Tree) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(tree.root / "micropython_module" / "python")!r})
from array import array
from edgelora.sources import open_sensor
a = array("h", [0])
print(open_sensor("moon", [9], 1).read_into(a), a)
"""
    assert tree.run(ROOT / ".build" / "unix" / "micropython", "-c", code) == "1 array('h', [27])\n"
    assert "moon, mpu6050" in tree.edgelora("record", "--help")
    assert "the moon" in tree.python("from edgelora.studio.views.signals import source_titles\nprint(source_titles())")


def test_an_operator_changes_five_files_beside_spec() -> None:
    changed = re.findall(r"^diff --git a/\S+ b/(\S+)$", (CHANGES / "operator.diff").read_text(), re.MULTILINE)
    assert len({*changed} - {"SPEC.md"}) <= 5


def test_an_operator(tree: Tree) -> None:
    """In the core, files, the simulation and the plan: a network that flips eight values, and a dense layer."""
    code = """
import numpy as np
from edgelora.board.profiles import load_board
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.network import Op, QuantModel, Tensor
from edgelora.core.twin.session import Session
from edgelora.learn.planning.plan import plan
from edgelora.learn.training.recipe import Recipe
from edgelora.model.quantization.simulate import simulate_op
head = Op("dense", 1, 2, weights=np.full((8, 1, 1, 8), 64, np.int8), bias=np.zeros(8, np.int32),
    multiplier=np.full(8, 1 << 30, np.int32), shift=np.full(8, -6, np.int8), t_shift=6, branch_shift=1)
tensors = [Tensor((1, 1, 8), 0.5, -3), Tensor((1, 1, 8), 0.5, -3), Tensor((1, 1, 8), 0.25, 4)]
model = QuantModel(tensors, [Op("flip", 0, 1), head], [*"abcdefgh"])
elm = pack_model(model)
ran = Session(elm, bytes(2), "infer", 1).activations(np.array([10, -20] * 4, np.int8), model)
print(unpack_model(elm).ops[0].kind, ran[1].ravel().tolist()[:2])
print(simulate_op(model, model.ops[0], np.array([10., -20.])).tolist())
print(plan(elm, load_board("rpi_pico"), Recipe()).arena_bytes > 0)
tensors[1] = Tensor((1, 2, 4), 0.5, -3)
try:
    pack_model(model)
except FormatError as error:
    print(error)
"""
    refusal = "model: op 0 (flip): (1, 1, 8) in, (1, 2, 4) out, do not fit"
    assert tree.python(code) == f"flip [-11, 19]\n[-11.0, 19.0]\nTrue\n{refusal}\n"
