"""The command line: all commands in their groups. Each module adds its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from edgelora.base.streams import say

from . import index
from .command_line import Add, Parser
from .exit_codes import MEANINGS

GROUPS = tuple((title, tuple(names)) for title, names in index.GROUPS.items())


def make_parser(line: Sequence[str] | None = None) -> Parser:
    """The parser; `run` of a parsed command line is the command's function. Raises UsageError.

    line: the command line that will be parsed. Modules of other commands are then not imported.
    """
    called = next((word for word in line or () if not word.startswith("-")), "")
    modules = (
        index.MODULES if line is None else [entry.module for name, entry in index.COMMANDS.items() if name == called]
    )
    parser = Parser(
        prog="edgelora",
        description="Personalize INT8 networks on a microcontroller with low-rank adapters.",
        epilog="A complete demonstration: edgelora demo har. Help for a command: edgelora help COMMAND. "
        f"{MEANINGS[0].upper()}{MEANINGS[1:]}.",
    )
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="show program's version number and exit")
    parser.add_verbosity(False)
    parser.set_defaults(usual_port=None)
    parser.sections = GROUPS
    add = Add(parser)
    for name, entry in index.COMMANDS.items():
        if entry.module not in modules:
            add.named(name, entry.line)
    for module in modules:
        import_module(f".{module}", __package__).add_commands(add)
    return parser


class _Version(argparse.Action):
    """Like argparse's, but looks up the version only on request."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> NoReturn:
        from edgelora import __version__

        say(f"edgelora {__version__}")
        parser.exit()
