"""On-board training: interrupted at every step and flash operation, it ends with the twin's bytes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
from commands import execute
from documents import blocks
from fresh import slow
from programs import desktop, running

from benchmarks.swap import layers_and_adapters
from edgelora.board import build
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.cli.main import main
from edgelora.core.formats import elm as formats_elm
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.twin import binding
from edgelora.learn.training.board.board_paths import SAMPLES_PATH
from edgelora.learn.training.board.board_run import NAME
from edgelora.learn.training.data import base as training_base
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge.early_stopping import Course, prepared
from edgelora.learn.training.recipe import MODES, Recipe
from edgelora.learn.training.twin.loop import train
from edgelora.learn.training.twin.twin_learner import TwinLearner, guard_twin, train_twin
from edgelora.learn.training.twin.warm_start import fleet_training, fleet_vector, restarted
from edgelora.model.datasets import har as datasets_har
from edgelora.model.datasets.dataset import held_out
from edgelora.model.quantization.quantize import quantize

STEPS = 40
HELD = 7  # held-out samples
SETTINGS = {"epochs": 2, "seed": 7, "learning_rate": 6000, "rank": 4, "on_board": True}


def run(code: str, folder: Path) -> str:
    return desktop(folder, f"import training_runs; training_runs.{code}")


def packed(samples: Samples, base_id: bytes) -> bytes:
    return pack_samples(samples.x, samples.y, samples.given_targets, base_id)


def told(output: str, what: str) -> str:
    return re.findall(rf"^{what} (.*)$", output, re.MULTILINE)[-1]


@pytest.fixture(scope="module")
def person() -> tuple[bytes, Samples]:
    """The wearable network of person 3, and their windows."""
    people = datasets_har.load_har(3)
    model = quantize(training_base.pretrained_har(3, 0), people.pretrain.x[:200])
    model.labels = people.labels
    return pack_model(model), Samples(model.input.quantize(people.train.x), people.train.y)


def every(samples: Samples, count: int, start: int = 0) -> Samples:
    """`count` samples, spread over all."""
    chosen = np.zeros(len(samples), bool)
    chosen[start :: (len(samples) - start) // count] = True
    return samples.part(chosen & (np.cumsum(chosen) <= count))


@pytest.fixture(scope="module")
def har(person: tuple[bytes, Samples]) -> tuple[bytes, Samples]:
    """Their network, and 15 of their windows of unequal classes; an epoch has 20 of them: 4, 4, 4, 2 x 2 and 1 x 4."""
    samples = person[1]
    chosen = np.zeros(len(samples), bool)
    for label, count in {1: 4, 2: 4, 3: 4, 0: 2, 6: 1}.items():
        of_class = np.flatnonzero(samples.y == label)
        chosen[of_class[:: len(of_class) // count][:count]] = True
    lopsided = samples.part(chosen)
    assert (len(lopsided), len(lopsided.of_epoch)) == (15, STEPS // 2)
    return person[0], lopsided


@pytest.fixture(scope="module")
def held(person: tuple[bytes, Samples]) -> Samples:
    """Held-out windows."""
    return every(person[1], HELD, 4)


def fill(folder: Path, elm: bytes, samples: Samples, held: Samples | None = None) -> Path:
    (folder / "base.elm").write_bytes(elm)
    for name, part in (("samples", samples), ("held", held)):
        if part:
            (folder / f"{name}.eld").write_bytes(packed(part, formats_elm.base_id(elm)))
    return folder


@pytest.fixture(scope="module")
def folder(har: tuple[bytes, Samples], held: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("training"), *har, held)


def by_the_twin(elm: bytes, samples: Samples, recipe: Recipe) -> tuple[bytes, bytes]:
    run = train_twin(elm, samples, recipe)
    return run.adapter, run.state


def course_of(elm: bytes, samples: Samples, held: Samples, recipe: Recipe) -> Course:
    return Course(samples, held, samples, recipe.resolved(elm, len(samples.of_epoch)))


def guarded(elm: bytes, samples: Samples, held: Samples, recipe: Recipe, begun: int | None = None):
    """The twin's adapter from a run with held-out samples, its final state, and its guard.

    begun: the seed of an adapter that is in use before and has learned nothing.
    """
    course = course_of(elm, samples, held, recipe)
    learner = TwinLearner(elm, course.settings.session)
    if begun is not None:
        learner.begin(begun)
    learner.use(None if begun is None else learner.save(False))
    guard = course.guard(learner)
    run = guard_twin(elm, course, guard)
    return run.adapter, run.state, guard


def order_of(seed: int, epoch: int, count: int, place: int) -> int:
    """SPEC.md, section 13, written independently."""
    mix, golden = (lambda z: int(reference.mix(np.array(z % 2**32, np.uint64)))), reference.GOLDEN
    key = mix(seed + (65536 + epoch) * golden)
    for number in range(0, 48, 2):
        partner = (mix(key + number * golden) - place) % count
        coins = mix(key + (number + 1) * golden)
        if mix(coins + max(place, partner) * golden) >= 2**31:
            place = partner
    return place


@pytest.mark.parametrize(("seed", "epoch", "count"), [(0, 0, 1), (7, 0, 2), (7, 3, 20), (2**32 - 1, 65535, 149)])
def test_the_order_is_the_permutation_that_spec_says(seed: int, epoch: int, count: int) -> None:
    order = binding.order(seed, epoch, count)
    assert order.tolist() == [order_of(seed, epoch, count, place) for place in range(count)]
    assert sorted(order) == list(range(count))


def test_the_order_shuffles() -> None:
    """Every sample is equally likely at every position and after every other one, within 5 standard deviations."""
    count, runs = 24, 2000
    places, pairs = np.zeros((count, count)), np.zeros((count, count))
    for run in range(runs):
        order = binding.order(run * 7919, run % 5, count)
        places[np.arange(count), order] += 1
        pairs[order[:-1], order[1:]] += 1
    for counts, cells, expected in (
        (places.ravel(), (count - 1) ** 2, runs / count),
        (pairs[~np.eye(count, dtype=bool)], count * (count - 1) - 1, runs / count),
    ):
        chi_squared = float(((counts - expected) ** 2 / expected).sum())
        assert abs(chi_squared - cells) < 5 * (2 * cells) ** 0.5


@pytest.mark.parametrize("mode", MODES)
def test_started_from_an_adapter(mode: str, har: tuple[bytes, Samples], held: Samples, folder: Path) -> None:
    """A run from given masters and scales, with any state and counts, equals the twin's after any reset."""
    elm, samples = har
    recipe = Recipe(mode=mode, **SETTINGS | {"seed": 3})
    first, second = (train_twin(elm, samples, recipe, stop=stop).state for stop in (3, 4))
    for name, state in (("start", first), ("other", second)):
        (folder / f"{name}.ela").write_bytes(state)
    output = run(f"started({mode!r})", folder)
    wanted = fleet_training(elm, first, samples, SETTINGS["seed"], 2, 6000)
    assert np.any(wanted != fleet_vector(first)) and len(wanted) == trained_values(first)
    assert set(re.findall(r"^VECTOR (.*)$", output, re.MULTILINE)) == {wanted.tobytes().hex()}
    assert not np.array_equal(wanted, fleet_training(elm, first, samples, 8, 2, 6000))
    assert not np.array_equal(wanted, fleet_training(elm, second, samples, SETTINGS["seed"], 2, 6000))
    course = course_of(elm, samples, held, Recipe(mode=mode, **SETTINGS))
    learner = TwinLearner(elm, course.settings.session)
    learner.use(None)
    guard = course.guard(learner)
    learner.load(restarted(first, SETTINGS["seed"]))
    assert told(output, "ADAPTER") == train(learner, samples, course.settings, guard=guard).adapter.hex()


