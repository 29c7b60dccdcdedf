"""Predicted time and memory against measurements of the real firmware on the virtual Pico, over the real link."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmarks.cost import Trial, calibration, check, fit, held_out
from benchmarks.networks import Shape, network
from edgelora.base.resources import ROOT
from edgelora.board.build import build_firmware
from edgelora.board.link.client import Link
from edgelora.board.profiles import load_board
from edgelora.cli.demo import start_board
from edgelora.core.formats.elm import pack_model
from edgelora.learn.planning import stalls, terms, zeros
from edgelora.learn.planning.cost import Cost, passes_of, predict
from edgelora.learn.training.recipe import inference

PICO = load_board("virtual-pico")
HELD_OUT = held_out()


BLOCKS = {  # and what the core calls them
    (terms, "BLOCK_BYTES"): ("internal.h", "EDGELORA_TILE_BYTES"),
    (terms, "CHUNK"): ("primitives.h", "EDGELORA_CHUNK"),
    (terms, "UP_BYTES"): ("matrix.c", "B_BYTES"),
    (terms, "UP_GROUPS"): ("primitives.h", "EDGELORA_B_GROUPS"),
    (terms, "ROWS_BYTES"): ("matrix_backward.c", "ROWS_BYTES"),
    (terms, "LONG_GROUPS"): ("matrix_backward.c", "LONG_GROUPS"),
    (terms, "LONG_BYTES"): ("matrix_backward.c", "LONG_BYTES"),
    (terms, "STRIP"): ("primitives.h", "EDGELORA_STRIP"),
    (terms, "DENSE_TILE"): ("matrix_backward.c", "DENSE_INPUTS"),
    (terms, "WINDOW_OUTPUTS"): ("matrix_backward.c", "WINDOW_OUTPUTS"),
    (terms, "WINDOW_GROUPS"): ("m0plus/windows.c", "MOST_GROUPS"),
    (terms, "LIST_BYTES"): ("internal.h", "EDGELORA_LIST_BYTES"),
    (terms, "SMALL"): ("primitives.h", "EDGELORA_22_BITS"),
    (terms, "WIDEN_LEAST"): ("widen.c", "LEAST_VALUES"),
    (terms, "GROUP"): ("../../graph.h", "EDGELORA_GROUP"),
    (zeros, "STEP"): ("m0plus/sparse.c", "SPARSE_STEP"),
    (stalls, "AHEAD_BYTES"): ("read_ahead.h", "EDGELORA_AHEAD_BYTES"),
    (stalls, "AHEAD_LEAST"): ("read_ahead.h", "EDGELORA_AHEAD_LEAST"),
    (stalls, "FIRST_ROWS"): ("read_ahead.c", "FIRST_ROWS"),
    (stalls, "BLOCK_ROWS"): ("read_ahead.c", "BLOCK_ROWS"),
    (stalls, "SCALED_BLOCKS"): ("read_ahead.c", "SCALED_BLOCKS"),
}


@pytest.mark.parametrize(("module", "name"), BLOCKS, ids=[name for _, name in BLOCKS])
def test_block_sizes_are_the_cores(module: ModuleType, name: str) -> None:
    file, called = BLOCKS[module, name]
    source = (ROOT / "micropython_module" / "core" / "kernels" / "packed" / file).read_text()
    found = re.search(rf"\b{called} = ([-0-9()< ]+)", source)
    assert found and eval(found[1]) == getattr(module, name)


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    folder: Path = tmp_path_factory.mktemp("pico")
    firmware = build_firmware("virtual-pico", {}, folder / "firmware.uf2")
    board = start_board("virtual-pico", firmware, folder / "board", quiet=True)
    try:
        with Link.connect(board.port) as link:
            yield link
    finally:
        board.stop()


@pytest.mark.parametrize("trial", HELD_OUT, ids=lambda trial: f"{trial.name}-{trial.mode}".replace(" ", "-"))
def test_networks_need_what_was_predicted(pico: Link, trial: Trial) -> None:
    found = check(pico, trial, PICO)
    assert found.arena == found.predicted_arena
    stale = "kernels have changed: `edgelora bench cost --fit`"
    assert abs(found.infer_error) <= 0.15, stale
    assert abs(found.step_error) <= 0.15, stale


def predicted(trial: Trial, **changed: object) -> Cost | None:
    return predict(trial.elm, trial.settings._replace(**{"micro_batch": 8, **changed}), PICO)


def test_every_term_has_cycles() -> None:
    counted = set()
    for trial in (*calibration(), *HELD_OUT):
        passes = passes_of(trial.elm, trial.settings)
        counted |= {name for name, _ in chain(*passes.infer, *passes.forward, *passes.backward, passes.update)}
        counted |= {name for name, _ in chain(passes.call, passes.loss)}
    assert PICO.cycles and counted == set(PICO.cycles), "terms have changed: `edgelora bench cost --fit`"


def test_costs_add_up() -> None:
    for trial in HELD_OUT:
        found = predicted(trial)
        single = predicted(trial, micro_batch=1)
        assert found and single
        assert single.step_cycles - found.step_cycles == pytest.approx(found.update_cycles * 7 / 8, abs=2)
        assert PICO.watts() and found.update_joules == pytest.approx(8 * found.step_us * 1e-6 * PICO.watts())
        assert sum(map(sum, found.ops)) < found.step_cycles
        infer = predict(trial.elm, inference(bytes(len(trial.ranks))), PICO)
        assert infer and infer.infer_cycles < found.infer_cycles and infer.step_cycles == 0


def test_only_outputs_that_are_read_are_computed_again() -> None:
    for trial in HELD_OUT:
        kept = predicted(trial, recompute=None)
        again = predicted(trial, recompute=bytes([1] * len(trial.ranks)))
        assert kept and again
        read = trial.mode == "trainable_a" or trial.name == "residual graph"  # whose max_pool reads its input
        assert (again.step_cycles > kept.step_cycles) == read


def test_boards_that_were_not_measured_have_no_prediction() -> None:
    for board in ("esp32", "rpi_pico2", "openmv_n6", "openmv_ae3", "unix"):
        assert predict(HELD_OUT[0].elm, HELD_OUT[0].settings, load_board(board)) is None


def test_large_layers_take_the_kernels_that_fit() -> None:
    """Cycles per product: several times as many if the fast kernels' scratch would be too large."""
    per_product = []
    for channels in (64, 288):
        elm = pack_model(network([Shape("conv", "conv", (4, 4, channels), 8, (3, 3))]))
        cost = predict(elm, inference(b"\0"), PICO)
        assert cost
        per_product.append(cost.infer_cycles / (16 * 9 * channels * 8))
    assert per_product[1] > 2 * per_product[0]


def test_fit_finds_the_cycles_that_made_its_rows() -> None:
    rng = np.random.default_rng(0)
    true = {"product": 3.25, "row": 270.0, "op": 350.0, "never": 0.0}
    rows = [
        (counts, sum(true[name] * count for name, count in counts.items()))
        for counts in ({name: float(rng.integers(1, 1000)) for name in true} for _ in range(20))
    ]
    found = fit(rows, networks=20)
    assert found.cycles == pytest.approx(true, abs=1e-6)
    assert found.largest_error < 1e-6
    noisy = [(counts, cycles - 0.5 * counts["never"]) for counts, cycles in rows]
    assert min(fit(noisy, networks=20).cycles.values()) == 0  # no term has negative cycles
