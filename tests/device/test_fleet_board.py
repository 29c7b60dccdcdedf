"""A board in a fleet, over the real link: its identity, its roster, rounds with other boards, and what it refuses."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fleet_boards import PythonMember
from fresh import in_full_runs, slow
from programs import desktop as on_desktop
from programs import running as running_board

from edgelora.base.resources import ROOT
from edgelora.board.build import program
from edgelora.board.installing import install
from edgelora.board.link.client import Link
from edgelora.board.link.protocol import Op
from edgelora.board.link.replies import DeviceError
from edgelora.board.link.serial_line import SerialLine, soft_reset
from edgelora.board.profiles import load_board
from edgelora.board.sim import virtual_board
from edgelora.board.sim.world import set_world
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.elu import public_bytes
from edgelora.fleet import serial_member as fleet_board
from edgelora.fleet.federation import Federation
from edgelora.fleet.gateway import Gateway, running
from edgelora.fleet.messages import Stage, Task, public_of
from edgelora.fleet.own_adapter import personalized
from edgelora.fleet.plan import Plan
from edgelora.fleet.policy import SUMS
from edgelora.fleet.roster import Roster, Site
from edgelora.fleet.secagg import Round
from edgelora.fleet.serial_member import BoardMember
from edgelora.fleet.serial_members import bring_policy
from edgelora.fleet.simulated_boards import boards_of, fleet_base
from edgelora.fleet.web import board_server
from edgelora.learn.training.data.base import Base, pretrained_har
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.twin_learner import train_twin
from edgelora.learn.training.twin.warm_start import fleet_training, fleet_vector
from edgelora.model.datasets import har as datasets_har
from edgelora.model.quantization.quantize import quantize

TARGET = "band"
SAMPLES_PATH = "/samples.eld"
RELEASE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SERVER = bytes(range(1, 33))
CLIP = 2000
SLASHES = ("fleet.key/", "/fleet.key//", "/./fleet.key/.", "/fleet.key/../fleet.key", "/fleet.key/x")  # of the key


@dataclass(frozen=True)
class Person:
    """A network, windows of one person, and an initial adapter."""

    elm: bytes
    samples: Samples
    adapter: bytes
    many: Samples


@pytest.fixture(scope="module")
def person() -> Person:
    people = datasets_har.load_har(3)
    model = quantize(pretrained_har(3, 0), people.pretrain.x[:200])
    model.labels = people.labels
    elm = pack_model(model)
    x, y = model.input.quantize(people.train.x), people.train.y
    samples = Samples(x[::9][:24], y[::9][:24])
    recipe = Recipe(rank=8, seed=5, on_board=True, epochs=1)
    adapter = train_twin(elm, Samples(x[1::9][:16], y[1::9][:16]), recipe).state
    return Person(elm, samples, adapter, Samples(x[::5], y[::5]))


def trust() -> bytes:
    return TARGET.encode().ljust(24, b"\0") + public_bytes(RELEASE)


def prepare(link: Link, person: Person) -> bytes:
    """Prepares a board, which gets base, samples and the release key; its public key."""
    base = base_id(person.elm)
    samples = pack_samples(person.samples.x, person.samples.y, None, base)
    for path, content in (("/base.elm", person.elm), (SAMPLES_PATH, samples), ("/update.trust", trust())):
        link.put(path, content)
    bring_policy(link, SUMS)
    return link.fleet_identity()


def roster_of(keys: list[bytes], number: int = 1, target: str = TARGET) -> Roster:
    return Roster(number, target, public_of(SERVER), public_bytes(RELEASE), tuple(keys))


def others(count: int, first: int, roster: Roster, secrets: list[bytes], n: int) -> dict[int, PythonMember]:
    numbers = np.random.default_rng(first)
    return {
        first + i: PythonMember(first + i, secrets[i], roster, numbers.integers(-50, 51, n).astype(np.int32))
        for i in range(count)
    }


def fleet_of(link: Link, person: Person, count: int, seed: int, **changes: int) -> tuple[Roster, Task, dict]:
    """The roster that a board gets, which is its first, with `count` others in Python; a task; these others."""
    drawn = random.Random(seed)
    secrets = [drawn.randbytes(32) for _ in range(count)]
    roster = roster_of([prepare(link, person), *map(public_of, secrets)])
    link.fleet_install(roster.pack(RELEASE))
    task = task_of(person, roster, **changes)
    return roster, task, others(count, 1, roster, secrets, task.parameters)


def task_of(person: Person, roster: Roster, **changes: int) -> Task:
    settings = {"epochs": 2, "learning_rate": 0, "seed": 77, "clip": CLIP, "sigma": 0, "least": 4, "cohort": 8}
    adapter = hashlib.sha256(person.adapter).digest()
    n = len(fleet_vector(person.adapter))
    return Task(roster.number, base_id(person.elm), adapter, n, **settings | changes)


def board_seed(seed: int, index: int) -> int:
    return (seed + 0x9E3779B1 * index) % 2**32


def clipped(change: np.ndarray, clip: int) -> np.ndarray:
    norm2 = int((change.astype(object) ** 2).sum())
    root = int(norm2**0.5)
    norm = next(n for n in range(max(0, root - 2), root + 3) if n * n >= norm2)
    return change if norm <= clip else np.sign(change) * ((np.abs(change) * ((clip << 16) // norm)) >> 16)


def learned(person: Person, task: Task, index: int) -> np.ndarray:
    after = fleet_training(person.elm, person.adapter, person.samples, board_seed(task.seed, index), task.epochs)
    return clipped(after.astype(np.int64) - fleet_vector(person.adapter), task.clip)


def sum_of(person: Person, task: Task, members: dict) -> np.ndarray:
    """What the first board's twin learned, plus the others' updates."""
    return learned(person, task, 0) + sum(member.vector for index, member in members.items() if index)


class Desktop:
    """Desktop MicroPython as a board whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._handle = virtual_board.start("unix", None, self._folder, die_with_parent=True)
        self.port = self._handle.port

    def restart(self) -> None:
        self.kill()
        self.start()

    def kill(self) -> None:
        self._handle.kill()