def trained_values(adapter: bytes) -> int:
    layers = unpack_adapter(adapter).layers
    return sum(layer.b.size + (layer.a.size + 2 if layer.a_state else 0) for layer in layers)


def check_cuts(output: str, adapter: bytes, state: bytes, least: int) -> None:
    made, failures = map(int, told(output, "CUTS").split())
    assert failures == 0 and made > least, output[:1000]
    assert (told(output, "ADAPTER"), told(output, "STATE")) == (adapter.hex(), state.hex())
    assert int(told(output, "CHECKPOINT")) <= 1024


@pytest.mark.parametrize(
    ("mode", "rtc", "judged", "rate", "better"),
    [
        ("frozen_a", False, False, 6000, None),
        ("trainable_a", True, False, 6000, None),
        ("frozen_a", False, True, 6000, True),
        ("trainable_a", True, True, 1, False),
    ],
)
def test_power_cut_at_every_flash_operation(
    mode: str,
    rtc: bool,
    judged: bool,
    rate: int,
    better: bool | None,
    har: tuple[bytes, Samples],
    held: Samples,
    folder: Path,
) -> None:
    """The twin's adapter and state in the end, with the checkpoint in flash alone or also in memory that survives a
    reset. A better adapter replaces the active one; otherwise the active one stays, with the run's best next to it."""
    recipe = Recipe(mode=mode, **SETTINGS | {"learning_rate": rate})
    output = run(f"cuts({mode!r}, {rtc}, {'held.eld' if judged else None!r}, {rate})", folder)
    adapter, state = guarded(*har, held, recipe, SETTINGS["seed"] + 1)[:2] if judged else by_the_twin(*har, recipe)
    assert told(output, "BETTER") == str(better)
    check_cuts(output, adapter, state, 120)


