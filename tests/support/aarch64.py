"""The wheel for aarch64 in Debian's Python for it, under QEMU: `make python-aarch64` puts that into .build."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from edgelora import __version__
from edgelora.base.resources import ROOT

PYTHON = ROOT / ".build" / "python-aarch64" / "python"
LOCK = ROOT / "requirements.lock"
PIP = ("pip", "--disable-pip-version-check", "--quiet")
SAMPLES = """
import numpy as np
random, y = np.random.default_rng(1), np.arange(60) % 3
x = np.sin((2 + 3 * y[:, None]) * np.arange(32) / 5)[:, None, :, None] + random.normal(0, 0.3, (60, 1, 32, 2))
np.savez("mine.npz", x=x.astype(np.float32), y=y, labels=["low", "middle", "high"])
"""


def run(*command: object, folder: Path, **settings: str) -> str:
    """The output of a command, in a folder, with few settings of this environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR") if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    line = [str(part) for part in command]
    done = subprocess.run(
        line, cwd=folder, env=kept | settings, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def adapters(wheels: Path, programs: Path, folder: Path) -> tuple[bytes, bytes]:
    """The adapters that a command trains here, and that the wheel for aarch64 trains with wheels of its dependencies.

    wheels: has the wheel; programs: of an environment with this version of EdgeLoRA; folder: gets all files.
    """
    assert PYTHON.exists(), "no Python for aarch64: `make python-aarch64`"
    pip, packages, built = (programs / "python", "-m", *PIP), folder / "aarch64", folder / "wheels"
    pure = [line for line in LOCK.read_text().split() if line.startswith(("esptool==", "esp-pylib=="))]
    run(*pip, "wheel", "--no-deps", "-w", built, *pure, folder=folder)  # indexes have no wheels of these
    systems = [f"--platform=manylinux_{name}_aarch64" for name in ("2_17", "2_28", "2_34")]
    systems += ["--platform=manylinux2014_aarch64", "--python-version=3.13", "--only-binary=:all:"]
    links = ("--find-links", built, "--find-links", wheels)
    into = ("--target", packages, "--no-compile")  # by this Python, which is another version
    run(*pip, "install", *into, *systems, *links, f"edgelora=={__version__}", folder=folder)
    here, there, found = programs / "edgelora", (PYTHON, packages / "bin" / "edgelora"), {"PYTHONPATH": str(packages)}
    assert run(*there, "--version", folder=folder, **found).split()[-1] == __version__
    run(programs / "python", "-c", SAMPLES, folder=folder)
    run(here, "pretrain", "mine.npz", "--epochs", 2, "-o", "base.npz", folder=folder)
    run(here, "quantize", "base.npz", "--data", "mine.npz", "-o", "base.elm", folder=folder)
    train = ("train-adapter", "base.elm", "--data", "mine.npz", "--epochs", 2, "-o")
    run(here, *train, "here.ela", folder=folder)
    run(*there, *train, "there.ela", folder=folder, **found)
    return (folder / "here.ela").read_bytes(), (folder / "there.ela").read_bytes()
