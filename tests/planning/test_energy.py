"""Energy by clock frequency: the profiles' power."""

from __future__ import annotations

import pytest

from edgelora.board.profiles import list_boards, load_board


def test_power_equals_that_of_the_datasheets() -> None:
    pico, esp32 = load_board("rpi_pico"), load_board("esp32")
    assert pico.watts(48e6) == pytest.approx(3.3 * (0.0094 + 0.0012 + 0.0014), rel=0.02)  # BOOTSEL mode's table
    assert pico.watts() == pico.watts(125e6)
    assert [esp32.watts(mhz * 1e6) for mhz in (80, 120, 240)] == pytest.approx([0.1023, 0.12375, 0.2244])
    assert esp32.watts(40e6) is None and load_board("unix").watts() is None
    named = [load_board(name) for name in list_boards() if load_board(name).power]
    assert len(named) >= 8 and all("Datasheet" in board.power.source for board in named if board.power)
