"""Commands that release adapters to boards in the field, and update boards."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from edgelora.base import streams
from edgelora.base.streams import note, say
from edgelora.base.text import printable
from edgelora.board.link.client import Link
from edgelora.board.link.replies import DeviceError
from edgelora.board.link.serial_line import soft_reset
from edgelora.core.formats import elu
from edgelora.core.formats.elu import HEADER_SIZE
from edgelora.core.formats.files import read_bounded
from edgelora.core.formats.limits import MAX_UPDATE
from edgelora.learn.training.data.base import WorkflowError, load_base
from edgelora.learn.updates import serve
from edgelora.learn.updates.download import fetch
from edgelora.learn.updates.keys import TRUST_PATH, load_key, load_public_keys, new_key, pack_trust
from edgelora.learn.updates.releasing import release

from . import console
from .arguments import add_port, connect, port_of, show
from .command_line import Add
from .console import emit


def add_commands(add: Add) -> None:
    p = add("keygen", cmd_keygen)
    p.add_argument(
        "key",
        type=Path,
        help="private key to write, for example keys/release.pem; the public key is written next to it as .pub",
    )
    p = add("release", cmd_release)
    p.add_argument("adapter", type=Path, help="a .ela file")
    p.add_argument("--name", required=True, help="adapter name in the boards' stores")
    p.add_argument("--key", type=Path, required=True, help="private key of `edgelora keygen`")
    p.add_argument("--version", type=int, help="version, above the last release's (the next)")
    p.add_argument("--target", help="product name, which boards compare with their own (the last release's)")
    p.add_argument("-o", "--output", type=Path, default=Path("site"), help="directory of releases (%(default)s)")
    p.add_argument(
        "--from",
        dest="origins",
        type=_origin,
        action="append",
        default=[],
        metavar="VERSION=FILE.ela",
        help="also write the difference from an adapter that boards have but was not released there; repeatable",
    )
    p.add_argument("--model", type=Path, help="the base .elm, to check the adapter against")
    p.add_argument("--no-compress", action="store_true", help="for firmware without MicroPython's deflate module")
    p.add_argument("--force", action="store_true", help="allow another key, target or base than the last release's")
    p.add_argument(
        "--signed-by",
        type=Path,
        nargs="+",
        default=[],
        metavar="KEY.pub",
        help="also accept earlier releases signed with these keys (only --key)",
    )
    p.set_defaults(stopped="stopped; each file in the directory is whole: release again")
    p = add("serve", cmd_serve)
    p.add_argument("site", type=Path, help="directory of releases")
    p.add_argument("--port", type=int, default=8000, help="port; 0: any free port (%(default)s)")
    p.add_argument("--host", default="0.0.0.0", help="address to listen on (%(default)s: all)")
    p = add("update", cmd_update)
    p.add_argument("bundle", nargs="?", help="a .elu file or its http address, to install over the serial port")
    p.add_argument("--status", action="store_true", help="print trusted keys and installed versions")
    p.add_argument("--confirm", action="store_true", help="keep updates on trial")
    p.add_argument("--trust", type=Path, nargs="+", metavar="KEY.pub", help="make the board trust these keys")
    p.add_argument("--target", help="with --trust: the board's product name")
    p.add_argument("--force", action="store_true", help="with --trust: replace other trusted keys")
    p.set_defaults(stopped="stopped; the board is unchanged: run it again to continue")
    add_port(p)


def _origin(text: str) -> tuple[int, Path]:
    """A version and its file."""
    version, _, path = text.partition("=")
    if not version.isdecimal() or not path:
        raise argparse.ArgumentTypeError(f"{text!r}: give VERSION=FILE.ela, for example 6=old.ela")
    return int(version), Path(path)


def cmd_keygen(args: argparse.Namespace) -> None:
    """Creates a key pair for signing releases.

    The private key stays here; boards get the public key.
    """
    public = new_key(args.key)
    key_id = elu.key_id(public.read_bytes()).hex()
    result = {"key": str(args.key), "public": str(public), "key_id": key_id}
    show(args, result, f"{args.key}: keep it secret, and keep a copy\n{public}: for boards, key {key_id}")


def cmd_release(args: argparse.Namespace) -> None:
    """Signs an adapter as a release for boards.

    Writes the full bundle and the differences from earlier releases to a directory. Boards accept a release if they
    trust its key, match its target, have its base, and never had that or a later version.

        edgelora keygen release.pem
        edgelora release me.ela --name wake --target band --key release.pem -o site
        edgelora serve site

    Any static web server works instead of serve: bundles are signed and need no HTTPS.
    """
    done = release(
        args.output,
        args.adapter.read_bytes(),
        args.name,
        load_key(args.key),
        version=args.version,
        target=args.target,
        origins={version: path.read_bytes() for version, path in args.origins},
        base=load_base(args.model) if args.model else None,
        compress=not args.no_compress,
        force=args.force,
        signers=[key for path in args.signed_by for key in load_public_keys(path)],
    )
    if args.json:
        return emit(asdict(done))
    say(f"{done.name} {done.version} for {done.target}, base {done.base_id}, signed by {done.key_id}")
    for file in done.files:
        what = (
            f"change from version {file.from_version}"
            if file.from_version
            else f"adapter of {done.adapter_bytes} bytes"
        )
        say(f"{file.path}: {file.bytes} bytes, {what}{'' if file.written else '; not smaller, so not written'}")


def cmd_serve(args: argparse.Namespace) -> None:
    """Serves a directory of releases over HTTP.

    Runs until Ctrl-C and logs each request to standard error. In production use any static web server: nginx, a storage
    bucket, GitHub Pages, over plain HTTP.
    """
    if not args.site.is_dir():
        raise WorkflowError(f"{args.site} is not a directory: `edgelora release -o {args.site}` makes one")
    with serve.server(args.site, args.host, args.port, note) as server:
        url = serve.address(server)
        show(
            args,
            {"host": args.host, "port": server.server_port, "url": url},
            f"{url} serves {args.site}; Ctrl-C ends it",
        )
        streams.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            note("stopped")


def cmd_update(args: argparse.Namespace) -> None:
    """Updates a board over its serial port.

    Installs a bundle of `edgelora release`, or shows the state of updates. Once per board, then for each release:

        edgelora update --trust release.pub --target band
        edgelora update site/wake.elu

    Then reset the board, whose application calls store.start(). Run `edgelora update --confirm` unless the application
    confirms; otherwise the next start returns to the old version.

    The board checks signature, target, base, version and size before it writes anything, and keeps the old version
    until the update is confirmed. Repeat the command to continue an interrupted update.
    """
    if not (args.bundle or args.status or args.confirm or args.trust):
        raise WorkflowError("what to do? give a bundle, --status, --confirm or --trust; see `edgelora update --help`")
    if bool(args.trust) != bool(args.target):
        raise WorkflowError("--trust and --target go together: whose bundles the board accepts, and its product name")
    content = _read_bundle(args.bundle) if args.bundle else b""
    installed = None
    if args.trust:
        keys = [key for path in args.trust for key in load_public_keys(path)]
        with connect(args) as link:
            _place_trust(link, pack_trust(args.target, keys), args.force)
    if content:
        installed = _install(args, content)
    with connect(args) as link:
        state = link.update_state(args.confirm)
    if args.confirm and not state.confirmed:
        raise WorkflowError(
            "nothing to confirm: an update is on trial once the application has started with it (store.start())"
        )
    if args.json:
        return emit(asdict(state) | {"installed": installed})
    if installed:
        say(f"installed {printable(installed[0])} {installed[1]}: on trial from the next start; reset the board")
    for name in state.confirmed:
        say(f"confirmed {printable(name)}")
    trusted = ", ".join(map(printable, state.keys)) or "no key"
    say(f"target {printable(state.target or '-')}, trusts {trusted}, active {printable(state.active or '-')}")
    for notice in state.notices:
        say(printable(notice))
    for name, version in state.declined:
        say(f"{printable(name)} {version} was not kept: worse on the board's own samples, or not confirmed")
    console.table(
        ("adapter", "version", "bytes", ""),
        [(a.name, a.version, a.size, "not confirmed" if a.trial else "") for a in state.adapters],
    )


def _install(args: argparse.Namespace, content: bytes) -> tuple[str, int]:
    """Returns the adapter's name and version. A board without memory for the check is restarted once."""
    for again in (False, True):
        try:
            with connect(args) as link, console.progress("update", args.json) as progress:
                return link.update(content, progress)
        except DeviceError as error:
            if again or not error.lacks_memory:
                raise
        note("the board has no memory left to check the adapter: it is restarted, and sent it again", args.json)
        soft_reset(port_of(args))
    raise AssertionError


def _read_bundle(source: str) -> bytes:
    limit = MAX_UPDATE + HEADER_SIZE
    return fetch(source, limit) if source.startswith(("http://", "https://")) else read_bounded(source, limit)


def _place_trust(link: Link, trust: bytes, force: bool) -> None:
    try:
        there = link.get(TRUST_PATH)
    except DeviceError:
        there = b""
    if there not in (b"", trust) and not force:
        raise WorkflowError("the board trusts other keys, or has another target; --force replaces them")
    link.put(TRUST_PATH, trust)
