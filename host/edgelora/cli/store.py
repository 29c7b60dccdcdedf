"""Commands for the adapters in a board's store."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgelora.base.streams import say
from edgelora.base.text import printable
from edgelora.board.link.client import Link
from edgelora.board.link.replies import StoreState
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.files import write_atomic
from edgelora.core.store_names import store_name

from . import console
from .arguments import add_port, connect, show
from .command_line import Add
from .console import emit

STOPPED = "stopped; the store has the adapters it had, or with the change: `edgelora store list`"


def add_commands(add: Add) -> None:
    text = "The adapters in a board's store, which survive resets and power cuts."
    add = add.group("store", "Adapters in a board's store", text)

    def command(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        p = add(name, run)
        p.set_defaults(stopped=STOPPED)
        add_port(p)
        return p

    command("list", cmd_list)
    p = command("put", cmd_put)
    p.add_argument("file", type=Path, help="a .ela file")
    p.add_argument("--name", help="name in the store: 1 to 24 letters, digits, - _ . (the file name without .ela)")
    p.add_argument("--version", type=int, help="version in the store (the last version of this name + 1)")
    p = command("get", cmd_get)
    _add_name(p)
    p.add_argument("-o", "--output", type=Path, help="the file to write (NAME.ela)")
    p = command("activate", cmd_activate)
    p.add_argument("name", nargs="?", help="an adapter (the base alone)")
    p = command("rename", cmd_rename)
    _add_name(p)
    p.add_argument("to", help="new name")
    for name, run in (("remove", cmd_remove), ("pin", cmd_pin), ("unpin", cmd_unpin)):
        _add_name(command(name, run))


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="name of an adapter, see `edgelora store list`")


def cmd_list(args: argparse.Namespace) -> None:
    """Lists adapters in the store, and its free space."""
    _change(args, Link.store_list)


def cmd_put(args: argparse.Namespace) -> None:
    """Copies an adapter into the store, atomically.

    Replaces an adapter of the same name.
    """
    data = args.file.read_bytes()
    unpack_adapter(data, name=str(args.file))
    name = store_name(args.file.stem if args.name is None else args.name)
    with connect(args) as link:
        version = link.store_put(name, data, args.version)
    show(args, {"name": name, "version": version, "bytes": len(data)}, f"{name} {version}: {console.size(len(data))}")


def cmd_get(args: argparse.Namespace) -> None:
    """Copies an adapter from the store to a file."""
    output = args.output or Path(f"{store_name(args.name)}.ela")
    with connect(args) as link:
        data = link.store_get(args.name)
    write_atomic(output, data)
    show(args, {"name": args.name, "file": str(output), "bytes": len(data)}, f"{output}: {console.size(len(data))}")


def cmd_activate(args: argparse.Namespace) -> None:
    """Activates an adapter, also for later starts.

    It is also used after a reset if the application calls store.start().
    """
    _change(args, lambda link: link.store_activate(args.name))


def cmd_rename(args: argparse.Namespace) -> None:
    """Renames an adapter."""
    _change(args, lambda link: link.store_rename(args.name, store_name(args.to)))


def cmd_remove(args: argparse.Namespace) -> None:
    """Deletes an adapter, including an update on trial."""
    _change(args, lambda link: link.store_remove(args.name))


def cmd_pin(args: argparse.Namespace) -> None:
    """Keeps an adapter in RAM once loaded."""
    _change(args, lambda link: link.store_pin(args.name))


def cmd_unpin(args: argparse.Namespace) -> None:
    """Allows an adapter to be evicted from RAM."""
    _change(args, lambda link: link.store_pin(args.name, False))


def _change(args: argparse.Namespace, change: Callable[[Link], StoreState]) -> None:
    with connect(args) as link:
        state = change(link)
    if args.json:
        return emit(asdict(state))
    for notice in state.notices:
        say(printable(notice))
    console.table(
        ("adapter", "version", "bytes", "base", ""),
        [(a.name, a.version, a.size, a.base_id, _remarks(a, state.active)) for a in state.adapters],
    )
    say(f"{printable(state.place)}: {console.size(state.free)} free")


def _remarks(adapter: Any, active: str | None) -> str:
    marks = {
        "on trial": adapter.trial,
        "active": adapter.name == active and not adapter.trial,
        "pinned": adapter.pinned,
    }
    return ", ".join(word for word, holds in marks.items() if holds)
