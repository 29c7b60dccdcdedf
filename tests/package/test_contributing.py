"""CONTRIBUTING.md's tables are correct: an example of each task changes only the files of its row, and has an effect.

`changes/NAME.diff` is the example; the function NAME checks its effect in a copy of the checkout.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from changed_tree import Row, Tree, build_twin, rows
from fresh import FULL, some

from edgelora.base.resources import ROOT

ROWS = rows()
CHANGES = Path(__file__).with_name("changes")
Effect = Callable[[Tree], None]
EFFECTS: dict[str, Effect] = {}
COMPILED: list[str] = []  # tasks whose effect is seen in a core that is compiled for it: usual runs draw two


def row(task: str, compiles: bool = False) -> Callable[[Effect], Effect]:
    """Registers the function that checks the effect of a row's example."""

    def marked(effect: Effect) -> Effect:
        EFFECTS[task] = effect
        if compiles:
            COMPILED.append(task)
        return effect

    return marked


def test_every_row_has_an_example() -> None:
    assert set(EFFECTS) == set(ROWS)
    assert {path.stem for path in CHANGES.iterdir()} == {effect.__name__ for effect in EFFECTS.values()}


@pytest.mark.parametrize("task", ROWS)
def test_row(task: str, tmp_path: Path) -> None:
    tree = Tree.copy(tmp_path / "tree", ROWS[task])
    tree.apply(CHANGES / f"{EFFECTS[task].__name__}.diff")
    if task not in COMPILED or task in some(COMPILED):
        EFFECTS[task](tree)


@pytest.mark.parametrize("one", ROWS.values(), ids=lambda one: one.task)
def test_row_names_existing_files(one: Row) -> None:
    """One to three files, except for tasks that concern C, the host and a document; and tests."""
    assert not [path for path in one.files if not (ROOT / path).exists()]
    assert one.tests and not [name for name in one.tests if not list((ROOT / "tests").rglob(name))]
    assert 1 <= len(one.files) <= (3 if len(one.cells) == 3 else 12)