@pytest.fixture
def desktop(tmp_path: Path) -> Iterator[Desktop]:
    board = Desktop(tmp_path / "board")
    yield board
    board.kill()


def drive(round_: Round, members: dict, adapter: bytes, until: int = 99) -> None:
    """Runs the stages of a round; a member that raises drops out."""
    while not round_.done and round_.stage < until:
        for index in list(round_.waiting):
            message = round_.message(index)
            assert message is not None
            if index in members:
                member = members[index]
                more = (adapter,) if round_.stage == 1 and isinstance(member, BoardMember) else ()
                round_.receive(index, member.answer(message, *more))
        round_.close_stage()


class Recorded(SerialLine):
    """A line that records all bytes."""

    passed = bytearray()

    def write(self, data: bytes) -> None:
        self.passed += data
        super().write(data)

    def read(self, size: int, timeout: float) -> bytes:
        data = super().read(size, timeout)
        type(self).passed += data
        return data


def shown(passed: bytes, samples: Samples) -> int:
    """How many pieces of samples, each 12 varied values, occur in a line's bytes."""
    pieces = {
        row[at : at + 12]
        for row in (x.tobytes() for x in samples.x)
        for at in range(0, len(row) - 11, 12)
        if len(set(row[at : at + 12])) > 4 and 3 not in row[at : at + 12]
    }
    return sum(piece in passed for piece in pieces)


def test_round_over_the_link(desktop: Desktop, person: Person) -> None:
    """One board and five in Python: the sum is what the board's twin learned plus the others' updates."""
    with Link(lambda: Recorded(desktop.port)) as link:
        roster, task, members = fleet_of(link, person, 5, 4)
        assert link.fleet_identity() == roster.keys[0] and len(roster.keys[0]) == 32
        assert shown(Recorded.passed, person.samples) > 50, "what a line shows is found"
        Recorded.passed.clear()
        state = link.fleet_status()
        assert (state.index, state.roster, state.boards, state.round) == (0, 1, 6, 0)
        assert state.fleet == roster.fleet.hex()
        members[0] = BoardMember(link, SAMPLES_PATH)
        for number in (1, 2):
            round_ = Round(task, number, roster, SERVER, range(6))
            drive(round_, members, person.adapter)
            assert np.array_equal(round_.result().vector, sum_of(person, task, members))
            assert np.any(learned(person, task, 0))
        assert link.fleet_status().round == 2
        assert shown(Recorded.passed, person.samples) == 0 and len(Recorded.passed) > 10_000


