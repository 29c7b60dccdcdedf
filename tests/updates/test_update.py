"""Updates in the field: releases arrive over HTTP and serial, and nothing else is installed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fresh
import numpy as np
import pytest
from commands import edgelora, execute, result
from programs import desktop, running
from reservoir_file import pack_reservoir

from edgelora.base.resources import ROOT
from edgelora.board import build
from edgelora.board.link.client import Link
from edgelora.board.link.protocol import Op
from edgelora.board.link.replies import DeviceError
from edgelora.board.sim import virtual_board
from edgelora.board.sim.virtual_board import UNIX_BINARY
from edgelora.core.formats import elm as formats_elm
from edgelora.core.formats import elu
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.twin import device
from edgelora.learn.training.data import base as training_base
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.loop import train
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.learn.updates import download, keys, serve
from edgelora.learn.updates import download as updates_download
from edgelora.learn.updates.download import FetchError
from edgelora.model.datasets import har as datasets_har
from edgelora.model.quantization.quantize import quantize

COMMAND = Path(sys.executable).parent / "edgelora"
APP = ROOT / "tests" / "device" / "programs" / "update_app.py"


@dataclass(frozen=True)
class Field:
    """A base, three adapters trained for it one after the other, and a key. Boards have the first one, version 7."""

    folder: Path
    elm: bytes
    adapters: dict[int, bytes]

    @property
    def key(self) -> Path:
        return self.folder / "release.pem"

    def release(self, version: int, site: Path) -> None:
        options = ("--name", "wake", "--target", "band", "--key", self.key, "-o", site, "--version", version)
        edgelora("release", self.folder / f"{version}.ela", *options)

    def bundle(self, version: int, origin: int | None = None, **changes: Any) -> bytes:
        """A bundle for the boards, or an invalid one: changed header fields, signed again."""
        start = (origin, self.adapters[origin]) if origin else None
        adapter = self.adapters.get(version, self.adapters[8])
        made = elu.pack(adapter, "wake", version, "band", keys.load_key(self.key), start)
        return resigned(made, self.key, **changes) if changes else made


# Header fields by SPEC.md, section 14.
FIELDS = {
    "format": (4, "<H"),
    "kind": (8, "B"),
    "packing": (9, "B"),
    "version": (12, "<I"),
    "payload_size": (20, "<I"),
    "result_size": (24, "<I"),
    "base_id": (32, "8s"),
    "key_id": (40, "8s"),
    "name": (48, "24s"),
    "target": (72, "24s"),
    "payload_sha256": (96, "32s"),
    "result_sha256": (128, "32s"),
}


def resigned(data: bytes, key: Path, content: bytes | None = None, **changes: Any) -> bytes:
    """A bundle with changed header fields or `content` (its payload), and a valid signature."""
    header = bytearray(data[:192])
    if content is None:
        content = data[256:]
    else:
        changes = {"payload_size": len(content), "payload_sha256": hashlib.sha256(content).digest()} | changes
    for name, value in changes.items():
        at, kind = FIELDS[name]
        struct.pack_into(kind, header, at, value)
    return bytes(header) + keys.load_key(key).sign(bytes(header)) + content


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -10)
    return packer.compress(content) + packer.flush()


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    folder = tmp_path_factory.mktemp("field")
    har = datasets_har.load_har(3)
    model = quantize(training_base.pretrained_har(3, 0), har.pretrain.x)
    elm = pack_model(model)
    base = training_base.Base("har.elm", elm, model)
    samples = base.samples(har.train)
    recipe = Recipe(mode="trainable_a", rank=8)
    learner = TwinLearner(elm, recipe.settings(elm), samples.frames)
    adapters = {}
    for version, epochs in ((7, 3), (8, 4), (9, 5)):
        learner.begin(recipe.seed)
        adapters[version] = train(
            learner, samples, replace(recipe, epochs=epochs).resolved(elm, len(samples.of_epoch))
        ).adapter
        (folder / f"{version}.ela").write_bytes(adapters[version])
    (folder / "har.elm").write_bytes(elm)
    keys.new_key(folder / "release.pem")
    return Field(folder, elm, adapters)


# ---- releases


def test_versions_of_a_release_directory_only_increase(field: Field, tmp_path: Path) -> None:
    site, key = tmp_path / "site", tmp_path / "keys" / "one.pem"
    made = result("keygen", key)
    assert (key.stat().st_mode & 0o777, Path(made["public"]).stat().st_size) == (0o600, 32)
    assert "never overwritten" in edgelora("keygen", key, code=1)
    edgelora("keygen", tmp_path / "other.pem")

    def released(version: int, *options: object, by: Path = key, code: int = 0) -> str:
        adapter = field.folder / f"{version}.ela"
        return edgelora("release", adapter, "--name", "wake", "--key", by, "-o", site, *options, code=code)

    assert "--target" in released(7, code=1)
    assert "version 0" in released(7, "--target", "band", "--version", 0, code=1)
    assert not site.exists()
    released(7, "--target", "band", "--version", 7, "--model", field.folder / "har.elm")
    second = json.loads(released(8, "--json"))
    assert (second["version"], second["target"], second["key_id"]) == (8, "band", made["key_id"])
    whole, delta = second["files"]
    assert delta["from_version"] == 7 and delta["bytes"] < whole["bytes"] <= 4096
    assert elu.unpack((site / "wake.from-7.elu").read_bytes()).adapter(field.adapters[7]) == field.adapters[8]
    released(9)
    names = {path.name for path in site.iterdir()}
    assert names == {f"wake.{part}elu" for part in ("", "v7.", "v8.", "v9.", "from-7.", "from-8.")}
    before = {path: path.read_bytes() for path in site.iterdir()}
    for options, why in (
        (("--version", 9), "not above 9"),
        (("--target", "other"), "target band, this is other"),
        (("--name", "wake/1", "--target", "band"), "letters, digits"),
        (("--model", field.folder / "nothing.elm"), "No such file"),
    ):
        assert why in released(8, *options, code=1)
    signed_by = ("--signed-by", key.with_suffix(".pub"))
    for by_whom, why in (((), "not by yours"), (signed_by, "boards that follow it would refuse this")):
        assert why in released(8, *by_whom, by=tmp_path / "other.pem", code=1)
    assert "not by yours" in released(8, "--force", by=tmp_path / "other.pem", code=1)
    damaged = tmp_path / "damaged.ela"
    damaged.write_bytes(flipped(field.adapters[8], 800))
    edgelora("release", damaged, "--name", "wake", "--key", key, "-o", site, code=1)
    assert {path: path.read_bytes() for path in site.iterdir()} == before
    released(8, "--force", *signed_by, by=tmp_path / "other.pem")
    forced = elu.unpack((site / "wake.elu").read_bytes())
    forced.verify((tmp_path / "other.pub").read_bytes())
    with pytest.raises(elu.BundleError, match="not signed by"):
        forced.verify((tmp_path / "keys" / "one.pub").read_bytes())


def test_foreign_files_in_the_directory_are_refused(field: Field, tmp_path: Path) -> None:
    """No version follows from it, no difference starts from it, and links are not followed."""
    site = tmp_path / "site"
    stranger = tmp_path / "stranger.pem"
    keys.new_key(stranger)
    mine = elu.key_id(field.key.with_suffix(".pub").read_bytes())

    def release(code: int = 0) -> str:
        options = ("--name", "wake", "--target", "band", "--key", field.key, "-o", site)
        return edgelora("release", field.folder / "9.ela", *options, code=code)

    eight = field.bundle(8)
    escapes = b"\x1b[2Jwake".ljust(24, b"\0")
    forged = {
        "wake.elu": [
            (resigned(eight, stranger, version=(1 << 32) - 1), "wrong signature"),
            (resigned(eight, stranger, key_id=b"stranger"), "not by yours"),
            (flipped(eight, 12 * 8), "wrong signature"),
            (flipped(eight, 255 * 8), "wrong signature"),
            (field.bundle(8, name=b"sleep".ljust(24, b"\0")), "not a full release"),
            (field.bundle(8, name=escapes), "not a full release"),
            (field.bundle(8, origin=7), "not a full release"),
            (field.bundle(8, result_size=1 << 30), "the limit of an update is"),
            (bytes(3 << 20), "more than"),
        ],
        "wake.v7.elu": [
            (resigned(field.bundle(7), stranger), "wrong signature"),
            (resigned(field.bundle(7), stranger, key_id=mine), "wrong signature"),
            (eight, "holds version 8"),
        ],
    }
    for name, cases in forged.items():
        for content, why in cases:
            site.mkdir()
            (site / name).write_bytes(content)
            said = release(code=1)
            assert why in said and "\x1b" not in said, (name, why, said)
            assert [path.name for path in site.iterdir()] == [name] and (site / name).read_bytes() == content
            (site / name).unlink()
            site.rmdir()
    site.mkdir()
    (tmp_path / "elsewhere.elu").write_bytes(eight)
    (site / "wake.elu").symlink_to(tmp_path / "elsewhere.elu")
    release(code=1)
    (site / "wake.elu").unlink()
    os.mkfifo(site / "wake.elu")
    assert "not a regular file" in release(code=1)


# ---- boards: desktop MicroPython with an application


class Board:
    """A folder that is a board's flash; each `run` is a start of its application."""

    def __init__(self, field: Field, folder: Path, *steps: object) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "har.elm").write_bytes(field.elm)
        trust = keys.pack_trust("band", keys.load_public_keys(field.key.with_suffix(".pub")))
        (folder / "update.trust").write_bytes(trust)
        for version in field.adapters:
            (folder / f"{version}.ela").write_bytes(field.adapters[version])
        self.run("put=7=7.ela", *steps)

    def start(self, *steps: object) -> subprocess.Popen[str]:
        command = [UNIX_BINARY, "-X", "heapsize=160K", APP, *map(str, steps)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.folder, text=True, **pipes)

    def run(self, *steps: object) -> dict[str, Any]:
        with self.start(*steps) as process:
            output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
        return json.loads(output.splitlines()[-1])


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def board(field: Field, tmp_path: Path) -> Board:
    return Board(field, tmp_path / "board")


