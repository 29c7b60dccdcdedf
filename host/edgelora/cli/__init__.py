"""The `edgelora` command: arguments and printing over the library, a module for each kind of command."""

from __future__ import annotations

import argparse
from typing import Any

from .. import __version__
from ..console import note
from . import boards, learning, measuring, models, store, updating
from .common import Command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgelora",
        description="Personalize INT8 networks on a microcontroller with low-rank adapters.",
        epilog="The whole way in one command: edgelora demo har. Each step is a command too; see edgelora STEP --help.",
    )
    parser.add_argument("--version", action="version", version=f"edgelora {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Command, parent: Any = commands) -> argparse.ArgumentParser:
        sub = parent.add_parser(name, help=run.__doc__, description=run.__doc__)
        sub.add_argument(
            "--json", action="store_true", help="print the result as JSON, and nothing else, to standard output"
        )
        sub.set_defaults(run=run)
        return sub

    models.add_commands(add)
    boards.add_commands(add)
    learning.add_commands(add, commands)
    store.add_commands(add, commands)
    updating.add_commands(add)
    measuring.add_commands(add, commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command; 0, or 1 with one line on standard error that says what to do."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
        return 0
    except KeyboardInterrupt:
        note("\n" + getattr(args, "stopped", "stopped"))
        return 130
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        note(f"edgelora: {error}")
        return 1
