"""Settings from two environment variables and two files.

Precedence: command line, environment, `edgelora.toml` in the current folder, `edgelora.toml` in the user's folder. A
file has `port`, `board`, and a table for each command with its options by their long names.
"""

from __future__ import annotations

import argparse
import logging
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs

from edgelora.base.errors import InputError

from .command_line import Parser, did_you_mean

FILE = "edgelora.toml"
VARIABLES = {"port": "EDGELORA_PORT", "board": "EDGELORA_BOARD"}
MAX_BYTES = 1 << 20
UNSET = ("help", "json", "verbose", "debug")  # options that can't be set
log = logging.getLogger(__name__)


def files() -> list[Path]:
    """The files of settings, lowest precedence first."""
    return [platformdirs.user_config_path("edgelora", appauthor=False) / FILE, Path(FILE)]


def exist() -> bool:
    """Whether there is a file. Checking all its tables needs a parser with all commands."""
    return any(path.is_file() for path in files())


def apply(parser: Parser) -> None:
    """Applies settings as the parser's defaults. InputError names file, key and allowed values."""
    for path in files():
        if path.is_file():
            log.info("settings of %s", path)
            _apply_table(parser, _read(path), str(path))
    for key, variable in VARIABLES.items():
        if value := os.environ.get(variable):
            log.info("%s %s, by %s", key, value, variable)
            _apply_shared(parser, key, value, variable)


def _read(path: Path) -> dict[str, Any]:
    from edgelora.core.formats.files import read_bounded

    try:
        return tomllib.loads(read_bounded(path, MAX_BYTES).decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not TOML ({error})") from None


def _apply_table(parser: Parser, table: dict[str, Any], where: str) -> None:
    """Applies the top level of a file (`port`, `board`, tables of commands), or the table of a command."""
    top = " " not in parser.prog
    for key, value in table.items():
        inner = parser.commands.choices.get(key) if parser.commands else None
        if inner is not None:
            if not isinstance(value, dict):
                raise InputError(f"{where}, {key} is a command: write its settings under [{key}]")
            _apply_table(inner, value, f"{where}, [{key}]")
        elif top and key in VARIABLES:
            _apply_shared(parser, key, value, where)
        elif parser.commands is None:
            _apply_option(parser, key, value, where)
        else:
            known = [*(VARIABLES if top else ()), *parser.commands.choices]
            near = did_you_mean(key, known) or f"choose one of {', '.join(known)}"
            raise InputError(f"{where}, {key}: there is no such setting", remedy=near)


def _apply_shared(parser: Parser, key: str, value: Any, where: str) -> None:
    """Applies the default port, or the default board of every command that has --board."""
    if key == "port":
        if not isinstance(value, str):
            raise InputError(f'{where}, port: give text, for example "/dev/ttyACM0"')
        parser.set_defaults(usual_port=value)
    else:
        for command in _leaves(parser):
            if command.option("--board"):
                _apply_option(command, "board", value, where)


def _leaves(parser: Parser) -> Iterator[Parser]:
    if parser.commands is None:
        yield parser
    else:
        for inner in parser.commands.choices.values():
            yield from _leaves(inner)


def _apply_option(parser: Parser, key: str, value: Any, where: str) -> None:
    action = parser.option(f"--{key}")
    known = [name[2:] for name in parser._option_string_actions if name[:2] == "--" and name[2:] not in UNSET]
    if action is None or key in UNSET:
        near = did_you_mean(key, known) or f"choose one of {', '.join(known)}"
        raise InputError(f"{where}, {key}: {parser.prog} has no such option", remedy=near)
    if isinstance(action, argparse._AppendAction):
        raise InputError(f"{where}, {key}: this can be given on the command line only")
    parser.set_defaults(**{action.dest: _value(parser, action, value, f"{where}, {key}")})
    action.required = False


def _value(parser: Parser, action: argparse.Action, value: Any, where: str) -> Any:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise InputError(f"{where}: give true or false")
        return action.const if value else action.default
    several = action.nargs in ("+", "*")
    words = value if several and isinstance(value, list) else [value]
    if not words or not all(isinstance(word, str | int | float) and not isinstance(word, bool) for word in words):
        raise InputError(f"{where}: give text or a number{', or a list of them' if several else ''}")
    try:
        return parser.value(action, [str(word) for word in words])
    except argparse.ArgumentError as error:
        raise InputError(f"{where}: {error.message}") from None
