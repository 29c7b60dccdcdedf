"""Programs that a board runs on its own: their content, and what can't be injected into them."""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import edgelora, result
from fresh import fresh_seeds
from sensing import adapters, motion_base

from edgelora.base.errors import InputError
from edgelora.core.formats.elm import pack_model
from edgelora.learn.streaming import main_program as acting
from edgelora.learn.streaming.decisions import Vote
from edgelora.learn.streaming.main_program import KINDS, Act, Sense, Wish, acting_of, checked_act, parse_act
from edgelora.learn.training.data.base import Base, labels_of
from edgelora.learn.training.heads.known import Looker, Seen
from edgelora.model.datasets import har
from edgelora.model.datasets.dataset import save_dataset

HOSTILE = (
    "'",
    '"""',
    "\\",
    "\\'",
    "x'];import os#",
    "{__import__}",
    "a\u202eb",
    "\u00e9\U0001f600",
    "%s",
    "'+'",
    "\r",
    "\0",
)
EVERY = {
    "hold": ("15", "", "Hold(15)"),
    "high": ("LED", "", "Set('LED', 1)"),
    "low": ("0", "", "Set(0, 0)"),
    "toggle": ("led", "", "Toggle('LED')"),
    "pulse": ("7", "", "Pulse(7, ms=500)"),
    "print": ("", "it's", 'Say("it\'s")'),
    "key": ("Space", "", "Press('space')"),
    "get": ("http://10.0.0.2:8080/a?b=c", "", "Get('http://10.0.0.2:8080/a?b=c')"),
    "post": ("http://lamp.local", "on", "Post('http://lamp.local', 'on')"),
    "mqtt": ("broker:1884/home/lamp", "on", "Publish('broker', 'home/lamp', 'on', port=1884)"),
}


def named(labels: tuple[str, ...]) -> Base:
    base = motion_base()
    model = replace(base.model, labels=[*labels, *base.model.labels[len(labels) :]])
    return Base("own.elm", pack_model(model), model)


def parts(main: str) -> tuple[list[str], dict[str, list[str]]]:
    """Statements except docstrings, and calls by class."""
    tree = ast.parse(main)
    actions = next(s for s in tree.body if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) == "actions")
    assert isinstance(actions.value, ast.Dict)
    calls: dict[str, list[str]] = {}
    for key, value in zip(actions.value.keys, actions.value.values, strict=True):
        assert isinstance(key, ast.Constant) and isinstance(value, ast.List)
        for call in value.elts:
            assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
            literals = [*call.args, *(word.value for word in call.keywords)]
            assert all(isinstance(one, ast.Constant) for one in literals)
        calls[key.value] = [ast.unparse(call) for call in value.elts]
    return [ast.unparse(s) for s in tree.body[1:]], calls


def test_every_kind_of_action() -> None:
    assert EVERY.keys() == KINDS.keys()
    acts = tuple(Act("PEN", kind, target, text) for kind, (target, text, _) in EVERY.items())
    made = acting_of(motion_base(), "/rom/motion.elm", None, None, Wish(acts))
    lines, calls = parts(made.main)
    assert calls == {"PEN": [ast.unparse(ast.parse(call)) for *_, call in EVERY.values()]}
    used = "Get, Hold, Post, Press, Publish, Pulse, Say, Set, Toggle, run"
    assert f"from edgelora.actions import {used}" in lines and made.rule is None and "Known" not in made.main
    assert made.main.isascii() and lines[-1] == "run(pipeline, actions)"


@pytest.mark.parametrize(
    ("source", "pins", "line"),
    [
        ("lsm6ds3", (2, 3), "open_sensor('lsm6ds3', (2, 3), round(signal.rate), signal.scales, bus=1)"),
        ("adc", (26,), "open_sensor('adc', (26,), round(signal.rate), signal.scales, bus=1)"),
        ("waves", (), "__import__('waves').source()"),
    ],
)
def test_every_sensor(source: str, pins: tuple[int, ...], line: str) -> None:
    wish = Wish((Act("PEN", "hold", "1"),), Sense(source, pins, 1), vote=Vote(1, 1))
    lines, _ = parts(acting_of(motion_base(), "/motion.elm", None, None, wish).main)
    assert f"sensor = {line}" in lines and "pipeline = Pipeline(model, sensor, vote=(1, 1))" in lines


