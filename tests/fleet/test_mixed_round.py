"""A round of different boards through the gateway, with noise and masks, gives the same bytes as twins alone."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from commands import edgelora, execute, result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fleet_boards import learned
from fresh import FULL
from numpy.typing import NDArray

from edgelora.base.resources import ROOT
from edgelora.board.build import build_firmware
from edgelora.board.installing import install
from edgelora.board.link.client import Link
from edgelora.board.link.serial_line import soft_reset
from edgelora.board.profiles import load_board
from edgelora.board.sim import virtual_board
from edgelora.board.sim.virtual_board import UNIX_BINARY
from edgelora.board.virtual_boards import SimHandle
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id
from edgelora.core.twin.fleet_update import clip_update
from edgelora.fleet import federation
from edgelora.fleet.federation import Call, Federation, Total
from edgelora.fleet.member import Identity, TwinMember
from edgelora.fleet.plan import Plan
from edgelora.fleet.policy import SUMS, policy_json
from edgelora.fleet.privacy import Epsilons
from edgelora.fleet.roster import Site
from edgelora.fleet.secagg_rounds import Deliver, in_stages, task_of
from edgelora.fleet.simulated_boards import Boards, fleet_base
from edgelora.fleet.web import GatewayClient
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.twin.warm_start import fleet_vector
from edgelora.learn.updates.keys import load_public_keys, pack_trust
from edgelora.model.datasets.har import ARMS, load_har_arm

PROGRAMS = ROOT / "tests" / "device" / "programs"
GATEWAY = ROOT / "tests" / "support" / "drawn_gateway.py"
Taught = Callable[[int], Samples]  # of a board, by index
KINDS = ("unix", *(("virtual-pico", "virtual-riscv") if FULL else ()))  # the first over HTTP, others on lines
TARGET, SAMPLES, WINDOWS = "band", "/samples.eld", 40
PLAN = Plan(
    boards=8, rounds=1, rank=2, clip=2000, noise=0.5, least=6, colluders=0, deadline=60.0, patience=30.0, seed=4
)


@dataclass(frozen=True)
class Outcome:
    """The result of a round. noiseless: the sum without noise."""

    adapter: bytes
    survivors: int
    vector: NDArray[np.int64]
    noiseless: NDArray[np.int64]


def federated(folder: Path, base: Base, site: Site, samples: Taught, deliver: Deliver) -> Outcome:
    """One round of all boards of a site."""
    made = Federation.create(folder, PLAN, base)
    boards, found = site.roster().active, []
    exchange = in_stages(made, site.roster(), site.secret(), deliver)

    def kept(call: Call) -> Total:
        found.append((call, exchange(call)))
        return found[0][1]

    federation.federate(made, kept, boards)
    [(call, total)] = found
    task, before = task_of(made, site.roster(), call), fleet_vector(call.adapter)
    bare = []
    for index in boards:
        after = learned(task, base.elm, call.adapter, samples(index), index)
        bare.append(clip_update(before, after, PLAN.clip))
    return Outcome(made.adapter, total.survivors, total.vector, np.sum(bare, axis=0))


def write_data(folder: Path) -> None:
    """A file for each board with some of an arm's windows."""
    folder.mkdir()
    for index in range(PLAN.boards):
        windows, _ = load_har_arm(3 + index // 2, ARMS[index % 2])
        few = np.arange(0, len(windows.x), len(windows.x) // WINDOWS)[:WINDOWS]
        np.savez(folder / f"{index}.npz", x=windows.x[few], y=windows.y[few], labels=np.array(windows.labels))


def furnished(kind: str, folder: Path, base: Base, samples: bytes) -> SimHandle:
    """A board with base, samples and the fleet's key. If it is on a line, it saves its random values."""
    firmware = None if kind == "unix" else build_firmware(kind, {}, folder / f"{kind}.firmware")
    board = virtual_board.start(kind, firmware, folder / kind, die_with_parent=True)
    if load_board(kind).stock:
        install(board.port)
    trusted = pack_trust(TARGET, load_public_keys(folder / "release.pub"))
    program = (PROGRAMS / "fleet_drawn.py").read_bytes()
    with Link.connect(board.port) as link:
        for path, content in (
            ("/base.elm", base.elm),
            (SAMPLES, samples),
            ("/update.trust", trusted),
            ("/fleet_drawn.py", program),
            ("/fleet.json", policy_json(SUMS)),
        ):
            link.put(path, content)
    if kind != "unix":
        soft_reset(board.port)
        execute(board.port, "import fleet_drawn")  # for the agent, which the gateway starts afterwards
    return board


@contextlib.contextmanager
def opened(site: Site, folder: Path, ports: list[str]) -> Iterator[str]:
    """Runs `edgelora fleet gateway`; yields the address for polling boards, and prints all events at the end."""
    words = ["fleet", "gateway", site.folder, "--http", 0, "--host", "127.0.0.1", "--json"]
    words += ["--twins", folder / "twins", "--model", folder / "base.elm", "--data", folder / "data"]
    words += ["--log", folder / "log"]
    words += [word for port in ports for word in ("--port", port)]
    line = [sys.executable, GATEWAY, folder / "drawn", *words]
    with subprocess.Popen(list(map(str, line)), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            events = [json.loads(process.stdout.readline())]
            with urllib.request.urlopen(f"{events[0]['url']}roster", timeout=10) as reply:
                assert reply.read() == site.data()
            yield events[0]["url"].removesuffix("/fleet/")
        finally:
            process.send_signal(signal.SIGINT)
            events += map(json.loads, process.stdout)
            print(*events, sep="\n")
    assert process.returncode == 0 and (events[0]["event"], events[-1]["event"]) == ("open", "stopped")
    assert Counter(event["board"] for event in events if event["event"] == "answered") == dict.fromkeys(range(8), 6)
    assert len((folder / "log").read_text().splitlines()) == len(events)


@contextlib.contextmanager
def on_the_air(url: str, folder: Path) -> Iterator[None]:
    """Runs the desktop board's program, on its flash; it ends after six replies."""
    code = f"import sys; sys.path.insert(0, {str(PROGRAMS)!r}); import fleet_runs, fleet_drawn; "
    code += f"fleet_runs.poll({url!r}, 6)"
    command = [str(UNIX_BINARY), "-X", "heapsize=4m", "-c", code]
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            yield
            assert process.wait(30) == 0
        finally:
            process.kill()


def alone(folder: Path, base: Base, drawn: list[bytes], samples: Taught) -> Outcome:
    """Twins in this process with keys of their own and the other boards' random values."""
    folder.mkdir()
    key = Ed25519PrivateKey.generate()
    identities = [Identity.create(folder / f"{index}.key", SUMS) for index in range(len(drawn))]
    site = Site.create(folder / "site", TARGET, key)
    site.enroll_all([(identity.public, "") for identity in identities], key)
    members = [
        TwinMember(identity, site.roster, base.elm, samples, seed=lambda seed=seed: seed)  # type: ignore[misc]
        for identity, seed in zip(identities, drawn, strict=True)
    ]

    def deliver(messages: dict[int, bytes], adapter: bytes, seconds: float) -> dict[int, list[bytes]]:
        return {index: [members[index].answer(message, adapter)] for index, message in messages.items()}

    return federated(folder / "federation", base, site, samples, deliver)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as held:
        yield held


def test_different_boards_give_the_same_bytes_as_twins(
    tmp_path: Path, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("dp_accounting") is None:
        monkeypatch.setattr(federation, "epsilons", lambda *_: Epsilons(0, 0))
    base = fleet_base()
    (tmp_path / "base.elm").write_bytes(base.elm)
    (tmp_path / "drawn").mkdir()
    write_data(tmp_path / "data")
    data = Boards(str(tmp_path / "data"), base, PLAN.boards)
    samples = lambda index: data.of(index).train  # noqa: E731
    edgelora("keygen", tmp_path / "release.pem")
    enroll = ["fleet", "enroll", tmp_path / "fleet", "--key", tmp_path / "release.pem", "--target", TARGET]
    seen = [data.of(index).train for index in range(len(KINDS))]
    packed = [pack_samples(one.x, one.y, None, base_id(base.elm)) for one in seen]
    with ThreadPoolExecutor(len(KINDS)) as pool:
        boards = list(pool.map(furnished, KINDS, [tmp_path] * len(KINDS), [base] * len(KINDS), packed))
    for index, board in enumerate(boards):
        stack.callback(board.kill)
        assert result(*enroll, "--port", board.port)["index"] == index
    edgelora(*enroll, "--twins", PLAN.boards - len(KINDS), "--identities", tmp_path / "twins", "--policy", "sums")
    site = Site(tmp_path / "fleet")
    boards[0].kill()  # it will poll
    with opened(site, tmp_path, [board.port for board in boards[1:]]) as url, on_the_air(url, tmp_path / KINDS[0]):
        mixed = federated(tmp_path / "mixed", base, site, samples, GatewayClient(site.folder / "gateway").exchange)
    boards[0] = virtual_board.start(KINDS[0], None, tmp_path / KINDS[0], die_with_parent=True)
    stack.callback(boards[0].kill)
    for index, board in enumerate(boards):
        with Link.connect(board.port) as link:
            (tmp_path / "drawn" / str(index)).write_bytes(link.get("/drawn"))
    drawn = [(tmp_path / "drawn" / str(index)).read_bytes() for index in range(PLAN.boards)]
    assert len(set(drawn)) == PLAN.boards

    twins = alone(tmp_path / "alone", base, drawn, samples)
    assert mixed.survivors == twins.survivors == PLAN.boards
    assert np.array_equal(mixed.vector, twins.vector)
    assert mixed.adapter == twins.adapter
    assert 0.8 < np.std(mixed.vector - mixed.noiseless) / (PLAN.sigma * PLAN.boards**0.5) < 1.2
