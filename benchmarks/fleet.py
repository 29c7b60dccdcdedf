"""`edgelora bench fleet`: engines (equal hashes), accuracy, noise, scale, cycles.

Settings were chosen on people 7 to 10 (`har-choosing`), the number of rounds on fifteen fleets of these and of 1 and 2
(`others`); figures are for 3 to 6 (`har`). Both named fleets have a base pretrained on 1 and 2.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.base.errors import EdgeloraError, MissingPackage
from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.twin.fleet import Policy
from edgelora.fleet import federation, personalize, simulated_boards
from edgelora.fleet import gateway as fleet_gateway
from edgelora.fleet.averaging import board_seed
from edgelora.fleet.deployment import Deployment, free_port, write_project
from edgelora.fleet.federation import Exchange, Federation
from edgelora.fleet.gateway import Gateway
from edgelora.fleet.member import Identity, TwinMember
from edgelora.fleet.messages import Member, Stage, Task
from edgelora.fleet.personalize import bare_start
from edgelora.fleet.plan import Plan
from edgelora.fleet.roster import Site
from edgelora.fleet.secagg_rounds import Deliver, in_stages
from edgelora.fleet.simulate import plain_loop, pooled, simulate
from edgelora.fleet.simulated_boards import Boards, boards_of, fleet_base
from edgelora.fleet.web import local_server
from edgelora.learn.training.base import Base
from edgelora.learn.training.samples import Samples

from .fleet_controls import accuracies_of, alone, central, unshared_of
from .fleet_methods import methods
from .learning import mean_and_error

PARTS = ("hashes", "learning", "noise", "scale", "cycles")
CHOICES = ("settings", "others", "methods")  # parts that are measured only on request
CHOOSING_PEOPLE = (1, 2, 7, 8, 9, 10)
HASHED = Plan(rounds=3, seed=7, noise=1.0, clip=4000, least=8, colluders=0, deadline=300.0, patience=300.0)
GATEWAYS = 2  # Flower nodes, each with its own gateway
SETTINGS: dict[str, dict[str, Any]] = {  # what is not as it is by itself
    "trained A": {},
    "trained A, rate 3,000": {"rate": 3000},
    "trained A, rate 6,000": {"rate": 6000},
    "trained A, server's rate 2": {"server_rate": 512},
    "trained A, plain averages": {"server_momentum": 0, "server_rate": 256},
    "trained A, 40 rounds": {"rounds": 40},
    "trained A, 40 rounds of 4 epochs": {"rounds": 40, "epochs": 4},
    "frozen A": {"mode": "frozen_a"},
    "frozen A, rate 6,000": {"mode": "frozen_a", "rate": 6000},
}
CLIPS = {"trainable_a": 2000, "frozen_a": 1000}  # of 1,000 boards, in masters: four times the values, twice the norm
SIMULATED = {  # but for the mode and its clip
    "boards": 1000,
    "rounds": 20,
    "share": 0.1,
    "least": 60,
    "cohort": 65,
}
NOISE = 2.0
SCALED = Plan.suited(mode="frozen_a", rounds=10, share=0.1, clip=CLIPS["frozen_a"], masks=False)
SIZES = (100, 1000, 10_000)
ENGINES = ("plain loop", "process pool", "Ray", "SuperLink deployment", "resumed run", "shuffled replies")


def bench_fleet(
    parts: Sequence[str] = PARTS,
    seeds: int = 3,
    engines: Sequence[str] = ENGINES,
    sizes: Sequence[int] = SIZES,
    data: str = "har",
    mode: str | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Figures of these parts, by name, as fractions. data, mode: of training; None: as suits the noise."""
    base = fleet_base()
    found: dict[str, Any] = {}
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "hashes": lambda: {"hashes": hashes(base, engines, progress)},
        "learning": lambda: learning(base, seeds, data, mode, progress),
        "noise": lambda: noise(base, seeds, data, mode, progress),
        "scale": lambda: scale(base, sizes, progress),
        "cycles": lambda: cycles(progress),
        "settings": lambda: settings(base, seeds, data, progress),
        "others": lambda: others(seeds, mode, progress),
        "methods": lambda: methods(base, seeds, data, progress),
    }
    for part in parts:
        found |= measures[part]()
    return found


