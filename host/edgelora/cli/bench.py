"""The command that measures: `edgelora bench`. Benchmarks lie beside the package, in a checkout alone."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgelora.base import resources
from edgelora.base.errors import InputError

if TYPE_CHECKING:
    from .command_line import Add, Parser


def add_commands(add: Add) -> None:
    if resources.installed():
        _take_anything(add("bench", cmd_bench))
        return
    sys.path.insert(0, str(resources.ROOT))
    import_module("benchmarks.command").add_commands(add)


def _take_anything(parser: Parser) -> None:
    """Has a command line of any benchmark reach `cmd_bench`, which says where benchmarks are."""
    known = parser.parse_known_args

    def parse(words: Any, namespace: Any = None) -> Any:
        return known([word for word in words if word in ("-h", "--help", "--json")], namespace)

    setattr(parser, "parse_known_args", parse)  # noqa: B010  mypy refuses to assign a method


def cmd_bench(args: argparse.Namespace) -> int:
    """Runs benchmarks

    Only in a checkout: benchmarks are no part of the installed package.
    """
    raise InputError(
        "benchmarks are not part of the installed package",
        remedy="clone the repository, `make setup`, and run them there",
    )
