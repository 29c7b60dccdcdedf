"""Flower's engines: the same hash for every transport, and the effect of failing nodes."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import fleet_engines
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result
from fresh import FULL

from edgelora.base.errors import InputError
from edgelora.fleet import flower, privacy, server_app
from edgelora.fleet.federation import Federation
from edgelora.fleet.flower import FleetStrategy, Twins
from edgelora.fleet.member import Identity
from edgelora.fleet.plan import Plan
from edgelora.fleet.roster import Site
from edgelora.fleet.secagg import RoundAborted
from edgelora.fleet.sim_grid import PoolGrid
from edgelora.fleet.simulate import judge_of, simulate
from edgelora.fleet.simulated_boards import Boards, boards_of, fleet_base
from edgelora.learn.training.twin.warm_start import fleet_vector

PLAN = Plan(boards=12, rounds=2, share=0.6, noise=1.0, clip=2000, least=3, masks=False, seed=11)


class Shuffled(PoolGrid):
    """Replies in random order, one of them twice, and one from a node that was not asked."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = list(super().send_and_receive(messages, timeout=timeout))
        return random.sample([*replies, replies[0]], len(replies) + 1)


def carried(folder: Path, grid: Grid, plan: Plan = PLAN) -> str:
    base = fleet_base()
    one = Federation.create(folder, plan, base)
    FleetStrategy(one, Twins("har", plan, base.elm, base.name)).start(grid)
    return one.sha256


def test_rounds_return_a_result_of_flower(tmp_path: Path) -> None:
    """Including the rounds of an earlier run; accuracies are averaged over boards."""
    base = fleet_base()
    one = Federation.create(tmp_path, PLAN, base)
    boards = boards_of("har", base.elm, base.name, PLAN.boards)
    twins, judge = Twins("har", PLAN, base.elm, base.name), judge_of(one, boards)
    with PoolGrid(2) as grid:
        FleetStrategy(one, twins, judge=judge).start(grid, 1)
    again = Federation.open(tmp_path)
    with PoolGrid(2) as grid:
        result = FleetStrategy(again, twins, judge=judge).start(grid)
    assert isinstance(result, Result) and list(result.train_metrics_clientapp) == [1, 2]
    for number, round_ in enumerate(again.rounds, 1):
        told = result.train_metrics_clientapp[number]
        assert (told["asked"], told["survivors"]) == (round_.asked, round_.survivors) and "step" not in told
        judged = result.evaluate_metrics_serverapp[number]
        assert judged["accuracy"] == pytest.approx(np.mean(list(round_.accuracies.values())))
        assert judged["worst"] == min(round_.accuracies.values())
    assert result.evaluate_metrics_serverapp[0]["worst"] == min(again.before.values())
    arrays = np.concatenate([array.ravel() for array in result.arrays.to_numpy_ndarrays()])
    masters = fleet_vector(again.adapter)
    assert arrays.dtype == np.int16 and np.array_equal(arrays, masters[: len(arrays)]) and len(arrays) > 500
    assert all(".b" in name or ".a" in name for name in result.arrays) and "survivors" in str(result)


def test_one_hash_from_a_loop_and_pools_of_any_number_of_nodes(tmp_path: Path) -> None:
    base = fleet_base()
    plain = Federation.create(tmp_path / "plain", PLAN, base)
    simulate(plain, "har", "loop", judged=False)
    with PoolGrid(12) as each, Shuffled(5) as few:
        assert carried(tmp_path / "each", each) == carried(tmp_path / "few", few) == plain.sha256


def test_one_hash_with_trained_a_masks_and_noise() -> None:
    engines = fleet_engines.ENGINES
    if not FULL:
        engines = tuple(one for one in engines if one not in ("Ray", "SuperLink deployment"))
    assert fleet_engines.HASHED.masks and fleet_engines.HASHED.noise and fleet_engines.HASHED.mode == "trainable_a"
    found = fleet_engines.hashes(fleet_base(), engines)
    assert set(found) == set(engines) and len(set(found.values())) == 1


