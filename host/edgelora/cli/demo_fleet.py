"""`edgelora demo fleet`: federated learning of virtual boards and twins over a real SuperLink, with masks and noise."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.base import streams
from edgelora.base.errors import InputError
from edgelora.board.link.client import Link
from edgelora.board.profiles import load_board
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id
from edgelora.core.formats.elu import public_bytes
from edgelora.core.formats.files import write_atomic
from edgelora.fleet import deployment as fleet_deployment
from edgelora.fleet import gateway as fleet_gateway
from edgelora.fleet.deployment import Deployment, check_flower, free_port, write_project
from edgelora.fleet.federation import Federation, Judge
from edgelora.fleet.gateway import Gateway
from edgelora.fleet.member import Identity, TwinMember
from edgelora.fleet.plan import Plan
from edgelora.fleet.policy import SUMS
from edgelora.fleet.roster import Site
from edgelora.fleet.serial_members import bring_policy, serial_boards
from edgelora.fleet.simulate import judge_of, write_page
from edgelora.fleet.simulated_boards import Boards, boards_of, fleet_base
from edgelora.fleet.web import GatewayClient, GatewayError, local_server
from edgelora.learn.training.data.base import Base
from edgelora.learn.updates.keys import TRUST_PATH, pack_trust

from . import console
from .demo import check_virtual, make_firmware, start_board

TARGET = "band"
SAMPLES = "/fleet.eld"  # on a board: what it has seen
PLAN = Plan.suited(  # of few rounds, so without a momentum that takes some to build up
    epochs=2,
    rate=6000,
    server_rate=512,
    server_momentum=0,
    clip=2000,
    noise=0.3,
    colluders=0,
    deadline=600.0,
    patience=300.0,
)


@dataclass(frozen=True)
class Demo:
    """The result. before, after: test accuracy by board, measured by the twin."""

    federation: Federation
    before: dict[str, float]
    after: dict[str, float]
    page: Path


def demo_fleet(boards: list[str], twins: int, rounds: int, output: Path, quiet: bool = False) -> Demo:
    """Runs a federation of virtual boards and twins. `output` is recreated each time."""
    with contextlib.suppress(GatewayError):
        GatewayClient(output / "gateway").boards()
        raise InputError(f"a demo runs in {output}", remedy="wait until it ends, or give another folder with -o")
    check_flower()
    for place, name in enumerate(boards):
        check_virtual(load_board(name), _state(output, place, name), quiet)
    count = len(boards) + twins
    plan = replace(PLAN, boards=count, rounds=rounds, least=max(2, count * 3 // 4))
    with console.step("pretrain on two people", quiet):
        base = fleet_base()
    for part in ("site", "twins", "federation", "gateway"):
        shutil.rmtree(output / part, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    write_atomic(output / base.name, base.elm)
    data = boards_of("har", base.elm, base.name, count)
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(_board(name, place, base, output, quiet)) for place, name in enumerate(boards)]
        site, identities = _enrolled(output / "site", base, data, ports, twins)
        roster = site.roster()
        gateway = stack.enter_context(fleet_gateway.running(Gateway({}, lambda event: None)))
        for port in ports:
            gateway.add_line(port, serial_boards(site, SAMPLES))
        for identity in identities:
            member = TwinMember(identity, site.roster, base.elm, lambda index: data.of(index).train)
            gateway.add_local(member.index, member)
        (output / "gateway").mkdir()
        stack.enter_context(local_server(gateway, output / "gateway")).start()
        streams.note(f"roster {roster.number}: {len(ports)} boards, {twins} twins", quiet)
        federation = Federation.create(output / "federation", plan, base, site)
        judge = judge_of(federation, data)
        before = judge(None)
        measured = _federate(federation, site, output / "gateway", judge, quiet)
    federation = Federation.open(output / "federation")
    page = write_page(federation, output / "report.html", "", before, measured)
    return Demo(federation, before, measured[federation.done], page)


@contextlib.contextmanager
def _board(name: str, place: int, base: Base, output: Path, quiet: bool) -> Iterator[str]:
    """The port of a virtual board with the base in it."""
    profile = load_board(name)
    firmware = make_firmware(profile, base, output, quiet)
    handle = start_board(name, firmware, _state(output, place, name), quiet)
    try:
        yield handle.port
    finally:
        handle.stop()


def _state(output: Path, place: int, name: str) -> Path:
    return output / f"{place}-{name}.board"


def _enrolled(folder: Path, base: Base, data: Boards, ports: list[str], twins: int) -> tuple[Site, list[Identity]]:
    """Enrolls boards first, then twins. Boards get their samples and the trusted key."""
    key = Ed25519PrivateKey.generate()
    trusted = pack_trust(TARGET, [public_bytes(key)])
    entries = []
    for index, port in enumerate(ports):
        samples = data.of(index).train
        with Link.connect(port) as link:
            link.put(SAMPLES, pack_samples(samples.x, samples.y, None, base_id(base.elm)))
            link.put(TRUST_PATH, trusted)
            bring_policy(link, SUMS)
            entries.append((link.fleet_identity(), f"board-{index}"))
    identities = [Identity.create(folder.parent / "twins" / f"twin-{place}.key", SUMS) for place in range(twins)]
    entries += [(identity.public, f"twin-{place}") for place, identity in enumerate(identities)]
    site = Site.create(folder, TARGET, key)
    site.enroll_all(entries, key)
    return site, identities


def _federate(
    federation: Federation, site: Site, gateway: Path, judge: Judge, quiet: bool
) -> dict[int, dict[str, float]]:
    """Accuracy by board after each round, which the server does not see."""
    measured: dict[int, dict[str, float]] = {}
    port = free_port()
    write_project(federation.folder, site=site.folder, address=f"127.0.0.1:{port}")
    with Deployment(federation.folder, port) as deployment:
        with console.step("start a SuperLink and a SuperNode", quiet):
            deployment.start([gateway])
        run = deployment.run()
        with console.progress("rounds with masks and noise", quiet) as progress:
            for now in fleet_deployment.federated(deployment, run, progress):
                measured[now.done] = judge(now.adapter)
        deployment.wait_run(run)
    return measured
