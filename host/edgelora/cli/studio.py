"""The command that opens the studio."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgelora.base import streams

from .arguments import show, whole
from .command_line import Add


def add_commands(add: Add) -> None:
    p = add("studio", cmd_studio)
    p.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("studio"),
        help="project folder, created if needed (%(default)s)",
    )
    p.add_argument(
        "--port-http",
        type=whole(0, 65535),
        default=0,
        metavar="N",
        help="port of the page; 0: any free port (%(default)s)",
    )
    p.add_argument("--no-browser", action="store_true", help="only print the address")
    p.set_defaults(stopped="stopped; boards are usable, the project is in its folder")


def cmd_studio(args: argparse.Namespace) -> None:
    """Opens a page to watch boards sense and train them.

    Runs until Ctrl-C. The page is served on loopback only, to whoever has the printed address. Closing it does not stop
    runs. The folder is the project: samples, bases, adapters, reports, virtual boards.

        pip install 'edgelora[studio]'
        edgelora studio gestures
    """
    from edgelora.studio.server import serve

    def ready(url: str) -> None:
        result = {"url": url, "folder": str(args.folder.resolve())}
        show(args, result, f"{url}\nthe studio, for this computer alone; Ctrl-C ends it")
        streams.flush()

    serve(args.folder, ready, port=args.port_http, browser=not args.no_browser)