def test_power_cuts_with_adapters_on_every_pointwise_layer(keyword_elm: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (9, 49, 10, 1)).astype(np.int8)
    fill(tmp_path, keyword_elm, samples := Samples(x, rng.integers(0, 4, 9)))
    recipe = Recipe(placement="pointwise", **SETTINGS)
    output = run(f"cuts('frozen_a', False, ranks={recipe.ranks(keyword_elm)}, every=7)", tmp_path)
    check_cuts(output, *by_the_twin(keyword_elm, samples, recipe), 9)


def test_results_equal_the_twins(har: tuple[bytes, Samples], held: Samples, folder: Path) -> None:
    """Early stopping, micro-batches across epochs and longer than one, no improvement: best, verdict and adapter."""
    ends = json.loads(told(run("judged()", folder), "JUDGED"))
    found = set()
    for mode, epochs, rate, batch, before, best, best_epoch, judged, better, adapter in ends:
        settings = SETTINGS | {"mode": mode, "epochs": epochs, "learning_rate": rate, "micro_batch": batch}
        kept, _, guard = guarded(*har, held, Recipe(**settings))
        outcome = guard.outcome
        assert before == [outcome.before.right, -outcome.before.minus_loss]
        assert best == [outcome.kept.right, -outcome.kept.minus_loss]
        assert (best_epoch, judged - 1, adapter) == (outcome.best, outcome.epochs, kept.hex())
        assert better == (guard.verdict == "better")
        found.add((better, outcome.epochs < epochs))
    assert len(ends) == 8 and {better for better, _ in found} == {early for _, early in found} == {False, True}


def test_the_last_quarter_of_each_class_is_held_out(person: tuple[bytes, Samples], tmp_path: Path) -> None:
    elm, samples = person
    many = every(samples, 70)
    fill(tmp_path, elm, samples)
    (tmp_path / "many.eld").write_bytes(packed(many, formats_elm.base_id(elm)))
    output = run("splitting()", tmp_path)
    parts = re.findall(r"^PART (\[.*\]) (\d+)$", output, re.MULTILINE)
    held = np.array([4 * (many.y[i:] == y).sum() <= (many.y == y).sum() for i, y in enumerate(many.y)])
    assert np.array_equal(held, held_out(many.y))
    for chosen, (read, crc) in zip((~held, held), parts, strict=True):
        part = many.part(chosen)
        first = part.x.reshape(len(part), -1)[:, 0].view(np.uint8)
        assert read == str(list(zip(part.y.tolist(), first.tolist(), strict=True)))
        records = b"".join(bytes([label]) + x.tobytes() for x, label in zip(part.x, part.y, strict=True))
        assert int(crc) == zlib.crc32(records)
    assert output.endswith("OK\n")


