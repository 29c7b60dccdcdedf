"""Each rule of the device has one implementation: no host module redefines what the device's Python does.

`edgelora.core.twin.device` runs that Python on this computer for the host.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.swap import layers_and_adapters
from edgelora.base import resources
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.front_ends import AUDIO_UNIT, AudioFrontEnd, SpectralFrontEnd, audio_signal
from edgelora.core.store_names import store_name
from edgelora.core.twin import device, native, native_fleet, native_frontend
from edgelora.core.twin.trainable import trainable
from edgelora.fleet import member
from edgelora.fleet.averaging import board_seed
from edgelora.learn.machines.machine_monitor import Phases
from edgelora.learn.streaming.main_program import Act, Wish, program
from edgelora.learn.streaming.sample_windows import Takes, Window
from edgelora.learn.training.board.board_run import Pace
from edgelora.learn.training.data.base import Base, labels_of
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge.early_stopping import prepared
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.wake.word import Rule as WakeRule
from edgelora.model.datasets.dataset import held_out
from edgelora.studio.file_import import unlike

DEVICE = resources.ROOT / "micropython_module" / "python" / "edgelora"
HOST = resources.ROOT / "host" / "edgelora"
CORE = resources.ROOT / "micropython_module" / "core"
BINDINGS = resources.ROOT / "micropython_module" / "binding"
BOTH_ENDS = {"core/formats", "board/link"}  # the other ends of files and the link, with their own readers and writers
NOT_THE_DEVICES = {  # names with equal values by chance, or of the core's own enums, by module
    ("core/twin/binding.py", "MODES"),  # the device's package is loaded by it
    ("core/twin/session.py", "flush"),  # both pass it on to the binding
    ("model/importers/tflite/write.py", "SAME"),
    ("fleet/roster.py", "SERVER"),  # an index in the core's messages
}
WORDED = {  # calculations with the device's numbers that are for texts only, or a rule of the host itself, by module
    ("learn/training/heads/asking.py", "asking.margin / ONE"),
    ("learn/training/heads/confidence.py", "self.least / ONE"),
    ("learn/training/heads/confidence.py", "self.least > ONE"),
    ("learn/training/judge/early_stopping.py", "len(self.samples) >= HELD_OUT * LEAST_JUDGED"),
    ("model/datasets/dataset.py", "HELD_OUT * LEAST_TESTED"),
    ("studio/training_options.py", "np.bincount(data.y, minlength=2).min() >= HELD_OUT ** 2"),
}
SMALL = 12  # nodes of a syntax tree: smaller functions are not compared


class _Normal(ast.NodeTransformer):
    """Removes names chosen by the author, annotations, docstrings and messages from a syntax tree."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def _name(self, name: str) -> str:
        return self._names.setdefault(name, f"v{len(self._names)}")

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self._name(node.id), ast.Load())

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(self._name(node.arg))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.attr = node.attr.lstrip("_")
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return self.visit(ast.Assign([node.target], node.value)) if node.value else None


