"""What Ctrl-C prints: boards are only mentioned if there is one, and no partial file is left."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import edgelora

from edgelora.cli.parser import make_parser
from edgelora.model.datasets import dataset
from edgelora.model.floatnet import files, layers


def parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, sub in action.choices.items():
                yield from parsers(sub, f"{name} {word}".strip())
    if parser.get_default("run"):
        yield name, parser


def test_only_commands_with_a_board_mention_one_when_stopped() -> None:
    found = dict(parsers(make_parser()))
    for name, parser in found.items():
        has_port = any("--port" in action.option_strings for action in parser._actions)
        assert has_port or "the board" not in (parser.get_default("stopped") or ""), name
    for name, what in (
        ("pretrain", "network"),
        ("quantize", "model"),
        ("import", "model"),
        ("import-adapter", "adapter"),
    ):
        assert found[name].get_default("stopped") == f"stopped; no {what} was written"
    assert "the board is usable" in found["personalize"].get_default("stopped")


@pytest.mark.parametrize(
    ("command", "function", "said"),
    [
        ("pretrain x.npz -o out.npz", "model.floatnet.pretraining.pretrain", "\nstopped; no network was written\n"),
        (
            "quantize net.npz --data x.npz -o out.elm",
            "model.quantization.quantize.quantize_on",
            "\nstopped; no model was written\n",
        ),
    ],
)
def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, function: str, said: str) -> None:
    def stop(*args: object, **named: object) -> None:
        raise KeyboardInterrupt

    x = np.random.default_rng(0).normal(size=(8, 1, 12, 2)).astype(np.float32)
    net = layers.build((1, 12, 2), [layers.conv(4, (1, 3)), layers.dense(3)], 5)
    monkeypatch.chdir(tmp_path)
    files.save_net(net, "net.npz")
    dataset.save_dataset(dataset.Dataset(x, np.arange(8) % 3), "x.npz")
    monkeypatch.setattr(f"edgelora.{function}", stop)
    assert said in edgelora(*command.split(), code=130)
    assert not list(tmp_path.glob("out*"))