def test_yes_and_no_are_classes(tmp_path: Path) -> None:
    """Targets of a single output: a rare yes occurs up to four times an epoch, and a quarter of each is held out."""
    model = unpack_model(layers_and_adapters((8, 8, 2), 0)[0])
    model.loss, model.labels, last = "binary_cross_entropy", [], model.ops[-1]
    model.tensors[-1] = replace(model.output, shape=(1, 1, 1))
    for name in ("weights", "bias", "multiplier", "shift"):
        setattr(last, name, getattr(last, name)[:1])
    elm, rng = pack_model(model), np.random.default_rng(5)
    y = np.array([0, 0, 1, 0, 0] * 5 + [0] * 7)
    x = np.clip(rng.normal(0, 40, (len(y), 1, 1, 8)) + 30 * y[:, None, None, None], -128, 127).astype(np.int8)
    samples = Samples(x, y, model.targets(y))
    assert samples.have_classes and np.bincount(y[samples.of_epoch]).tolist() == [27, 20]
    values = Samples(x, y, np.where(y, 2, 0).astype(np.int8)[:, None])
    assert not values.have_classes and len(values.of_epoch) == len(y), "a target above 1 is a value"
    fill(tmp_path, elm, samples)
    output = run("yes_or_no()", tmp_path)
    assert told(output, "PLACES") == "32 47" and told(output, "HELD") == "25 7"
    assert told(output, "ADAPTER") == by_the_twin(elm, samples, Recipe(mode="frozen_a", **SETTINGS))[0].hex()
    course = prepared(elm, samples, Recipe(**SETTINGS))
    assert course.held and np.bincount(course.held.y).tolist() == [6, 1]
    assert prepared(elm, samples.part(y == 0), Recipe(**SETTINGS)).verdict(None) == "not judged: one class"


def test_checkpoints_that_do_not_fit(har: tuple[bytes, Samples], tmp_path: Path) -> None:
    elm, samples = har
    fill(tmp_path, elm, samples, every(samples, 6))
    base_id = formats_elm.base_id(elm)
    others = Samples(samples.x[::-1].copy(), samples.y)
    more = Samples(np.concatenate([samples.x, samples.x]), np.concatenate([samples.y, samples.y]))
    some = Samples(samples.x[:5], samples.y[:5])
    for name, part, base in (
        ("others", others, base_id),
        ("more", more, base_id),
        ("few", some, base_id),
        ("foreign", samples, bytes(8)),
    ):
        (tmp_path / f"{name}.eld").write_bytes(packed(part, base))
    assert run("mix_ups()", tmp_path) == "OK\n"


def test_scheduling_on_desktop_micropython(folder: Path) -> None:
    assert run("scheduling()", folder) == "OK\n"


def test_sample_files_of_board_and_host_are_alike(har: tuple[bytes, Samples], folder: Path) -> None:
    """The board writes the same file as the host, and reads targets that the host wrote."""
    base_id = formats_elm.base_id(har[0])
    targets = np.arange(-3, 3, dtype=np.int8).reshape(2, 3)
    with_targets = Samples(np.array([[5, -5], [6, -6]], np.int8), np.zeros(2, int), targets)
    (folder / "targets.eld").write_bytes(packed(with_targets, base_id))
    assert run("samples()", folder) == "OK\n"
    x = np.zeros_like(har[1].x[:3])
    x.reshape(3, -1)[:, 0] = range(3)
    assert (folder / "recorded.eld").read_bytes() == packed(Samples(x, np.arange(3)), base_id)
    with pytest.raises(ValueError, match="0 to 255"):
        packed(Samples(x, np.arange(254, 257)), base_id)


def test_guide_asleep(folder: Path) -> None:
    """Runs the guide's code twice: the first time the battery is low after two updates."""
    [code] = blocks("docs/guides/asleep.md", "python", "tested: asleep")
    (folder / "store").unlink(missing_ok=True)
    code = code.replace("/rom/har.elm", "base.elm").replace("/samples.eld", "samples.eld").replace("100,", "1,")
    for level, state in (("[4, 4, 3]", "low battery"), ("[4] * 999", "done")):
        setup = f"levels = {level}\ndef read_volts():\n return levels.pop(0)\ndef feed_the_watchdog():\n pass\n"
        said = desktop(folder, f"{setup}{code}\nprint(state, run.updates, run.resumes)")
        assert said == f"{state} {2 if state != 'done' else 600} {int(state == 'done')}\n"


