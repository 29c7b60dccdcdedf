"""The emulated Pico's flash: what its cache, erases, programs and reads by DMA cost, by programs on the chip itself."""

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rp2040py.execute_batch import execute_batch
from rp2040py.rp2040 import RP2040
from rp2040py.simulator import Simulator

from edgelora.board.sim import xip
from edgelora.board.sim.clock import SystemClock

RAM, FLASH = 0x20000000, 0x10000000
CODE = 0x20010000
BARE = Path(__file__).with_name("bare")

Run = Callable[[str], list[int]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a program of tests/boards on an emulated chip, from RAM; the words of its `results`."""

    def run(source: str) -> list[int]:
        elf, image = tmp_path / "program.elf", tmp_path / "program.bin"
        flags = ["-mcpu=cortex-m0plus", "-mthumb", "-O2", "-Wall", "-Werror", "-nostdlib", f"-Wl,-Ttext={CODE:#x}"]
        subprocess.run(["arm-none-eabi-gcc", *flags, BARE / source, "-o", elf], check=True)
        subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", elf, image], check=True)
        symbols = subprocess.run(["arm-none-eabi-nm", "-S", elf], check=True, capture_output=True, text=True).stdout
        where = {
            fields[-1]: [int(field, 16) for field in fields[:-2]] for fields in map(str.split, symbols.splitlines())
        }
        mcu = RP2040()
        mcu.flash[: 1 << 16] = bytes(i * 7 >> 3 & 255 for i in range(1 << 16))
        written: list[tuple[int, int]] = []
        xip.attach(mcu, SystemClock(mcu), lambda *where: written.append(where))
        simulator = Simulator(rp2040=mcu)
        simulator.stopped = False
        program = image.read_bytes()
        mcu.sram[CODE - RAM : CODE - RAM + len(program)] = program
        mcu.core.registers[13], mcu.core.registers[15] = RAM + 0x40000, where["_start"][0]
        at, size = (value - base for value, base in zip(where["results"], (RAM, 0), strict=True))
        for _ in range(200):
            execute_batch(simulator, 1)
            words = list(struct.unpack(f"<{size // 4}I", mcu.sram[at : at + size]))
            if words[-1]:
                return words
        raise AssertionError("the program did not end")

    return run


def test_hits_misses_and_times_of_reads_are_the_data_sheets(run: Run) -> None:
    words = run("flash_cache.c")
    counts = list(zip(words[0:24:2], words[1:24:2], strict=True))
    hits = [b[0] - a[0] for a, b in zip([(0, 0), *counts], counts, strict=False)]
    assert hits == [0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]
    assert [accesses for _, accesses in counts] == list(range(1, 13))
    missed, hit, uncached, off = words[24:28]
    for slow in (missed, uncached, off):
        assert (slow - hit) * 1000 / 4096 == pytest.approx(320, abs=1)  # ns a word at 125 MHz


def test_dma_from_the_serial_interface_takes_eight_of_its_cycles_a_word_and_the_stream_twenty(run: Run) -> None:
    """The second as many as a miss: each word of the stream has an address of its own."""
    differ, stream_differs, direct, stream, _ = run("flash_dma.c")
    assert (differ, stream_differs) == (0, 0)
    assert direct == pytest.approx(1024 * 16 / 125, abs=3)  # microseconds at 125 MHz
    assert stream == pytest.approx(1024 * 40 / 125, abs=3)
