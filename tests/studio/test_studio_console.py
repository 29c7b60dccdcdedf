"""The console: output is text of limited size, input reaches the board, and it gives way to jobs."""

from __future__ import annotations

import os
import threading
import tty
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fresh import slow
from playwright.sync_api import Page, expect
from studio_pages import card
from waiting import until

from edgelora.base.errors import InputError
from edgelora.board.devices import Device
from edgelora.studio.console import MOST_LINE, MOST_LINES, Console
from edgelora.studio.job import Job

BOARD = "virtual-pico-1"
WAIT_MS = 120_000


def test_what_a_board_prints_is_text_of_a_bounded_size() -> None:
    """Escape sequences, bytes that are not UTF-8, a character split in two, lines without end."""
    board, port = os.openpty()
    tty.setraw(port)
    console, wanted = Console(), threading.Event()
    job = Job("console", wanted=wanted.is_set)
    thread = threading.Thread(target=job.run, args=(lambda: console.serve(os.ttyname(port), job),))
    thread.start()
    console.type("0")
    assert os.read(board, 100) == b"0\r", "the port is open: what comes before that is dropped"
    os.write(board, b"a\x1b[31mred\r\n\xff\xe2\x82")
    until(lambda: "red" in console.text)
    os.write(board, b"\xacb\n")
    until(lambda: "b" in console.text.split("\n")[1])
    assert console.text == "a\\x1b[31mred\n\ufffd\u20acb\n"
    console.type("print(1)")
    console.interrupt()
    console.restart()
    typed = b""
    while len(typed) < 14:
        typed += os.read(board, 100)
    assert typed == b"print(1)\r\x03\r\x03\x03\x04"
    for bad in ("x" * 1001, "a\x03", "a\nb"):
        with pytest.raises(InputError):
            console.type(bad)
    for _ in range(2 * MOST_LINES):
        os.write(board, b"y" * 1000 + b"\n")
    os.write(board, b"the end")
    until(lambda: console.text.endswith("the end"))
    lines = console.text.split("\n")
    assert len(lines) == MOST_LINES and max(map(len, lines)) == MOST_LINE
    wanted.set()
    thread.join(10)
    assert job.state == "done", "it gives way"
    os.close(board)
    os.close(port)


def test_a_board_without_a_prompt_says_so() -> None:
    with pytest.raises(InputError, match="no console"):
        Console().open(Device("port", "unix", True, "unix"), lambda name, work: SimpleNamespace())


@slow
def test_a_board_that_loops_is_interrupted_in_its_console(
    studios: Callable[..., Any], pages: Callable[..., Page]
) -> None:
    page = pages(studios("project"))
    page.get_by_role("button", name="Start a virtual board").click()
    card(page, BOARD).get_by_text("ready").wait_for(timeout=200_000)
    page.get_by_role("button", name=f"Console of {BOARD}").click()
    screen, line = page.get_by_role("log", name="Output"), page.get_by_label("Input line")
    line.fill("print(6 * 7, '<b>')")
    line.press("Enter")
    expect(screen).to_contain_text("\n42 <b>", timeout=WAIT_MS)
    line.fill("while True: print('for ever'); __import__('time').sleep_ms(50)")
    line.press("Enter")
    page.get_by_role("button", name="Send").click()  # the empty line that ends a block
    expect(screen).to_contain_text("for ever\nfor ever", timeout=WAIT_MS)
    page.get_by_role("button", name="Interrupt").click()
    expect(screen).to_contain_text("KeyboardInterrupt", timeout=WAIT_MS)
    page.get_by_role("button", name="Restart").click()
    expect(screen).to_contain_text("soft reboot", timeout=WAIT_MS)
    page.get_by_role("button", name="Close").click()
    card(page, BOARD).get_by_text("ready").wait_for()
