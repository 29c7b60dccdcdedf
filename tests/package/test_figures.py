"""Figures in documents are what their commands print now.

Bytes and percentages must be equal. Times are those of the emulated Pico, which are repeatable to about a hundred
cycles: they may differ by that and by rounding of the last digit. After a change, run the figure's command and copy its
output. Pages quote kernels from LEDGER.md, which has what `make ledger` measures now. Times on this computer are not
checked, as they differ elsewhere. Full runs run all commands.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fresh import some
from once import made_once
from processes import edgelora

from benchmarks.kernels import SHAPES
from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import ledger  # noqa: E402
import natmods  # noqa: E402

CYCLES_A_MS, MILLION = 125_000, 1_000_000
JITTER = 0.002  # ms on the emulated Pico, 250 cycles
JITTER_M = JITTER * CYCLES_A_MS / MILLION  # the same, in million cycles
DEMO_JITTER = 0.015  # ms, for a demo's times on the board: the host's timing decides when interrupts occur
RATIO_JITTER = 0.003  # for a step of 11 ms relative to an inference of 2.9 ms, each within JITTER
NUMBER = r"([\d,]+(?:\.\d+)?)"
DEMO = "demo har"
FROZEN = "bench model har.elm --board virtual-pico --rank 8 --placement all"
TRAINED = f"{FROZEN} --mode trainable_a"
SWAP = "bench swap --board virtual-pico"
KEYWORDS = "bench model"
KEYWORDS_A = f"{KEYWORDS} --mode trainable_a"
LEDGER = "LEDGER.md"  # instead of a command

Get = Callable[[dict[str, Any]], list[float]]


def field(*names: str, per: float = 1) -> Get:
    """Fields of a command's output, in units of `per`."""
    return lambda told: [told[name] / per for name in names]


def fields_of(rows: str, name: str, per: float = 1) -> Get:
    return lambda told: [row[name] / per for row in told[rows]]


def of_network(name: str, per: float = 1, network: int = 0) -> Get:
    """A field of one of the networks that `bench model` measures."""
    return lambda told: [told["networks"][network][name] / per]


def ratio(name: str, per: float = 1, network: int = 0) -> Get:
    return lambda told: [told["networks"][network]["ratios"][name] / per]


def keyword(name: str, network: int = 0) -> Get:
    """Million cycles of MLPerf Tiny's network (0), or of that with the project's features."""
    return of_network(name, MILLION, network)


def both(*gets: Get) -> Get:
    return lambda told: [number for get in gets for number in get(told)]


def per_mac(variant: str, *kernels: str) -> Get:
    """Cycles a multiply-accumulate of these kernels, `op shape` each, in the ledger."""
    return lambda told: [told["cycles"][variant][kernel] for kernel in kernels]


def span(variant: str, op: str) -> Get:
    """The least and the most instructions a multiply-accumulate of an op's shapes, in the ledger."""

    def get(told: dict[str, Any]) -> list[float]:
        found = [n for kernel, n in told["instructions"][variant].items() if kernel.startswith(op)]
        return [min(found), max(found)] if len(found) > 1 else found

    return get


def from_ledger() -> dict[str, Any]:
    """Cycles and instructions a multiply-accumulate, by variant and `op shape`."""
    written, macs = ledger.parse((ROOT / LEDGER).read_text()), {(s.op, s.name): s.macs for s in SHAPES}
    return {
        what: {
            variant: {f"{c.op} {c.shape}": getattr(c, variant) / macs[c.op, c.shape] for c in costs}
            for variant in ("plain", "fast")
        }
        for what, costs in (("cycles", written.cycles), ("instructions", written.instructions))
    }


@dataclass(frozen=True)
class Figure:
    """Numbers on a page, at each `#` of `pattern`; `~` matches any number. slack: in their unit, besides rounding."""

    page: str
    pattern: str
    command: str
    get: Get
    slack: float = 0

    @property
    def documented(self) -> list[str]:
        pattern = re.escape(self.pattern).replace(r"\#", NUMBER).replace(r"\~", r"[\d,.]+").replace(r"\ ", r"\s+")
        [found] = re.findall(pattern, (ROOT / self.page).read_text())
        return [number.replace(",", "") for number in ([found] if isinstance(found, str) else found)]


