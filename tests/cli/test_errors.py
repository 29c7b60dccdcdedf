"""User errors: one line with what was given, what is allowed, and the remedy."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fresh import slow
from processes import edgelora, result

from edgelora.cli.main import main
from edgelora.cli.parser import make_parser
from edgelora.core.twin.session import Session
from edgelora.model.datasets import dataset


@pytest.fixture(scope="module")
def wrong(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `made` with additional invalid files."""
    folder = tmp_path_factory.mktemp("wrong") / "files"
    shutil.copytree(made, folder)
    (folder / "text.elm").write_text("this is not a model")
    (folder / "text.romfs").write_text("this is not an image")
    few = dataset.load_dataset(folder / "test.npz")
    dataset.save_dataset(dataset.Dataset(few.x[:, :, :50], few.y, few.labels), folder / "short.npz")
    dataset.save_dataset(dataset.Dataset(few.x.transpose(0, 1, 3, 2), few.y, few.labels), folder / "turned.npz")
    dataset.save_dataset(dataset.Dataset(few.x, few.y + 7), folder / "classes.npz")
    dataset.save_dataset(dataset.Dataset(few.x[:, 0, 0], few.y, few.labels), folder / "flat.npz")
    session = Session((folder / "har.elm").read_bytes(), bytes([3, 0, 5, 0, 2]))
    session.begin(0)
    (folder / "mine.ela").write_bytes(session.save())
    return folder


@pytest.mark.parametrize(
    "command, words",
    [
        ("plan absent.elm", ["absent.elm", "No such file"]),
        ("plan text.elm", ["text.elm", "not a model (.elm)"]),
        ("plan har.elm --board nope", ["unknown board 'nope'", "virtual-pico"]),
        ("plan har.elm --adapter 1K", ["--adapter", "give --data"]),
        ("plan har.elm --data train.npz --rank 4", ["--rank", "--data"]),
        (
            "plan har.elm --data train.npz --test test.npz --ram 4K --method gradient --json",
            ["no adapter fits 4096 bytes", "--ram 6"],
        ),
        ("plan har.elm --rank 0", ["rank 0", "give one from 1 to 32"]),
        ("plan har.elm --rank 33", ["rank 33", "give one from 1 to 32"]),
        ("plan har.elm --threshold 16385", ["threshold 16385", "0 to 16384"]),
        ("personalize har.elm --data train.npz -o run", ["train.npz: 12 samples are too few", "--test"]),
        ("plan har.elm --ram 2K", ["needs at least", "the limit is 2048", "--ram"]),
        ("bench kernels --board unix", ["unix has no clock", "--board virtual-pico"]),
        ("bench model --board unix", ["unix has no clock", "--board virtual-pico"]),
        ("bench model text.elm", ["text.elm", "not a model (.elm)"]),
        ("build --board nope -o x", ["unknown board 'nope'"]),
        ("sim nope", ["unknown board 'nope'"]),
        ("sim rpi_pico", ["real hardware"]),
        ("quantize text.elm --data har:3", ["text.elm", "not a readable .npz", "edgelora pretrain"]),
        ("report .", ["report.json", "a run writes it at its end"]),
        ("pull --port /dev/nonexistent", ["cannot open /dev/nonexistent", "plugged in"]),
        (
            "personalize har.elm --data train.npz --test test.npz --port /dev/nonexistent -o run",
            ["cannot open /dev/nonexistent"],
        ),
        ("personalize har.elm --data train.npz --epochs 10001 -o run", ["epochs 10001", "0 to 10000"]),
        ("personalize har.elm --data train.npz --clock 48 -o run", ["--clock", "--on-board"]),
        ("personalize har.elm --data train.npz --on-board --budget-ms 0 -o run", ["budget-ms 0: give 1 or more"]),
        ("personalize har.elm --data train.npz --learning-rate 70000 -o run", ["learning rate 70000", "1 to 65535"]),
        ("eval other.elm --data test.npz --twin --adapter mine.ela", ["mine.ela", "was made for base"]),
        ("eval har.elm --data test.npz --twin --adapter har.elm", ["har.elm", "not an adapter (.ela)"]),
        ("eval har.elm --data har:9 --twin", ["subject 9", "1 to 6"]),
        ("eval har.elm --data short.npz --twin", ["(1, 50, 6)", "(1, 100, 6)"]),
        ("eval har.elm --data turned.npz --twin", ["(1, 6, 100)", "(1, 100, 6)"]),
        ("eval har.elm --data flat.npz --twin", ["flat.npz", "[samples, height, width, channels]"]),
        ("eval har.elm --data classes.npz --twin", ["labels go up to", "7 classes"]),
        ("keygen release.pub", ["release.pub", "choose another name"]),
        ("release har.elm --name wake --key text.elm", ["text.elm", "not a private key"]),
        ("serve . --port 99999", ["can't listen on 0.0.0.0:99999", "choose another port or address"]),
        ("serve absent", ["absent is not a directory"]),
        ("flash absent.uf2 --port /dev/nonexistent", ["absent.uf2", "No such file"]),
        ("flash har.uf2 --drive .", ["not a boot loader's volume"]),
    ],
)
def test_errors_are_one_line(
    wrong: Path, command: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(wrong)
    assert main(command.split()) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith('{"error": {"type": ' if "--json" in command else "edgelora: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


@slow
def test_board_refuses_what_it_cannot_use(wrong: Path, unix: str) -> None:
    """Afterwards the board works as before."""
    commands = (
        (["eval", "other.elm", "--data", "test.npz", "--adapter", "mine.ela"], "was made for base"),
        (["pull", "/absent"], "/absent: no such file"),
        (["flash", "text.romfs"], "text.romfs is not a ROMFS image"),
        (["flash", "har.uf2"], "takes a .romfs image"),
        (["bench", "model", "har.elm"], "virtual-pico has an RP2040"),
    )
    for command, message in commands:
        done = edgelora(*command, "--port", unix, code=1, cwd=wrong)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    evaluate = ["eval", wrong / "har.elm", "--data", wrong / "test.npz", "--adapter", wrong / "mine.ela"]
    assert result(*evaluate, "--port", unix)["accuracy"] == result(*evaluate, "--twin")["accuracy"]


def every_command(parser: argparse.ArgumentParser, name: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield name
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from every_command(inner, (*name, word))


def test_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    names = list(every_command(make_parser()))
    assert {("pretrain",), ("personalize",), ("demo", "har"), ("bench", "learning")} <= set(names)
    for name in names:
        with pytest.raises(SystemExit) as ended:
            main([*name, "--help"])
        assert ended.value.code == 0
        assert " ".join(("usage: edgelora", *name)) in capsys.readouterr().out