@pytest.mark.parametrize("seed", fresh_seeds(3))
def test_names_with_any_characters_stay_literals(seed: int) -> None:
    """A base's labels, a path and texts may contain anything: the program has the same statements."""
    rng = np.random.default_rng(seed)
    drawn = ["".join(rng.choice(HOSTILE, int(rng.integers(1, 5)))) for _ in range(4)]
    labels = tuple(f"{i}{text}" for i, text in enumerate(drawn[:2]))
    base = named(labels)
    path = f"/{drawn[2]}.elm"
    texts = ["".join(c for c in drawn[3] if c.isprintable()) or "x"]
    acts = tuple(Act(label, "print", "", text) for label in labels for text in texts)
    lines, calls = parts(acting_of(base, path, None, None, Wish(acts)).main)
    plain, _ = parts(acting_of(named(("a", "b")), "/x.elm", None, None, Wish((Act("a", "print", "", "x"),))).main)
    model = next(line for line in lines if line.startswith("model ="))
    assert [line.split()[0] for line in lines] == [line.split()[0] for line in plain]
    assert ast.literal_eval(model.partition("Model(")[2].rpartition(", ranks")[0]) == path
    assert {label: [ast.literal_eval(call[4:-1]) for call in said] for label, said in calls.items()} == {
        label: texts for label in labels
    }


@pytest.mark.parametrize(
    "act",
    [
        Act("a", "hold", "x"),
        Act("a", "hold", "55"),
        Act("a", "hold", "1)"),
        Act("a", "hold", "\u0661"),
        pytest.param(Act("a", "hold", "9" * 5000), id="a pin of 5000 digits"),
        pytest.param(Act("a", "pulse", "1", "9" * 5000), id="5000 digits of ms"),
        Act("a", "pulse", "1", "0"),
        Act("a", "pulse", "1", "60001"),
        Act("a", "print", "", ""),
        Act("a", "print", "", "two\nlines"),
        Act("a", "print", "", "x" * 201),
        Act("a", "key", "F13"),
        Act("a", "get", "https://10.0.0.2/"),
        Act("a", "get", "http://10.0.0.2/ HTTP/1.0\r\nX: y"),
        Act("a", "get", "http://a b/"),
        Act("a", "post", "http://10.0.0.2/\u00e9", "x"),
        Act("a", "mqtt", "broker/#", "x"),
        Act("a", "mqtt", "broker", "x"),
        Act("a", "exec", "1"),
    ],
    ids=str,
)
def test_impossible_actions_are_refused(act: Act) -> None:
    with pytest.raises(InputError):
        checked_act(act)
    with pytest.raises(InputError):
        acting_of(named(("a", "b")), "/x.elm", None, None, Wish((act,)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"acts": ()}, "0 actions"),
        ({"acts": (Act("c", "hold", "1"),)}, "unknown class 'c'"),
        ({"acts": (Act("nothing", "hold", "1"),)}, "unknown class 'nothing'"),  # without samples there is no rule
        ({"sense": Sense("main")}, "not a sensor"),
        ({"sense": Sense("import")}, "not a sensor"),
        ({"sense": Sense("a.b")}, "not a sensor"),
        ({"sense": Sense("mpu6050", (4,))}, "give SDA, SCL"),
        ({"vote": Vote(3, 2)}, "vote 3 of 2"),
        ({"adapter": "../x"}, "1 to 24"),
    ],
)
def test_impossible_wishes_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        acting_of(named(("a", "b")), "/x.elm", None, None, replace(Wish((Act("a", "hold", "1"),)), **changes))


def test_actions_are_parsed_from_text() -> None:
    assert parse_act("wave = pulse 15 200") == Act("wave", "pulse", "15", "200")
    assert parse_act("wave=print a  b = c") == Act("wave", "print", "", "a  b = c")
    for text in ("wave", "wave=", "wave=fly 3", "=hold"):
        with pytest.raises(InputError):
            parse_act(text)