def bodies(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(name, normalized body) of each function that is not small."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told = ast.get_docstring(node) is not None
            body = node.body[told:]
            if sum(1 for part in body for _ in ast.walk(part)) >= SMALL:
                normal = _Normal()
                parts = [normal.visit(part) for part in (*node.args.args, *body)]
                yield node.name, "\n".join(ast.dump(part) for part in parts if part)


def constants(tree: ast.Module) -> list[tuple[str, object]]:
    """Numbers, strings and tuples of these that a module defines, by name without leading underscores."""
    found: list[tuple[str, object]] = []
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            for name, value in pairs:
                try:
                    known = ast.literal_eval(value)
                except ValueError:
                    continue
                if isinstance(name, ast.Name) and isinstance(known, int | float | str | bytes | tuple):
                    found.append((name.id.lstrip("_"), known))
    return found


def written_again(path: str, source: str) -> list[str]:
    """What a host module redefines from the device: functions, constants of this name and value, names of files."""
    tree = ast.parse(source)
    literals = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    again = [hex(value) for value in literals if isinstance(value, int) and value in device_multipliers()]
    if path.rpartition("/")[0] in BOTH_ENDS:
        return again
    again += [value for value in literals if value in device_paths()]
    again += [name for name, value in constants(tree) if (name, value) in device_values()]
    again += [name for name, body in bodies(ast.parse(source)) if body in device_bodies()]
    return [name for name in again if (path, name) not in NOT_THE_DEVICES]


def taken(tree: ast.Module) -> Iterator[str]:
    """Names that a host module gives to the device's constants."""
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Attribute):
            continue
        if node.value.attr in device_constants() and re.match(r"_|device\.module", ast.unparse(node.value)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from map(ast.unparse, targets)


def calculated(path: str, source: str) -> list[str]:
    """Arithmetic and comparisons with the device's constants in a host module: they repeat a rule of the device."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp):
            parts = [node.left, node.right]
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            parts = [node.left, *node.comparators]
        if any(isinstance(part, ast.Name) and part.id in taken_names() for each in parts for part in ast.walk(each)):
            found.add(ast.unparse(node))
    longest = {one for one in found if not any(one != other and one in other for other in found)}
    return sorted(one for one in longest if (path, one) not in WORDED)


def _trees() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in sorted(DEVICE.glob("*.py"))]


MODULES = sorted(path.relative_to(HOST).as_posix() for path in HOST.rglob("*.py"))


# Found when a test asks: each of pytest's workers imports this module.


@functools.cache
def device_bodies() -> set[str]:
    return {body for tree in _trees() for _, body in bodies(tree)}


@functools.cache
def device_values() -> set[tuple[str, object]]:
    return {pair for tree in _trees() for pair in constants(tree) if pair[0] not in ("VERSION", "MAGIC", "NONE")}


@functools.cache
def device_constants() -> set[str]:
    """Their names, but for VERSION, which many formats have."""
    return {name for tree in _trees() for name, _ in constants(tree)} - {"VERSION"}


@functools.cache
def device_paths() -> set[object]:
    """Of files on a board."""
    values = [value for _, value in device_values()]
    parts = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return {part for part in parts if isinstance(part, str) and part.startswith("/")}


@functools.cache
def device_multipliers() -> set[int]:
    """Of `mix`."""
    return {int(found, 16) for found in re.findall(r"\b0x[0-9A-F]{8}(?=u\b)", (CORE / "fixed.h").read_text())}


@functools.cache
def taken_names() -> set[str]:
    return {name for path in MODULES for name in taken(ast.parse((HOST / path).read_text()))}


@pytest.mark.parametrize("path", MODULES)
def test_no_rule_of_the_device_is_written_again(path: str) -> None:
    source = (HOST / path).read_text()
    assert written_again(path, source) == [] and calculated(path, source) == []


COPIES = {  # as an author might write them for the host
    "shared_scale": """
        def of(vm: int, vx: int) -> int:
            '''As boards do.'''
            return max(-MOST, min(MOST, (vx + 16) * 256 + (vm - 0x8000 >> 7))) if vm else 0
        """,
    "better": """
        class Verdict:
            def better(self, right: int, loss: int, than_right: int, than_loss: int) -> bool:
                return right > than_right or right == than_right and loss < than_loss
        """,
    "LEAST_JUDGED": "LEAST_JUDGED: int = 6  # samples",
    "HORIZON": "REPLAYED, HORIZON = 3, 64",
    "/fleet.json": "POLICY_PATH = '/fleet.json'",
    "0x9e3779b9": "def stream(seed: int, k: int) -> int:\n    return seed + k * 0x9E3779B9",
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found(name: str) -> None:
    source = re.sub("^        ", "", COPIES[name], flags=re.MULTILINE).lstrip()
    changes = (("64", "63"), (" 6 ", " 7 "), ("<", "<="), ("+ 16", "+ 17"), (".json", ".toml"), ("79B9", "79B1"))
    changed = functools.reduce(lambda text, change: text.replace(*change), changes, source)
    if name == "better":
        source = source.replace("self, ", "")
        changed = changed.replace("self, ", "")
    assert written_again("learn/training/judge/metrics.py", source)
    assert changed != source and not {name, "of"} & set(written_again("learn/training/judge/metrics.py", changed))


def defaults(function: Callable[..., object]) -> dict[str, object]:
    """The default of each argument that has one."""
    found = inspect.signature(function).parameters.items()
    return {name: parameter.default for name, parameter in found if parameter.default is not parameter.empty}


def test_defaults_are_the_devices() -> None:
    model, monitor = defaults(device.module().Model), defaults(device.module("monitor").Monitor)
    recipe, run = Recipe(), defaults(device.module("training").Run)
    for name in ("mode", "micro_batch", "momentum", "threshold"):
        assert getattr(recipe, name) == model[name]
    assert recipe.rank == model["ranks"]
    assert (recipe.epochs, recipe.seed, Pace().commit_every) == (run["epochs"], run["seed"], run["commit_every"])
    assert {name: getattr(Phases(), name) for name in ("least", "votes", "one_in")}.items() <= monitor.items()


class Broken(Exception):
    """Raised by a function of the device that a test has broken."""


def broken(*_: Any, **__: Any) -> None:
    raise Broken


A_MODEL = layers_and_adapters((8, 4), 0)[0]


def a_base() -> Base:
    model = unpack_model(A_MODEL)
    model.signal = FELT
    return Base("a.elm", A_MODEL, model)


HEARD, FELT = audio_signal(3, 1, Normal(AUDIO_UNIT)), Signal(50, 1, 8, 4, (Normal(0.1),))
SOUND = np.zeros((512, 1), np.int16)  # as long as the longer of their steps
RUN_BY_THE_HOST: dict[str, Callable[[], object]] = {  # actions of the host that call these functions of the device
    "frontend.Audio.step": lambda: AudioFrontEnd().feed(SOUND),
    "frontend.Spectral.step": lambda: SpectralFrontEnd().feed(SOUND),
    "pipeline._front_of": lambda: Takes(Window(HEARD, (3, 40, 1))),
    "pipeline.Pipeline.step": lambda: Takes(Window(FELT, (1, 8, 1))).hear(SOUND, 0),
    ".Model._everywhere": lambda: trainable(A_MODEL, 2),
    "training.apart": lambda: held_out(np.arange(8) % 2),
    "wake.cutoff_of": lambda: WakeRule(0.5, 5).wakes(np.zeros(9, np.uint8)),
    "training.labels_of": lambda: Samples(SOUND[:8].astype(np.int8), np.arange(8) % 2).of_epoch,
    "training.can_judge": lambda: prepared(A_MODEL, Samples(SOUND[:8].astype(np.int8), np.arange(8) % 2), Recipe()),
    "pipeline.far": lambda: unlike(FELT, FELT),
    "pipeline.check_vote": lambda: program(a_base(), "", b"\1", ["a"], Wish((Act("a", "print", "", "a"),)), False),
    "monitor.check_alarm": Phases,
    "monitor.check_windows": Phases,
    "fleet.board_seed": lambda: board_seed(1, 2),
    "._classes": lambda: labels_of(a_base(), None),
    "_index.checked": lambda: store_name("wave"),
}


@pytest.mark.parametrize("name", RUN_BY_THE_HOST)
def test_the_host_runs_the_devices_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    RUN_BY_THE_HOST[name]()
    module, *way, function = name.split(".")
    owner = functools.reduce(getattr, way, device.module(module))
    monkeypatch.setattr(owner, function, broken)
    with pytest.raises(Broken):
        RUN_BY_THE_HOST[name]()


OF_OTHERS = {  # programs whose errors have one class
    "board/flash/esp.py": ["'Could not open' in str(error)"],  # esptool
    "board/probe.py": ["'Permission' in text"],  # pyserial on Windows
}


def texts_of_errors(function: ast.AST) -> set[str]:
    """Names of what a function caught or got as `error`, and of their messages."""
    found = {"error", *(node.name for node in ast.walk(function) if isinstance(node, ast.ExceptHandler) and node.name)}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and re.match(rf"str\(.*\b({'|'.join(found)})\b", ast.unparse(node.value)):
            found |= set(map(ast.unparse, node.targets))
    return found


def recognized_by_text(source: str) -> list[str]:
    """Where a module looks for words in the message of an error."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef | ast.ExceptHandler):
            names = "|".join(texts_of_errors(function))
            compared = [ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Compare)]
            found += [text for text in compared if re.match(rf"'.*' (not )?in .*\b({names})\b", text)]
    return sorted(set(found))