# ---- one hash


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


def hashes(base: Base, engines: Sequence[str], progress: Progress = no_progress) -> dict[str, str]:
    """SHA-256 of the global adapter after `HASHED` rounds, by engine; all but the plain loop use masks."""
    ways: dict[str, Callable[[_Hashed], None]] = {
        "plain loop": lambda it: it.federate(it.by_hand),
        "process pool": _by_pool,
        "Ray": _by_ray,
        "SuperLink deployment": _by_superlink,
        "resumed run": _resumed,
        "shuffled replies": _shuffled,
    }
    found = {}
    for done, engine in enumerate(engines, 1):
        with tempfile.TemporaryDirectory() as folder:
            ways[engine](_enrolled(Path(folder), base, replace(HASHED, masks=engine != "plain loop")))
            after = Federation.open(Path(folder) / "federation")
            if [each.survivors for each in after.rounds] != [HASHED.boards] * HASHED.rounds:
                raise EdgeloraError(f"{engine}: of boards {[each.survivors for each in after.rounds]} were summed")
            found[engine] = after.sha256
        progress(done, len(engines), f"{engine}: {found[engine][:16]}")
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


def _shuffled(it: _Hashed) -> None:
    def mixed(messages: dict[int, bytes], adapter: bytes, seconds: float) -> dict[int, list[bytes]]:
        return it.by_hand(dict(random.sample(list(messages.items()), len(messages))), adapter, seconds)

    it.federate(mixed)


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


# ---- learning


def learning(
    base: Base, seeds: int, data: str = "har", mode: str | None = None, progress: Progress = no_progress
) -> dict[str, Any]:
    """Means over seeds of the mean over boards; worst: of the worst board.

    gain, gain_worst: improvement by personalizing from the global adapter; mean over seeds and standard error.
    """
    plan = Plan.suited(mode=mode, masks=False)
    runs = []
    for run in in_parallel(learned, [(base, replace(plan, seed=seed), data) for seed in range(1, seeds + 1)]):
        runs.append(run)
        progress(len(runs), seeds, f"seed {len(runs)}: {run['fedavg']:.3f}")
    return {**_summed_up(runs), "learning_runs": runs}


def others(seeds: int, mode: str | None = None, progress: Progress = no_progress) -> dict[str, Any]:
    """Like `learning`, for fifteen fleets: a base of two of `CHOOSING_PEOPLE`, boards of the other four.

    Means and standard errors are over fleets and seeds.
    """
    pairs = list(itertools.combinations(CHOOSING_PEOPLE, 2))
    bases = []
    for base in in_parallel(_base_of, [(pair,) for pair in pairs]):
        bases.append(base)
        progress(len(bases), len(pairs), "bases")
    plan = Plan.suited(mode=mode, masks=False)
    jobs = [
        (base, replace(plan, seed=seed), tuple(one for one in CHOOSING_PEOPLE if one not in pair))
        for pair, base in zip(pairs, bases, strict=True)
        for seed in range(1, seeds + 1)
    ]
    runs = []
    for run in in_parallel(learned, jobs):
        runs.append(run)
        progress(len(runs), len(jobs), f"people {jobs[len(runs) - 1][2]}: {run['fedavg']:.3f}")
    return {"others": _summed_up(runs), "others_runs": runs}


def _base_of(people: tuple[int, ...]) -> Base:
    return fleet_base(people=people)


def _summed_up(runs: Sequence[dict[str, float]]) -> dict[str, Any]:
    means = {key: round(float(np.mean([run[key] for run in runs])), 4) for key in runs[0]}
    gains = {
        f"gain{which}": mean_and_error(
            [run[f"personalized_global{which}"] - run[f"personalized_base{which}"] for run in runs]
        )
        for which in ("", "_worst")
    }
    return means | gains