@contextlib.contextmanager
def served(site: Path) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """A real `edgelora serve`: its address, and a function that returns its log so far."""
    with (
        open(site.parent / "serve.log", "w+") as log,
        subprocess.Popen(
            [COMMAND, "serve", site, "--host", "127.0.0.1", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        told = re.match(r"http://127.0.0.1:\d+", process.stdout.readline())
        assert told
        try:
            yield told[0], lambda: Path(log.name).read_text().splitlines()
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0


def test_update_over_http_from_release_to_confirmation(field: Field, board: Board, tmp_path: Path) -> None:
    site = tmp_path / "site"
    field.release(7, site)
    field.release(8, site)
    with served(site) as (address, log):
        url = f"{address}/wake.elu"
        fetched = board.run("start", f"fetch={url}")
        assert fetched["fetched"] == [["installed", 8]]
        assert (fetched["version"], fetched["sha256"], fetched["part"]) == (7, digest(field.adapters[7]), None)
        assert len(log()) == 1 and '"GET /wake.from-7.elu HTTP/1.0" 200' in log()[0]
        assert "is not above 8" in board.run(f"fetch={url}")["fetched"][0][1]  # also before its trial

        trial = board.run("start")
        assert (trial["version"], trial["trial"], trial["sha256"]) == (8, True, digest(field.adapters[8]))
        assert trial["in_use"] and trial["active"] == "wake"
        assert board.run("confirm")["confirmed"] == ["wake"]
        kept = board.run("start")
        assert (kept["version"], kept["trial"], kept["notices"]) == (8, False, [])

        field.release(9, site)
        assert board.run(f"fetch={url}")["fetched"] == [["installed", 9]]
        assert board.run("start")["version"] == 9
        back = board.run("start")  # not confirmed
        assert (back["version"], back["sha256"]) == (8, digest(field.adapters[8]))
        assert "9 was not confirmed: version 8 is back" in back["notices"][0]
        assert back["in_use"]
        kind, why = board.run(f"fetch={url}")["fetched"][0]
        assert (kind, "is not above 9" in why) == ("NotNewer", True)
        assert log()[-1].split('"')[1] == "GET /wake.elu HTTP/1.0"


def test_firmware_without_deflate_downloads_uncompressed_bundles(field: Field, board: Board, tmp_path: Path) -> None:
    (tmp_path / "wake.elu").write_bytes(field.bundle(8))
    with served_here(tmp_path) as address:
        refused = board.run("without=deflate", f"fetch={address}/wake.elu")["fetched"][0]
        assert refused[0] == "UpdateError" and "release with --no-compress" in refused[1]
        options = ("--name", "wake", "--key", field.key, "-o", tmp_path, "--no-compress")
        edgelora("release", field.folder / "9.ela", *options)
        assert board.run("without=deflate", f"fetch={address}/wake.elu")["fetched"] == [["installed", 9]]
    assert board.run("start")["sha256"] == digest(field.adapters[9])


# ---- servers that break off


@contextlib.contextmanager
def speaking(*answers: bytes | Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that sends the next answer to each connection, byte for byte, and hangs up."""

    def serve_all() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                received = connection.recv(4096)
                while received and b"\r\n\r\n" not in received:
                    received = connection.recv(4096)
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_all, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def answer(content: bytes, status: str = "200 OK", length: int | None = None, fields: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length or len(content)}\r\n{fields}\r\n".encode() + content


MISSING = answer(b"", "404 Not Found")


@pytest.mark.parametrize("who", ["server", "client"])
def test_interrupted_download_goes_on(who: str, field: Field, board: Board, tmp_path: Path) -> None:
    whole = field.bundle(8)
    stop = threading.Event()

    def half(connection: socket.socket) -> None:
        connection.sendall(answer(whole)[: len(whole) // 2])
        if who == "client":
            stop.wait(20)

    part = board.folder / "update.part"
    with speaking(MISSING, half) as address:
        process = board.start(f"fetch={address}/wake.elu")
        if who == "client":
            while not (part.exists() and part.stat().st_size > 600):
                assert process.poll() is None
                time.sleep(0.01)
            process.kill()
            stop.set()
        output = process.communicate()[0]
    if who == "server":
        assert "OSError" in output and "the next try continues" in output
    kept = part.stat().st_size
    assert 256 < kept < len(whole)
    assert board.run()["version"] == 7
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "wake.elu").write_bytes(whole)
    with served(tmp_path / "site") as (address, log):
        assert board.run(f"fetch={address}/wake.elu")["fetched"] == [["installed", 8]]
        assert f'"GET /wake.elu HTTP/1.0" 206 - bytes={kept}-' in log()[-1]
    assert board.run("start")["sha256"] == digest(field.adapters[8])


def test_a_download_restarts_if_a_newer_release_appears(field: Field, board: Board) -> None:
    with speaking(MISSING, answer(field.bundle(8))[:900], MISSING, answer(field.bundle(9))) as address:
        fetched = board.run(f"fetch={address}/wake.elu", f"fetch={address}/wake.elu")
    assert [what for what, _ in fetched["fetched"]] == ["OSError", "installed"]
    assert board.run("start")["version"] == 9


def test_a_server_without_ranges_serves(field: Field, board: Board) -> None:
    whole = field.bundle(8)
    no_length = b"HTTP/1.0 200 fine\r\n\r\n" + whole
    with speaking(MISSING, no_length[:900], MISSING, no_length, no_length) as address:
        fetched = board.run(f"fetch={address}/wake.elu", f"fetch={address}/wake.elu")
    assert [what for what, _ in fetched["fetched"]] == ["OSError", "installed"]


def test_a_server_that_refuses_a_range_is_asked_for_the_whole_file(field: Field, board: Board) -> None:
    whole = answer(field.bundle(8))
    refused = answer(b"", "416 Range Not Satisfiable")
    with speaking(MISSING, whole[:900], MISSING, whole, refused, MISSING, whole) as address:
        url = address.replace("127.0.0.1", "localhost") + "/wake.elu"
        fetched = board.run(*[f"fetch={url}"] * 3)["fetched"]
    assert [what for what, _ in fetched] == ["OSError", "UpdateError", "installed"]


def test_servers_that_misbehave(field: Field, board: Board) -> None:
    whole = field.bundle(8)
    moved = answer(b"", "301 Moved", fields="Location: http://elsewhere/wake.elu\r\n")
    cases: list[tuple[bytes | Callable[[socket.socket], None], str, str]] = [
        (MISSING, "UpdateError", "the server has no /wake.elu"),
        (answer(b"", "500 Oops"), "UpdateError", "status 500"),
        (moved, "UpdateError", "redirects to http://elsewhere/wake.elu"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "UpdateError", "not HTTP"),
        (b"\xff\xfe\r\n\r\n", "UpdateError", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "UpdateError", "head does not end"),
        (answer(b"<html>" * 100), "UpdateError", "not an update bundle"),
        (answer(whole, length=len(whole) + 1), "UpdateError", "declares"),
        (answer(whole, length=1 << 40), "UpdateError", "declares"),
        (answer(whole, "206 Partial"), "UpdateError", "another part"),
        (answer(whole, fields="Transfer-Encoding: chunked\r\n"), "UpdateError", "unusable"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + whole + b"x", "UpdateError", "longer than"),
        (answer(whole[:100]), "OSError", "ended the connection"),
        (b"", "OSError", "ended the connection"),
        (lambda connection: time.sleep(1.5), "OSError", "silent"),
    ]
    for answered, kind, why in cases:
        with speaking(MISSING, answered) as address:
            state = board.run(f"fetch={address}/wake.elu")
        assert state["fetched"][0][0] == kind and why in state["fetched"][0][1], state
        assert why != "silent" or state["steps"] > 20  # the board continued to work while the server was silent
        assert (state["version"], state["sha256"], state["part"]) == (7, digest(field.adapters[7]), None)
    state = board.run("fetch=http://127.0.0.1:1/wake.elu", "fetch=https://127.0.0.1/wake.elu", "fetch=http://x/wake")
    assert [kind for kind, _ in state["fetched"]] == ["OSError", "UpdateError", "UpdateError"]


@pytest.mark.parametrize("at", ["head", "body"])
def test_a_download_from_a_very_slow_server_is_stopped_and_resumed(at: str, field: Field, board: Board) -> None:
    whole = answer(field.bundle(8))
    sent = 10 if at == "head" else len(whole) // 2

    def drip(connection: socket.socket) -> None:
        connection.sendall(whole[:sent])
        with contextlib.suppress(OSError):
            for byte in whole[sent : sent + 300]:
                connection.sendall(bytes([byte]))  # never silent for the board's timeout
                time.sleep(0.1)

    with speaking(MISSING, drip, MISSING, whole, whole) as address:
        url = f"{address}/wake.elu"
        state = board.run("within=2000", f"fetch={url}", "within=60000", f"fetch={url}")
    (kind, why), installed = state["fetched"]
    assert kind == "OSError" and "takes too long; the next try continues" in why
    assert installed == ["installed", 8]


# ---- the host as a client, and as a server


def test_update_from_servers_that_misbehave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gives one clear error, and never more data than requested."""
    monkeypatch.setattr(download, "SILENCE", 0.5)

    def trickle(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for _ in range(300):
                connection.sendall(b"X-More: 1\r\n")
                time.sleep(0.02)

    def endless(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                connection.sendall(bytes(65536))

    to_file = answer(b"", "302 Found", fields="Location: file:///etc/hostname\r\n")
    to_ftp = answer(b"", "302 Found", fields="Location: ftp://127.0.0.1/x\r\n")
    cases: list[tuple[bytes | Callable[[socket.socket], None], str]] = [
        (MISSING, "the server answers 404 Not Found"),
        (answer(b"", "404 \x1b[2JGone"), r"the server answers 404 .x1b\[2JGone"),
        (answer(b"x", "204 Empty"), "the server answers 204"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "is not HTTP"),
        (b"HTTP/1.1 \xff\x1b\r\n\r\n", "is not HTTP"),
        (b"", "is not HTTP|hung up|closed"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "is not HTTP"),
        (answer(b"half", length=8), "sent 4 bytes of 8"),
        (answer(b"x", length=1 << 40), "more than 1000 bytes"),
        (answer(bytes(2000)), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx", "is not HTTP"),
        (to_file, "not allowed|answers 302"),
        (to_ftp, "unknown url type|not a valid address|answers 302"),
        (endless, "more than 1000 bytes"),
        (lambda connection: time.sleep(1.5), "timed out"),
        (trickle, "no complete answer within 1 s|is not HTTP"),
    ]
    for answered, why in cases:
        with speaking(answered) as address, pytest.raises(FetchError) as told:
            updates_download.fetch(f"{address}/wake.elu", 1000, 1)
        assert re.search(why, str(told.value)) and str(told.value).isprintable(), (why, told.value)
    for url, why in (
        ("http://127.0.0.1:1/x.elu", "is the address right"),
        ("http://127.0.0.1:port/x.elu", "not HTTP|not a valid address|nonnumeric"),
        ("http://a\x1b b/x.elu", "not HTTP|not a valid address|can't contain"),
        ("http://" + "a" * 300 + "/x.elu", "not a valid address|is the address right"),
        ("http:///x.elu", "no host|not a valid address"),
    ):
        with pytest.raises(FetchError, match=why) as told:
            updates_download.fetch(url, 1000)
        assert str(told.value).isprintable()
    with speaking(answer(b"SSH")) as address, pytest.raises(FetchError, match="is the address right"):
        updates_download.fetch(f"{address}/x.elu".replace("http:", "https:"), 1000)
    with speaking(answer(b"good", fields="Content-Type: x\r\n")) as address:
        assert updates_download.fetch(f"{address}/x.elu", 4) == b"good"


def test_serve_exposes_only_its_releases(tmp_path: Path) -> None:
    """Links are not served, requests can't control the terminal, aborted connections cause no traceback."""
    site, logged = tmp_path / "site", []
    site.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (site / "wake.elu").write_bytes(b"bundle")
    (site / "link.elu").symlink_to(tmp_path / "secret")
    (site / "folder.elu").mkdir()
    os.mkfifo(site / "pipe.elu")
    (site / "large.elu").write_bytes(bytes(3 << 20))

    def ask(request: bytes) -> bytes:
        with socket.create_connection(server.server_address[:2], timeout=10) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    with serve.server(site, "127.0.0.1", 0, logged.append) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert ask(b"GET /wake.elu HTTP/1.0\r\n\r\n").endswith(b"bundle")
        for name in (b"link", b"folder", b"pipe", b"large", b"../secret", b"x" * 300):
            said = ask(b"GET /" + name + b".elu HTTP/1.0\r\n\r\n")
            assert b" 404 " in said and b"secret" not in said, name
        digits = b"9" * 5000
        assert ask(b"GET /wake.elu HTTP/1.0\r\nRange: bytes=" + digits + b"-\r\n\r\n").endswith(b"bundle")
        ask(b"GET /\x1b[2J\x9b31m\r HTTP/1.0\r\nRange: \x1b[2J\r\n\r\n")
        ask(b"\x1b]0;gone\x07\r\n\r\n")
        server.handle_error(None, ("127.0.0.1", 1))
        server.shutdown()
    assert len(logged) >= 10 and all(line.isprintable() for line in logged), logged


def test_serve_closes_connections_of_clients_that_hold_too_many(tmp_path: Path) -> None:
    """Others are served meanwhile, and idle connections are closed in the end."""
    (tmp_path / "wake.elu").write_bytes(b"bundle")
    with contextlib.ExitStack() as held, served_here(tmp_path) as address:
        port = int(address.rpartition(":")[2])

        def hold() -> socket.socket:
            line = held.enter_context(socket.create_connection(("127.0.0.1", port), 20, ("127.0.0.7", 0)))
            line.sendall(b"GET /wake.elu HT")
            return line

        for _ in range(serve.EACH):
            hold()
        with contextlib.suppress(ConnectionError):
            assert hold().recv(1) == b""
        with urllib.request.urlopen(f"{address}/wake.elu", timeout=20) as answer:
            assert answer.read() == b"bundle"


# ---- bundles that are hostile or broken


def hostile(field: Field) -> dict[str, tuple[bytes, str]]:
    """Bundles that boards with version 7, which fell back from 8, must refuse, with the reason."""
    good, delta = field.bundle(9), field.bundle(9, origin=7)
    adapter, key = field.adapters[9], field.key
    stranger = field.folder / "stranger.pem"
    if not stranger.exists():
        keys.new_key(stranger)
    unpacked = {"packing": 0, "content": adapter}
    malformed = bytearray(adapter)
    malformed[46:60] = b"\xff" * 14
    malformed[12:16] = struct.pack("<I", zlib.crc32(malformed[16:]))
    frozen = Recipe(mode="frozen_a", rank=4)
    narrow = TwinLearner(field.elm, frozen.settings(field.elm), 1)
    narrow.begin(1)
    others = {
        "narrow": narrow.save(False),
        "malformed": bytes(malformed),
        "noise": np.random.default_rng(0).bytes(2000),
    }

    def holding(name: str) -> bytes:
        content = others[name]
        sized = {"result_size": len(content), "result_sha256": hashlib.sha256(content).digest()}
        return resigned(good, key, packing=0, content=content, **sized)

    return {
        "rollback": (field.bundle(6), "version 6 of wake is not above 8"),
        "replay of the one in use": (field.bundle(7), "version 7 of wake is not above 8"),
        "replay of one that fell back": (field.bundle(8), "version 8 of wake is not above 8"),
        "wrong base": (field.bundle(9, base_id=b"12345678"), "made for base 3132333435363738"),
        "wrong target": (field.bundle(9, target=b"toaster".ljust(24, b"\0")), "made for toaster, this is band"),
        "wrong name": (field.bundle(9, name=b"sleep".ljust(24, b"\0")), "this is adapter sleep, not wake"),
        "unknown key": (resigned(good, stranger, key_id=b"stranger"), "does not trust"),
        "stranger's signature": (resigned(good, stranger), "signature is wrong"),
        "flipped bit of the version": (flipped(good, 12 * 8 + 6), "signature is wrong"),
        "flipped bit of a hash": (flipped(good, 100 * 8), "signature is wrong"),
        "flipped bit of the signature": (flipped(good, 230 * 8), "signature is wrong"),
        "flipped bit of S": (flipped(good, 255 * 8 + 7), "signature is wrong"),
        "flipped bit of the payload": (flipped(good, len(good) * 8 - 9), "payload is damaged"),
        "truncated": (good[:-1], "truncated|declares"),
        "truncated in its header": (good[:200], "within its header|ended"),
        "nothing": (b"", "within its header|ended"),
        "longer than declared": (good + b"\0", "longer than|declares"),
        "oversize": (field.bundle(9, result_size=1 << 20), "this board takes 1 to 65536"),
        "oversize payload": (field.bundle(9, payload_size=70000), "this board takes 1 to 65536|declares"),
        "empty": (field.bundle(9, result_size=0), "this board takes 1 to 65536"),
        "change of another version": (field.bundle(9, origin=9), "not what this board has"),
        "change that makes something else": (
            resigned(delta, key, result_sha256=bytes(32)),
            "does not make the adapter",
        ),
        "bomb": (resigned(good, key, content=deflated(bytes(1 << 20))), "does not unpack"),
        "garbage": (resigned(good, key, content=b"\x07garbage"), "does not unpack"),
        "unpacks to less": (resigned(good, key, content=deflated(adapter[:-1])), "does not unpack"),
        "wrong result": (resigned(good, key, **unpacked, result_sha256=bytes(32)), "does not make the adapter"),
        "malformed adapter": (holding("malformed"), "does not fit"),
        "no adapter": (holding("noise"), "does not fit"),
        "other ranks": (holding("narrow"), "does not fit"),
        "format of the future": (field.bundle(9, format=2), "older"),
        "kind of the future": (field.bundle(9, kind=3), "older"),
        "no bundle": (b"<html>" * 100, "not an update bundle"),
    }


def test_hostile_bundles_over_http(field: Field, tmp_path: Path) -> None:
    with served_here(tmp_path) as address:
        (tmp_path / "wake.elu").write_bytes(field.bundle(8))
        board = Board(field, tmp_path / "board", f"fetch={address}/wake.elu", "start", "start")
        for name, (content, why) in hostile(field).items():
            (tmp_path / "wake.elu").write_bytes(content)
            state = board.run(f"fetch={address}/wake.elu", "start")
            kind, said = state["fetched"][0]
            assert kind in ("UpdateError", "NotNewer") or name in ("truncated in its header", "nothing"), (name, said)
            assert re.search(why, said), (name, said)
            assert (state["version"], state["active"], state["in_use"], state["part"]) == (7, "wake", True, None), name
            assert state["sha256"] == digest(field.adapters[7]), name
        (tmp_path / "wake.elu").write_bytes(field.bundle(9, origin=7))
        assert board.run(f"fetch={address}/wake.elu")["fetched"] == [["installed", 9]]
        assert board.run("start")["sha256"] == digest(field.adapters[9])


@contextlib.contextmanager
def served_here(site: Path) -> Iterator[str]:
    with serve.server(site, "127.0.0.1", 0, lambda line: None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def own_samples(field: Field, count: int = 20) -> Samples:
    """The user's last windows, held out."""
    har = datasets_har.load_har(3)
    model = unpack_model(field.elm)
    every = np.arange(0, len(har.test), len(har.test) // count)
    return Samples(model.input.quantize(har.test.x[every]), har.test.y[every])


def spoiled(field: Field, *versions: int) -> None:
    """Replaces adapters of these versions by valid ones with low accuracy."""
    for version in versions:
        adapter = unpack_adapter(field.adapters[8])
        for layer in adapter.layers:
            layer.b = np.random.default_rng(version).integers(-90, 91, layer.b.shape).astype(np.int8)
        field.adapters[version] = pack_adapter(adapter)


@pytest.mark.parametrize("kept_in", ["a reservoir", "a sample file"])
def test_an_update_that_is_worse_on_the_boards_own_samples_is_not_kept(
    kept_in: str, field: Field, tmp_path: Path
) -> None:
    own, base_id = own_samples(field), formats_elm.base_id(field.elm)
    field = replace(field, adapters=dict(field.adapters))
    spoiled(field, 20, 21)
    x, labels = np.zeros((80, *own.x.shape[1:]), np.int8), np.full(80, -1)
    x[60:], labels[60:] = own.x[:20], own.y[:20]
    content = pack_reservoir(x, labels, np.full(7, 8), 0, base_id)
    if kept_in == "a sample file":
        content = pack_samples(own.x, own.y, None, base_id)
    with served_here(tmp_path) as address:
        board = Board(field, tmp_path / "board", "start")
        place = board.folder / ("own.elr" if kept_in == "a reservoir" else "held.eld")

        def fetched(version: int, *then: str) -> dict[str, Any]:
            (tmp_path / "wake.elu").write_bytes(field.bundle(version))
            return board.run(f"fetch={address}/wake.elu", *then)

        place.write_bytes(content)
        state = fetched(20, "start")
        kind, said = state["fetched"][0]
        assert kind == "Worse" and re.search(r"version 20 of wake is worse .* of \d+, \d+ are correct", said)
        assert (state["version"], state["trial"], state["active"], state["part"]) == (7, False, "wake", None)
        assert state["in_use"] and state["notices"] == [said] and state["declined"] == [["wake", 20]]
        state = fetched(20)
        assert state["fetched"][0][0] == "NotNewer" and state["declined"] == [["wake", 20]]
        place.write_bytes(content[:40])  # a damaged or too small file is ignored
        assert fetched(21, "start", "start")["fetched"] == [["installed", 21]]
        place.write_bytes(content)
        field.adapters[23] = field.adapters[9]  # as many correct as version 7, or more
        assert fetched(23)["fetched"] == [["installed", 23]]
        state = board.run("start")
        assert (state["version"], state["trial"]) == (23, True)
        assert board.run("confirm")["declined"] == []


def test_power_cut_at_every_flash_operation(field: Field, board: Board) -> None:
    (board.folder / "update.elu").write_bytes(field.bundle(8, origin=7))
    said = desktop(board.folder, "import update_cuts; update_cuts.main()")
    ended = re.search(r"^CUTS (\d+) 0$", said, re.MULTILINE)
    assert ended and int(ended[1]) > 40, said[-3000:]


# ---- over serial


@pytest.fixture
def plugged(field: Field, tmp_path: Path) -> Iterator[str]:
    """The port of a desktop board at its agent, with the base and version 7 of the adapter, but no keys."""
    image = build.build_firmware("unix", {"har.elm": field.elm}, tmp_path / "har.romfs")
    state = tmp_path / "plugged"
    state.mkdir()
    code = (
        "import edgelora\nfrom edgelora.store import Store, default_place\nstore = Store(default_place())\n"
        f"store.put('wake', edgelora.read({str(field.folder / '7.ela')!r}), 7)\nstore.activate('wake')"
    )
    desktop(state, code)
    with running("unix", image, state) as handle:
        yield handle.port


def test_other_keys_replace_trusted_ones_only_by_force(field: Field, plugged: str, tmp_path: Path) -> None:
    wake = tmp_path / "wake.elu"
    wake.write_bytes(field.bundle(8))
    public = field.key.with_suffix(".pub")
    assert "trusts no key yet" in edgelora("update", wake, "--port", plugged, code=1)
    assert result("update", "--status", "--port", plugged)["keys"] == []
    assert "go together" in edgelora("update", "--trust", public, "--port", plugged, code=1)
    edgelora("update", "--trust", public, "--target", "band", "--port", plugged)
    edgelora("update", "--trust", public, "--target", "band", "--port", plugged)
    keys.new_key(tmp_path / "next.pem")
    both = ("--trust", public, tmp_path / "next.pub", "--target", "band", "--port", plugged)
    assert "--force" in edgelora("update", *both, code=1)
    ids = [elu.key_id(path.read_bytes()).hex() for path in (public, tmp_path / "next.pub")]
    assert sorted(result("update", *both, "--force")["keys"]) == sorted(ids)
    wake.write_bytes(resigned(field.bundle(8), tmp_path / "next.pem", key_id=bytes.fromhex(ids[1])))
    with served(tmp_path) as (address, _):
        assert result("update", f"{address}/wake.elu", "--port", plugged)["installed"] == ["wake", 8]
        assert "404" in edgelora("update", f"{address}/sleep.elu", "--port", plugged, code=1)
    assert "nothing to confirm" in edgelora("update", "--confirm", "--port", plugged, code=1)


@pytest.mark.parametrize("what", ["check", "validate"])
def test_a_board_without_memory_is_recognized(
    what: str, field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the class of the board's error, whether the memory is lacking for the check or for the evaluation."""

    def full(*_: Any) -> None:
        raise MemoryError

    update, checks = device.module("update"), device.module("_update_check")
    (tmp_path / "own").touch()
    updater = update.Updater(SimpleNamespace(find=lambda name: None), [], "band", own=[str(tmp_path / "own")])
    updater._head = update.Header(field.bundle(8)[: update.HEADER_SIZE])
    monkeypatch.setattr(update, "open_base", full)
    monkeypatch.setattr(checks, "held_in", lambda own, model: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(checks, "compare", full)
    with pytest.raises(update.NoMemory, match=f"no memory to {what} the adapter") as refused:
        updater._check(field.adapters[8]) if what == "check" else next(updater._weigh(None, b""))
    assert DeviceError(type(refused.value).__name__, str(refused.value)).lacks_memory
    assert not DeviceError("UpdateError", "no memory to check the adapter").lacks_memory


def test_a_worse_update_is_reported_over_serial(field: Field, plugged: str, tmp_path: Path) -> None:
    own, at = own_samples(field), ("--port", plugged)
    field = replace(field, adapters=dict(field.adapters))
    spoiled(field, 20)
    (tmp_path / "wake.elu").write_bytes(field.bundle(20))
    (tmp_path / "held.eld").write_bytes(pack_samples(own.x, own.y, None, formats_elm.base_id(field.elm)))
    edgelora("update", "--trust", field.key.with_suffix(".pub"), "--target", "band", *at)
    edgelora("push", tmp_path / "held.eld", *at)
    assert "worse on the board's own samples" in edgelora("update", tmp_path / "wake.elu", *at, code=1)
    assert result("update", "--status", *at)["declined"] == [["wake", 20]]
    assert "wake 20 was not kept" in edgelora("update", "--status", *at)
    assert "not above 20" in edgelora("update", tmp_path / "wake.elu", *at, code=1)


def refuses_all(link: Link, bundles: dict[str, tuple[bytes, str]]) -> None:
    """Each bundle is refused over serial for its reason, and the board is unchanged."""
    before = link.update_state()
    for name, (content, why) in bundles.items():
        with pytest.raises(DeviceError, match=why):
            link.update(content)
        assert link.update_state() == before, name
        waits = name in ("truncated", "truncated in its header", "nothing")  # its last byte is missing, so it is kept
        assert waits or link.size("/update.part") is None, name


PICO_APP = b"""
import edgelora
from edgelora.store import Store, default_place
model = edgelora.Model("/rom/har.elm", 8, "infer")
store = Store(default_place())
store.open(model)
store.start()
"""


class Pico:
    """A virtual Pico whose power can be cut; its application runs after each start."""

    def __init__(self, image: Path, state: Path) -> None:
        self.state = state
        self.handle = virtual_board.start("virtual-pico", image, state, die_with_parent=True)
        self.port = self.handle.port

    def restart(self) -> None:
        self.handle.kill()
        self.handle = virtual_board.start("virtual-pico", None, self.state, die_with_parent=True)
        execute(self.port, "from app import *")

    def wake(self) -> tuple[int, str]:
        """Version and SHA-256 of the application's active adapter."""
        digested = "binascii.hexlify(hashlib.sha256(store._in_use()[0]).digest()).decode()"
        version, sha256 = execute(
            self.port, f"import hashlib, binascii\nprint(store.find('wake').version, {digested})"
        ).split()
        return int(version), sha256


@fresh.in_full_runs("desktop boards are updated in the same way, and test_readme.py updates a Pico")
def test_virtual_pico_is_updated_over_serial(field: Field, tmp_path: Path) -> None:
    image = build.build_firmware("virtual-pico", {"har.elm": field.elm}, tmp_path / "fw.uf2")
    pico = Pico(image, tmp_path / "pico")
    site = tmp_path / "site"
    app = tmp_path / "app.py"
    app.write_bytes(PICO_APP)

    def update(*args: object, **options: int) -> str:
        return edgelora("update", *args, "--port", pico.port, **options)

    try:
        update("--trust", field.key.with_suffix(".pub"), "--target", "band")
        edgelora("push", app, "--port", pico.port)
        edgelora("push", field.folder / "7.ela", "--port", pico.port)
        execute(pico.port, "from app import *\nstore.put('wake', edgelora.read('/7.ela'), 7)\nstore.activate('wake')")
        field.release(7, site)
        field.release(8, site)
        delta = (site / "wake.from-7.elu").read_bytes()
        with Link.connect(pico.port) as link:  # the host disconnects in the middle, then the power fails
            assert json.loads(link._request(Op.UPDATE_OPEN, delta[:256])) == {"offset": 0}
            link._request(Op.UPDATE_DATA, struct.pack("<I", 0) + delta[256:500])
        execute(pico.port, "pass")  # the agent has ended and saved the part
        pico.restart()
        assert pico.wake() == (7, digest(field.adapters[7]))
        with Link.connect(pico.port) as link:
            assert json.loads(link._request(Op.UPDATE_OPEN, delta[:256])) == {"offset": 244}
            link._request(Op.UPDATE_DATA, struct.pack("<I", 244) + delta[500:])
            link._request(Op.UPDATE_DONE)
        pico.restart()
        assert pico.wake() == (8, digest(field.adapters[8]))
        pico.restart()  # not confirmed
        assert pico.wake() == (7, digest(field.adapters[7]))

        # Over serial no name is given, and no application's model fixes the ranks.
        bundles = {name: made for name, made in hostile(field).items() if name not in ("wrong name", "other ranks")}
        assert len(bundles) >= 12
        if not fresh.FULL:  # each takes seconds in the emulator; desktop MicroPython runs the same code for all of them
            chosen = random.Random(fresh.SEED).sample(
                sorted(bundles.keys() - {"truncated"}), 4
            )  # which waits for its rest
            bundles = {name: made for name, made in bundles.items() if name in chosen}
        with Link.connect(pico.port) as link:
            refuses_all(link, bundles)
        pico.restart()
        assert pico.wake() == (7, digest(field.adapters[7]))
        field.release(9, site)
        assert "installed wake 9" in update(site / "wake.from-7.elu")
        pico.restart()
        assert "confirmed wake" in update("--confirm")
        pico.restart()
        assert pico.wake() == (9, digest(field.adapters[9]))
    finally:
        pico.handle.kill()
