"""Identifies what runs at a serial port within a few seconds, without disturbing it."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import secrets
from dataclasses import dataclass

from .link.protocol import FrameReader, Op, Status, encode
from .link.raw_repl import PROMPT, RAW_PROMPT
from .link.replies import Hello, LinkError
from .link.serial_line import SerialLine
from .link.transport import Deadline, LineLost, Stuck
from .profiles import BoardProfile, list_boards, load_board

PROMPT_SECONDS = 0.6  # timeouts: for a prompt,
HELLO_SECONDS = 0.6  # for an agent's HELLO,
ANSWER_SECONDS = 3.0  # and for a line of Python, on the board's clock;
REAL_TIMES = 4  # real time is limited to this multiple
# Indexed by MicroPython's architecture number.
NATIVE_ARCHES = (
    *(None, "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"),
    *("xtensa", "xtensawin", "rv32imc", "rv64imc"),
)
# Prints one tuple: machine, build, version, mpy, EdgeLoRA's version or None, the import error.
QUESTION = """
import sys
i, v, e = sys.implementation, None, ""
try:
    import edgelora
    v = getattr(edgelora, "__version__", "")
except ImportError:
    pass
except Exception as x:
    e = repr(x)
print((i._machine, getattr(i, "_build", ""), ".".join(str(n) for n in i[1][:3]), getattr(i, "_mpy", 0), v, e))
"""


@dataclass(frozen=True)
class Answer:
    """The state of a port: "ready" (MicroPython at its prompt), "agent" (EdgeLoRA's agent), "in use" (by another
    program), "no access", "gone" or "silent". detail: its meaning and what to do, "" if all is well.

    board: a profile that fits the firmware; edgelora: the module's version, None without it.
    """

    state: str
    detail: str = ""
    board: str | None = None
    machine: str | None = None
    micropython: str | None = None
    native_arch: str | None = None
    edgelora: str | None = None


def ask(port: str, interrupt: bool = False) -> Answer:
    """Asks the board on `port`. Stops a running program only if `interrupt`.

    A running program only gets a line end and a frame without control characters as input.
    """
    try:
        line = SerialLine(port)
    except LineLost as error:
        return _unreachable(port, error)
    try:
        return _ask(line, interrupt)
    except LinkError as error:
        return Answer("silent", str(error))
    except LineLost as error:
        return _unreachable(port, error)
    finally:
        line.close()


def _ask(line: SerialLine, interrupt: bool) -> Answer:
    line.write(b"\x03\x03\x02" if interrupt else b"\r")
    if _read(line, PROMPT, PROMPT_SECONDS).endswith(PROMPT):
        return _ask_repl(line)
    hello = _ask_agent(line)
    if hello:
        board = board_of(hello.board, "")
        return Answer(
            "agent", "", board, hello.board, hello.micropython, native_arch(hello.mpy), hello.edgelora or None
        )
    stop = "; --interrupt stops a running program and asks again" if not interrupt else ": reset it, or flash it"
    return Answer("silent", f"no answer: a program runs, or it has no MicroPython{stop}")


def _ask_repl(line: SerialLine) -> Answer:
    """Asks at the prompt: runs `QUESTION` in the raw REPL and leaves it."""
    line.write(b"\x01")
    _read(line, RAW_PROMPT, ANSWER_SECONDS)
    line.write(QUESTION.encode() + b"\x04")
    said = _read(line, b"\x04>", ANSWER_SECONDS)
    line.write(b"\x02")
    _read(line, PROMPT, PROMPT_SECONDS)
    text = said.partition(b"OK")[2].partition(b"\x04")[0]
    try:
        machine, build, version, mpy, module, why = ast.literal_eval(text.decode().strip())
    except (ValueError, SyntaxError, UnicodeDecodeError):
        return Answer("silent", "there is a prompt, but Python does not run: reset the board")
    detail = f"its EdgeLoRA module cannot be imported: {why}" if why else ""
    return Answer("ready", detail, board_of(machine, build), machine, version, native_arch(mpy), module)


def _ask_agent(line: SerialLine) -> Hello | None:
    request = b"\x00"
    while min(request) < 32:  # it may arrive at a prompt: no control characters
        session = json.dumps({"session": secrets.randbits(30) | 1}).encode()
        request = encode(0, Op.HELLO, session)
    line.write(request)
    reader, deadline = FrameReader(), Deadline(line.clock, HELLO_SECONDS, REAL_TIMES * HELLO_SECONDS)
    while deadline.left:
        reader.feed(line.read(4096, deadline.look))
        for frame in reader.frames():
            if frame.code == Status.OK and frame.sequence == 0:
                return Hello.of(frame.payload)
    return None


def _read(line: SerialLine, end: bytes, seconds: float) -> bytes:
    """Reads until the input ends with `end`, for at most `seconds`."""
    data, deadline = b"", Deadline(line.clock, seconds, REAL_TIMES * seconds)
    while not data.endswith(end) and deadline.left:
        data = (data + line.read(4096, deadline.look))[-4096:]
    return data


def _unreachable(port: str, error: LineLost) -> Answer:
    text = str(error.__cause__ or error)
    if "Permission" in text or may_open(port) is False:
        return Answer("no access", "permission denied: `edgelora doctor` says how to fix that")
    if isinstance(error, Stuck):
        return Answer("silent", text)
    if used_elsewhere(error):
        return Answer("in use", "another program has it open: close it first")
    return Answer("gone", f"it can't be opened or was lost ({text}): unplug and reconnect the board")


def may_open(port: str) -> bool | None:
    """Whether this user may open a port; None if it is not a file, as for "COM3" or a URL, or is missing."""
    if os.name != "posix" or "://" in port or not os.path.exists(port):
        return None
    return os.access(port, os.R_OK | os.W_OK)


def native_arch(mpy: int) -> str | None:
    """The architecture of native modules that firmware loads, from `sys.implementation._mpy`; None if unknown.

    Bits 10 to 13 and 15 are its number. Bit 14, and those from 16 on, are flags of newer firmware: extensions that the
    core has, such as RV32's Zba, which modules of EdgeLoRA don't need.
    """
    number = mpy >> 10 & 0x2F
    return NATIVE_ARCHES[number] if number < len(NATIVE_ARCHES) else None


def board_of(machine: str, build: str) -> str | None:
    """The profile of a firmware: by its build's name, else by the chip after "with"."""
    profiles = [profile for profile in map(load_board, list_boards()) if not profile.is_virtual]
    for profile in profiles:
        if build and (build.lower() == profile.name or build == profile.stock_board):
            return profile.name
    chip = re.search(r" with (ESP32|RP2\d+|\w+)(?:-?([A-Z]\d+))?", machine)  # what follows names the package
    name = chip and "-".join(part for part in chip.groups() if part)
    return next((profile.name for profile in profiles if profile.chip == name), None)


def profile_of(hello: Hello) -> BoardProfile | None:
    """Of who answers; None for a board without one."""
    name = board_of(hello.board, "")
    return load_board(name) if name else None


def used_elsewhere(error: Exception) -> bool:
    """Whether a port could not be opened because another program has it open."""
    cause: BaseException | None = error
    while cause and getattr(cause, "errno", None) not in (errno.EAGAIN, errno.EBUSY):
        cause = cause.__cause__
    return cause is not None
