"""A SuperLink on a network: a stranger who only has its certificate authority's file can't run code on it."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
import sys
import time
from http.client import HTTPSConnection
from pathlib import Path

import flwr
import pytest

from edgelora.fleet import deployment
from edgelora.fleet.deployment import QUIET, Deployment, address_of, free_port, write_config, write_project
from edgelora.fleet.federation import Federation
from edgelora.fleet.plan import Plan
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.fleet.superlink import write_credentials

PLAN = Plan(boards=4, rounds=1, masks=False, seed=7, deadline=60.0)
VERSION = {"flwr-package-name": "flwr", "flwr-package-version": flwr.__version__, "flwr-component-name": "any"}
OUTSIDE = "127.0.0.2"  # an address of this computer other than loopback's usual one
APP = """
from flwr.serverapp import ServerApp
from flwr.clientapp import ClientApp

app = ServerApp()
client = ClientApp()

@app.main()
def main(grid, context):
    open({!r}, "w").close()
"""


class Stranger:
    """A stranger with `ca.crt` and an app. Runs `flwr`."""

    def __init__(self, folder: Path, authority: Path, mark: Path) -> None:
        self.folder, self.authority = folder, authority
        write_project(folder, "har")  # for its form
        (folder / "app" / "fleet_app" / "server.py").write_text(APP.format(str(mark)))
        (folder / "app" / "fleet_app" / "client.py").write_text(APP.format(str(mark)).replace("client =", "app ="))

    def run(self, address: str) -> bool:
        """Whether the SuperLink at this address accepted the run."""
        write_config(self.folder, address, f"root-certificates = {json.dumps(str(self.authority))}\n")
        command = [Path(sys.executable).parent / "flwr", "run", self.folder / "app", "fleet", "--format", "json"]
        environment = os.environ | QUIET | {"FLWR_HOME": str(self.folder / "flower")}
        done = subprocess.run(command, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
        return b'"success": true' in done.stdout


@pytest.mark.timeout(900)
def test_a_stranger_runs_nothing_where_nodes_come_in(tmp_path: Path) -> None:
    Federation.create(tmp_path / "fed", PLAN, fleet_base())
    port = free_port()
    write_project(tmp_path / "fed", "har", address=f"{OUTSIDE}:{port}")
    assert address_of(tmp_path / "fed") == f"{OUTSIDE}:{port}"
    mark = tmp_path / "owned"
    stranger = Stranger(tmp_path / "stranger", tmp_path / "fed" / "tls" / "ca.crt", mark)
    authority = json.dumps(str(stranger.authority))
    write_config(tmp_path / "fed", f"{OUTSIDE}:{port}", f"root-certificates = {authority}\n")  # as in old versions
    with Deployment(tmp_path / "fed", port, OUTSIDE) as made:
        made.start_superlink()
        assert not stranger.run(f"{OUTSIDE}:{port}")
        context = ssl.create_default_context(cafile=str(stranger.authority))
        for method, path, status in (
            ("POST", "/v1/control/list-runs", 404),
            ("POST", "/v1/runtime/acquire-task", 404),
            ("POST", "/v1/fleet/../control/list-runs", 404),
            ("POST", "//v1/fleet/../../control/list-runs", 404),
            ("GET", "/docs", 501),
            ("GET", "/v1/fleet/get-run", 501),
            ("POST", "/v1/fleet/register-node", 401),
        ):
            line = HTTPSConnection(OUTSIDE, port, context=context, timeout=30)
            line.request(method, path, b"", {"Content-Type": "application/protobuf"})
            assert line.getresponse().status == status, path
            line.close()
        for place in range(2):
            made.start_node(f"node{place}", free_port())
        made.wait_nodes(2)  # they connect, unlike the stranger
        run = made.run()
        made.wait_run(run)
        shown = subprocess.run(
            [Path(sys.executable).parent / "flwr", "log", str(run), "--show"],
            env=os.environ | QUIET | {"FLWR_HOME": str(tmp_path / "fed" / "flower")},
            capture_output=True, text=True, timeout=120,
        ).stdout  # fmt: skip
        assert "[ROUND 1/1] round 1: 4 of 4 boards" in shown and "Aggregated MetricRecord" in shown
        assert "survivors" in shown[shown.index("Final results") :]  # flwr's output for a run
        end = time.monotonic() + 5
        while time.monotonic() < end:
            assert not mark.exists()
            time.sleep(0.2)
    assert Federation.open(tmp_path / "fed").rounds[0].survivors == 4


def test_a_stranger_with_an_account_here_runs_nothing_either(tmp_path: Path) -> None:
    """A user who can't read the token of the SuperLink's owner. With the token code runs, so the test can fail."""
    write_project(tmp_path / "fed", "har", address=f"{OUTSIDE}:{free_port()}")
    mark, home = tmp_path / "owned", tmp_path / "fed" / "flower"
    stranger = Stranger(tmp_path / "stranger", tmp_path / "fed" / "tls" / "ca.crt", mark)
    with Deployment(tmp_path / "fed", int(address_of(tmp_path / "fed").split(":")[1]), OUTSIDE) as made:
        made.start_superlink()
        assert made.control.startswith("127.0.0.1:")
        for name in ("credentials.yaml", "superlink.secret"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        assert not stranger.run(made.control)
        token = (home / "credentials.yaml").read_text()
        mine = tmp_path / "stranger" / "flower" / "credentials.yaml"
        write_credentials(mine.parent, made.control)  # the stranger's own
        assert mine.read_text() != token and not stranger.run(made.control)
        context = ssl.create_default_context(cafile=str(stranger.authority))
        for path, refused in (
            ("control/list-runs", {401}),
            ("control/start-run", {401}),
            ("control/get-auth-tokens", range(400, 600)),
            ("control/refresh-auth-tokens", range(400, 600)),
            ("runtime/acquire-task", {401}),
        ):
            line = HTTPSConnection("127.0.0.1", int(made.control.split(":")[1]), context=context, timeout=30)
            line.request("POST", f"/v1/{path}", b"", {"Content-Type": "application/protobuf"} | VERSION)
            assert line.getresponse().status in refused, path
            line.close()
        assert not mark.exists()
        mine.write_text(token)
        assert stranger.run(made.control)
        made.wait(mark.exists, "superlink", deployment.READY_SECONDS)