PAGE, FIGURES_PAGE, PICTURE = "README.md", "docs/figures.md", "docs/picture.svg"
STEPS = "the same by the steps of `bench model --rank 8 --placement all`, random B: frozen A, A trained |"
IN_RAM = "switch between adapters in RAM (8 layers; 2, 8, 32 in the store; `edgelora bench swap`) |"
STORED = "switch to one of 4 KB in the store's partition, read and checked (2, 8, 32) |"
STOCK, STORE = "docs/guides/stock-micropython.md", "docs/guides/store.md"
IN_TABLE = [
    *("dense 64x64", "dense 128x64", "dense 256x32", "conv1x1 49x64x64", "conv1x1 16x32x64", "conv3x3 8x8x16x32"),
    *("depthwise3x3 7x7x64", "depthwise3x3 8x8x32"),
]
FIGURES = [
    Figure(PAGE, "quantized: # bytes,", DEMO, field("model_bytes")),
    Figure(PAGE, "accuracy #% -> #%: better", DEMO, field("base_accuracy", "adapted_accuracy", per=0.01)),
    Figure(PAGE, "(float LoRA on the host #%)", DEMO, field("float_lora_accuracy", per=0.01)),
    Figure(
        PAGE,
        "arena # bytes, adapter # bytes, ~ bytes of heap left",
        DEMO,
        field("arena_bytes", "adapter_bytes"),
    ),
    Figure(PAGE, "adapter ~ bytes, # bytes of heap left", DEMO, field("free_heap_bytes"), 512),
    Figure(
        PAGE, "inference: # us (predicted: # us)", DEMO, field("infer_us", "predicted_infer_us"), 1000 * DEMO_JITTER
    ),
    Figure(
        PAGE,
        "training step: # us (predicted: # us)",
        DEMO,
        field("train_step_us", "predicted_train_step_us"),
        slack=1000 * DEMO_JITTER,
    ),
    Figure(PAGE, "swap: # us", DEMO, field("swap_us"), slack=1000 * DEMO_JITTER),
    Figure(PICTURE, "har.elm, # bytes", DEMO, field("model_bytes")),
    Figure(PICTURE, "# bytes, integers only", DEMO, field("arena_bytes")),
    *(
        Figure(PICTURE, f'>{name}</text><text x="818" y="{y}" text-anchor="end"># bytes', DEMO, field("adapter_bytes"))
        for name, y in (("walk", 238), ("run", 260), ("me", 282))
    ),
    Figure(
        FIGURES_PAGE,
        "inference, with rank-8 adapters everywhere | # ms",
        DEMO,
        field("infer_us", per=1000),
        DEMO_JITTER,
    ),
    Figure(
        FIGURES_PAGE,
        "training step at rank 8, frozen A, updates and the sample's reading included | # ms",
        DEMO,
        field("train_step_us", per=1000),
        DEMO_JITTER,
    ),
    Figure(FIGURES_PAGE, "arena, everything included, frozen A at rank 8 | # bytes", DEMO, field("arena_bytes")),
    Figure(FIGURES_PAGE, "adapter file at rank 8, frozen A | # bytes", DEMO, field("adapter_bytes")),
    Figure(
        FIGURES_PAGE, "| energy | # mJ | # mJ | # mJ | # mJ |", DEMO, fields_of("energy", "update_joules", 1e-3), 0.01
    ),
    Figure(FIGURES_PAGE, f"{STEPS} #, ", FROZEN, of_network("train", CYCLES_A_MS), JITTER),
    Figure(FIGURES_PAGE, "beside an inference of the base (# ms)", FROZEN, of_network("infer", CYCLES_A_MS), JITTER),
    Figure(FIGURES_PAGE, "beside an inference of the base (~ ms) | #, ", FROZEN, ratio("train"), RATIO_JITTER),
    Figure(FIGURES_PAGE, "beside an inference of the base (~ ms) | ~, # x", TRAINED, ratio("train"), RATIO_JITTER),
    Figure(FIGURES_PAGE, f"{STEPS} ~, # ms", TRAINED, of_network("train", CYCLES_A_MS), JITTER),
    Figure(FIGURES_PAGE, IN_RAM + " #, #, # us", SWAP, fields_of("times", "cached_us"), 1000 * JITTER),
    Figure(FIGURES_PAGE, STORED + " #, #, # ms", SWAP, fields_of("times", "stored_us", 1000), 0.15),
    Figure(STORE, "adapters in RAM takes # us", SWAP, lambda told: [told["times"][0]["cached_us"]], 1000 * JITTER),
    Figure(
        STOCK,
        "EdgeLoRA's own firmware | # ms | # ms |",
        DEMO,
        field("infer_us", "train_step_us", per=1000),
        DEMO_JITTER,
    ),
    *(
        Figure(FIGURES_PAGE, f"inference, base | {cells}", command, keyword("infer"), JITTER_M)
        for command, cells in ((KEYWORDS, "# M ("), (KEYWORDS_A, "~ M (~ ms) | | # M ("))
    ),
    *(
        Figure(FIGURES_PAGE, f"| with adapters | {cells}", command, keyword("infer_adapted"), JITTER_M)
        for command, cells in ((KEYWORDS, "# M ("), (KEYWORDS_A, "~ M (~ ms) | +~ % | # M ("))
    ),
    *(
        Figure(
            FIGURES_PAGE,
            f"training step | {cells}",
            command,
            both(keyword("train"), ratio("train")),
            JITTER_M,
        )
        for command, cells in (
            (KEYWORDS, "# M (~ ms) | # x inference"),
            (KEYWORDS_A, "~ M (~ ms) | ~ x inference | # M (~ ms) | # x inference"),
        )
    ),
    Figure(
        FIGURES_PAGE,
        "as well: # M an inference, # M a step (# x)",
        KEYWORDS,
        both(keyword("infer", 1), keyword("train", 1), ratio("train", network=1)),
        JITTER_M,
    ),
    Figure(FIGURES_PAGE, "[EdgeLoRA: # M](", KEYWORDS, keyword("infer", 1), JITTER_M),
    Figure(FIGURES_PAGE, "| frozen A | # | | trainable A |", KEYWORDS, of_network("arena_bytes")),
    Figure(FIGURES_PAGE, "| trainable A | # |", KEYWORDS_A, of_network("arena_bytes")),
    *(
        Figure(FIGURES_PAGE, f"| {row} | # / # / # | # / # | # | # / # |", LEDGER, per_mac(variant, *IN_TABLE))
        for row, variant in (("EdgeLoRA", "fast"), ("EdgeLoRA, portable C", "plain"))
    ),
    *(
        Figure(
            FIGURES_PAGE,
            f"| {row} | # to # | # to # | # | # to # |",
            LEDGER,
            both(*(span(variant, op) for op in ("dense", "conv1x1", "conv3x3", "depthwise"))),
        )
        for row, variant in (("with DSP instructions", "fast"), ("portable C", "plain"))
    ),
]