def test_a_node_that_fails_costs_the_round_its_own_boards(tmp_path: Path) -> None:
    class Failing(PoolGrid):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
            sent = list(messages)
            sent[0].content.config_records["edgelora.call"]["data"] = "nowhere"
            return super().send_and_receive(sent, timeout=timeout)

    plan = Plan(rounds=1, masks=False, seed=3)
    with Failing(4) as grid:
        carried(tmp_path, grid, plan)
    [one] = Federation.open(tmp_path).rounds
    assert (one.asked, one.survivors) == (8, 6)


def test_without_a_node_nothing_is_sent_and_nobody_is_charged(tmp_path: Path) -> None:
    class Deserted(PoolGrid):
        def get_node_ids(self) -> list[int]:
            return []

    with Deserted(1, 1) as grid, pytest.raises(RoundAborted, match="3 rounds in a row failed"):
        carried(tmp_path, grid, replace(PLAN, share=1.0, rounds=5))
    one = Federation.open(tmp_path)
    assert one.done == len(one.asked) == 3 and one.epsilons == privacy.Epsilons(0.0, 0.0)


def test_boards_are_sampled_independently() -> None:
    counts = [len(privacy.sampled(b"s" * 32, step, range(1000), 0.1)) for step in range(200)]
    assert abs(np.mean(counts) - 100) < 3 and 60 < np.var(counts) < 130
    assert privacy.sampled(b"s" * 32, 1, range(100), 1.0) == list(range(100))


def test_a_folder_without_boards_is_told() -> None:
    base = fleet_base()
    with pytest.raises(InputError, match="har-choosing"):
        Boards("nowhere", base, 4)


def test_why_a_run_ended_is_told(tmp_path: Path) -> None:
    """No node answers, as no gateway runs; or the budget is spent, which is a normal end."""
    base, key = fleet_base(), Ed25519PrivateKey.generate()
    site = Site.create(tmp_path / "site", "band", key)
    site.enroll_all([(Identity.create(tmp_path / f"{i}.key").public, "") for i in range(3)], key)
    plan = replace(PLAN, boards=3, rounds=9, share=1.0, masks=True, colluders=0)
    told = {}
    for name, budget in (("silent", 0.0), ("dear", 0.01)):
        Federation.create(tmp_path / name, replace(plan, budget=budget), base)
        config = {"state": str(tmp_path / name), "site": str(site.folder)}
        with PoolGrid(1, 1) as grid, contextlib.suppress(RoundAborted):
            server_app.app(grid, Context(0, 0, {}, RecordDict(), config))
        one = Federation.open(tmp_path / name)
        told[name] = one.done, one.ended
        assert one.spent == privacy.Spent()
    assert told["silent"][0] == 3 and "check that the gateway has the boards" in told["silent"][1]
    assert told["dear"][0] == 0 and "the budget is 0.01" in told["dear"][1]


def test_boards_are_asked_at_their_current_or_last_gateway() -> None:
    """A board at two gateways is asked at the one where it is now; an offline one, where it was."""
    had = [([0, 1], [2, 3]), ([2], [0, 4])]  # here, offline; by node
    asked: dict[int, list[int]] = {}

    class Two(PoolGrid):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
            for message in messages:
                node = message.metadata.dst_node_id
                if message.metadata.message_type == "query.boards":
                    content = ConfigRecord(dict(zip(("boards", "away"), had[node], strict=True)))
                else:
                    content = ConfigRecord({"boards": [], "replies": []})
                    asked[node] = list(message.content.config_records[flower.ASKED]["boards"])
                yield Message(RecordDict({flower.ANSWERED: content}), reply_to=message)

    with Two(2, 1) as grid:
        flower.Gateways(grid).deliver({index: b"" for index in range(6)}, b"adapter", 1)
    assert asked == {0: [0, 1, 3], 1: [2, 4]}