def settings(base: Base, seeds: int, data: str = "har", progress: Progress = no_progress) -> dict[str, Any]:
    """By changed setting: mean over boards and standard error over seeds for federated, central and local training, and
    the worst board's mean for federated training."""
    jobs = [
        (base, Plan.suited(masks=False, seed=seed, **changed), data)
        for changed in SETTINGS.values()
        for seed in range(1, seeds + 1)
    ]
    runs = []
    for run in in_parallel(compared, jobs):
        runs.append(run)
        progress(len(runs), len(jobs), list(SETTINGS)[(len(runs) - 1) // seeds])
    found = {}
    for place, name in enumerate(SETTINGS):
        mine = runs[place * seeds : (place + 1) * seeds]
        worst = round(float(np.mean([run["worst"] for run in mine])), 4)
        found[name] = {key: mean_and_error([run[key] for run in mine]) for key in ("fedavg", "central", "alone")} | {
            "worst": worst
        }
    return {"settings": found}


def compared(base: Base, plan: Plan, data: str) -> dict[str, float]:
    """One federation; central and local training for as many epochs."""
    boards = boards_of(data, base.elm, base.name, plan.boards)
    together = accuracies_of(base, plan, boards, [_federated(base, plan, boards)] * plan.boards)
    centre = accuracies_of(base, plan, boards, [central(base, plan, boards)] * plan.boards)
    apart = alone(base, plan, boards, plan.boards)
    return {
        "fedavg": float(np.mean(together)),
        "worst": min(together),
        "central": float(np.mean(centre)),
        "alone": float(np.mean(apart)),
    }


def _federated(base: Base, plan: Plan, boards: Boards) -> bytes:
    """The global adapter that a federation ends with."""
    with tempfile.TemporaryDirectory() as folder:
        one = Federation.create(Path(folder), plan, base)
        federation.federate(one, plain_loop(one, boards))
        return one.adapter


def learned(base: Base, plan: Plan, data: str | tuple[int, ...]) -> dict[str, float]:
    """One federation of these boards; central and local training for as many epochs; and personalization from the
    federation's adapter and from the base."""
    everyone, seed = list(range(plan.boards)), plan.seed
    boards = boards_of(data, base.elm, base.name, plan.boards)
    adapter = _federated(base, plan, boards)
    centre = accuracies_of(base, plan, boards, [central(base, plan, boards)] * plan.boards)
    own: dict[str, list[bytes]] = {"global": [], "base": []}
    for index in everyone:
        samples = boards.of(index).train
        own["global"].append(personalize.personalized(base, plan, adapter, samples, seed))
        own["base"].append(personalize.personalized(base, plan, None, samples, seed))
    bare = simulated_boards.accuracies(plan, base.elm, None, boards, everyone)
    together = accuracies_of(base, plan, boards, [adapter] * plan.boards)
    by_start = {start: accuracies_of(base, plan, boards, adapters) for start, adapters in own.items()}
    apart = alone(base, plan, boards, plan.boards)
    return {
        "base": float(np.mean(bare)),
        "fedavg": float(np.mean(together)),
        "central": float(np.mean(centre)),
        "worst": min(together),
        "alone": float(np.mean(apart)),
        "alone_worst": min(apart),
        "personalized_global": float(np.mean(by_start["global"])),
        "personalized_base": float(np.mean(by_start["base"])),
        "personalized_global_worst": min(by_start["global"]),
        "personalized_base_worst": min(by_start["base"]),
    }


# ---- noise


def noise(
    base: Base, seeds: int, data: str = "har", mode: str | None = None, progress: Progress = no_progress
) -> dict[str, Any]:
    """z0, z2: 1,000 simulated boards without noise and with z = 2, same clip; alone: local training of 64 of them for
    as many epochs; means over seeds."""
    suited = Plan.suited(mode=mode, noise=NOISE, **SIMULATED)
    plan = replace(suited, clip=CLIPS[suited.mode])
    jobs = [(base, replace(plan, noise=z, seed=seed), data) for seed in range(1, seeds + 1) for z in (0.0, NOISE)]
    found: dict[float, list[float]] = {0.0: [], NOISE: []}
    epsilon = (0.0, 0.0)
    for done, (z, accuracy, outsider, server) in enumerate(in_parallel(noised, jobs), 1):
        found[z].append(accuracy)
        epsilon = (outsider, server) if z else epsilon
        progress(done, len(jobs), f"z = {z:g}: {accuracy:.3f}")
    means = {f"z{z:g}": round(float(np.mean(values)), 4) for z, values in found.items()}
    spread = {f"z{z:g}_runs": values for z, values in found.items()}
    apart = list(in_parallel(unshared_of, [(base, replace(plan, seed=seed), data) for seed in range(1, seeds + 1)]))
    means["alone"], spread["alone_runs"] = round(float(np.mean(apart)), 4), apart
    return means | spread | {"z2_epsilon_outsider": epsilon[0], "z2_epsilon_server": epsilon[1]}


def noised(base: Base, plan: Plan, data: str) -> tuple[float, float, float, float]:
    """Noise, mean accuracy over eight boards, epsilons of an outsider and of the server."""
    boards = boards_of(data, base.elm, base.name, plan.boards)
    with tempfile.TemporaryDirectory() as folder:
        one = Federation.create(Path(folder), plan, base)
        federation.federate(one, plain_loop(one, boards))
        accuracy = float(np.mean(simulated_boards.accuracies(plan, base.elm, one.adapter, boards, list(range(8)))))
        return plan.noise, accuracy, one.epsilons.outsider, one.epsilons.server


# ---- scale


def scale(base: Base, sizes: Sequence[int], progress: Progress = no_progress) -> dict[str, Any]:
    """cpu_s_1000: CPU time of ten rounds of 1,000 boards at 10 % on the process pool; seconds_per_board: per sampled
    board, by fleet size; memory_mb: peak memory of a process, by fleet size.

    Each size runs in new processes, including their start and imports.
    """
    seconds, memory, cpu = {}, {}, None
    for done, size in enumerate(sizes, 1):
        [(spent, took, asked, peak)] = in_parallel(scaled, [(base, size)], 1)
        seconds[str(size)], memory[str(size)] = round(took / asked, 5), round(peak, 1)
        cpu = round(spent, 1) if size == 1000 else cpu
        progress(done, len(sizes), f"{size} boards: {spent:.1f} CPU-s")
    return {"cpu_s_1000": cpu, "seconds_per_board": seconds, "memory_mb": memory}


def scaled(base: Base, size: int) -> tuple[float, float, int, float]:
    """CPU-seconds, seconds, boards asked and the most memory of a process, in MB."""
    import resource  # Unix has it alone

    plan = replace(SCALED, boards=size, seed=1)
    begun = _cpu()
    with tempfile.TemporaryDirectory() as folder:
        one = Federation.create(Path(folder), plan, base)
        started = time.monotonic()
        simulate(one, "har", "pool", judged=False)
        took = time.monotonic() - started
        asked = sum(each.asked for each in one.rounds)
    unit = 1024 if sys.platform != "darwin" else 1 << 20
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit
    return _cpu() - begun, took, asked, peak


def _cpu() -> float:
    """Of this process and those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


# ---- cycles


def cycles(progress: Progress = no_progress) -> dict[str, Any]:
    """Cycles on the virtual Pico: an X25519, and a mask of 640 words."""
    try:
        from .fleet_cycles import fleet_cycles
    except ModuleNotFoundError as error:
        raise MissingPackage("cycles are measured on the virtual Pico: pip install 'edgelora[sim]'") from error
    found: dict[str, Any] = fleet_cycles(progress=progress)
    return found


def adapter_size(base: Base) -> int:
    """Bytes of a global adapter on the way to a board."""
    return len(pack_adapter(unpack_adapter(bare_start(base, Plan(), 1))))
