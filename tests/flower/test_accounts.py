"""Another account on the fleet's computer, with nothing but /proc and loopback, acts as nobody of the fleet."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import ssl
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flwr
import pytest
from flwr.proto.control_pb2 import StartAutomationRequest

from edgelora.base.errors import FileError
from edgelora.fleet.deployment import Deployment, family, free_port, write_project
from edgelora.fleet.federation import Federation
from edgelora.fleet.plan import Plan
from edgelora.fleet.simulated_boards import fleet_base

NOBODY = 65534
VERSION = {"flwr-package-name": "flwr", "flwr-package-version": flwr.__version__, "flwr-component-name": "any"}
TOKEN = re.compile(r"[0-9a-f]{64,}")
PUBLIC = {"plan.json", "base.elm", "global.ela", "tls/ca.crt", "tls/server.crt", "nodes/node0.pub"}
APP = """
import pathlib, time
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

app = ServerApp()
client = ClientApp()

def wait(name):
    pathlib.Path({0!r}, name).touch()
    while not pathlib.Path({0!r}, "end").exists():
        time.sleep(0.1)

@app.main()
def main(grid, context):
    asked = [Message(RecordDict(), dst_node_id=node, message_type="train") for node in grid.get_node_ids()]
    grid.push_messages(asked)
    wait("server")

@client.train()
def train(message, context):
    wait("client")
    return Message(RecordDict(), reply_to=message)
"""


def as_nobody(folder: Path, do: Callable[[], Any]) -> Any:
    """What a function returns, as JSON, in a process of another account that stands in `folder`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)  # whoever may enter the folders above
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writing, json.dumps(do()).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(said)


def tokens_in_proc(pids: list[int]) -> list[str]:
    """Tokens that /proc shows of these processes: in their command lines, environments and files given as input."""
    found = []
    for pid in pids:
        for name in ("cmdline", "environ", "fd/0"):
            place = Path("/proc", str(pid), name)
            with contextlib.suppress(OSError):
                if stat.S_ISREG(place.stat().st_mode):  # never a pipe: reading would take what it holds
                    found += TOKEN.findall(place.read_bytes().decode(errors="replace"))
    return found


def readable_files() -> list[str]:
    """The files here that can be read."""
    names = [os.path.relpath(os.path.join(folder, name)) for folder, _, files in os.walk(".") for name in files]
    return sorted(name for name in names if os.access(name, os.R_OK))


def status(address: str, path: str, token: str, body: bytes, context: ssl.SSLContext) -> int:
    """The HTTP status of a request to Flower's interface for apps."""
    host, _, port = address.partition(":")
    line = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    fields = {"Content-Type": "application/protobuf", "flwr-task-token": token, **VERSION}
    line.request("POST", f"/v1/runtime/{path}", body, fields)
    found = line.getresponse().status
    line.close()
    return found


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can act as another account")
@pytest.mark.usefixtures("usual_umask")
@pytest.mark.timeout(300)
def test_another_account_acts_as_nobody_of_the_fleet(tmp_path: Path) -> None:
    """While apps of a server and of a node run. The folder existed, and everybody may enter it."""
    fed, marks = tmp_path / "fed", tmp_path / "marks"
    fed.mkdir()
    marks.mkdir()
    Federation.create(fed, Plan(boards=2, rounds=1, masks=False, seed=7), fleet_base())
    port, runtime = free_port(), free_port()
    write_project(fed, "har", address=f"127.0.0.1:{port}")
    app = fed / "app" / "fleet_app"
    (app / "server.py").write_text(APP.format(str(marks)))
    (app / "client.py").write_text(APP.format(str(marks)).replace("app =", "other =").replace("@app", "@other")
                                   .replace("client =", "app =").replace("@client", "@app"))  # fmt: skip
    context = ssl.create_default_context(cafile=str(fed / "tls" / "ca.crt"))
    automation = StartAutomationRequest()
    automation.start_run_request.series_id = 1
    with Deployment(fed, port) as made:
        made.start_superlink()
        made.start_node("node0", runtime)
        made.wait_nodes(1)
        made.run()
        made.wait((marks / "client").exists, "node0")
        addresses = [made.control, f"127.0.0.1:{runtime}"]

        pids = [pid for process in made.processes.values() for pid in family(process.pid)]

        def attack() -> Any:
            found = tokens_in_proc(pids)
            asked = [
                (address, path, status(address, path, token, body, context))
                for address in addresses
                for path, body in (
                    ("acquire-task", b""),
                    ("pull-task-input", b""),
                    ("pull-messages", b""),
                    ("start-automation", automation.SerializeToString()),
                )
                for token in {*found, "0" * 256}
            ]
            return {"tokens": found, "files": readable_files(), "asked": asked}

        found = as_nobody(fed, attack)
        accepted = [one for one in found["asked"] if one[2] != 401]
        secret = {name for name in found["files"] if not name.startswith("app/")} - PUBLIC
        assert (found["tokens"], accepted, secret) == ([], [], set())
        whole = tokens_in_proc(pids)
        owned = [status(made.control, "send-task-heartbeat", token, b"", context) for token in whole]
        assert 200 in owned  # the owner does find the token, and it is good for something
        scheduled = [
            status(made.control, "start-automation", token, automation.SerializeToString(), context) for token in whole
        ]
        assert not [one for one in scheduled if one < 400]
        (marks / "end").touch()


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no modes there")
def test_files_of_flower_are_for_their_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of an earlier version; where modes have no effect, nothing starts."""
    home = tmp_path / "flower"
    home.mkdir()
    home.chmod(0o755)
    write_project(tmp_path, "har")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    home.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)  # as on a file system without permissions
    with pytest.raises(FileError, match="can enter .*flower.*file system with permissions"):
        Deployment(tmp_path, free_port()).start_superlink()
