"""The command that measures: `edgelora bench`. Benchmarks lie beside the package, in a checkout alone."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgelora.base import resources
from edgelora.base.errors import InputError

if TYPE_CHECKING:
    from .arguments import Add


def add_commands(add: Add, commands: Any) -> None:
    if resources.installed():
        add("bench", cmd_bench, commands).add_argument("name", nargs=argparse.REMAINDER, help="ignored")
        return
    sys.path.insert(0, str(resources.ROOT))
    import_module("benchmarks.command").add_commands(add, commands)


def cmd_bench(args: argparse.Namespace) -> int:
    """Runs benchmarks

    Only in a checkout: benchmarks are no part of the installed package.
    """
    raise InputError(
        "benchmarks are no part of the installed package",
        remedy="clone the repository, `make setup`, and run them there",
    )
