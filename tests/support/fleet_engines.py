"""Federations carried by every engine, whose global adapters must have one hash."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.core.twin.fleet_update import Policy
from edgelora.fleet import federation
from edgelora.fleet import gateway as fleet_gateway
from edgelora.fleet.averaging import board_seed
from edgelora.fleet.deployment import Deployment, free_port, write_project
from edgelora.fleet.federation import Exchange, Federation
from edgelora.fleet.gateway import Gateway
from edgelora.fleet.member import Identity, TwinMember
from edgelora.fleet.messages import Member, Stage, Task
from edgelora.fleet.plan import Plan
from edgelora.fleet.roster import Site
from edgelora.fleet.secagg_rounds import Deliver, in_stages
from edgelora.fleet.simulate import pooled
from edgelora.fleet.simulated_boards import boards_of
from edgelora.fleet.web import local_server
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples

HASHED = Plan(rounds=3, seed=7, noise=1.0, clip=4000, least=8, colluders=0, deadline=300.0, patience=300.0)
GATEWAYS = 2  # Flower nodes, each with its own gateway
ENGINES = ("plain loop", "process pool", "Ray", "SuperLink deployment", "resumed run")


@dataclass(frozen=True)
class _Hashed:
    """A federation to hash, its fleet, and its boards by index."""

    one: Federation
    site: Site
    boards: dict[int, Member]

    def exchange(self, deliver: Deliver) -> Exchange:
        return in_stages(self.one, self.site.roster(), self.site.secret(), deliver)

    def federate(self, deliver: Deliver) -> None:
        """Runs the remaining rounds, relaying messages in this process."""
        federation.federate(self.one, self.exchange(deliver), self.site.roster().members)

    def by_hand(self, messages: dict[int, bytes], adapter: bytes, seconds: float) -> dict[int, list[bytes]]:
        """Each board answers, one after the other."""
        return {index: [self.boards[index].answer(message, adapter)] for index, message in messages.items()}

    @contextlib.contextmanager
    def gateways(self, folder: Path) -> Iterator[list[Path]]:
        """Distributes boards over gateways; yields the gateways' folders."""
        with contextlib.ExitStack() as stack:
            paths = [folder / str(place) for place in range(GATEWAYS)]
            for place, path in enumerate(paths):
                path.mkdir(parents=True)
                gateway = stack.enter_context(fleet_gateway.running(Gateway({}, lambda event: None)))
                for index in list(self.boards)[place::GATEWAYS]:
                    gateway.add_local(index, self.boards[index])
                stack.enter_context(local_server(gateway, path)).start()
            yield paths


class _Repeatable:
    """A simulated board with noise and masks derived from the round's seed, so that a repeated round has the same."""

    def __init__(self, identity: Identity, site: Site, base: Base, samples: Callable[[int], Samples]) -> None:
        self._made = functools.partial(TwinMember, identity, site.roster, base.elm, samples)
        self._member = self._made()

    def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
        if message[4] == Stage.TASK:
            seed = board_seed(Task.unpack(message[16:-16]).seed, self._member.index)
            drawn = hashlib.sha256(b"edgelora bench" + seed.to_bytes(4, "little")).digest()
            self._member = self._made(seed=lambda: drawn)
        return self._member.answer(message, adapter)


def hashes(base: Base, engines: Sequence[str]) -> dict[str, str]:
    """SHA-256 of the global adapter after `HASHED` rounds, by engine; all but the plain loop use masks."""
    ways: dict[str, Callable[[_Hashed], None]] = {
        "plain loop": lambda it: it.federate(it.by_hand),
        "process pool": _by_pool,
        "Ray": _by_ray,
        "SuperLink deployment": _by_superlink,
        "resumed run": _resumed,
    }
    found = {}
    for engine in engines:
        with tempfile.TemporaryDirectory() as folder:
            ways[engine](_enrolled(Path(folder), base, replace(HASHED, masks=engine != "plain loop")))
            after = Federation.open(Path(folder) / "federation")
            assert [each.survivors for each in after.rounds] == [HASHED.boards] * HASHED.rounds, engine
            found[engine] = after.sha256
    return found


def _enrolled(folder: Path, base: Base, plan: Plan) -> _Hashed:
    data = boards_of("har", base.elm, base.name, plan.boards)
    key = Ed25519PrivateKey.generate()
    site = Site.create(folder / "site", "bench", key)
    identities = [Identity.create(folder / "boards" / f"{index}.key", Policy()) for index in range(plan.boards)]
    site.enroll_all([(identity.public, "") for identity in identities], key)
    boards: dict[int, Member] = {
        i: _Repeatable(one, site, base, lambda index: data.of(index).train) for i, one in enumerate(identities)
    }
    return _Hashed(Federation.create(folder / "federation", plan, base, site), site, boards)


def _resumed(it: _Hashed) -> None:
    """Stops in the second round, after all boards have sent their sums, and resumes."""

    def killed(messages: dict[int, bytes], adapter: bytes, seconds: float) -> dict[int, list[bytes]]:
        if it.one.done and next(iter(messages.values()))[4] == Stage.UNMASK:
            raise KeyboardInterrupt
        return it.by_hand(messages, adapter, seconds)

    with contextlib.suppress(KeyboardInterrupt):
        it.federate(killed)
    again = replace(it, one=Federation.open(it.one.folder))
    again.federate(again.by_hand)


def _by_pool(it: _Hashed) -> None:
    folder = it.one.folder / "gateways"
    with it.gateways(folder):
        pooled(it.one, it.site, GATEWAYS, gateways=folder)


def _by_ray(it: _Hashed) -> None:
    with it.gateways(it.one.folder / "gateways"), _deployed(it) as deployment:
        deployment.start_simulator()
        deployment.wait_run(deployment.run(nodes=GATEWAYS))


def _by_superlink(it: _Hashed) -> None:
    with it.gateways(it.one.folder / "gateways") as gateways, _deployed(it) as deployment:
        deployment.start(gateways)
        deployment.wait_run(deployment.run())


@contextlib.contextmanager
def _deployed(it: _Hashed) -> Iterator[Deployment]:
    folder, port = it.one.folder, free_port()
    write_project(folder, "", it.site.folder, f"127.0.0.1:{port}", folder / "gateways")
    with Deployment(folder, port) as deployment:
        yield deployment
