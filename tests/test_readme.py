"""README's marked snippets run as printed, in order, in one folder, with this checkout's tools on the path."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from edgelora import sim
from edgelora.boards import ROOT

README = (ROOT / "README.md").read_text()


def snippets(language: str) -> list[str]:
    """The fenced blocks of a language that follow a `<!-- tested -->` line."""
    return re.findall(rf"<!-- tested -->\n```{language}\n(.*?)```", README, re.DOTALL)


def test_shell_snippets(tmp_path: Path) -> None:
    blocks = snippets("sh")
    assert blocks, "README has shell snippets that are marked as tested"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = tmp_path / "readme.sh"
    script.write_text("set -eux\n" + "\n".join(blocks))
    try:
        done = subprocess.run(
            ["bash", script],
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    finally:
        for board in sim.running():
            if board.state_dir.startswith(str(tmp_path)):
                board.stop()


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
