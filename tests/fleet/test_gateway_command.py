"""The `edgelora fleet gateway` process: boards on this computer, the server's connection, Ctrl-C."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from commands import edgelora, result
from fleet_boards import learned

from edgelora.core.formats.elm import pack_model
from edgelora.core.twin.fleet_update import clip_update
from edgelora.fleet.messages import Task
from edgelora.fleet.roster import Site
from edgelora.fleet.secagg import Round
from edgelora.fleet.simulated_boards import Boards
from edgelora.fleet.web import GatewayClient
from edgelora.learn.training.data.base import Base, load_part, pretrained_har
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.learn.training.twin.warm_start import fleet_vector
from edgelora.model.quantization.quantize import quantize

COMMAND = Path(sys.executable).parent / "edgelora"


def test_a_round_of_twins_through_the_command(tmp_path: Path) -> None:
    train = load_part("har:3", "train")
    model = quantize(pretrained_har(3, 0), train.x)
    base = Base("har.elm", pack_model(model), model)
    (tmp_path / "har.elm").write_bytes(base.elm)
    data = tmp_path / "data"
    data.mkdir()
    for index in range(3):
        part = np.arange(len(train.x)) % 3 == index
        np.savez(data / f"{index}.npz", x=train.x[part], y=train.y[part], labels=np.array(train.labels))
    recipe = Recipe(rank=4)
    learner = TwinLearner(base.elm, recipe.settings(base.elm))
    learner.begin(5)
    adapter = learner.save(True)

    key, folder, twins = tmp_path / "release.pem", tmp_path / "fleet", tmp_path / "twins"
    edgelora("keygen", key)
    made = result(
        "fleet",
        "enroll",
        folder,
        "--key",
        key,
        "--target",
        "band",
        "--twins",
        3,
        "--identities",
        twins,
        "--policy",
        "sums",
    )
    assert (made["first"], made["boards"]) == (0, 3) and len(list(twins.glob("*.key"))) == 3
    site = Site(folder)
    options = ["--twins", twins, "--model", tmp_path / "har.elm", "--data", data]
    line = [COMMAND, "fleet", "gateway", folder, *options, "--http", "0", "--host", "127.0.0.1", "--json"]
    with subprocess.Popen([*line, "--log", tmp_path / "log"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        events: list[Any] = [json.loads(process.stdout.readline())]
        client = GatewayClient(folder / "gateway")
        assert [board.way for board in client.boards()] == ["local"] * 3
        with urllib.request.urlopen(f"{events[0]['url']}roster", timeout=10) as reply:
            assert reply.read() == site.data()
        roster = site.roster()
        digest = hashlib.sha256(adapter).digest()
        task = Task(roster.number, adapter[16:24], digest, len(fleet_vector(adapter)), 1, 0, 9, 700, 0, 3, 3)
        rounds = Round(task, 1, roster, site.secret(), range(3))
        while not rounds.done:
            messages = {index: rounds.message(index) or b"" for index in rounds.waiting}
            for index, replies in client.exchange(messages, adapter, 60).items():
                rounds.receive(index, replies[0])
            rounds.close_stage()
        process.send_signal(signal.SIGINT)
        events += map(json.loads, process.stdout)
        assert process.wait(30) == 0
    boards = Boards(str(data), base, 3)
    before = fleet_vector(adapter)
    after = [learned(task, base.elm, adapter, boards.of(index).train, index) for index in range(3)]
    wanted = [clip_update(before, one, 700) for one in after]
    assert np.array_equal(rounds.result().vector, np.sum(wanted, axis=0)) and np.abs(wanted).sum() > 1000
    assert [event["event"] for event in events] == ["open", *["answered"] * 18, "stopped"]
    assert len((tmp_path / "log").read_text().splitlines()) == 20
    assert [path.read_text().split()[:2] for path in twins.glob("*.round")] == [["1", "1"]] * 3


def test_missing_arguments_of_enroll_and_gateway(tmp_path: Path) -> None:
    edgelora("keygen", tmp_path / "release.pem")
    folder = tmp_path / "fleet"
    enroll = ["fleet", "enroll", folder, "--key", tmp_path / "release.pem", "--target", "band"]
    assert "whom to enroll?" in edgelora(*enroll, "--twins", 1, code=1)
    edgelora(*enroll, "--twins", 1, "--identities", tmp_path / "twins")
    assert "give --twins, --model, --data" in edgelora("fleet", "gateway", folder, "--twins", "x", code=1)
    assert "No such file" in edgelora("fleet", "gateway", tmp_path / "none", code=1)
