"""SIGTERM and a closed terminal act like Ctrl-C, unless the signal is ignored."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
from processes import COMMAND

from edgelora.cli.main import _ended_as_interrupted, main

ENDED = (0, 130)  # `serve` runs until Ctrl-C, which may come before it begins


def serving(folder: Path, ignored: bool = False, terminal: bool = False) -> tuple[subprocess.Popen[str], int]:
    """An `edgelora serve` that has printed its address; its terminal's other end, or -1. ignored: as under nohup."""
    ours, theirs = pty.openpty() if terminal else (-1, None)

    def begin() -> None:
        os.setsid()
        if terminal:
            os.close(os.open(os.ttyname(0), os.O_RDWR))  # makes it the session's controlling terminal
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)  # whoever began the tests

    command = [COMMAND, "serve", folder, "--port", "0", "--host", "127.0.0.1", "--json"]
    process = subprocess.Popen(
        command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True, preexec_fn=begin, cwd=folder
    )
    if theirs is not None:
        os.close(theirs)
    said = ""
    assert process.stdout
    while "}" not in said:
        said += process.stdout.readline()
    return process, ours


def test_a_closed_terminal_that_ends_a_command_twice(tmp_path: Path) -> None:
    process, terminal = serving(tmp_path, terminal=True)
    os.close(terminal)
    assert process.wait(30) in ENDED
    process, _ = serving(tmp_path)
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):  # as sent by a shell, and by a system that shuts down
        process.send_signal(number)
    assert process.wait(30) in ENDED


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    process, _ = serving(tmp_path, ignored=True)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in ENDED


def test_a_command_that_is_called_leaves_handlers_as_they_were() -> None:
    """Also for a background job, which ignores Ctrl-C but not SIGTERM."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    assert main(["boards"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before
    ignoring = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _ended_as_interrupted(), pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, ignoring)
        for number in (signal.SIGTERM, signal.SIGHUP):  # further signals are ignored while the command ends
            assert signal.signal(number, signal.SIG_DFL) == signal.SIG_IGN
