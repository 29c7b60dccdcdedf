"""The command line: all commands in their groups. Each module adds its own."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from .. import __version__
from . import boards, completion, learning, measuring, merging, models, runs, store, updating
from .command_line import Parser
from .common import Command
from .exit_codes import MEANINGS

GROUPS = (
    ("base network", ("pretrain", "quantize", "import", "plan")),
    ("adapters", ("personalize", "train-adapter", "eval", "import-adapter", "export-adapter", "blend", "merge")),
    ("runs", ("watch", "report", "compare")),
    ("boards", ("devices", "doctor", "boards", "sim", "build", "flash", "install", "reset")),
    ("files on a board", ("ls", "push", "pull", "rm")),
    ("adapters on boards", ("store", "keygen", "release", "serve", "update")),
    ("more", ("demo", "bench", "completion")),
)


def make_parser() -> Parser:
    """Takes a command line; `run` of what it gives is the command. Raises UsageError."""
    parser = Parser(
        prog="edgelora",
        description="Personalize INT8 networks on a microcontroller with low-rank adapters.",
        epilog="The whole way in one command: edgelora demo har. A command's own page: edgelora COMMAND --help. "
        f"{MEANINGS[0].upper()}{MEANINGS[1:]}.",
    )
    parser.add_argument("--version", action="version", version=f"edgelora {__version__}")
    _add_telling(parser, False)
    parser.set_defaults(usual_port=None)
    parser.sections = GROUPS
    commands = parser.add_commands()

    def add(name: str, run: Command, parent: Any = commands) -> Parser:
        text = inspect.cleandoc(run.__doc__ or "")
        sub: Parser = parent.add_parser(name, help=text.splitlines()[0].rstrip("."), description=text)
        sub.add_argument(
            "--json",
            action="store_true",
            help="print the result as JSON, and nothing else, to standard output; an error as JSON to standard error",
        )
        _add_telling(sub, argparse.SUPPRESS)
        sub.set_defaults(run=run)
        return sub

    models.add_commands(add)
    boards.add_commands(add)
    learning.add_commands(add, commands)
    merging.add_commands(add)
    runs.add_commands(add)
    store.add_commands(add, commands)
    updating.add_commands(add)
    measuring.add_commands(add, commands)
    completion.add_commands(add)
    return parser


def _add_telling(parser: Parser, default: Any) -> None:
    parser.add_argument(
        "-v", "--verbose", action="store_true", default=default, help="tell more: settings, ports, what the link did"
    )
    parser.add_argument(
        "--debug", action="store_true", default=default, help="the same, and with an error where in the code it came up"
    )
