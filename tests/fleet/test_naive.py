"""Typical user mistakes with a fleet: each is reported, or does no harm."""

from __future__ import annotations

import contextlib
import io
import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fresh
import numpy as np
import pytest
from commands import edgelora, result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fleet_boards import Fleet
from fleet_twins import Twins
from waiting import until

from edgelora.base.errors import InputError
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.cli.main import main
from edgelora.core.formats.elu import public_bytes
from edgelora.fleet import federation
from edgelora.fleet.federation import Call, Federation, Total
from edgelora.fleet.gateway import Gateway, running
from edgelora.fleet.plan import Plan
from edgelora.fleet.roster import RosterError, Site
from edgelora.fleet.secagg import RoundAborted
from edgelora.fleet.secagg_rounds import federate_site
from edgelora.fleet.serial_members import serial_boards
from edgelora.fleet.simulated_boards import fleet_base
from edgelora.fleet.web import local_server
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.twin.warm_start import fleet_vector
from edgelora.learn.updates.keys import pack_trust

PLAN = Plan(boards=3, rounds=5, rank=1, least=3, colluders=0, seed=4)


@pytest.fixture(scope="module")
def base() -> Base:
    return fleet_base()


KNOWN = (
    "is damaged",
    "this edgelora supports",
    "without a ledger",
    "no round yet",
    "records what was revealed",
    "rounds that the federation has carried",
)


def nobody(messages: dict[int, bytes], adapter: bytes, seconds: float) -> dict[int, list[bytes]]:
    return {}


def survivors(one: Federation) -> list[int]:
    return [each.survivors for each in one.rounds]


