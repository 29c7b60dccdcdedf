"""Figures in documents are what their commands print now.

Bytes and percentages must be equal. Times are those of the emulated Pico, which are repeatable to about a hundred
cycles: they may differ by that and by rounding of the last digit. After a change, run the figure's command and copy its
output. Times on this computer are not checked, as they differ elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from once import made_once
from processes import edgelora

from edgelora.base.resources import ROOT

JITTER = 0.002  # ms on the emulated Pico, 250 cycles
DEMO_JITTER = 0.015  # ms, for a demo's times on the board: the host's timing decides when interrupts occur
RATIO_JITTER = 0.003  # for a step of 11 ms relative to an inference of 2.9 ms, each within JITTER
NUMBER = r"([\d,]+(?:\.\d+)?)"
DEMO = "demo har"
FROZEN = "bench model har.elm --board virtual-pico --rank 8 --placement all"
TRAINED = f"{FROZEN} --mode trainable_a"
SWAP = "bench swap --board virtual-pico"

Get = Callable[[dict[str, Any]], list[float]]


def field(*names: str, per: float = 1) -> Get:
    """Fields of a command's output, in units of `per`."""
    return lambda told: [told[name] / per for name in names]


def fields_of(rows: str, name: str, per: float = 1) -> Get:
    return lambda told: [row[name] / per for row in told[rows]]


def of_network(name: str, per: float = 1) -> Get:
    """A field of the one network that `bench model` was given."""
    return lambda told: [told["networks"][0][name] / per]


def train_ratio(told: dict[str, Any]) -> list[float]:
    return [told["networks"][0]["ratios"]["train"]]


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
CYCLES_A_MS = 125_000
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
    Figure(FIGURES_PAGE, "beside an inference of the base (~ ms) | #, ", FROZEN, train_ratio, RATIO_JITTER),
    Figure(FIGURES_PAGE, "beside an inference of the base (~ ms) | ~, # x", TRAINED, train_ratio, RATIO_JITTER),
    Figure(FIGURES_PAGE, f"{STEPS} ~, # ms", TRAINED, of_network("train", CYCLES_A_MS), JITTER),
    Figure(FIGURES_PAGE, IN_RAM + " #, #, # us", SWAP, fields_of("times", "cached_us"), 1000 * JITTER),
    Figure(FIGURES_PAGE, STORED + " #, #, # ms", SWAP, fields_of("times", "stored_us", 1000), 0.15),
]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The output of a command with --json, run once; all use the demo's har.elm as base."""
    told: dict[str, dict[str, Any]] = {}

    def demo(folder: Path) -> None:
        edgelora(*DEMO.split(), "-o", folder)

    def look_up(command: str) -> dict[str, Any]:
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


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: f"{figure.page}: {figure.pattern}"[:70])
def test_a_documented_figure_is_what_its_command_prints(
    figure: Figure, printed: Callable[[str], dict[str, Any]]
) -> None:
    documented, now = figure.documented, figure.get(printed(figure.command))
    assert len(documented) == len(now)
    for said, value in zip(documented, now, strict=True):
        digits = len(said.partition(".")[2])
        off = abs(float(said) - value)
        assert off <= 0.5 * 10**-digits + figure.slack + 1e-9, (
            f"{figure.page} says {said}, `edgelora {figure.command}` prints {value:.{digits + 2}f} ({figure.pattern})"
        )
