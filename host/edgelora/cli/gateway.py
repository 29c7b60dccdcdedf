"""The command that runs a fleet's gateway."""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgelora.base.errors import InputError
from edgelora.base.streams import flush, note, say
from edgelora.base.text import plain, printable
from edgelora.fleet.gateway import Gateway, running
from edgelora.fleet.member import Identity, TwinMember
from edgelora.fleet.messages import Stage
from edgelora.fleet.roster import Site
from edgelora.fleet.serial_members import TRIAL_SECONDS, serial_boards
from edgelora.fleet.simulated_boards import Boards
from edgelora.fleet.web import board_server, local_server
from edgelora.learn.training.data.base import load_base
from edgelora.learn.updates.serve import address

from .arguments import whole

Tell = Callable[[Mapping[str, Any]], None]


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--port", dest="ports", action="append", default=[], help="serial port of a board; repeatable")
    p.add_argument("--samples", default="/samples.eld", help="file of training samples on boards (%(default)s)")
    p.add_argument(
        "--trial",
        type=whole(0, 86400),
        default=round(TRIAL_SECONDS),
        metavar="S",
        help="seconds for a board's application to confirm an update (%(default)s)",
    )
    p.add_argument("--http", type=int, metavar="PORT", help="port for polling WiFi boards; 0: any free port")
    p.add_argument("--host", default="0.0.0.0", help="address to listen on for WiFi boards (%(default)s: all)")
    p.add_argument("--state", type=Path, help="folder for gateway.json, which the server reads (FLEET/gateway)")
    p.add_argument("--log", type=Path, help="append events to this file as JSON lines")
    group = p.add_argument_group("boards of this computer")
    group.add_argument("--twins", type=Path, metavar="DIR", help="folder of secrets from `fleet enroll --twins`")
    group.add_argument("--model", type=Path, help="base (.elm) of the simulated boards")
    group.add_argument("--data", help="their samples: har, or a folder of .npz files, one per board of the roster")
    p.set_defaults(stopped="stopped; boards are usable")


def run(args: argparse.Namespace) -> None:
    """Relays messages between the server and boards.

    Runs until Ctrl-C. The gateway owns the serial ports of boards and waits for unplugged ones; WiFi boards poll it
    over HTTP; simulated boards run the boards' own code. It relays messages without keys to read or forge them. The
    server on this computer finds it by FLEET/gateway.

        edgelora fleet gateway fleet --port /dev/ttyACM0 --port /dev/ttyACM1 --http 8080
    """
    if any((args.twins, args.model, args.data)) and not all((args.twins, args.model, args.data)):
        raise InputError(
            "boards of this computer have secrets, a base and data", remedy="give --twins, --model, --data"
        )
    site = Site(args.fleet)
    names = {board.index: board.name for board in site.boards() if board.name}
    state = args.state or args.fleet / "gateway"
    with contextlib.ExitStack() as stack:
        tell = stack.enter_context(_teller(args.json, args.log))
        stack.callback(tell, {"event": "stopped"})
        gateway = stack.enter_context(running(Gateway(names, tell)))
        if args.twins:
            _add_twins(gateway, site, args.twins, args.model, args.data)
        for port in args.ports:
            gateway.add_line(port, serial_boards(site, args.samples, args.trial))
        inner = stack.enter_context(local_server(gateway, state))
        inner.start()
        opened = {"state": str(state), "roster": site.roster().number, "boards": len(site.roster().active)}
        if args.http is not None:
            outer = stack.enter_context(board_server(gateway, site, args.host, args.http))
            outer.start()
            opened["url"] = f"{address(outer)}fleet/"
        gateway.tell("open", None, **opened)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        note("stopping: boards finish their step", args.json)


def _add_twins(gateway: Gateway, site: Site, secrets: Path, model: Path, data: str) -> None:
    base = load_base(model)
    boards = Boards(data, base, len(site.roster().keys))
    paths = sorted(secrets.glob("*.key"))
    if not paths:
        raise InputError(f"{secrets} has no secrets of boards", remedy="`edgelora fleet enroll --twins` makes them")
    for path in paths:
        member = TwinMember(Identity(path), site.roster, base.elm, lambda index: boards.of(index).train)
        gateway.add_local(member.index, member)


@contextlib.contextmanager
def _teller(as_json: bool, log: Path | None) -> Iterator[Tell]:
    """Prints events, one per line, from any thread."""
    lock = threading.Lock()
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(log, "a", encoding="utf-8")) if log else None

        def tell(event: Mapping[str, Any]) -> None:
            line = json.dumps(plain({"time": round(time.time(), 3), **event}))
            with lock:
                say(line if as_json else _line(event))
                flush()
                if file and not file.closed:
                    try:
                        file.write(line + "\n")
                        file.flush()
                    except OSError as error:
                        note(f"{log}: {error}: no more events are logged")
                        with contextlib.suppress(OSError):
                            file.close()

        yield tell


def _line(event: Mapping[str, Any]) -> str:
    """An event as text."""
    fields = dict(event)
    what, index, name = fields.pop("event"), fields.pop("board", None), fields.pop("name", "")
    if "stage" in fields:
        fields["stage"] = Stage(fields["stage"]).name
    who = "" if index is None else f"board {index} {name}".rstrip() + ": "
    rest = ", ".join(f"{key} {value}" for key, value in fields.items() if value != "")
    return printable(f"{time.strftime('%H:%M:%S')} {who}{what}{' ' if rest else ''}{rest}")
