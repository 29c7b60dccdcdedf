"""The `edgelora` command end to end: real firmware on virtual boards, over the real link."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
from fresh import in_full_runs, slow, some
from processes import edgelora, metric_lines, read_report, result

from edgelora.board import virtual_boards
from edgelora.board.link.client import Link
from edgelora.core.formats import elm as formats_elm
from edgelora.core.formats.elm import unpack_model
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import load_base
from edgelora.model.datasets import dataset
from edgelora.model.floatnet import files
from edgelora.model.quantization.quantize import quantize

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


def test_steps_before_the_board(made: Path) -> None:
    steps = json.loads((made / "steps.json").read_text())
    elm = (made / "har.elm").read_bytes()
    base_id = formats_elm.base_id(elm).hex()
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


@pytest.mark.parametrize("mode", some(["frozen_a", "trainable_a"]))
def test_personalization_on_unix(made: Path, unix: str, tmp_path: Path, mode: str) -> None:
    run, elm = tmp_path / "run", made / "har.elm"
    assert [d["board"] for d in result("devices") if d["port"] == unix] == ["unix"]
    settings = ["--data", "har:3", "--mode", mode]
    printed = result(
        "personalize", elm, *settings, "--epochs", 3, "--net", made / "base.npz", "--port", unix, "-o", run
    )

    report = read_report(run)
    assert report.keys() >= KEYS
    assert printed["conclusion"]["state"] == "better"
    assert {key: printed[key] for key in report} == report and printed["verdict"] == "better"
    assert printed["report"] == str(run / "report.html")
    assert report["host_twin_identical"] is True
    assert report["adapted_accuracy"] > report["base_accuracy"] > 0.5
    assert report["float_lora_accuracy"] > 0.5
    assert (report["mode"], report["epochs"], report["rank"], report["samples"]) == (mode, 3, 8, 113)
    assert (report["held_out"], report["judged"]) == (34, "better") and 1 <= report["best_epoch"] <= 3
    assert report["arena_bytes"] == result("plan", elm, "--mode", mode)["arena_bytes"]
    assert report["infer_us"] > 0 < report["train_step_us"]
    assert report["activated"] is True and len(report["epoch_accuracies"]) == 3
    lines = metric_lines(run)
    assert [line["step"] for line in lines] == list(range(1, report["steps"] + 1))
    assert sum(line["samples"] for line in lines) == 3 * 113
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


@slow
def test_planned_ranks_on_unix(made: Path, unix: str, tmp_path: Path) -> None:
    """A plan for a budget; a board trains within it, to the same bytes as the host."""
    elm, file = made / "har.elm", tmp_path / "plan.json"
    budget = ["--ram", "11K", "--adapter", 280]
    planned = result("plan", elm, "--data", "har:3", *budget, "-o", file, "--report", tmp_path / "plan.html")
    assert (planned["fits"], planned["ram_bytes"]) == (True, 11 * 1024)
    assert planned["arena_bytes"] <= 11 * 1024 and planned["adapter_bytes"] <= 280
    assert len(set(planned["ranks"]) - {0}) > 1 or 0 in planned["ranks"][:3]  # ranks differ between layers
    page = (tmp_path / "plan.html").read_text()
    assert f"at ranks {' '.join(map(str, planned['ranks']))}," in page and "<script" not in page
    assert page.count('<tr class="marked">') == 1 and page.count("(the choice)") == 1
    assert page.count('class="ring"') == 2 and page.count("<circle") > len(planned["choice"]["frontier"])
    few = ["--data", made / "train.npz", "--test", made / "test.npz", "--epochs", 2, "--no-rows", "--plan", file]
    edgelora("personalize", elm, *few, "--force", "--net", made / "base.npz", "--port", unix, "-o", tmp_path / "run")
    report = read_report(tmp_path / "run")
    assert report["host_twin_identical"] is True and report["float_lora_accuracy"] > 0
    assert report["arena_bytes"] == planned["arena_bytes"] and report["adapter_bytes"] == planned["adapter_bytes"]
    assert (report["mode"], [row["rank"] for row in report["layers"]]) == (planned["mode"], planned["ranks"])
    edgelora("train-adapter", elm, *few, "-o", tmp_path / "host.ela", code=3)  # less accurate, but written
    assert (tmp_path / "host.ela").read_bytes() == (tmp_path / "run" / "adapter.ela").read_bytes()
    with contextlib.closing(Link.connect(unix)) as link:
        link.hello()
        settings = planned["mode"], planned["micro_batch"], planned["momentum"], planned["recompute"]
        assert link.open_model("/rom/har.elm", planned["ranks"], *settings).arena == planned["arena_bytes"]


def test_plan_files_that_are_refused(made: Path, tmp_path: Path) -> None:
    good = tmp_path / "plan.json"
    commands.edgelora("plan", made / "har.elm", "--rank", 2, "--ram", "16K", "-o", good)
    text = good.read_text()

    def refused(content: str, *options: object) -> str:
        (tmp_path / "bad.json").write_text(content)
        train = ["--data", made / "train.npz", "-o", tmp_path / "a.ela", "--plan", tmp_path / "bad.json"]
        told = commands.edgelora("train-adapter", made / "har.elm", *train, *options, code=1)
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
    other_base = ("train-adapter", made / "other.elm", "--data", made / "train.npz", "--plan", good)
    told = commands.edgelora(*other_base, code=1)
    assert f"was made for base {plan['base_id']}, this is" in told


def test_imported_model_on_unix(made: Path, unix: str, tmp_path: Path) -> None:
    """From a .tflite file to an adapter trained on a board; the base's outputs there equal TensorFlow Lite Micro's."""
    pytest.importorskip("tflite_micro")
    from tflite_writer import TflmModel, write_tflite

    windows = dataset.load_dataset(made / "train.npz")
    model = quantize(files.load_net(made / "base.npz"), windows.x)
    file, elm = tmp_path / "har.tflite", tmp_path / "mine.elm"
    file.write_bytes(write_tflite(model))
    parts = ["--data", made / "train.npz", "--test", made / "test.npz", "--port", unix]
    imported = result("import", file, "--data", made / "train.npz", "--labels", ",".join(windows.labels), "-o", elm)
    assert len(imported["layers"]) == len(model.ops)
    edgelora("personalize", elm, *parts, "--epochs", 2, "--force", "-o", tmp_path / "run")
    assert read_report(tmp_path / "run")["host_twin_identical"] is True

    x = model.input.quantize(dataset.load_dataset(made / "test.npz").x)
    tflm = TflmModel(file.read_bytes())
    with contextlib.closing(Link.connect(unix)) as link:
        link.hello()
        link.open_model(load_base(elm).paths[1], 0, "infer")
        logits = link.eval(x, logits=True).logits
    assert logits is not None
    assert [row.tolist() for row in logits] == [np.asarray(tflm(window)).reshape(-1).tolist() for window in x]


@slow
def test_tensorflows_quickstart_on_unix(unix: str, tmp_path: Path) -> None:
    """Flatten of 28x28 pixels, a hidden layer of 128, ten classes: imported, planned, run and trained on a board."""
    pytest.importorskip("tflite_micro")
    from tflite_writer import BUILTIN, Sketch, TflmModel, schema

    rng = np.random.default_rng(0)
    kinds = rng.random((10, 7, 7)).repeat(4, 1).repeat(4, 2)
    for name, count in (("train", 60), ("test", 40)):
        y = np.arange(count) % 10
        x = (kinds[y] + rng.normal(0, 0.2, (count, 28, 28))).clip(0, 1).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    pixels = 1 / 255, -128
    sketch = Sketch(1, 28, 28, grid=pixels).add(BUILTIN.RESHAPE, None, (1, 784), grid=pixels)
    file, elm, run = tmp_path / "mnist.tflite", tmp_path / "mnist.elm", tmp_path / "run"
    for inputs, outputs, scale, relu in ((784, 128, 0.001, 1), (128, 10, 0.003, 0)):
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=relu)
        sketch.add(BUILTIN.FULLY_CONNECTED, options, (1, outputs), sketch.weights(outputs, inputs, scale=scale), -1)
    file.write_bytes(sketch.file())
    parts = ["--data", tmp_path / "train.npz", "--test", tmp_path / "test.npz"]
    imported = result("import", file, *parts[:2], "-o", elm)
    assert [layer["kind"] for layer in imported["layers"]] == ["dense", "dense"]
    for mode in some(["frozen_a", "trainable_a"]):
        plan = result("plan", elm, "--mode", mode, "--rank", 4)
        options = ["--mode", mode, "--rank", 4, "--epochs", 20, "--force"]
        edgelora("personalize", elm, *parts, *options, "--port", unix, "-o", run)
        report = read_report(run)
        assert report["host_twin_identical"] is True and report["arena_bytes"] == plan["arena_bytes"]
        assert report["adapted_accuracy"] > 0.6 > 0.4 > report["base_accuracy"]
        accuracies = [
            result("eval", elm, "--adapter", run / "adapter.ela", *parts[:1], tmp_path / "test.npz", *where)["accuracy"]
            for where in (["--twin"], ["--port", unix])
        ]
        assert accuracies == [report["adapted_accuracy"]] * 2

    model, tflm = unpack_model(elm.read_bytes()), TflmModel(file.read_bytes())
    session = Session(elm.read_bytes(), bytes(2), "infer")
    for image in np.load(tmp_path / "test.npz")["x"]:
        x = model.input.quantize(image.reshape(model.input.shape))
        session.infer(x)
        assert session.logits.tolist() == tflm(x.reshape(28, 28)).tolist()


@in_full_runs("test_wake_command.py trains a wake word on a board")
def test_wake_word_on_unix(unix: str, tmp_path: Path) -> None:
    """A streaming network with one output: imported, planned, personalized from windows of frames, evaluated."""
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
    few = ["--placement", "pointwise", "--rank", 4, "--epochs", 40, "--micro-batch", 4, "--learning-rate", 3000]
    plan = result("plan", elm, *few, "--mode", "frozen_a", "--frames", 12, "--ram", "40K")
    assert {row["activation"] for row in plan["layers"] if row["kind"] == "history"} == {"held"}
    edgelora("personalize", elm, *parts, *few, "--mode", "frozen_a", "--port", unix, "-o", run)
    report = read_report(run)
    assert report["host_twin_identical"] is True and report["arena_bytes"] == plan["arena_bytes"]
    assert report["adapted_accuracy"] > 0.9 > 0.6 > report["base_accuracy"]
    trained = result("train-adapter", elm, *parts, *few, "--mode", "frozen_a", "-o", tmp_path / "mine.ela")
    assert (tmp_path / "mine.ela").read_bytes() == (run / "adapter.ela").read_bytes()
    judged = ["eval", elm, "--adapter", run / "adapter.ela", "--data", tmp_path / "test.npz"]
    for where in (["--twin"], ["--port", unix]):
        assert result(*judged, *where)["accuracy"] == trained["accuracy_after"] == report["adapted_accuracy"]
    for cache, placement in some([("ram", "last"), ("flash", "last_block")]):
        settings = ["--placement", placement, "--epochs", 1, "--cache", cache]
        edgelora("personalize", elm, *parts, *settings, "--port", unix, "--force", "-o", run)
        assert read_report(run)["host_twin_identical"] is True
    np.savez(tmp_path / "odd.npz", x=np.zeros((2, 1, 35, 40), np.float32), y=np.array([0, 1]))
    refused = edgelora("eval", elm, "--data", tmp_path / "odd.npz", "--twin", code=1)
    assert "windows are (1, 35, 40), must be a whole number of inputs of (1, 3, 40)" in refused.stderr


@slow
def test_a_trial_leaves_the_boards_own_adapter(made: Path, unix: str, tmp_path: Path) -> None:
    few = ["--data", made / "train.npz", "--test", made / "test.npz", "--port", unix, "--epochs", 1, "--force"]
    for seed in (1, 2):
        edgelora("personalize", made / "har.elm", *few, "--seed", seed, "-o", tmp_path / str(seed))
    trial = ["--adapter", tmp_path / "1" / "adapter.ela", "--data", made / "test.npz", "--port", unix]
    edgelora("eval", made / "har.elm", *trial)
    edgelora("pull", "/adapter.ela", "-o", tmp_path / "pulled.ela", "--port", unix)
    assert (tmp_path / "pulled.ela").read_bytes() == (tmp_path / "2" / "adapter.ela").read_bytes()


@in_full_runs("test_core.py and test_plan.py compare such sessions")
def test_memory_savers_on_unix(spoken: Path, unix: str, tmp_path: Path) -> None:
    """Settings that save memory or time change no byte: each run equals the host twin's, which uses none of them."""
    elm, port = spoken / "kws.elm", ["--port", unix]
    parts = ["--data", spoken / "train.npz", "--test", spoken / "test.npz"]

    def adapter(name: str, *settings: object) -> tuple[bytes, dict[str, Any]]:
        few = ["--rank", 4, "--epochs", 2, "--micro-batch", 4, *settings]
        edgelora("personalize", elm, *parts, *few, *port, "--force", "-o", tmp_path / name)
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
    assert "/features.bin: no such file" in edgelora("pull", "/features.bin", *port, code=1).stderr  # was removed
    waiting, _ = adapter("threshold", *last, "--threshold", 2048)
    assert waiting != plain and len(waiting) == len(plain)

    pointwise = ["--placement", "pointwise", "--mode", "trainable_a"]
    kept, large = adapter("kept", *pointwise)
    again, small = adapter("again", *pointwise, "--ram", "80K")
    assert again == kept
    assert small["arena_bytes"] <= 80 * 1024 < large["arena_bytes"]
    refused = edgelora("personalize", elm, *parts, *pointwise, "--ram", "60K", *port, "-o", tmp_path / "no", code=1)
    assert "training needs at least" in refused.stderr and refused.stderr.count("\n") == 1