def test_other_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`([\w.-]+/[^` ]+|[A-Z]+\.md)`", text)
    made = ("dist/", ".build/")  # by the commands that CONTRIBUTING names
    assert not [path for path in named if not (path.startswith(made) or (ROOT / path).exists())]
    assert max(len(line) for line in text.splitlines() if line[:1] != "|") <= 100


# ---- boards


@row("another board")
def board(tree: Tree) -> None:
    assert "my_board" in tree.edgelora("boards")
    said = tree.python(
        "from edgelora.board.profiles import load_board, verification_table\n"
        "from pathlib import Path\n"
        "print(load_board('mine').description, verification_table() in Path('docs/boards.md').read_text())"
    )
    assert said == "My board True\n"
    if FULL:
        tree.pytest("tests/boards/test_boards.py")


# ---- commands


@row("a setting of personalization, with its flag")
def setting(tree: Tree) -> None:
    assert "--patience PATIENCE" in tree.edgelora("personalize", "--help")
    said = tree.python(
        "from edgelora.cli.parser import make_parser\n"
        "from edgelora.cli.recipe_arguments import recipe_of\n"
        "args = make_parser().parse_args('personalize base.elm --data har:3 --patience 7'.split())\n"
        "print(recipe_of(args))\n"
        "args.patience = 10\n"
        "try: recipe_of(args)\n"
        "except ValueError as error: print(error)\n"
    )
    assert "patience=7" in said and "patience 10: give one from 0 to 9" in said


@row("a flag of one command")
def flag(tree: Tree) -> None:
    assert "--gently" in tree.edgelora("train-adapter", "--help")
    assert "--gently" not in tree.edgelora("personalize", "--help")


@row("a command")
def command(tree: Tree) -> None:
    assert tree.edgelora("greet") == "hello\n"
    assert tree.edgelora("greet", "--json") == '{\n "said": "hello"\n}\n'
    assert "Greets whoever asks" in tree.edgelora("--help")
    if FULL:
        tree.pytest("tests/cli/test_commands.py", "-k", "index or docs")


# ---- formats

FILE = """
import numpy as np
from edgelora.core.formats import elm as elms
from edgelora.core.formats.ela import Adapter, AdapterLayer, pack_adapter, unpack_adapter
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.network import Op, QuantModel, Tensor
from edgelora.core.twin.binding import check_model
from edgelora.core.twin.session import Session

def said(call, *arguments):
    try: return call(*arguments)
    except Exception as error: return str(error)

dense = Op("dense", 0, 1, weights=np.full((2, 1, 1, 2), 64, np.int8), bias=np.zeros(2, np.int32),
    multiplier=np.full(2, 1 << 30, np.int32), shift=np.full(2, -6, np.int8), t_shift=6, branch_shift=1)
model = QuantModel([Tensor((1, 1, 2), 0.5, -3), Tensor((1, 1, 2), 0.25, 4)], [dense], ["no", "yes"])
elm = pack_model(model)
layer = AdapterLayer(0, np.ones((1, 2), np.int8), np.ones((2, 1), np.int8), 6, 1)
def adapter():
    return bytearray(pack_adapter(Adapter(base_id(elm), 1, [layer], a_stored=True)))
def core(file):
    return said(Session(elm, bytes([1]), "infer", 1).use, bytes(file)) or "taken"
"""


@row("a field in `.ela`", compiles=True)
def field_of_adapter(tree: Tree) -> None:
    build_twin(tree)
    code = (
        FILE
        + """
for layer.mood in (7, 100):
    print(core(adapter()))
    print(said(lambda: unpack_adapter(bytes(adapter()), model).layers[0].mood))
"""
    )
    said = tree.python(code).splitlines()
    assert said[:2] == ["taken", "7"], said
    assert "inconsistent" in said[2] and said[3] == "adapter: mood 100, must be 0..99"


@row("another value of a limit", compiles=True)
def limit(tree: Tree) -> None:
    tree.make("tables")
    assert "#define EDGELORA_MAX_MOMENTUM 5\n" in tree.read("micropython_module/core/edgelora_limits.h")
    assert "| `MAX_MOMENTUM` | 5 |" in tree.read("SPEC.md")
    build_twin(tree)
    code = (
        FILE
        + """
import struct, zlib
for momentum in (5, 6):
    file = adapter()
    struct.pack_into("<H", file, 40, momentum)
    struct.pack_into("<I", file, 12, zlib.crc32(file[16:]))
    print(core(file))
    print(said(lambda: unpack_adapter(bytes(file), model).momentum))
"""
    )
    said = tree.python(code).splitlines()
    assert said[:2] == ["taken", "5"], said
    assert "inconsistent" in said[2] and "the limit is 5" in said[3]


@row("another limit of the formats", compiles=True)
def new_limit(tree: Tree) -> None:
    tree.make("tables")
    build_twin(tree)
    code = (
        FILE
        + """
for stride in (4, 5):
    model.tensors[:] = [Tensor((1, 20, 2), 0.5, -3), Tensor((1, 20 // stride, 2), 0.5, -3), Tensor((1, 1, 2), 0.25, 4)]
    pool = Op("max_pool", 0, 1, kernel=(1, stride), stride=(1, stride))
    head = Op(**vars(dense) | {"input": 1, "output": 2, "weights": np.full((2, 1, 1, 40 // stride), 64, np.int8)})
    model.ops[:] = [pool, head]
    print(len(said(pack_model, model)) > 200 or said(pack_model, model))
    elms.MAX_STRIDE = 99
    print(said(check_model, pack_model(model)))
    elms.MAX_STRIDE = 4
"""
    )
    said = tree.python(code).splitlines()
    assert said[:2] == ["True", "None"], said
    assert said[2].endswith("a stride of 5") and "inconsistent" in said[3]


# ---- networks


@row("a TFLite operator made of ops that exist")
def tflite_operator(tree: Tree) -> None:
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


@row("an importer")
def importer(tree: Tree) -> None:
    code = """
import numpy as np
np.savetxt("w.csv", [[1, 2, 3], [3, 2, 1]], delimiter=",")
np.savez("x.npz", x=np.random.default_rng(1).normal(size=(40, 1, 1, 3)).astype(np.float32), y=np.zeros(40, np.int64))
import edgelora
print(edgelora.from_csv.__name__, "from_csv" in dir(edgelora))
"""
    assert tree.python(code) == "from_csv True\n"
    assert '"parameters": 8' in tree.edgelora("import", "w.csv", "--data", "x.npz", "-o", "w.elm", "--json")


@row("a dataset with a name")
def dataset(tree: Tree) -> None:
    tree.edgelora("pretrain", "dice:1", "--epochs", "2", "-o", "dice.npz")
    assert '"samples": 60' in tree.edgelora("quantize", "dice.npz", "--data", "dice:1", "-o", "dice.elm", "--json")
    assert "dice:SEED" in tree.edgelora("personalize", "--help")


@row("a float layer")
def float_layer(tree: Tree) -> None:
    code = """
import numpy as np
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin.session import Session
from edgelora.model.floatnet.layers import FloatNet, Layer
from edgelora.model.quantization.quantize import quantize
x = np.random.default_rng(1).uniform(-1, 1, (100, 1, 1, 3)).astype(np.float32)
dense = Layer("dense", weights=np.eye(3, dtype=np.float32)[:, None, None], bias=np.zeros(3, np.float32))
model = quantize(FloatNet((1, 1, 3), [Layer("negate"), dense]), x)
session = Session(pack_model(model), bytes(2), "infer", 1)
found = [session.activations(model.input.quantize(row), model)[-1].ravel() for row in x]
print(float(np.abs(model.output.dequantize(np.array(found)) + x[:, 0, 0]).max()) < 0.05)
"""
    assert tree.python(code) == "True\n"


@row("a name of `import edgelora`")
def public_name(tree: Tree) -> None:
    assert tree.python("import edgelora; print(edgelora.answer(), 'answer' in dir(edgelora))") == "42 True\n"


# ---- pages


@row("a report section")
def report_section(tree: Tree) -> None:
    code = """
import inspect, json, tempfile
from pathlib import Path
import sys; sys.path.insert(0, "tests/report")
from test_report import example
from edgelora.learn.report import builder
from edgelora.learn.report.record import read_report
from edgelora.learn.report.sections import render_html, write_report
folder = Path(tempfile.mkdtemp())
write_report(example(weather="wet"), folder)
print("Weather" in render_html(read_report(folder / "report.json")), 'weather="dry"' in inspect.getsource(builder))
print(json.loads((folder / "report.json").read_text())["weather"])
"""
    assert tree.python(code) == "True True\nwet\n"


@row("a view of the studio")
def view(tree: Tree) -> None:
    code = """
from edgelora.studio.views import layout
print([view.name for view in layout.VIEWS][-2:])
"""
    assert tree.python(code) == "['Sea', 'Reports']\n"


@row("a guide")
def guide(tree: Tree) -> None:
    if (program := Path(sys.executable).with_name("mkdocs")).exists():  # installed by `make docs`
        tree.run([str(program), "build", "-q", "-d", str(tree.root / "site")], {})
        assert "They come and go." in (tree.root / "site" / "guides" / "tides.html").read_text()
    else:
        assert "- guides/tides.md" in tree.read("mkdocs.yml").split("nav:")[1]


# ---- boards


@row("a benchmark")
def benchmark(tree: Tree) -> None:
    assert '"minutes": 60' in tree.edgelora("bench", "naps", "--json")


@row("a way to flash")
def way_to_flash(tree: Tree) -> None:
    code = """
from pathlib import Path
from edgelora.board.flash.write import flash
Path("a.tape").write_bytes(b"to the board")
print(flash("port", Path("a.tape")), Path("port").read_bytes())
"""
    assert tree.python(code) == "port b'to the board'\n"


@row("a request to the board")
def request(tree: Tree) -> None:
    assert on_board(tree, "_handlers", "print(board.link.echo('drawer'))") == "DRAWER\n"


@row("a sensor")
def sensor(tree: Tree) -> None:
    code = """
from array import array
from edgelora.sources import open_sensor
a = array("h", [0])
print(open_sensor("moon", [9], 1).read_into(a), a)
"""
    assert on_micropython(tree, "sources", code) == "1 array('h', [27])\n"
    assert "moon, mpu6050" in tree.edgelora("record", "--help")
    assert "the moon" in tree.python("from edgelora.studio.views.signals import source_titles\nprint(source_titles())")
    if FULL:
        tree.pytest("tests/package/test_stubs.py")


@row("something that a class can do")
def action(tree: Tree) -> None:
    code = """
from edgelora.learn.training.actions import KINDS, parse_act
act = parse_act("wave=sing la")
print(KINDS[act.kind].call(act))
"""
    call = tree.python(code)
    assert call == "Sing('la')\n"
    assert on_micropython(tree, "actions", f"from edgelora.actions import Sing\n{call.strip()}.on()") == "lalala\n"


BOARD = """#!/bin/sh
# Desktop MicroPython whose package is the copy's: what is imported first stays
for last; do :; done
exec "{program}" -X heapsize=4m -c "import sys
sys.path.insert(0, '{python}')
import {modules}
$last"
"""


def wrapper(tree: Tree, module: str) -> Path:
    path = tree.root / "board.sh"
    program = ROOT / ".build" / "unix" / "micropython"
    modules = "edgelora.agent, edgelora." + module
    path.write_text(BOARD.format(program=program, python=tree.root / "micropython_module/python", modules=modules))
    path.chmod(0o755)
    return path


def on_micropython(tree: Tree, module: str, code: str) -> str:
    """The output of a program on desktop MicroPython, with the copy's module."""
    return tree.run([str(wrapper(tree, module)), code], {})


def on_board(tree: Tree, module: str, code: str) -> str:
    """The output of the copy's host with `board`, a desktop board that runs the copy's Python."""
    start = f"import edgelora\nwith edgelora.Board(virtual='unix') as board:\n    {code}\n"
    return tree.python(start, EDGELORA_MICROPYTHON=str(wrapper(tree, module)))


# ---- C

LOOKUP = (
    FILE
    + """
eight = (1, 1, 8)
double = Op("lookup", 0, 1, table=np.arange(-128, 128).astype(np.int8), slope=np.ones(256, np.int8),
    shift=np.zeros(1, np.int8))
head = Op("dense", 1, 2, weights=np.full((8, 1, 1, 8), 64, np.int8), bias=np.zeros(8, np.int32),
    multiplier=np.full(8, 1 << 30, np.int32), shift=np.full(8, -6, np.int8), t_shift=6, branch_shift=1)
tensors = [Tensor(eight, 0.5, -3), Tensor(eight, 0.5, -3), Tensor(eight, 0.25, 4)]
model = QuantModel(tensors, [double, head], [*"abcdefgh"])
def outputs(plain):
    session = Session(pack_model(model), bytes(2), "infer", 1, plain=plain)
    return [tensor.ravel().tolist() for tensor in session.activations(np.array([10, -20] * 4, np.int8), model)]
"""
)


@row("a packed kernel for an operation", compiles=True)
def packed_kernel(tree: Tree) -> None:
    """The example is off by one, which shows which kernel ran."""
    build_twin(tree)
    said = tree.python(LOOKUP + "print([outputs(plain)[1][:2] for plain in (True, False)])")
    assert said == "[[10, -20], [11, -19]]\n"


@row("a faster kernel for another core", compiles=True)
def core_kernel(tree: Tree) -> None:
    build_twin(tree, "-DEDGELORA_NO_SIMD", "-DMY_CORE")
    one, other = tree.python(LOOKUP + "for plain in (True, False): print(outputs(plain)[2])").splitlines()
    assert one != other


@row("kernels for another processor with vectors", compiles=True)
def vector_kernels(tree: Tree) -> None:
    build_twin(tree)
    said = tree.python(LOOKUP + "for plain in (True, False): print(outputs(plain)[2])").splitlines()
    if "avx2" in Path("/proc/cpuinfo").read_text():
        assert said[0] != said[1]


@row("a new operator", compiles=True)
def operator(tree: Tree) -> None:
    build_twin(tree)
    code = (
        LOOKUP
        + """
from edgelora.core.formats.elm import unpack_model
from edgelora.learn.planning.plan import plan
from edgelora.board.profiles import load_board
from edgelora.learn.training.recipe import Recipe
from edgelora.model.quantization.simulate import simulate_op
model.ops[0] = Op("flip", 0, 1)
print(unpack_model(pack_model(model)).ops[0].kind, outputs(False)[1][:2])
print(simulate_op(model, model.ops[0], np.array([10., -20.])).tolist())
print(plan(pack_model(model), load_board("rpi_pico"), Recipe()).arena_bytes > 0)
"""
    )
    assert tree.python(code) == "flip [-11, 19]\n[-11.0, 19.0]\nTrue\n"


@row("another loss", compiles=True)
def loss(tree: Tree) -> None:
    build_twin(tree)
    code = (
        FILE
        + """
model.loss = "absolute_error"
session = Session(pack_model(model), bytes([2]), "frozen_a", 1)
session.begin(1)
x, wanted = np.array([90, -60], np.int8), np.array([20, -20], np.int8)
before = np.array(session.activations(x, model)[-1].ravel(), int)
losses = [session.train(x, wanted, 60000) for _ in range(60)]
print(losses[-1] < losses[0] / 2, losses[0] == 16 * int(np.abs(before - wanted).sum()) // 2)
"""
    )
    assert tree.python(code) == "True True\n"


@row("another front end", compiles=True)
def front_end(tree: Tree) -> None:
    build_twin(tree)
    code = """
import numpy as np
from edgelora.core.front_ends import PeakFrontEnd
print(PeakFrontEnd().feed(np.arange(16, dtype=np.int16)).tolist())
"""
    peak = """
from array import array
out = array("h", [0])
Peak().step(array("h", [1, 5, 2, 3, 4, -9, 0, 1]), out)
print(out[0])
"""
    assert tree.python(code) == "[[7], [15]]\n"
    assert tree.python(f"from edgelora.core.twin import device\nPeak = device.module('frontend').Peak\n{peak}") == "5\n"
    if FULL:
        assert firmware_says(tree, f"from edgelora.frontend import Peak\n{peak}") == "5\n"


@row("a function of the device module")
def device_function(tree: Tree) -> None:
    assert tree.python("from edgelora.core.twin import device\nprint(device.module().answer())") == "42\n"
    if FULL:
        assert firmware_says(tree, "import edgelora; print(edgelora.answer())") == "42\n"


def firmware_says(tree: Tree, code: str) -> str:
    """The output of a program on the copy's own desktop MicroPython, which is built for it."""
    tree.make("firmware-unix")
    return tree.run([str(tree.root / ".build" / "unix" / "micropython"), "-c", code], {})
