"""The command line: its commands, a module for each kind."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from .. import __version__
from ..errors import EdgeloraError
from . import boards, learning, measuring, models, store, updating
from .common import Command
from .exit_codes import MEANINGS


class UsageError(EdgeloraError):
    """The command line is wrong. usage: of the command."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.usage = usage


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)", self.format_usage().rstrip())


def make_parser() -> argparse.ArgumentParser:
    """Takes a command line; `run` of what it gives is the command. Raises UsageError."""
    parser = _Parser(
        prog="edgelora",
        description="Personalize INT8 networks on a microcontroller with low-rank adapters.",
        epilog="The whole way in one command: edgelora demo har. Each step is a command too; see edgelora STEP --help. "
        f"{MEANINGS[0].upper()}{MEANINGS[1:]}.",
    )
    parser.add_argument("--version", action="version", version=f"edgelora {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Command, parent: Any = commands) -> argparse.ArgumentParser:
        sub = parent.add_parser(name, help=run.__doc__, description=run.__doc__)
        sub.add_argument(
            "--json",
            action="store_true",
            help="print the result as JSON, and nothing else, to standard output; an error as JSON to standard error",
        )
        sub.add_argument("--debug", action="store_true", help="with an error, print where in the code it came up")
        sub.set_defaults(run=run)
        return sub

    models.add_commands(add)
    boards.add_commands(add)
    learning.add_commands(add, commands)
    store.add_commands(add, commands)
    updating.add_commands(add)
    measuring.add_commands(add, commands)
    return parser