def start(link: Link, elm: bytes, recipe: Recipe, samples: Samples, **settings: object):
    """Opens the base on a board and prepares a run over the samples; an unfinished run is resumed."""
    content = packed(samples, formats_elm.base_id(elm))
    for path, data_ in (("/base.elm", elm), (SAMPLES_PATH, content)):
        if not link.holds(path, data_):
            link.put(path, data_)
    ranks = recipe.ranks(elm)
    link.open_model("/base.elm", ranks, recipe.mode, recipe.micro_batch, recipe.momentum_shift)
    fixed = {"epochs": recipe.epochs, "seed": recipe.seed, "learning_rate": recipe.initial_rate, "commit_every": 1}
    return link.run_start(SAMPLES_PATH, NAME, resume=True, **fixed, **settings)


# What prints right before the sleep is sent in the next of USB's frames, which interrupts it.
ASLEEP = """
import time, edgelora.training as training

class Empty:
    between, done, rest, busy_us, step_us, energy_uj = True, False, 1, 0, 0, 0

    def step(self):
        self.busy_us += 1

def volts():
    global began
    before = time.ticks_ms()
    print(end="." * 200)
    began += time.ticks_diff(time.ticks_ms(), before)
    return 4.0

run = Empty()
settings = {"battery": volts, "battery_floor": 3.0, "sleep_mw": 10, "power": lambda hz: 0}
scheduler = training.Scheduler(run, sleep_ms=100, budget_ms=550, **settings)
began = time.ticks_ms()
state = scheduler.spend()
print(state, time.ticks_diff(time.ticks_ms(), began), scheduler._spent_us, run.energy_uj)
"""