@pytest.mark.parametrize("path", MODULES)
def test_errors_are_recognized_by_class_or_status(path: str) -> None:
    """Messages of the core and of boards are for people only."""
    assert recognized_by_text((HOST / path).read_text()) == OF_OTHERS.get(path, [])


def test_recognition_by_text_is_found() -> None:
    source = "try:\n    f()\nexcept ValueError as error:\n    if 'pending' {} str(error): raise\n"
    assert recognized_by_text(source.format("in")) and recognized_by_text(source.format("not in"))
    assert not recognized_by_text(source.format("=="))
    source = "def f(error):\n    text = str(error.__cause__ or error)\n    return 'taken nothing' in text\n"
    assert recognized_by_text(source) == ["'taken nothing' in text"]


def test_a_calculation_with_the_devices_constants_is_found() -> None:
    path, source = (
        "model/datasets/dataset.py",
        "count = max(1, len(mine) // HELD_OUT)\nfew = LEAST_JUDGED > held.sum()\n",
    )
    assert calculated(path, source) == ["LEAST_JUDGED > held.sum()", "len(mine) // HELD_OUT"]
    assert calculated(path, "said = f'1 in {HELD_OUT}'\nok = count // OTHERS\n") == []


def test_a_member_of_this_computer_is_the_devices() -> None:
    """Only its files differ: rounds, budgets and replies are those of the device's Python."""
    fleet = device.module("fleet")
    for mine, its, own in (
        (member.TwinMember, fleet.Member, {"begin", "answer", "_roster", "_open", "_train"}),
        (member._Counted, fleet.Identity, {"_save"}),
    ):
        assert issubclass(mine, its)
        assert {name for name in vars(mine) if name in vars(its) and not name.startswith("__")} == own


def test_all_modules_of_boards_are_known() -> None:
    """Built-in functions of a board have their names here, and all of its Python is what is loaded."""
    for module, source in ((native, "edgelora"), (native_frontend, "frontend"), (native_fleet, "fleet")):
        listed = re.findall(r"X\(MP_QSTR_(\w+),", (BINDINGS / f"{source}_binding.c").read_text())
        assert listed and set(listed) <= set(vars(module)), set(listed) - set(vars(module))
    for path in DEVICE.glob("*.py"):
        assert Path(device.module("" if path.stem == "__init__" else "training").__file__).parent == DEVICE


def test_a_boards_builtins_are_for_its_python_alone() -> None:
    """Only the device's modules see what MicroPython has and this computer's Python lacks."""
    import time

    training = device.module("training")
    assert training.machine is None and training.time.ticks_diff(training.time.ticks_add(5, -10), 5) == -10
    assert not hasattr(time, "ticks_us") and training.time is not time
