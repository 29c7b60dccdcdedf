"""A command that has started Flower's processes and virtual boards ends them when it is terminated."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fresh import FULL
from processes import COMMAND, edgelora

from edgelora.fleet.deployment import free_port


def alive(folder: Path) -> dict[int, str]:
    """Processes whose command line mentions the folder, with that command line."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and int(place.name) != os.getpid():
            found[int(place.name)] = line
    return found


def told_to_end(command: list[object], folder: Path, how: int, when: Callable[[str], bool]) -> int:
    """The exit code of a command that gets a signal once its processes run; afterwards none of them is left."""
    process = subprocess.Popen([COMMAND, *map(str, command)], stderr=subprocess.PIPE, start_new_session=True)
    try:
        end = time.monotonic() + 240
        while not when("\n".join(alive(folder).values())):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.2)
        begun = set(alive(folder))
        process.send_signal(how)
        _, said = process.communicate(timeout=120)
        assert b"Traceback" not in said, said.decode()
        assert len(begun) > 2 and not alive(folder)
    finally:
        process.kill()
        for pid in alive(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return process.returncode


@pytest.mark.timeout(600)
def test_a_terminated_fleet_leaves_no_process(tmp_path: Path) -> None:
    """Of a simulation in a pool; in full runs of a starting demo, and of rounds on Flower, too."""
    demo, run, pool = (tmp_path / name for name in ("demo", "a run", "pool"))

    def carried(folder: Path) -> bool:
        state = folder / "state.json"
        return state.exists() and bool(json.loads(state.read_text())["rounds"])

    words: list[object] = ["fleet", "simulate", pool, "--rounds", 1000, "--no-accuracy"]
    assert told_to_end(words, pool, signal.SIGTERM, lambda _: carried(pool)) == 130
    if not FULL:
        return
    words = ["demo", "fleet", "--boards", "unix", "--twins", 3, "-o", demo]
    assert told_to_end(words, demo, signal.SIGHUP, lambda those: "flower-supernode" in those) == 130
    address = f"127.0.0.1:{free_port()}"
    edgelora("fleet", "init", run, "--data", "har", "--rounds", 1000, "--address", address)
    words = ["fleet", "run", run, "--start", "--nodes", 1]
    assert told_to_end(words, run, signal.SIGTERM, lambda _: carried(run)) == 130
