"""`edgelora completion`: shell completion of commands, options, boards and files."""

from __future__ import annotations

import argparse
from pathlib import Path

import shtab

from edgelora.board.profiles import board_names

from .arguments import show
from .command_line import Add, Parser


def add_commands(add: Add) -> None:
    p = add("completion", cmd_completion)
    p.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="whose completion to print")


def cmd_completion(args: argparse.Namespace) -> None:
    """Prints a completion script for a shell.

    Load it when the shell starts:

        bash  echo 'source <(edgelora completion bash)' >> ~/.bashrc
        zsh   edgelora completion zsh > ~/.zsh/completions/_edgelora   # a folder of $fpath
        tcsh  edgelora completion tcsh > ~/.edgelora.tcsh; echo 'source ~/.edgelora.tcsh' >> ~/.tcshrc
    """
    from .parser import make_parser

    parser = make_parser()
    _add_hints(parser)
    script = shtab.complete(parser, args.shell)
    show(args, {"shell": args.shell, "script": script}, script)


def _add_hints(parser: Parser) -> None:
    """Marks arguments that take files or board names."""
    for action in parser._actions:
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif "--board" in action.option_strings or action.dest == "board":
            action.choices = board_names()
    for inner in parser.commands.choices.values() if parser.commands else ():
        _add_hints(inner)