class Files:
    """A board's flash with the methods of a link."""

    def __init__(self, **files: bytes) -> None:
        self.files = {f"/{name}.py": data for name, data in files.items()}

    def size(self, path: str) -> int | None:
        return len(self.files[path]) if path in self.files else None

    def get(self, path: str) -> bytes:
        return self.files[path]

    def put(self, path: str, data: bytes) -> None:
        self.files[path] = data


def test_a_users_own_main_py_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    base, wish = named(("a", "b")), Wish((Act("a", "hold", "1"),))
    monkeypatch.setattr(acting, "open_base", lambda *told: None)
    monkeypatch.setattr(acting, "base_path", lambda *told: base.paths[1])
    link: Any = Files(main=b"print('my own')")
    first, second = (acting.save_acting(link, base, None, wish) for _ in range(2))
    assert (first.kept, second.kept) == ("/main.old.py", None)
    assert link.files == {"/main.old.py": b"print('my own')", "/main.py": first.main.encode()}


def test_each_sample_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the board has the base in its ROMFS: the rule is made once, and its report is for that rule."""
    base, wish = motion_base(), Wish((Act("PEN", "hold", "1"),))
    data = har.load_har(3).train
    looked = []
    look = Looker.look

    def counted(self: Looker, x: np.ndarray) -> Seen:
        looked.append(x.copy())
        return look(self, x)

    monkeypatch.setattr(Looker, "look", counted)
    monkeypatch.setattr(acting, "open_base", lambda *told: None)
    monkeypatch.setattr(acting, "base_path", lambda *told: base.paths[0])
    link: Any = Files()
    made = acting.save_acting(link, base, data, wish)
    assert made.rule and made.shares and "Model('/rom/motion.elm'" in made.main
    own, still = looked
    assert len(own) == len(data) and (still == still[:, :1, :1]).reshape(len(still), -1, 6).all()


def test_samples_of_another_shape_are_told(tmp_path: Path) -> None:
    base = motion_base()
    (tmp_path / "motion.elm").write_bytes(base.elm)
    data = har.load_har(3).train
    save_dataset(replace(data, x=data.x[:, :, :50]), tmp_path / "mine.npz")
    out = tmp_path / "main.py"
    said = edgelora(
        "act", tmp_path / "motion.elm", "--do", "PEN=low 2", "--data", tmp_path / "mine.npz", "-o", out, code=1
    )
    assert "motion.elm: windows are (1, 50, 6)" in said and "use data that fits the base" in said
    assert not out.exists()


def test_a_program_on_this_computer(tmp_path: Path) -> None:
    """By the command: main.py with an adapter's ranks, and the rule from a user's samples next to it."""
    base = motion_base()
    (tmp_path / "motion.elm").write_bytes(base.elm)
    [ela] = adapters(base, 1)
    (tmp_path / "me.ela").write_bytes(ela)
    data = replace(har.load_har(3).train, signal=base.model.signal)
    save_dataset(data, tmp_path / "mine.npz")
    out = tmp_path / "on" / "main.py"
    out.parent.mkdir()
    model, do, wanted = tmp_path / "motion.elm", ("--do", "PEN=hold 15", "--do", "nothing=low 2"), ("-o", out)
    files = ("--data", tmp_path / "mine.npz", "--adapter", tmp_path / "me.ela")
    told = result("act", model, *do, *wanted, *files, "--name", "me")
    lines, calls = parts(out.read_text())
    assert calls == {"PEN": ["Hold(15)"], "nothing": ["Set(2, 0)"]} and told["bytes"] == len(out.read_text())
    assert "store.use('me')" in lines and "model = edgelora.Model('/motion.elm', ranks=4, mode='infer')" in lines
    rule = json.loads(out.with_suffix(".json").read_text())
    assert rule["base"] == base.base_id and rule["classes"] == list(range(len(labels_of(base, ela))))
    assert rule["adapter"] == hashlib.sha256(ela).hexdigest()[:16]
    assert told["shares"]["still"] == [0, len(data)]
    edgelora("act", model, "--do", "PEN=fly", *wanted, code=1)
    edgelora("act", model, "--do", "nothing=low 2", *wanted, code=1)
    edgelora("act", model, "--do", "PEN=low 2", *wanted, "--vote", "2", code=2)
    edgelora("act", model, "--do", "PEN=low 2", *wanted, "--pins", "\u00b2,3", code=1)