def test_a_reset_loses_only_what_was_in_ram(desktop: Desktop, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """After training: it is not repeated. After COHORT: the board can no longer answer that round, but the next one."""
    with Link.connect(desktop.port) as link:
        roster, task, members = fleet_of(link, person, 5, 5)
        round_ = Round(task, 7, roster, SERVER, range(6))
        stopped = stop_after(9)
        monkeypatch.setattr(fleet_board, "GO_MS", 0)  # one step per request, however fast the board is
        with pytest.raises(InterruptedError):  # during training, and the host disconnects
            BoardMember(link, SAMPLES_PATH, stopped, commit_every=1).answer(round_.message(0) or b"", person.adapter)
    desktop.restart()
    with Link.connect(desktop.port) as link:
        members[0] = BoardMember(link, SAMPLES_PATH, commit_every=1)
        drive(round_, members, person.adapter, until=3)
    desktop.restart()
    with Link.connect(desktop.port) as link:
        member = members[0] = BoardMember(link, SAMPLES_PATH, commit_every=1)
        task_message = Round(task, 7, roster, SERVER, range(6)).message(0) or b""
        member.answer(task_message, person.adapter)
        for index in range(6):
            round_.receive(index, members[index].answer(round_.message(index) or b""))
        round_.close_stage()
    desktop.restart()
    with Link.connect(desktop.port) as link:
        member = members[0] = BoardMember(link, SAMPLES_PATH)
        assert link.fleet_status().round == 7
        for message in (round_.message(0) or b"", task_message):
            with pytest.raises(DeviceError):
                member.answer(message, person.adapter)
        with pytest.raises(DeviceError, match="past"):
            member.answer(task_message)
        for index in range(1, 6):  # without the board
            round_.receive(index, members[index].answer(round_.message(index) or b""))
        round_.close_stage()
        drive(round_, {i: members[i] for i in range(1, 6)}, person.adapter)
        assert round_.result().survivors == [1, 2, 3, 4, 5]
        again = Round(task, 8, roster, SERVER, range(6))
        drive(again, members, person.adapter)
        assert np.array_equal(again.result().vector, sum_of(person, task, members))
        assert not [entry for entry in link.store_list().adapters if entry.name.startswith("fleet")]


def stop_after(samples: int) -> Callable[[int, int, str], None]:
    def stop(done: int, total: int, what: str) -> None:
        if done >= samples:
            raise InterruptedError

    return stop


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_identity_and_roster(desktop: Desktop, person: Person) -> None:
    """The secret is constant; only valid rosters are accepted."""
    with Link.connect(desktop.port) as link:
        public = prepare(link, person)
        with pytest.raises(DeviceError, match="has an identity"):
            link.fleet_identity(fresh=True)
        assert "fleet.key" not in [entry.name for entry in link.list("/")]
        for path in ("/fleet.key", "fleet.key", "//fleet.key", "/./FLEET.KEY", "/fleet.key.part", *SLASHES):
            for act in (
                lambda path=path: link.stat(path),
                lambda path=path: link._request(Op.GET_DATA, bytes(4) + b"\x40\0\0\0" + path.encode()),
                lambda path=path: link.put(path, b"x"),
                lambda path=path: link.remove(path),
                lambda path=path: link.fleet_open(path),
                lambda path=path: link.fleet_open(SAMPLES_PATH, adapter=path),
                lambda path=path: link.store_list(path),
            ):
                with pytest.raises(DeviceError, match="secret"):
                    act()
        assert link.fleet_identity() == public

        other = public_of(bytes(32))
        good = roster_of([other, public], 5)
        signed = good.pack(RELEASE)
        link.fleet_install(signed)
        stranger = Ed25519PrivateKey.from_private_bytes(bytes(32))
        foreign = Roster(6, TARGET, good.server, public_bytes(stranger), good.keys).pack(stranger)
        newer = roster_of([other, public], 6).pack(RELEASE)
        for refused, why in (
            (foreign, "does not trust"),
            (roster_of([other, public], 6, "other").pack(RELEASE), "this board is"),
            (signed, "not newer"),
            (roster_of([other, public], 4).pack(RELEASE), "not newer"),
            (roster_of([other], 6).pack(RELEASE), "not enrolled"),
            (roster_of([other, bytes(32)], 6).pack(RELEASE), "not enrolled"),
            (newer[:-1], "signature"),
            (newer + b"x", "signature"),
            (newer[:100], "not a roster"),
            (bytes([newer[0] ^ 1]) + newer[1:], "not a roster"),
            *((flipped(newer, at), None) for at in (4, 8, 12, 16, 24, 48, 80, 96, 160, 223)),
        ):  # fmt: skip
            with pytest.raises(DeviceError, match=why):
                link.fleet_install(refused)
            assert link.fleet_status().roster == 5
        assert link.fleet_install(newer).roster == 6
        link.fleet_forget()
        assert link.fleet_identity(fresh=True) != public
        with pytest.raises(DeviceError, match="not enrolled"):
            link.fleet_status()


def test_round_over_http(desktop: Desktop, person: Person, tmp_path: Path) -> None:
    """A board that polls a gateway for its roster, the adapter and messages; the round is the same as over the link.

    It authenticates itself to the gateway, and to another one that replaces it during the round.
    """
    with Link.connect(desktop.port) as link:
        public = prepare(link, person)
    desktop.kill()
    drawn = random.Random(6)
    secrets = [drawn.randbytes(32) for _ in range(4)]
    site = Site.create(tmp_path / "site", TARGET, RELEASE)
    for key in (public, *map(public_of, secrets)):
        roster, _ = site.enroll(key, "", RELEASE)
    gateway = Gateway({}, lambda event: None)
    server = board_server(gateway, site, "127.0.0.1", 0)
    server.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with running(gateway), ThreadPoolExecutor(1) as pool:
        board = pool.submit(on_device, f"fleet_runs.poll({url!r}, 6)", tmp_path / "board")
        while not gateway.boards():  # the board has the first roster by now; then another board joins
            time.sleep(0.02)
        roster, _ = site.enroll(public_of(drawn.randbytes(32)), "", RELEASE)
        task = task_of(person, roster, least=3)
        members = others(4, 1, roster, secrets, task.parameters)
        round_ = Round(task, 3, roster, site.secret(), range(5))
        while not round_.done:
            ticket = gateway.mail.post({0: round_.message(0) or b""}, person.adapter if round_.stage == 1 else b"")
            for index, member in members.items():
                round_.receive(index, member.answer(round_.message(index) or b""))
            found, _ = gateway.mail.replies(ticket, 30)
            round_.receive(0, found[0][0])
            if round_.stage == Stage.COHORT:
                port = server.server_port
                server.server_close()
                server = board_server(gateway, site, "127.0.0.1", port)
                server.start()
            round_.close_stage()
        assert np.array_equal(round_.result().vector, sum_of(person, task, members))
        assert int(board.result().split()[-1]) > 40
    server.server_close()


def test_round_on_the_virtual_pico(person: Person, tmp_path: Path) -> None:
    """A chip with stuck noise makes no key; a working one takes part in a round."""
    set_world(tmp_path / "pico", None, [], "stuck")
    with (
        running_board("virtual-pico", PICO, tmp_path / "pico") as board,
        Link.connect(board.port) as link,
        pytest.raises(DeviceError, match="noise is stuck"),
    ):
        link.fleet_identity()
    set_world(tmp_path / "pico", None, [], "free")
    with running_board("virtual-pico", None, tmp_path / "pico") as board, Link.connect(board.port) as link:
        roster, task, members = fleet_of(link, person, 5, 8, epochs=1)
        members[0] = BoardMember(link, SAMPLES_PATH)
        round_ = Round(task, 1, roster, SERVER, range(6))
        drive(round_, members, person.adapter)
        assert np.array_equal(round_.result().vector, sum_of(person, task, members))
        heap = link.space().heap
        print(f"heap left beside a member and its model: {heap} bytes")
        assert heap > 100_000


@in_full_runs("a minute of an emulated Pico")
def test_a_stock_pico_says_that_a_round_needs_more_memory(tmp_path: Path) -> None:
    """With modules on the heap, the fleets' base by name, a frozen A and 24 neighbours."""
    base = fleet_base()
    few = boards_of("har", base.elm, base.name, 8).of(0).train
    start = Federation.create(tmp_path / "federation", Plan.suited(mode="frozen_a"), base).adapter
    person = Person(base.elm, Samples(few.x[:24], few.y[:24]), start, few)
    firmware = program(load_board("virtual-pico-stock"))
    with running_board("virtual-pico-stock", firmware, tmp_path / "pico") as board:
        install(board.port)
        with Link.connect(board.port) as link:
            roster, task, members = fleet_of(link, person, 24, 9, epochs=1, cohort=25)
        soft_reset(board.port)  # as a gateway does if a board runs out of memory
        with Link.connect(board.port) as link:
            members[0] = BoardMember(link, SAMPLES_PATH)
            with pytest.raises(DeviceError, match="memory.*flash EdgeLoRA's"):
                drive(Round(task, 1, roster, SERVER, range(25)), members, person.adapter)


PICO = ROOT / ".build/rp2/rpi_pico/firmware.uf2"


def on_device(code: str, folder: Path) -> str:
    return on_desktop(folder, f"import fleet_runs; {code}")


def test_a_stuck_noise_source_gives_no_key(tmp_path: Path) -> None:
    assert on_device("fleet_runs.stuck()", tmp_path) == "OK\n"


def test_power_cut_at_every_flash_operation_of_an_identity(tmp_path: Path) -> None:
    """Flash has the round before or after the cut, never an earlier one than was answered; the secret never changes."""
    made, failures = map(int, on_device("fleet_runs.cuts()", tmp_path).split()[-2:])
    assert failures == 0 and made > 10


@slow
def test_personalized_from_the_global_adapter(person: Person, tmp_path: Path) -> None:
    """A run from the better start becomes active if it beats base and own adapter; the host computes the same bytes."""
    (tmp_path / "base.elm").write_bytes(person.elm)
    base = base_id(person.elm)
    (tmp_path / "many.eld").write_bytes(pack_samples(person.many.x, person.many.y, None, base))
    (tmp_path / "global.ela").write_bytes(person.adapter)
    recipe = Recipe(rank=8, seed=9, on_board=True, epochs=4)
    (tmp_path / "own.ela").write_bytes(train_twin(person.elm, person.samples, recipe).adapter)
    count, *right = map(int, on_device("fleet_runs.personalized()", tmp_path).split()[1:])
    assert all(count // 2 < found <= count for found in right)
    here = Base("base.elm", person.elm, unpack_model(person.elm))
    assert (
        personalized(here, Plan(mode="frozen_a"), person.adapter, person.many, 0)
        == (tmp_path / "personal.ela").read_bytes()
    )
    assert personalized(here, Plan(mode="frozen_a"), None, person.many, 0) != (tmp_path / "personal.ela").read_bytes()


@in_full_runs("takes a minute; the test above personalizes")
def test_personalizing_keeps_what_is_better_and_forgets_what_is_old(tmp_path: Path) -> None:
    base = fleet_base()
    samples = boards_of("har", base.elm, base.name, 8).of(0).train
    (tmp_path / "base.elm").write_bytes(base.elm)
    (tmp_path / "many.eld").write_bytes(pack_samples(samples.x, samples.y, None, base_id(base.elm)))
    recipe = Recipe(rank=8, on_board=True, epochs=1)
    runs = [train_twin(base.elm, samples, replace(recipe, seed=seed)) for seed in range(3)]
    for name, adapter in (("global", runs[0].state), ("own", runs[1].adapter), ("other", runs[2].state)):
        (tmp_path / f"{name}.ela").write_bytes(adapter)
    assert on_device("fleet_runs.personalized_or_not()", tmp_path).split()[-1] in ("global", "base")