def test_clock_jumps_exclude_no_board(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither within a federation nor between two federations of the same boards."""
    twins, now = Twins(tmp_path, base), [0.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    for name, clocks in (("one", (1.8e9, 4.1e9, 1.7e9)), ("other", (0.0, 1.8e9))):
        one = Federation.create(tmp_path / name, replace(PLAN, rounds=len(clocks)), base)
        for stop, now[0] in enumerate(clocks, 1):
            federate_site(Federation.open(tmp_path / name), twins.site, twins.deliver, stop=stop)
        one = Federation.open(tmp_path / name)
        assert survivors(one) == [3] * len(clocks)
    (twins.site.folder / "last-round").write_bytes(b"?")
    one = Federation.create(tmp_path / "third", PLAN, base)
    with pytest.raises(RosterError, match="damaged"):
        federate_site(one, twins.site, twins.deliver)


def test_rounds_without_boards_ask_for_help_and_go_on(base: Base, tmp_path: Path) -> None:
    """No gateway is running, or all boards are revoked."""
    twins = Twins(tmp_path, base)
    one = Federation.create(tmp_path / "one", PLAN, base)
    with pytest.raises(RoundAborted, match=r"3 rounds in a row failed .*check that the gateway"):
        federate_site(one, twins.site, nobody)
    assert survivors(one) == [0, 0, 0]
    asked = [0]

    def sometimes(*asking: Any) -> dict[int, list[bytes]]:
        asked[0] += 1
        return nobody(*asking) if asked[0] == 1 else twins.deliver(*asking)

    federate_site(one, twins.site, sometimes)
    assert survivors(one) == [0, 0, 0, 0, 3]
    for index in range(3):
        twins.site.revoke(str(index), twins.key)
    with pytest.raises(InputError, match="has no boards"):
        federate_site(Federation.create(tmp_path / "other", PLAN, base), twins.site, twins.deliver)


def test_too_few_boards_for_a_federation(tmp_path: Path) -> None:
    edgelora("keygen", tmp_path / "release.pem")
    site = tmp_path / "a fleet"
    enroll = ("fleet", "enroll", site, "--key", tmp_path / "release.pem", "--target", "band", "--public")
    board = "09" + 31 * "00"
    assert result(*enroll, board)["index"] == 0
    assert "enrolled already, as 0" in edgelora(*enroll, board, "--name", "again", code=1)
    init = ("fleet", "init", tmp_path / "a federation", "--site", site)
    assert "has 1 boards" in edgelora(*init, code=1) and not (tmp_path / "a federation").exists()
    assert "has no federation" in edgelora("fleet", "report", tmp_path / "a federation", code=1)
    run = ("fleet", "run", tmp_path / "a federation", "--start", "--gateway", site / "gateway")
    said = edgelora(*init, "--no-masks", "--colluders", 0)
    assert f"edgelora fleet run '{tmp_path}/a federation'" in said
    assert "doesn't name a gateway" in edgelora(*run, code=1)  # before anything is started for it
    assert "has no round yet" in edgelora("fleet", "report", tmp_path / "a federation", code=1)
    assert "already has a federation" in edgelora(*init, "--no-masks", code=1)
    stranger = Fleet.drawn(2, 9)
    stranger.site(tmp_path / "theirs")
    (site / "roster.elg").write_bytes((tmp_path / "theirs" / "roster.elg").read_bytes())
    for words in (("roster",), ("gateway",), ("revoke", 0, "--key", tmp_path / "release.pem")):
        assert "which is not trusted here" in edgelora("fleet", words[0], site, *words[1:], code=1)
    assert "which is not trusted here" in edgelora(*enroll, "08" + 31 * "00", code=1)


def test_too_few_samples_of_a_board(base: Base, tmp_path: Path) -> None:
    """The message says what to provide, and suggests no option that this command does not have."""
    (tmp_path / "base.elm").write_bytes(base.elm)
    (tmp_path / "boards").mkdir()
    for board in range(3):
        np.savez(tmp_path / "boards" / f"{board}.npz", x=np.zeros((4, 1, 100, 6), np.float32), y=np.zeros(4, np.int64))
    few = ("--data", tmp_path / "boards", "--base", tmp_path / "base.elm", "--boards", 3, "--least", 2)
    said = edgelora("fleet", "simulate", tmp_path / "few", *few, "--engine", "loop", code=1)
    assert "0.npz: 4 samples are too few" in said and "--" not in said


def test_a_federation_is_served_by_one_gateway_at_a_time(base: Base, tmp_path: Path) -> None:
    one = Federation.create(tmp_path / "one", PLAN, base)
    early, still = Federation.open(tmp_path / "one"), Total(np.zeros(len(fleet_vector(one.adapter)), np.int64), 3)

    def twice(call: Call) -> Total:
        with pytest.raises(InputError, match="another process is running"):
            federation.federate(Federation.open(tmp_path / "one"), twice)
        return still

    federation.federate(one, twice, stop=1)
    with pytest.raises(InputError, match="open it again"):
        federation.federate(early, lambda call: still)
    assert early.done == 0 and Federation.open(tmp_path / "one").done == 1
    early.ended = "nobody\x1b answered"
    told = result("fleet", "report", tmp_path / "one")
    assert told["rounds"] == 1 and told["ended"] == "nobody\\x1b answered"
    federation.federate(Federation.open(tmp_path / "one"), lambda call: still)
    told = result("fleet", "report", tmp_path / "one")
    assert told["rounds"] == 5 and not told["ended"]


def mutants(value: Any, drawn: random.Random) -> Iterator[Any]:
    """The JSON of a state in which one value is missing or has the wrong type."""
    odd = (None, -1, 1e300, "", "x", [], {}, [[]], True, 2**70, "AAAA", {"a": 1})
    while True:
        made = json.loads(json.dumps(value))
        at = made
        while isinstance(at, dict | list) and at:
            key = drawn.choice(list(at)) if isinstance(at, dict) else drawn.randrange(len(at))
            if not isinstance(at[key], dict | list) or drawn.random() < 0.3:
                if drawn.random() < 0.3 and isinstance(at, dict):
                    del at[key]
                else:
                    at[key] = drawn.choice(odd)
                break
            at = at[key]
        yield made


def test_a_damaged_checkpoint_is_refused_in_words(base: Base, tmp_path: Path) -> None:
    folder, drawn = tmp_path / "one", random.Random(fresh.SEED)
    one = Federation.create(folder, replace(PLAN, masks=False), base)
    still = Total(np.zeros(len(fleet_vector(one.adapter)), np.int64), 3)
    federation.federate(one, lambda call: still, stop=2, judge=lambda adapter: {"0": 0.5})
    path = folder / "state.json"
    whole = path.read_text()
    wrong: list[str] = ["", "[]", "null", "\0", *(whole[: drawn.randrange(len(whole))] for _ in range(5))]
    for change in (
        {"adapter": "AAAA"},
        {"velocity": "AAAA"},
        {"id": 7},
        {"site": None},
        {"secret": "zz"},
        {"rounds": [{}]},
    ):
        wrong.append(json.dumps(json.loads(whole) | change))
    made = mutants(json.loads(whole), drawn)
    cases = wrong + [json.dumps(next(made)) for _ in range(fresh.rounds(240))]
    refused = 0
    for text in cases:
        path.write_text(text)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            code = main(["fleet", "report", str(folder)])
        refused += code
        good = code == 0 and text not in wrong
        assert good or code == 1 and any(why in said.getvalue() for why in KNOWN), (said.getvalue(), text[-900:])
    assert refused > len(cases) // 2
    path.write_text(whole)
    assert result("fleet", "report", folder)["rounds"] == 2


def test_two_gateways_for_one_board(tmp_path: Path) -> None:
    """The second gateway can't open the line; the first keeps it."""
    board = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    key = Ed25519PrivateKey.generate()
    site = Site.create(tmp_path / "site", "band", key)
    try:
        with Link.connect(board.port) as link:
            link.put("/update.trust", pack_trust("band", [public_bytes(key)]))
            site.enroll(link.fleet_identity(), "one", key)
        first, second = list[Any](), list[Any]()
        with running(Gateway({}, first.append)) as one, running(Gateway({}, second.append)) as other:
            one.add_line(board.port, serial_boards(site, "/samples.eld"))
            until(lambda: [event["event"] for event in first] == ["here"])
            other.add_line(board.port, serial_boards(site, "/samples.eld"))
            until(lambda: [event["event"] for event in second] == ["away"])
            assert "cannot open" in second[0]["why"]
        assert [event["event"] for event in first] == ["here"]
    finally:
        board.kill()


def test_a_demo_leaves_a_running_one_alone(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with running(Gateway({}, lambda event: None)) as made, local_server(made, tmp_path / "gateway") as inner:
        inner.start()
        assert "a demo runs in" in edgelora("demo", "fleet", "-o", tmp_path, code=1)
    assert (tmp_path / "site").exists()
