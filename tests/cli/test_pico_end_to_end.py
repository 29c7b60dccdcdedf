"""Commands on the emulated Pico, starting with empty flash."""

from __future__ import annotations

from pathlib import Path

import fresh
import numpy as np
from fresh import FULL, in_full_runs
from processes import edgelora, read_report, result

from edgelora.board.build import program
from edgelora.board.profiles import load_board
from edgelora.board.sim import virtual_board
from edgelora.learn.report.page import energy


def test_virtual_pico_from_empty_flash(made: Path, tmp_path: Path) -> None:
    state, run = tmp_path / "board", tmp_path / "run"
    board = result("sim", "virtual-pico", "--state", state)
    flashed = result("flash", made / "har.uf2", "--drive", board["drive"])
    assert (flashed["port"], flashed["installed"]["files"]) == (board["port"], [])  # the image includes EdgeLoRA
    port = ["--port", board["port"]]
    few = ["--data", made / "train.npz", "--test", made / "test.npz", "--epochs", 2, "--no-rows", "--force"]
    edgelora("personalize", made / "har.elm", *few, *port, "-o", run)
    report = read_report(run)
    assert report["host_twin_identical"] is True
    assert "RP2040" in report["board"]
    assert (report["samples"], report["test_samples"], report["steps"]) == (12, 10, 4)
    assert report["arena_bytes"] <= 16384
    page = (run / "report.html").read_text()
    assert [row["clock_mhz"] for row in report["energy"]] == [48, 96, 125, 133]
    assert all(energy(1e6 * row["update_joules"]) in page for row in report["energy"])
    assert "133 MHz, cheapest" in page
    cached = ("--placement", "last_block", "--cache", "flash")
    edgelora("personalize", made / "har.elm", *few, *port, "-o", run, *cached)
    assert read_report(run)["host_twin_identical"] is True
    factory = ("--no-rows", "--rank", 1, "--qat", "--augment", "motion", "--epochs", 3)
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


@in_full_runs("test_wheel.py and test_bare_boards.py install there, test_put_on_board.py learns")
def test_stock_firmware(made: Path, tmp_path: Path) -> None:
    """A Pico with MicroPython's own image: EdgeLoRA is installed as files; the base is loaded from the filesystem into
    RAM."""
    state, run = tmp_path / "board", tmp_path / "run"
    port = ["--port", virtual_board.start("virtual-pico-stock", None, state, bootloader=True).port]
    installed = result("flash", program(load_board("virtual-pico-stock")), *port)["installed"]
    assert installed["arch"] == "armv6m" and len(installed["files"]) > 5
    assert all(file["copied"] for file in installed["files"])
    assert not any(file["copied"] for file in result("install", *port)["files"])
    few = ["--data", made / "train.npz", "--test", made / "test.npz", "--epochs", 1, "--no-rows"]
    report = result("personalize", made / "har.elm", *few, *port, "-o", run, "--on-board", "--clock", 48)
    assert report["host_twin_identical"] is True and report["checkpoint_bytes"] <= 1024
    assert report["free_heap_bytes"] < installed["free_heap"] - report["arena_bytes"] - report["model_bytes"]
    key = tmp_path / "release.pem"
    edgelora("keygen", key)
    edgelora("update", "--trust", key.with_suffix(".pub"), "--target", "band", *port)
    released = ("--name", "wake", "--target", "band", "--key", key, "-o", tmp_path / "site")
    edgelora("release", run / "adapter.ela", *released)
    assert result("update", tmp_path / "site" / "wake.elu", *port)["installed"] == ["wake", 1]
    assert result("sim", "virtual-pico-stock", "--stop", "--state", state) == {"stopped": port[1:]}


@in_full_runs("takes a minute")
def test_the_demo_on_stock_firmware(tmp_path: Path) -> None:
    """The demo uses most of the heap that a native module leaves free, in blocks that must fit."""
    report = result("demo", "har", "--board", "virtual-pico-stock", "-o", tmp_path)
    assert report["host_twin_identical"] is True and report["activated"] is True


@in_full_runs("the first test trains there")
def test_keywords_on_the_virtual_pico(spoken: Path, tmp_path: Path) -> None:
    state, elm = tmp_path / "board", spoken / "kws.elm"
    edgelora("build", "--board", "virtual-pico", "--model", elm, "-o", tmp_path / "kws.uf2")
    board = result("sim", "virtual-pico", "--state", state)
    assert result("flash", tmp_path / "kws.uf2", "--drive", board["drive"], "--firmware-only")["installed"] is None
    few = ["--data", spoken / "few.npz", "--test", spoken / "one.npz", "--epochs", 1, "--micro-batch", 2]
    settings = [*few, "--rank", 4, "--placement", "pointwise", "--port", board["port"], "-o", tmp_path / "run"]
    modes = [("frozen_a", [], 48), ("trainable_a", ["--ram", "80K"], 80)]
    for mode, ram, bound in modes if FULL else modes[fresh.SEED % 2 :][:1]:
        edgelora("personalize", elm, *settings, "--mode", mode, *ram, "--force")  # random samples may make it worse
        report = read_report(tmp_path / "run")
        assert report["host_twin_identical"] is True
        assert "RP2040" in report["board"]
        assert (report["samples"], report["steps"]) == (2, 1)
        assert report["arena_bytes"] <= bound * 1024
    assert result("sim", "virtual-pico", "--stop", "--state", state) == {"stopped": [board["port"]]}
