"""Files of the boards in fault injection: bases, adapters, samples, an update, and rounds of a fleet."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import class_cases
import numpy as np
from fleet_boards import Fleet
from people import of_one_spread, person
from typed import drawn_text, language_base

from edgelora.core.formats import elu
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.elt import TokenTable
from edgelora.core.formats.network import Op, QuantModel, Tensor
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.formats.wake_manifest import WakeManifest
from edgelora.core.twin.fleet_update import Policy
from edgelora.core.twin.session import Session
from edgelora.fleet.member import Identity, Past, TwinMember
from edgelora.fleet.messages import Task
from edgelora.fleet.secagg import Round
from edgelora.learn.machines.machine_base import pretrained_autoencoder, scaled_inputs
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.twin.warm_start import fleet_vector
from edgelora.learn.updates import keys
from edgelora.model.datasets import text

SEED = bytes(range(32))  # the board's secret seed of a round
BOARDS, ROUND, LAST = 4, 4, 3  # boards of the fleet; the current round, and the one before


def trained(base: bytes, rng: np.random.Generator, state: bool = False) -> bytes:
    """An adapter trained on a few samples."""
    session = Session(base, bytes([4, 4]), "frozen_a", 1)
    session.begin(5)
    for _ in range(6):
        session.train(rng.integers(-128, 128, (1, 1, 1, 5)).astype(np.int8), int(rng.integers(3)), 30000)
    return session.save(state)


def machine(rng: np.random.Generator) -> QuantModel:
    """A base for monitors, with 6 inputs."""
    rows = rng.normal(0, 500, (200, 6)).astype(np.int16)
    return pretrained_autoencoder(scaled_inputs(rows, 200), (4, 2, 4), 4)


def wake_word() -> QuantModel:
    """A base whose one output is high while the five values of the last two frames are."""
    shapes = ((1, 1, 5), 0.1, 3), ((2, 1, 5), 0.1, 3), ((1, 1, 1), 0.1, -128)
    model = QuantModel([Tensor(*shape) for shape in shapes], [Op("history", 0, 1)], ["word"])
    dense = Op("dense", 1, 2, weights=np.full((1, 1, 1, 10), 127, np.int8), bias=np.zeros(1, np.int32), t_shift=6)
    dense.multiplier, dense.shift = np.full(1, 1 << 30, np.int32), np.full(1, -7, np.int8)
    model.ops.append(dense)
    model.loss = "mean_squared_error"
    return model


def fill(place: Path) -> None:
    """Writes all files to a folder."""
    model = class_cases.small_base(np.random.default_rng(3))
    word = wake_word()
    model.signal = word.signal = Signal(50, 5, 1, 1, tuple(Normal(0.001 * (i + 1), 0.5, 2) for i in range(5)))
    base = pack_model(model)
    rng = np.random.default_rng(1)
    x, y = rng.integers(-128, 128, (8, 1, 1, 5)).astype(np.int8), np.arange(8) % 3
    files = {"base.elm": base, "machine.elm": pack_model(machine(rng))}
    files |= {f"{name}.ela": trained(base, rng) for name in ("one", "two")}
    files["samples.eld"] = pack_samples(x, y, None, base_id(base))
    own = of_one_spread(np.random.default_rng(3))
    mine = person(np.random.default_rng(3), own, 4)
    files["own.elm"] = pack_model(own[0])
    files["own.eld"] = pack_samples(mine.x, mine.y, None, base_id(files["own.elm"]))
    files["word.elm"] = pack_model(word)
    files["text.elm"] = language_base()[1].elm
    files["typed.txt"] = blocks_of(drawn_text(38 * text.WINDOW + 1, 2, 7))
    units = {ord(character): i for i, character in enumerate("abn ")}
    files["text.elt"] = TokenTable([b"a", b"b", b"n", b" ", b"an"], units, {(0, 2): 4}).pack()
    WakeManifest("Word", "word.tflite", 0.8, 2, 1000).save(place / "word.json")
    counts = rng.integers(-1000, 1000, (12, 5)).astype("<i2")
    files["counts.s16"] = counts.tobytes()
    files["counts.csv"] = "".join(",".join(map(str, row)) + "\n" for row in counts).encode()
    files["global.ela"] = trained(base, rng, True)
    fleet = Fleet.drawn(BOARDS, 2, len(fleet_vector(files["global.ela"])))
    files["update.trust"] = keys.pack_trust("band", [fleet.roster.release])
    files["update.elu"] = elu.pack(files["two.ela"], "wake", 8, "band", fleet.key, None)
    files["fleet.roster"] = fleet.roster.pack(fleet.key)
    files["old.roster"] = replace(fleet.roster, number=fleet.roster.number - 1).pack(fleet.key)
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "rounds.json").write_text(json.dumps(rounds(place, fleet, base, files["global.ela"], Samples(x, y))))


def blocks_of(typed: str) -> bytes:
    """A line for each window; base and typed text have no lines of their own."""
    return "\n".join(typed[at : at + text.WINDOW] for at in range(0, len(typed), text.WINDOW)).encode()


def rounds(place: Path, fleet: Fleet, base: bytes, adapter: bytes, samples: Samples) -> dict[str, object]:
    """Messages to the first board and its replies, in hexadecimal, by kind of round; and its secrets."""
    secret = fleet.members[0].secret
    (place / "first.key").write_bytes(secret)
    said: dict[str, object] = {"secret": secret.hex(), "seed": SEED.hex()}
    for kind, number in (("masked", ROUND), ("plain", ROUND), ("next", ROUND + 1)):
        identity = Identity(place / "first.key")
        identity.keep(Past(LAST))
        first = TwinMember(
            identity,
            lambda: fleet.roster,
            base,
            lambda index: samples,
            Policy(masks=False),
            lambda: SEED,
        )
        task = Task(
            roster=fleet.roster.number,
            base_id=base_id(base),
            adapter_sha256=hashlib.sha256(adapter).digest(),
            parameters=len(fleet_vector(adapter)),
            epochs=1,
            learning_rate=0,
            seed=9,
            clip=2000,
            sigma=40,
            least=3,
            cohort=BOARDS,
            masks=kind != "plain",
        )
        made, exchanged = Round(task, number, fleet.roster, fleet.server, range(BOARDS)), []
        while not made.done:
            for index in list(made.waiting):
                message = made.message(index)
                assert message
                board = fleet.members[index]
                reply = board.answer(message) if index else first.answer(message, adapter)
                made.receive(index, reply)
                if not index:
                    exchanged.append((message.hex(), reply.hex()))
            made.close_stage()
        assert len(made.result().survivors) == BOARDS
        said[kind] = exchanged if kind != "next" else exchanged[0]
    return said