# The commands that are run: in usual runs the demo, and one other.
RUN = {DEMO, LEDGER, *some([FROZEN, TRAINED, SWAP, KEYWORDS, KEYWORDS_A, ledger.BENCH])}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The output of a command with --json, run once; all use the demo's har.elm as base."""
    told: dict[str, dict[str, Any]] = {}

    def demo(folder: Path) -> None:
        edgelora(*DEMO.split(), "-o", folder)

    def look_up(command: str) -> dict[str, Any]:
        if command == LEDGER:
            return from_ledger()
        if command not in told:
            folder = made_once(tmp_path_factory, "demo-har", demo)
            text = (
                (folder / "report.json").read_text()
                if command == DEMO
                else edgelora(*command.split(), "--json", cwd=folder).stdout
            )
            told[command] = json.loads(text)
        return told[command]

    return look_up


@pytest.mark.parametrize(
    "figure", [one for one in FIGURES if one.command in RUN], ids=lambda figure: f"{figure.page}: {figure.pattern}"[:70]
)
def test_a_documented_figure_is_what_its_command_prints(
    figure: Figure, printed: Callable[[str], dict[str, Any]]
) -> None:
    documented, now = figure.documented, figure.get(printed(figure.command))
    assert len(documented) == len(now)
    for said, value in zip(documented, now, strict=True):
        digits = len(said.partition(".")[2])
        off = abs(float(said) - value)
        assert off <= 0.5 * 10**-digits + figure.slack + 1e-9, (
            f"{figure.page} says {said}, `{figure.command}` prints {value:.{digits + 2}f} ({figure.pattern})"
        )


@pytest.mark.skipif(ledger.BENCH not in RUN, reason="another command was drawn; make test-all runs all")
def test_the_ledger_has_the_cycles_of_this_firmware(printed: Callable[[str], dict[str, Any]]) -> None:
    written = ledger.parse((ROOT / LEDGER).read_text()).cycles
    now = ledger.measured(printed(ledger.BENCH))
    assert sorted(ledger.settled(now, written)) == sorted(written), "LEDGER.md is stale: `make ledger`"


def test_native_modules_have_the_documented_sizes() -> None:
    rows = re.findall(r"^\| ([a-z]\w+)[^|]*\| ([\d,]+) \| ([\d,]+) \|$", (ROOT / STOCK).read_text(), re.MULTILINE)
    assert rows, STOCK
    assert rows == [(arch, *(f"{size:,}" for size in _native_sizes(arch))) for arch, *_ in rows], "`make natmods`"


def _native_sizes(arch: str) -> tuple[int, int]:
    """Bytes of the code, with constants, and of the file."""
    name = "edgelora/__init__.mpy"
    text, constants, _ = natmods.sizes(natmods.linked(arch, name).read_bytes())
    return text + constants, (natmods.DIST / arch / name).stat().st_size