def test_light_sleep_beside_a_usb_host_lasts_and_is_measured(tmp_path: Path) -> None:
    """The host's frames end light sleep within a millisecond while the board sends."""
    image = build.build_firmware("virtual-pico", {}, tmp_path / "fw.uf2")
    with running("virtual-pico", image, tmp_path / "pico") as board:
        state, passed_ms, booked_us, booked_uj = execute(board.port, ASLEEP).lstrip(".").split()
        assert state == "paused"
        assert 495 <= int(passed_ms) <= 550  # without the time of printing, which is not booked here
        assert abs(int(passed_ms) - int(booked_us) // 1000) <= 10
        assert int(booked_uj) == int(booked_us) // 100


# On the board by mpremote: the clock follows what is set and is restored; a plain loop with light sleep, windows that
# end by battery, time and energy, and a task.
ON_PICO = """
import asyncio, binascii, time, machine, edgelora, edgelora.training as training
from edgelora.store import Store

def timed(hz):
    machine.freq(hz)
    start = time.ticks_us()
    for _ in range(2000):
        pass
    return time.ticks_diff(time.ticks_us(), start)

timed(125_000_000)  # code is in the flash's cache then
times = [timed(hz) for hz in (48_000_000, 133_000_000, 125_000_000)]
print("RATIOS", round(1000 * times[0] / times[2]), round(1000 * times[1] / times[2]))
model = edgelora.Model("/base.elm", ranks=4)
samples = training.SampleFile("/samples.eld")
samples.count = 10  # an epoch has 16 of them
run = training.Run(model, samples, Store("/test", cache=0), "me", 3, 7, 6000)
pace = {"clock_hz": 48_000_000, "sleep_ms": 30}
scheduler = training.Scheduler(run, **pace)
for _ in range(9):
    next(iter(scheduler))
print("STEPS", run.position, run.step_us, machine.freq())
try:
    for state in scheduler:
        if run.position == 12:
            raise KeyboardInterrupt
except KeyboardInterrupt:
    print("INTERRUPTED", run.position, machine.freq())
window = training.Scheduler(run, battery=lambda: 3.0, battery_floor=3.2, **pace)
print("BATTERY", window.spend(), run.position, run._generations[0][2])
window = training.Scheduler(run, budget_ms=12 * run.step_us // 1000, **pace)
print("TIME", window.spend(), run.position)
window = training.Scheduler(run, budget_mj=1.2 * run.step_us / 1000, power=lambda hz: hz // 480_000, sleep_mw=5, **pace)
before = run.energy_uj
print("ENERGY", asyncio.run(window.run()), run.position, 0 < run.energy_uj - before <= 1.2 * run.step_us)
print("TASK", asyncio.run(scheduler.run()), run.done, machine.freq())
print("LEARNED", binascii.hexlify(run.store.read("me")).decode())
"""


@slow
def test_scheduler_on_the_virtual_pico_killed_and_resumed(har: tuple[bytes, Samples], tmp_path: Path) -> None:
    """At 48 MHz with pauses; the power is cut three times, and the result is the twin's."""
    elm, samples = har
    recipe = Recipe(**{**SETTINGS, "epochs": 1})
    adapter, state = by_the_twin(elm, samples, recipe)
    image = build.build_firmware("virtual-pico", {}, tmp_path / "fw.uf2")
    board = virtual_board.start("virtual-pico", image, tmp_path / "pico", die_with_parent=True)
    try:
        learned = []
        for cut in (5, 9, 14, None):
            with Link.connect(board.port) as link:
                reply = start(link, elm, recipe, samples, clock_hz=48_000_000, sleep_ms=20)
                assert reply.resumed == bool(learned) and not reply.notice
                while reply.state != "done" and (cut is None or reply.samples < cut):
                    reply = link.run_go(50)
                if cut is None:
                    got_adapter, got_state = (save(link, with_state) for with_state in (False, True))
                else:
                    learned.append(reply.samples)
                    board.kill()
            if cut is not None:
                board = virtual_board.start("virtual-pico", None, tmp_path / "pico", die_with_parent=True)
        assert got_adapter == adapter and got_state == state
        assert reply.resumes >= 2  # those before a commit
        done = subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", board.port, "exec", ON_PICO],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = done.stdout + done.stderr
        slow, fast = map(int, told(output, "RATIOS").split())
        assert abs(slow - 1000 * 125 / 48) < 10 and abs(fast - 1000 * 125 / 133) < 10
        position, step_us, clock = map(int, told(output, "STEPS").split())
        assert (position, clock) == (9, 125_000_000) and step_us * 48 > 800_000  # cycles at the slow clock
        assert told(output, "INTERRUPTED") == "12 125000000"
        assert told(output, "BATTERY") == "low battery 16 2"
        assert (told(output, "TIME"), told(output, "ENERGY")) == ("paused 24", "paused 32 True")
        assert told(output, "TASK") == "done True 125000000"
        some = Samples(samples.x[:10], samples.y[:10])
        assert told(output, "LEARNED") == by_the_twin(elm, some, replace(recipe, epochs=3))[0].hex()
    finally:
        board.kill()


def save(link: Link, state: bool) -> bytes:
    link.save("/saved.ela", state)
    return link.get("/saved.ela")


def test_personalize_on_board(har: tuple[bytes, Samples], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command on desktop MicroPython: a budget, Ctrl-C, the end, each with --resume; another run is refused."""
    elm, _ = har
    (tmp_path / "har.elm").write_bytes(elm)
    with running("unix", None, tmp_path / "board") as board:
        command = (
            f"personalize {tmp_path}/har.elm --port {board.port} --data har:3 -o {tmp_path}/run --on-board --epochs 2"
        )
        run = f"{command} --rank 4 --sleep-ms 100 --commit-every 2 --json".split()
        assert main([*run, "--budget-ms", "1000"]) == 0  # mostly asleep, even on a busy computer
        reply = json.loads(capsys.readouterr().out)
        assert reply["state"] == "paused" and 0 < reply["updates"] < 29 and reply["pending"] == 0

        command = [sys.executable, "-m", "edgelora", *run, "--resume"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            metrics, lines = tmp_path / "run" / "metrics.jsonl", reply["updates"]
            deadline = time.monotonic() + 60
            while len(metrics.read_text().splitlines()) <= lines + 2 and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and "--resume continues" in errors

        assert main([*run, "--resume", "--seed", "1"]) == 1
        assert "other settings" in capsys.readouterr().err
        assert main([*run, "--resume"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["host_twin_identical"] and report["checkpoint_bytes"] <= 1024
        told = [json.loads(line) for line in metrics.read_text().splitlines()]
        steps = [line["step"] for line in told if line["event"] == "update"]
        assert steps == list(range(1, 30)), "suspended runs repeat nothing"
        assert main([*run, "--cache", "ram"]) == 1 and "omit --cache" in capsys.readouterr().err
