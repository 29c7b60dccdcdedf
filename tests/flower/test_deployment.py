"""A deployment with TLS and authenticated nodes: strangers are refused; a frozen or killed node only drops out."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from fresh import in_full_runs
from waiting import until

from edgelora.fleet.deployment import Deployment, free_port, write_project
from edgelora.fleet.federation import Federation
from edgelora.fleet.plan import Plan
from edgelora.fleet.simulated_boards import fleet_base

PLAN = Plan(boards=9, rounds=4, masks=False, seed=7, deadline=40.0)
MOST_WAIT = 300.0
MOST_SECONDS = 90.0  # of a round with a frozen node and a dead one


def test_no_connection_takes_a_free_port() -> None:
    """Systems give these ports from 32768 on. The next port is free, too, where a SuperLink may listen for commands."""
    for _ in range(20):
        port = free_port()
        assert 20_000 <= port < 32_000
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 1))


@in_full_runs("two minutes of processor time; test_strangers.py has a deployment, too")
@pytest.mark.timeout(1500)
def test_strangers_frozen_and_killed_nodes_and_a_killed_server(tmp_path: Path) -> None:
    base = fleet_base()
    Federation.create(tmp_path, PLAN, base)
    port = free_port()
    write_project(tmp_path, "har", address=f"127.0.0.1:{port}")

    def now() -> Federation:
        return Federation.open(tmp_path)

    with Deployment(tmp_path, port) as deployment:
        deployment.start(nodes=3)
        deployment.start_node("stranger", free_port(), register=False)
        until(lambda: deployment.processes["stranger"].poll() is not None, MOST_WAIT)
        assert deployment.processes["stranger"].returncode != 0 and deployment.nodes_online() == 3
        deployment.run()
        until(lambda: now().done >= 1, MOST_WAIT)
        assert now().rounds[0].survivors == 9
        deployment.signal("node0", signal.SIGSTOP)
        until(lambda: len(now().asked) >= 2, MOST_WAIT)
        deployment.signal("node1", signal.SIGKILL)
        until(lambda: now().done >= 2, MOST_WAIT)
        hurt = now().rounds[1]
        assert 0 < hurt.survivors < 9 and hurt.seconds < MOST_SECONDS
        deployment.signal("node0", signal.SIGCONT)
        deployment.stop("superlink", signal.SIGKILL)
        stood = now().sha256, now().done
        deployment.start_superlink()
        deployment.register("node0")
        deployment.wait_nodes(2)
        assert (now().sha256, now().done) == stood or now().done == stood[1] + 1
        deployment.wait_run(deployment.run())
    assert now().done == PLAN.rounds and now().rounds[-1].survivors == 9
    assert len(now().asked) >= PLAN.rounds