@pytest.mark.parametrize("ranks", some([bytes(10) + b"\x07", bytes([1, 0, 32, 0, 3, 0, 9, 0, 4, 0, 2])]))
@pytest.mark.parametrize("mode", some(["frozen_a", "trainable_a"]))
def test_adapters_of_any_rank_are_evaluated(spoken: Path, unix: str, tmp_path: Path, ranks: bytes, mode: str) -> None:
    elm = (spoken / "kws.elm").read_bytes()
    session = Session(elm, ranks, mode)
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


@in_full_runs("installation and personalization there are tested apart")
def test_demo_on_stock_firmware(tmp_path: Path) -> None:
    report = result("demo", "har", "--board", "virtual-riscv", "--subject", 3, "--epochs", 2, "-o", tmp_path)
    assert report["host_twin_identical"] is True
    assert report["adapted_accuracy"] > report["base_accuracy"]
    assert not virtual_boards.running()


@slow
def test_demo(tmp_path: Path) -> None:
    command = ["demo", "har", "--board", "unix", "--subject", 3, "--epochs", 2]
    first = result(*command, "-o", tmp_path)
    assert first.keys() >= KEYS
    assert first["host_twin_identical"] is True
    assert first["adapted_accuracy"] > first["base_accuracy"]
    assert {"har.elm", "unix.romfs", "adapter.ela", "metrics.jsonl", "report.json", "report.html"} <= {
        path.name for path in tmp_path.iterdir()
    }
    made = {name: (tmp_path / name).read_bytes() for name in ("har.elm", "adapter.ela")}
    again = edgelora(*command, "-o", tmp_path)  # a new board: the first board's adapter must not affect this run
    assert "pretrain" not in again.stderr  # the base exists
    assert "host twin identical: yes" in again.stdout
    assert made == {name: (tmp_path / name).read_bytes() for name in made}
    assert not virtual_boards.running()
