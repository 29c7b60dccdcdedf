"""Energy by clock frequency: the profiles' power, and `bench energy`'s results from a board's times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgelora.board.profiles import list_boards, load_board
from edgelora.cli.main import main
from edgelora.core.formats.elm import pack_model
from edgelora.model.datasets import keywords
from edgelora.model.floatnet import balance
from edgelora.model.floatnet.zoo import ds_cnn
from edgelora.model.quantization.quantize import quantize


def test_power_equals_that_of_the_datasheets() -> None:
    pico, esp32 = load_board("rpi_pico"), load_board("esp32")
    assert pico.watts(48e6) == pytest.approx(3.3 * (0.0094 + 0.0012 + 0.0014), rel=0.02)  # BOOTSEL mode's table
    assert pico.watts() == pico.watts(125e6)
    assert [esp32.watts(mhz * 1e6) for mhz in (80, 120, 240)] == pytest.approx([0.1023, 0.12375, 0.2244])
    assert esp32.watts(40e6) is None and load_board("unix").watts() is None
    named = [load_board(name) for name in list_boards() if load_board(name).power]
    assert len(named) >= 8 and all("Datasheet" in board.power.source for board in named if board.power)


def test_bench_energy_on_the_virtual_pico(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "small.elm"
    x = np.random.default_rng(0).normal(size=(32, 9, 10, 1)).astype(np.float32)
    net = balance.balanced(ds_cnn((9, 10, 1), len(keywords.LABELS), 0, keywords.LABELS), x)
    model.write_bytes(pack_model(quantize(net, x)))
    command = ["bench", "energy", str(model), "--micro-batch", "3", "--every", "60", "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    pico, rows = load_board("virtual-pico"), told["clocks"]
    assert [row["clock_mhz"] for row in rows] == [48, 96, 125, 133]
    for row, mean in zip(rows, told["mean_milliwatts"], strict=True):
        cycles = row["step_us"] * row["clock_mhz"]
        # The same at every clock, 4.3 million; some rows have 9,800 more, independent of clock and time, and interrupts
        # of every millisecond, which miss the flash cache, take a larger share of a second at a lower clock.
        assert cycles == pytest.approx(rows[0]["step_us"] * 48, abs=20_000)
        assert row["watts"] == pico.watts(row["clock_mhz"] * 1e6)
        assert row["update_joules"] == pytest.approx(3 * row["step_us"] * 1e-6 * row["watts"], rel=1e-3)
        asleep = 60 - 3 * row["step_us"] * 1e-6
        assert mean == pytest.approx(1000 * (row["update_joules"] + asleep * 3.3 * 0.0015) / 60, rel=1e-3)
    assert told["cheapest_mhz"] == min(rows, key=lambda row: row["update_joules"])["clock_mhz"] == 133
    assert "RP2040 Datasheet" in told["source"]
