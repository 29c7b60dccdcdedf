"""The `edgelora` command from end to end: real firmware on virtual boards, over the real link."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelora import cli, formats, quantization, sim, twin, virtual_boards
from edgelora.cli.parser import make_parser
from edgelora.datasets import dataset, keywords
from edgelora.datasets import har as datasets_har
from edgelora.floatnet import files
from edgelora.link.client import Link
from edgelora.training.base import load_base

COMMAND = Path(sys.executable).parent / "edgelora"
KEYS = {
    "board",
    "base_accuracy",
    "adapted_accuracy",
    "float_lora_accuracy",
    "host_twin_identical",
    "arena_bytes",
    "adapter_bytes",
    "infer_us",
    "train_step_us",
    "swap_us",
    "samples",
    "epochs",
    "rank",
    "mode",
}


def edgelora(*args: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command, which has to exit with `code`."""
    done = subprocess.run([COMMAND, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, done.stderr
    return done


def result(*args: object) -> Any:
    """What the command prints with --json: all of its standard output."""
    return json.loads(edgelora(*args, "--json").stdout)


def some(part: dataset.Dataset, count: int) -> dataset.Dataset:
    """Windows spread over all of `part`."""
    picked = np.linspace(0, len(part) - 1, count).astype(int)
    return dataset.Dataset(part.x[picked], part.y[picked], part.labels)


@pytest.fixture(scope="module")
def steps() -> dict[str, Any]:
    """What each step of `made` printed."""
    return {}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, steps: dict[str, Any]) -> Path:
    """A folder with a quickly trained base, a second one, firmware, and a few of person 3's windows."""
    folder = tmp_path_factory.mktemp("made")
    net, elm = folder / "base.npz", folder / "har.elm"
    steps["pretrain"] = result("pretrain", "har:3", "--epochs", 6, "-o", net)
    steps["quantize"] = result("quantize", net, "--data", "har:3", "-o", elm)
    steps["plan"] = result("plan", elm)
    for board, name in (("unix", "har.romfs"), ("virtual-pico", "har.uf2")):
        steps[board] = result("build", "--board", board, "--model", elm, "-o", folder / name)
    edgelora("pretrain", "har:3", "--epochs", 1, "--seed", 1, "-o", folder / "other.npz")
    edgelora("quantize", folder / "other.npz", "--data", "har:3", "-o", folder / "other.elm")
    har = datasets_har.load_har(3)
    dataset.save_dataset(some(har.train, 12), folder / "train.npz")
    dataset.save_dataset(some(har.test, 10), folder / "test.npz")
    return folder


@pytest.fixture
def unix(made: Path, tmp_path: Path) -> Iterator[str]:
    """A unix board with the base in ROMFS, started by the command: its port."""
    board = result("sim", "unix", "--firmware", made / "har.romfs", "--state", tmp_path / "board")
    yield board["port"]
    assert result("sim", "unix", "--stop", "--state", tmp_path / "board") == {"stopped": [board["port"]]}


@pytest.fixture(scope="module")
def spoken(keyword_elm: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keyword network, noise to train it on and to test it on, and less of it."""
    folder = tmp_path_factory.mktemp("spoken")
    (folder / "kws.elm").write_bytes(keyword_elm)
    rng = np.random.default_rng(2)
    for name, count in (("train", 10), ("test", 6), ("few", 2), ("one", 1)):
        x = rng.normal(size=(count, 49, 10, 1)).astype(np.float32)
        dataset.save_dataset(dataset.Dataset(x, rng.integers(0, 12, count), keywords.LABELS), folder / f"{name}.npz")
    return folder


def read_report(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def metric_lines(run: Path) -> list[dict[str, Any]]:
    """The updates of a run that may be going on."""
    path = run / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [line for line in map(json.loads, lines) if line["event"] == "update"]


# ---- from data to a report -------------------------------------------------------------------------------------------


def test_steps_before_the_board(made: Path, steps: dict[str, Any]) -> None:
    elm = (made / "har.elm").read_bytes()
    base_id = formats.base_id(elm).hex()
    assert steps["pretrain"]["train_accuracy"] > 0.7
    assert steps["pretrain"]["windows"] > 2000
    assert (steps["quantize"]["bytes"], steps["quantize"]["base_id"]) == (len(elm), base_id)
    assert abs(steps["quantize"]["int8_accuracy"] - steps["quantize"]["float_accuracy"]) < 0.02
    assert steps["plan"]["fits"]
    assert 0 < steps["plan"]["arena_bytes"] <= 16384
    assert steps["plan"]["infer_arena_bytes"] < steps["plan"]["arena_bytes"]
    for board, name in (("unix", "har.romfs"), ("virtual-pico", "har.uf2")):
        assert steps[board] == {
            "output": str(made / name),
            "bytes": (made / name).stat().st_size,
            "base_id": base_id,
        }
        assert steps[board]["bytes"] > len(elm)


@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
def test_personalization_on_unix(made: Path, unix: str, tmp_path: Path, mode: str) -> None:
    run, elm = tmp_path / "run", made / "har.elm"
    assert [d["board"] for d in result("devices") if d["port"] == unix] == ["unix"]
    settings = ["--data", "har:3", "--mode", mode]
    printed = result(
        "personalize", elm, *settings, "--epochs", 3, "--net", made / "base.npz", "--port", unix, "-o", run
    )

    report = read_report(run)
    assert report.keys() >= KEYS
    assert printed == report | {"verdict": "better", "report": str(run / "report.html")}
    assert report["host_twin_identical"] is True
    assert report["adapted_accuracy"] > report["base_accuracy"] > 0.5
    assert report["float_lora_accuracy"] > 0.5
    assert (report["mode"], report["epochs"], report["rank"], report["samples"]) == (mode, 3, 8, 147)
    assert report["arena_bytes"] == result("plan", elm, "--mode", mode)["arena_bytes"]
    assert report["infer_us"] > 0 < report["train_step_us"]
    assert report["activated"] is True and report["epoch_accuracies"][-1] == report["adapted_accuracy"]
    lines = metric_lines(run)
    assert [line["step"] for line in lines] == list(range(1, report["steps"] + 1))
    assert sum(line["samples"] for line in lines) == 3 * 147
    assert [line["loss"] for line in lines] == report["losses"]

    adapter = run / "adapter.ela"
    assert len(adapter.read_bytes()) == report["adapter_bytes"]
    edgelora("pull", "/adapter.ela", "-o", tmp_path / "pulled.ela", "--port", unix)
    assert (tmp_path / "pulled.ela").read_bytes() == adapter.read_bytes()
    for place in (["--twin"], ["--port", unix]):
        with_adapter = result("eval", elm, "--data", "har:3", "--adapter", adapter, *place)
        without = result("eval", elm, "--data", "har:3", *place)
        assert (with_adapter["accuracy"], with_adapter["samples"]) == (report["adapted_accuracy"], 175)
        assert without["accuracy"] == report["base_accuracy"]

    page = run / "report.html"
    first = page.read_bytes()
    page.unlink()
    assert result("report", run) == printed
    assert page.read_bytes() == first
    assert read_report(run) == report


def test_planned_ranks_on_unix(made: Path, unix: str, tmp_path: Path) -> None:
    """A budget in, a plan out, and a board that trains within it, to the host's bytes."""
    elm, file = made / "har.elm", tmp_path / "plan.json"
    budget = ["--ram", "11K", "--adapter", 280]
    planned = result("plan", elm, "--data", "har:3", *budget, "-o", file, "--report", tmp_path / "plan.html")
    assert (planned["fits"], planned["ram_bytes"]) == (True, 11 * 1024)
    assert planned["arena_bytes"] <= 11 * 1024 and planned["adapter_bytes"] <= 280
    assert len(set(planned["ranks"]) - {0}) > 1 or 0 in planned["ranks"][:3]  # not alike
    page = (tmp_path / "plan.html").read_text()
    assert f"at ranks {' '.join(map(str, planned['ranks']))}," in page and "<script" not in page
    assert page.count('<tr class="marked">') == 1 and page.count("(the choice)") == 1
    assert page.count('class="ring"') == 2 and page.count("<circle") > len(planned["choice"]["frontier"])
    few = ["--data", made / "train.npz", "--test", made / "test.npz", "--epochs", 2, "--plan", file]
    edgelora("personalize", elm, *few, "--net", made / "base.npz", "--port", unix, "-o", tmp_path / "run")
    report = read_report(tmp_path / "run")
    assert report["host_twin_identical"] is True and report["float_lora_accuracy"] > 0
    assert report["arena_bytes"] == planned["arena_bytes"] and report["adapter_bytes"] == planned["adapter_bytes"]
    assert (report["mode"], [row["rank"] for row in report["layers"]]) == (planned["mode"], planned["ranks"])
    edgelora("train-adapter", elm, *few, "-o", tmp_path / "host.ela")
    assert (tmp_path / "host.ela").read_bytes() == (tmp_path / "run" / "adapter.ela").read_bytes()
    with contextlib.closing(Link.connect(unix)) as link:
        link.hello()
        settings = planned["mode"], planned["micro_batch"], planned["momentum"], planned["recompute"]
        assert link.open_model("/rom/har.elm", planned["ranks"], *settings).arena == planned["arena_bytes"]


def test_plan_files_that_are_refused(made: Path, tmp_path: Path) -> None:
    good = tmp_path / "plan.json"
    edgelora("plan", made / "har.elm", "--rank", 2, "--ram", "16K", "-o", good)
    text = good.read_text()

    def refused(content: str, *options: object) -> str:
        (tmp_path / "bad.json").write_text(content)
        train = ["--data", made / "train.npz", "-o", tmp_path / "a.ela", "--plan", tmp_path / "bad.json"]
        told = edgelora("train-adapter", made / "har.elm", *train, *options, code=1).stderr
        assert told.startswith("edgelora: ") and told.count("\n") == 1 and not (tmp_path / "a.ela").exists()
        return told

    plan = json.loads(text)
    assert "damaged or not a plan" in refused(text[:-20])
    assert "not a plan" in refused("[]")
    assert "version 9" in refused(json.dumps(plan | {"version": 9}))
    assert "recipe missing" in refused(json.dumps({key: plan[key] for key in plan if key != "recipe"}))
    other = plan["recipe"] | {"given_ranks": [1 * (rank > 0) for rank in plan["recipe"]["given_ranks"]]}
    assert "arena bytes would be" in refused(json.dumps(plan | {"recipe": other}))
    assert "unknown settings" in refused(text.replace("epochs", "apochs"))
    for change in ({"epochs": 1.5}, {"mode": "mode"}, {"micro_batch": "8"}, {"given_ranks": [2, 2]}, {"ram": 100}):
        assert "damaged" in refused(json.dumps(plan | {"recipe": plan["recipe"] | change}))
    assert "the plan decides rank, ram" in refused(text, "--rank", 4, "--ram", "8K")
    told = edgelora("train-adapter", made / "other.elm", "--data", made / "train.npz", "--plan", good, code=1).stderr
    assert f"was made for base {plan['base_id']}, this is" in told


def test_imported_model_on_unix(made: Path, unix: str, tmp_path: Path) -> None:
    """From a .tflite file to an adapter trained on a board; the base's outputs there are TensorFlow Lite Micro's."""
    pytest.importorskip("tflite_micro")
    from tflite_writer import TflmModel, write_tflite

    windows = dataset.load_dataset(made / "train.npz")
    model = quantization.quantize(files.load_net(made / "base.npz"), windows.x)
    file, elm = tmp_path / "har.tflite", tmp_path / "mine.elm"
    file.write_bytes(write_tflite(model))
    parts = ["--data", made / "train.npz", "--test", made / "test.npz", "--port", unix]
    imported = result("import", file, "--data", made / "train.npz", "--labels", ",".join(windows.labels), "-o", elm)
    assert len(imported["layers"]) == len(model.ops)
    edgelora("personalize", elm, *parts, "--epochs", 2, "-o", tmp_path / "run")
    assert read_report(tmp_path / "run")["host_twin_identical"] is True

    x = model.input.quantize(dataset.load_dataset(made / "test.npz").x)
    tflm = TflmModel(file.read_bytes())
    with contextlib.closing(Link.connect(unix)) as link:
        link.hello()
        link.open_model(load_base(elm).paths[1], 0, "infer")
        logits = link.eval(x, logits=True).logits
    assert logits is not None
    assert [row.tolist() for row in logits] == [np.asarray(tflm(window)).reshape(-1).tolist() for window in x]


def test_wake_word_on_unix(unix: str, tmp_path: Path) -> None:
    """A streaming network with one output: imported, planned, personalized from windows of frames, judged."""
    pytest.importorskip("tflite_micro")
    from wake_words import sound, wake_word

    for name, first in (("train", 0), ("test", 100)):
        rows = np.stack([sound(12, first + i) for i in range(40)]).reshape(40, 1, 36, 40).astype(np.float32)
        y = np.arange(40) % 2
        rows[y == 1, :, 18:, :20] += 120
        np.savez(tmp_path / f"{name}.npz", x=(np.clip(rows, -128, 127) + 128) * np.float32(0.10196079), y=y)
    file, elm, run = tmp_path / "alexa.tflite", tmp_path / "alexa.elm", tmp_path / "run"
    file.write_bytes(wake_word("alexa"))
    parts = ["--data", tmp_path / "train.npz", "--test", tmp_path / "test.npz"]
    result("import", file, *parts[:2], "--labels", "else,alexa", "-o", elm)
    few = ["--placement", "pointwise", "--rank", 4, "--epochs", 12, "--micro-batch", 4, "--learning-rate", 20000]
    plan = result("plan", elm, *few, "--mode", "trainable_a", "--ram", "40K")
    assert {row["activation"] for row in plan["layers"] if row["kind"] == "history"} == {"held"}
    edgelora("personalize", elm, *parts, *few, "--mode", "trainable_a", "--port", unix, "-o", run)
    report = read_report(run)
    assert report["host_twin_identical"] is True and report["arena_bytes"] == plan["arena_bytes"]
    assert report["adapted_accuracy"] > 0.9 > 0.6 > report["base_accuracy"]
    trained = result("train-adapter", elm, *parts, *few, "--mode", "trainable_a", "-o", tmp_path / "mine.ela")
    assert (tmp_path / "mine.ela").read_bytes() == (run / "adapter.ela").read_bytes()
    judged = ["eval", elm, "--adapter", run / "adapter.ela", "--data", tmp_path / "test.npz"]
    for where in (["--twin"], ["--port", unix]):
        assert result(*judged, *where)["accuracy"] == trained["accuracy_after"] == report["adapted_accuracy"]
    for cache, placement in (("ram", "last"), ("flash", "last_block")):
        settings = ["--placement", placement, "--epochs", 1, "--cache", cache]
        edgelora("personalize", elm, *parts, *settings, "--port", unix, "-o", run)
        assert read_report(run)["host_twin_identical"] is True
    np.savez(tmp_path / "odd.npz", x=np.zeros((2, 1, 35, 40), np.float32), y=np.array([0, 1]))
    refused = edgelora("eval", elm, "--data", tmp_path / "odd.npz", "--twin", code=1)
    assert "windows are (1, 35, 40), must be a whole number of inputs of (1, 3, 40)" in refused.stderr


def test_a_trial_leaves_the_boards_own_adapter(made: Path, unix: str, tmp_path: Path) -> None:
    few = ["--data", made / "train.npz", "--test", made / "test.npz", "--port", unix, "--epochs", 1]
    for seed in (1, 2):
        edgelora("personalize", made / "har.elm", *few, "--seed", seed, "-o", tmp_path / str(seed))
    trial = ["--adapter", tmp_path / "1" / "adapter.ela", "--data", made / "test.npz", "--port", unix]
    edgelora("eval", made / "har.elm", *trial)
    edgelora("pull", "/adapter.ela", "-o", tmp_path / "pulled.ela", "--port", unix)
    assert (tmp_path / "pulled.ela").read_bytes() == (tmp_path / "2" / "adapter.ela").read_bytes()


def test_memory_savers_on_unix(spoken: Path, unix: str, tmp_path: Path) -> None:
    """What saves memory or time changes no byte; each run is the host twin's, which saves neither."""
    elm, port = spoken / "kws.elm", ["--port", unix]
    parts = ["--data", spoken / "train.npz", "--test", spoken / "test.npz"]

    def adapter(name: str, *settings: object) -> tuple[bytes, dict[str, Any]]:
        few = ["--rank", 4, "--epochs", 2, "--micro-batch", 4, *settings]
        edgelora("personalize", elm, *parts, *few, *port, "-o", tmp_path / name)
        report = read_report(tmp_path / name)
        assert report["host_twin_identical"] is True
        assert report["arena_bytes"] == result("plan", elm, *few)["arena_bytes"]
        assert max(part["offset"] + part["size"] for part in report["memory"]) <= report["arena_bytes"]
        return (tmp_path / name / "adapter.ela").read_bytes(), report

    last = ["--placement", "last_block"]
    plain, report = adapter("plain", *last)
    assert [row["rank"] for row in report["layers"] if row["rank"]] == [4, 4]
    for place in ("ram", "flash"):
        cached, _ = adapter(place, *last, "--cache", place)
        assert cached == plain
    assert "/features.bin: no such file" in edgelora("pull", "/features.bin", *port, code=1).stderr  # it is tidied up
    waiting, _ = adapter("threshold", *last, "--threshold", 2048)
    assert waiting != plain and len(waiting) == len(plain)

    pointwise = ["--placement", "pointwise", "--mode", "trainable_a"]
    kept, large = adapter("kept", *pointwise)
    again, small = adapter("again", *pointwise, "--ram", "80K")
    assert again == kept
    assert small["arena_bytes"] <= 80 * 1024 < large["arena_bytes"]
    refused = edgelora("personalize", elm, *parts, *pointwise, "--ram", "60K", *port, "-o", tmp_path / "no", code=1)
    assert "training needs at least" in refused.stderr and refused.stderr.count("\n") == 1


@pytest.mark.parametrize("ranks", [bytes(10) + b"\x07", bytes([1, 0, 32, 0, 3, 0, 9, 0, 4, 0, 2])])
@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
def test_adapters_of_any_rank_are_evaluated(spoken: Path, unix: str, tmp_path: Path, ranks: bytes, mode: str) -> None:
    elm = (spoken / "kws.elm").read_bytes()
    session = twin.Session(elm, ranks, mode)
    session.begin(1)
    test = load_base(spoken / "kws.elm").samples(dataset.load_dataset(spoken / "test.npz"))
    for x, label in zip(test.x, test.y, strict=True):
        session.train(x, int(label), 60000)
    session.flush(60000)
    (tmp_path / "a.ela").write_bytes(session.save())
    expected = round(session.accuracy(test.x, test.y), 4)
    evaluate = ["eval", spoken / "kws.elm", "--data", spoken / "test.npz", "--adapter", tmp_path / "a.ela"]
    for place in (["--twin"], ["--port", unix]):
        assert result(*evaluate, *place)["accuracy"] == expected


def test_virtual_pico_from_empty_flash(made: Path, tmp_path: Path) -> None:
    state, run = tmp_path / "board", tmp_path / "run"
    board = result("sim", "virtual-pico", "--state", state)
    flashed = result("flash", made / "har.uf2", "--drive", board["drive"])
    assert (flashed["port"], flashed["installed"]["files"]) == (board["port"], [])  # the image has all of it
    port = ["--port", board["port"]]
    few = ["--data", made / "train.npz", "--test", made / "test.npz", "--epochs", 2]
    edgelora("personalize", made / "har.elm", *few, *port, "-o", run)
    report = read_report(run)
    assert report["host_twin_identical"] is True
    assert "RP2040" in report["board"]
    assert (report["samples"], report["test_samples"], report["steps"]) == (12, 10, 3)
    assert report["arena_bytes"] <= 16384
    page = (run / "report.html").read_text()
    assert [row["clock_mhz"] for row in report["energy"]] == [48, 96, 125, 133]
    assert all(f"{1000 * row['update_joules']:.1f} mJ" in page for row in report["energy"])
    assert "133 MHz, cheapest" in page
    edgelora("personalize", made / "har.elm", *few, *port, "-o", run, "--placement", "last_block", "--cache", "flash")
    assert read_report(run)["host_twin_identical"] is True
    factory = ("--rank", 1, "--qat", "--augment", "motion", "--epochs", 3)
    trained = result("train-adapter", made / "har.elm", *few[:4], *factory, "-o", tmp_path / "factory.ela")
    there = result("eval", made / "har.elm", "--data", few[3], "--adapter", tmp_path / "factory.ela", *port)
    assert there["accuracy"] == trained["accuracy_after"]
    budget = ["--board", "virtual-pico", "--ram", "10K", "--adapter", 400, "-o", tmp_path / "plan.json"]
    planned = result("plan", made / "har.elm", "--data", "har:3", *budget)
    edgelora("personalize", made / "har.elm", *few, *port, "-o", run, "--plan", tmp_path / "plan.json")
    report = read_report(run)
    assert report["host_twin_identical"] is True
    assert (report["arena_bytes"], report["adapter_bytes"]) == (planned["arena_bytes"], planned["adapter_bytes"])
    assert planned["arena_bytes"] <= 10240 and planned["adapter_bytes"] <= 400
    content = np.random.default_rng(0).bytes(5000)
    (tmp_path / "sent").write_bytes(content)
    assert result("push", tmp_path / "sent", "/sub", *port)["bytes"] == 5000
    assert result("pull", "/sub", "-o", tmp_path / "back", *port)["bytes"] == 5000
    assert (tmp_path / "back").read_bytes() == content
    assert result("sim", "virtual-pico", "--stop", "--state", state) == {"stopped": [board["port"]]}


def test_stock_firmware(made: Path, tmp_path: Path) -> None:
    """A Pico with MicroPython's own image: EdgeLoRA comes as files, the base is read from the filesystem into RAM."""
    state, run = tmp_path / "board", tmp_path / "run"
    board = result("sim", "virtual-pico-stock", "--state", state)
    port = ["--port", board["port"]]
    installed = result("install", *port)
    assert (installed["arch"], [file["copied"] for file in installed["files"]]) == ("armv6m", [True] * 5)
    assert [file["copied"] for file in result("install", *port)["files"]] == [False] * 5
    few = ["--data", made / "train.npz", "--test", made / "test.npz", "--epochs", 1]
    report = result("personalize", made / "har.elm", *few, *port, "-o", run)
    assert report["host_twin_identical"] is True
    assert report["free_heap_bytes"] < installed["free_heap"] - report["arena_bytes"] - report["model_bytes"]
    alone = result("personalize", made / "har.elm", *few, *port, "-o", run, "--on-board", "--clock", 48)
    assert alone["host_twin_identical"] is True and alone["checkpoint_bytes"] <= 1024
    key = tmp_path / "release.pem"
    edgelora("keygen", key)
    edgelora("update", "--trust", key.with_suffix(".pub"), "--target", "band", *port)
    released = ("--name", "wake", "--target", "band", "--key", key, "-o", tmp_path / "site")
    edgelora("release", run / "adapter.ela", *released)
    assert result("update", tmp_path / "site" / "wake.elu", *port)["installed"] == ["wake", 1]
    assert result("sim", "virtual-pico-stock", "--stop", "--state", state) == {"stopped": [board["port"]]}


def test_keywords_on_the_virtual_pico(spoken: Path, tmp_path: Path) -> None:
    state, elm = tmp_path / "board", spoken / "kws.elm"
    edgelora("build", "--board", "virtual-pico", "--model", elm, "-o", tmp_path / "kws.uf2")
    board = result("sim", "virtual-pico", "--state", state)
    assert result("flash", tmp_path / "kws.uf2", "--drive", board["drive"], "--firmware-only")["installed"] is None
    few = ["--data", spoken / "few.npz", "--test", spoken / "one.npz", "--epochs", 1, "--micro-batch", 2]
    settings = [*few, "--rank", 4, "--placement", "pointwise", "--port", board["port"], "-o", tmp_path / "run"]
    for mode, ram, bound in (("frozen_a", [], 48), ("trainable_a", ["--ram", "80K"], 80)):
        edgelora("personalize", elm, *settings, "--mode", mode, *ram)
        report = read_report(tmp_path / "run")
        assert report["host_twin_identical"] is True
        assert "RP2040" in report["board"]
        assert (report["samples"], report["steps"]) == (2, 1)
        assert report["arena_bytes"] <= bound * 1024
    assert result("sim", "virtual-pico", "--stop", "--state", state) == {"stopped": [board["port"]]}


# ---- interruptions ---------------------------------------------------------------------------------------------------


def interrupted(arguments: list[object], run: Path, after: int, stop: Callable[[subprocess.Popen[str]], None]) -> str:
    """Starts `edgelora`, calls `stop` once it has made `after` updates; its exit code and standard error."""
    process = subprocess.Popen([COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 90
        while len(metric_lines(run)) < after:
            assert process.poll() is None and time.monotonic() < deadline, "the run ended, or is too slow"
            time.sleep(0.02)
        stop(process)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return f"{process.returncode} {errors}"


def check_resumed(arguments: list[object], run: Path, least: int) -> None:
    """Goes on with at least `least` updates behind it, to the same bytes as a run without interruption."""
    edgelora(*arguments, "--resume")
    report = read_report(run)
    assert report["host_twin_identical"] is True
    assert 0 < len(report["losses"]) <= report["steps"] - least
    assert metric_lines(run)[-1]["step"] == report["steps"]


@pytest.mark.parametrize(
    "how, expected, cache",
    [(signal.SIGINT, "130 ", []), (signal.SIGKILL, "-9 ", ["--placement", "last_block", "--cache", "flash"])],
)
def test_host_stops_in_the_middle(
    made: Path, unix: str, tmp_path: Path, how: signal.Signals, expected: str, cache: list[str]
) -> None:
    run, port = tmp_path / "run", ["--port", unix]
    arguments = ["personalize", made / "har.elm", "--data", "har:3", "--epochs", 20, *cache, *port, "-o", run]
    ended = interrupted(arguments, run, 45, lambda process: process.send_signal(how))
    assert ended.startswith(expected)
    assert "Traceback" not in ended
    assert ("the board is usable" in ended) == (how == signal.SIGINT)
    assert not (run / "report.json").exists()
    assert unix in [device["port"] for device in result("devices")]
    evaluate = ["eval", made / "har.elm", "--data", made / "test.npz"]
    assert result(*evaluate, *port)["accuracy"] == result(*evaluate, "--twin")["accuracy"]
    check_resumed(arguments, run, 36)  # two epochs of 147 samples


@pytest.mark.parametrize(
    "board, image, settings, cut_after, kept",
    [
        ("unix", "har.romfs", ["--data", "har:3", "--epochs", 20], 45, 36),
        ("virtual-pico", "har.uf2", ["--data", "train.npz", "--test", "test.npz", "--epochs", 4], 4, 3),
    ],
)
def test_power_cut(
    made: Path, tmp_path: Path, board: str, image: str, settings: list[object], cut_after: int, kept: int
) -> None:
    state, run = tmp_path / "board", tmp_path / "run"
    settings = [made / word if str(word).endswith(".npz") else word for word in settings]
    handle = sim.start(board, made / image, state, die_with_parent=True)
    arguments = ["personalize", made / "har.elm", *settings, "--port", handle.port, "-o", run]
    ended = interrupted(arguments, run, cut_after, lambda _: handle.kill())
    assert ended.startswith("1 ")
    assert "Traceback" not in ended
    assert "line to the board was lost" in ended
    handle = sim.start(board, None, state, die_with_parent=True)
    check_resumed(arguments, run, kept)
    handle.stop()


def test_resume_takes_only_its_own_checkpoint(made: Path, unix: str, tmp_path: Path) -> None:
    def personalize(epochs: int, samples: str, *more: str, code: int = 0) -> str:
        parts = ["--data", made / samples, "--test", made / "test.npz", "--epochs", epochs]
        done = edgelora(
            "personalize", made / "har.elm", *parts, "--port", unix, "-o", tmp_path / "run", *more, code=code
        )
        return done.stderr

    personalize(2, "train.npz")
    adapter = (tmp_path / "run" / "adapter.ela").read_bytes()
    for epochs, samples in ((3, "train.npz"), (1, "train.npz"), (2, "test.npz")):
        assert "checkpoint is of another run" in personalize(epochs, samples, "--resume", code=1)
    personalize(2, "train.npz", "--resume")
    assert read_report(tmp_path / "run")["train_step_us"] is None  # nothing was left to do
    assert (tmp_path / "run" / "adapter.ela").read_bytes() == adapter


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrong(made: Path) -> Path:
    """`made`, with files that are no good."""
    (made / "text.elm").write_text("this is not a model")
    (made / "text.romfs").write_text("this is not an image")
    few = dataset.load_dataset(made / "test.npz")
    dataset.save_dataset(dataset.Dataset(few.x[:, :, :50], few.y, few.labels), made / "short.npz")
    dataset.save_dataset(dataset.Dataset(few.x.transpose(0, 1, 3, 2), few.y, few.labels), made / "turned.npz")
    dataset.save_dataset(dataset.Dataset(few.x, few.y + 7), made / "classes.npz")
    dataset.save_dataset(dataset.Dataset(few.x[:, 0], few.y, few.labels), made / "flat.npz")
    session = twin.Session((made / "har.elm").read_bytes(), bytes([3, 0, 5, 0, 2]))
    session.begin(0)
    (made / "mine.ela").write_bytes(session.save())
    return made


@pytest.mark.parametrize(
    "command, words",
    [
        ("plan absent.elm", ["absent.elm", "No such file"]),
        ("plan text.elm", ["text.elm", "not a model (.elm)"]),
        ("plan har.elm --board nope", ["unknown board 'nope'", "virtual-pico"]),
        ("plan har.elm --adapter 1K", ["--adapter", "give --data"]),
        ("plan har.elm --data train.npz --rank 4", ["--rank", "--data"]),
        (
            "plan har.elm --data train.npz --test test.npz --ram 4K --method gradient --json",
            ["no adapter fits 4096 bytes", "--ram 59"],
        ),
        ("plan har.elm --rank 0", ["rank 0", "give one from 1 to 32"]),
        ("plan har.elm --rank 33", ["rank 33", "give one from 1 to 32"]),
        ("plan har.elm --threshold 16385", ["threshold 16385", "0 to 16384"]),
        ("personalize har.elm --data train.npz -o run", ["train.npz: 12 samples are too few", "--test"]),
        ("plan har.elm --ram 2K", ["needs at least", "may take 2048", "--ram"]),
        ("bench kernels --board unix", ["unix has no clock", "--board virtual-pico"]),
        ("bench model --board unix", ["unix has no clock", "--board virtual-pico"]),
        ("bench model text.elm", ["text.elm", "not a model (.elm)"]),
        ("bench energy --board unix", ["unix's profile names no power", "--board"]),
        ("build --board nope -o x", ["unknown board 'nope'"]),
        ("sim nope", ["unknown board 'nope'"]),
        ("sim rpi_pico", ["real hardware"]),
        ("quantize text.elm --data har:3", ["text.elm", "not a readable .npz", "edgelora pretrain"]),
        ("report .", ["report.json", "No such file"]),
        ("pull --port /dev/nonexistent", ["cannot open /dev/nonexistent", "plugged in"]),
        (
            "personalize har.elm --data train.npz --test test.npz --port /dev/nonexistent -o run",
            ["cannot open /dev/nonexistent"],
        ),
        ("personalize har.elm --data train.npz --epochs 0 -o run", ["epochs 0"]),
        ("personalize har.elm --data train.npz --clock 48 -o run", ["--clock", "--on-board"]),
        ("personalize har.elm --data train.npz --on-board --budget-ms 0 -o run", ["budget-ms 0: give 1 or more"]),
        ("personalize har.elm --data train.npz --learning-rate 70000 -o run", ["learning rate 70000", "1 to 65535"]),
        ("eval other.elm --data test.npz --twin --adapter mine.ela", ["mine.ela", "was made for base"]),
        ("eval har.elm --data test.npz --twin --adapter har.elm", ["har.elm", "not an adapter (.ela)"]),
        ("eval har.elm --data har:9 --twin", ["subject 9", "1 to 6"]),
        ("eval har.elm --data short.npz --twin", ["(1, 50, 6)", "(1, 100, 6)"]),
        ("eval har.elm --data turned.npz --twin", ["(1, 6, 100)", "(1, 100, 6)"]),
        ("eval har.elm --data flat.npz --twin", ["flat.npz", "[samples, height, width, channels]"]),
        ("eval har.elm --data classes.npz --twin", ["labels go up to", "7 classes"]),
        ("keygen release.pub", ["release.pub", "take another name"]),
        ("release har.elm --name wake --key text.elm", ["text.elm", "no private key"]),
        ("serve . --port 99999", ["can't listen on 0.0.0.0:99999", "choose another --port"]),
        ("serve absent", ["absent is no directory"]),
        ("flash absent.uf2 --port /dev/nonexistent", ["absent.uf2", "No such file"]),
        ("flash har.uf2 --drive .", ["no boot loader's volume"]),
    ],
)
def test_errors_are_one_line(wrong: Path, command: str, words: list[str]) -> None:
    done = edgelora(*command.split(), code=1, cwd=wrong)
    assert done.stdout == ""
    assert done.stderr.startswith('{"error": {"type": ' if "--json" in command else "edgelora: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_board_refuses_what_it_cannot_use(wrong: Path, unix: str) -> None:
    """The board goes on with what it has."""
    commands = (
        (["eval", "other.elm", "--data", "test.npz", "--adapter", "mine.ela"], "was made for base"),
        (["pull", "/absent"], "/absent: no such file"),
        (["flash", "text.romfs"], "text.romfs is no ROMFS image"),
        (["flash", "har.uf2"], "takes a .romfs image"),
        (["bench", "model", "har.elm"], "virtual-pico has an RP2040"),
    )
    for command, message in commands:
        done = edgelora(*command, "--port", unix, code=1, cwd=wrong)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    evaluate = ["eval", wrong / "har.elm", "--data", wrong / "test.npz", "--adapter", wrong / "mine.ela"]
    assert result(*evaluate, "--port", unix)["accuracy"] == result(*evaluate, "--twin")["accuracy"]


def every_command(parser: argparse.ArgumentParser, name: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield name
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from every_command(inner, (*name, word))


def test_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    names = list(every_command(make_parser()))
    assert {("pretrain",), ("personalize",), ("demo", "har"), ("bench", "learning")} <= set(names)
    for name in names:
        with pytest.raises(SystemExit) as ended:
            cli.main([*name, "--help"])
        assert ended.value.code == 0
        assert " ".join(("usage: edgelora", *name)) in capsys.readouterr().out


# ---- the demo --------------------------------------------------------------------------------------------------------


def test_demo_on_stock_firmware(tmp_path: Path) -> None:
    report = result("demo", "har", "--board", "virtual-riscv", "--subject", 3, "--epochs", 1, "-o", tmp_path)
    assert report["host_twin_identical"] is True
    assert report["adapted_accuracy"] > report["base_accuracy"]
    assert not virtual_boards.running()


def test_demo(tmp_path: Path) -> None:
    command = ["demo", "har", "--board", "unix", "--subject", 3, "--epochs", 2]
    first = result(*command, "-o", tmp_path / "first")
    assert first.keys() >= KEYS
    assert first["host_twin_identical"] is True
    assert first["adapted_accuracy"] > first["base_accuracy"]
    assert {"har.elm", "unix.romfs", "adapter.ela", "metrics.jsonl", "report.json", "report.html"} <= {
        path.name for path in (tmp_path / "first").iterdir()
    }
    again = edgelora(*command, "-o", tmp_path / "again")
    assert "pretrain" not in again.stderr  # the base is there
    assert "host twin identical: yes" in again.stdout
    for name in ("har.elm", "adapter.ela"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    assert not virtual_boards.running()
