"""README's marked snippets run as printed, in order, in one folder, with this checkout's tools on the path."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from edgelora import sim
from edgelora.boards import ROOT

README = (ROOT / "README.md").read_text()
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
FRAMEWORKS = ROOT / ".build" / "frameworks" / "bin" / "python"


def snippets(language: str, mark: str = "tested") -> list[str]:
    """The fenced blocks of a language that follow a `<!-- tested -->` line."""
    return re.findall(rf"<!-- {mark} -->\n```{language}\n(.*?)```", README, re.DOTALL)


def run(command: list[str | Path], folder: Path) -> None:
    """Runs a command in a folder, with this checkout's tools on the path; boards that it starts there are stopped."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"PATH": PATH},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    finally:
        for board in sim.running():
            if board.state_dir.startswith(str(folder)):
                board.stop()


def run_shell(blocks: list[str], folder: Path) -> None:
    assert blocks, "README has shell snippets that are marked as tested"
    (folder / "readme.sh").write_text("set -eux\n" + "\n".join(blocks))
    run(["bash", "readme.sh"], folder)


def test_shell_snippets(tmp_path: Path) -> None:
    run_shell(snippets("sh"), tmp_path)


def test_from_keras_to_a_report(tmp_path: Path) -> None:
    """Trains and converts a Keras model where TensorFlow is, then all the way to the emulated Pico's own training."""
    (code,) = snippets("python", "tested: train.py")
    (tmp_path / "train.py").write_text(code)
    run([FRAMEWORKS, "train.py"], tmp_path)
    run_shell(snippets("sh", "tested: after train.py"), tmp_path)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["host_twin_identical"] and "RP2040" in report["board"]
    assert report["base_accuracy"] < report["adapted_accuracy"] > 0.8
    assert report["arena_bytes"] <= 16 * 1024 and report["adapter_bytes"] <= 500
    assert (tmp_path / "run" / "report.html").exists()


def test_device_snippet(tmp_path: Path) -> None:
    """The Python of the README on desktop MicroPython, with a small model in place of har.elm."""
    from random_models import random_model

    from edgelora import formats

    model = random_model(4, kinds=("conv", "mean", "dense"), edges=False)
    (tmp_path / "har.elm").write_bytes(formats.pack_model(model))
    (code,) = snippets("python")
    setup = (
        f"window = bytearray({model.input.size})\nsamples = [(window, i % 2) for i in range(20)]\n"
        f"def new_window():\n    return window\n"
    )
    code = setup + code.replace("/rom/har.elm", "har.elm").replace("/me.ela", "me.ela")
    done = subprocess.run(
        [sim.UNIX_BINARY, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    assert (tmp_path / "me.ela").read_bytes()[:4] == b"ELA1"
