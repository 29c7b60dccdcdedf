"""A masked round of a board behind a gateway and of twins gives the same bytes as twins alone without masks."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id
from edgelora.core.formats.elu import public_bytes
from edgelora.fleet import federation
from edgelora.fleet.federation import Federation
from edgelora.fleet.gateway import Gateway, running
from edgelora.fleet.member import Identity, TwinMember
from edgelora.fleet.plan import Plan
from edgelora.fleet.policy import SUMS
from edgelora.fleet.roster import Site
from edgelora.fleet.secagg_rounds import in_stages
from edgelora.fleet.serial_member import BoardMember
from edgelora.fleet.serial_members import bring_policy
from edgelora.fleet.simulate import plain_loop
from edgelora.fleet.simulated_boards import boards_of, fleet_base
from edgelora.fleet.web import GatewayClient, local_server

TARGET = "band"
SAMPLES = "/samples.eld"
PLAN = Plan(boards=8, cohort=8, rounds=2, least=6, clip=3000, colluders=0, deadline=300.0, patience=300.0, seed=4)


def test_a_board_among_twins_gives_the_same_bytes_as_twins(tmp_path: Path) -> None:
    base = fleet_base()
    boards = boards_of("har", base.elm, base.name, PLAN.boards)
    alone = Federation.create(tmp_path / "alone", PLAN, base)
    federation.federate(alone, plain_loop(alone, boards))
    key = Ed25519PrivateKey.generate()
    handle = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    try:
        with Link.connect(handle.port) as link:
            samples = boards.of(0).train
            trusted = TARGET.encode().ljust(24, b"\0") + public_bytes(key)
            eld = pack_samples(samples.x, samples.y, None, base_id(base.elm))
            for path, content in (("/base.elm", base.elm), (SAMPLES, eld), ("/update.trust", trusted)):
                link.put(path, content)
            bring_policy(link, SUMS)
            identities = [Identity.create(tmp_path / f"twin-{i}.key", SUMS) for i in range(1, PLAN.boards)]
            site = Site.create(tmp_path / "site", TARGET, key)
            site.enroll_all([(link.fleet_identity(), "board"), *((one.public, "") for one in identities)], key)
            link.fleet_install(site.data())
            with running(Gateway({}, lambda event: None)) as gateway, local_server(gateway, tmp_path) as inner:
                inner.start()
                gateway.add_local(0, BoardMember(link, SAMPLES, neighbours=PLAN.boards - 1))
                for identity in identities:
                    member = TwinMember(identity, site.roster, base.elm, lambda index: boards.of(index).train)
                    gateway.add_local(member.index, member)
                mixed = Federation.create(tmp_path / "mixed", PLAN, base)
                exchange = in_stages(mixed, site.roster(), site.secret(), GatewayClient(tmp_path).exchange)
                federation.federate(mixed, exchange, site.roster().active)
    finally:
        handle.stop()
    assert [one.survivors for one in mixed.rounds] == [8, 8]
    assert mixed.sha256 == alone.sha256
