"""The emulated Pico's flash: what its cache, erases, programs and reads by DMA cost, by programs on the chip itself."""

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import execute
from fresh import slow
from rp2040py.execute_batch import execute_batch
from rp2040py.rp2040 import RP2040
from rp2040py.simulator import Simulator

from benchmarks.networks import dense_chain, network
from edgelora.board import build
from edgelora.board.sim import virtual_board, xip
from edgelora.board.sim.clock import SystemClock
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin.session import Session

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
    for each in (missed, uncached, off):
        assert (each - hit) * 1000 / 4096 == pytest.approx(320, abs=1)  # ns a word at 125 MHz


def test_dma_from_the_serial_interface_takes_eight_of_its_cycles_a_word_and_the_stream_twenty(run: Run) -> None:
    """The second as many as a miss: each word of the stream has an address of its own."""
    differ, stream_differs, direct, stream, _ = run("flash_dma.c")
    assert (differ, stream_differs) == (0, 0)
    assert direct == pytest.approx(1024 * 16 / 125, abs=3)  # microseconds at 125 MHz
    assert stream == pytest.approx(1024 * 40 / 125, abs=3)


WIDTHS = (640, 128, 20, 512, 36, 1000, 33)
RANKS = bytes((0, 4, 0, 3, 0, 0))
ON_THE_BOARD = """
import edgelora, json, machine
m = edgelora.Model('/rom/wide.elm', RANKS, 'frozen_a', 2)
m.begin(7)
found = []
for x, y in zip(X, Y):
    x, y = bytes.fromhex(x), bytes.fromhex(y)
    loss = m.train(x, y, 3000)
    before = machine.mem32[0x14000010]
    m.infer(x)
    found.append((loss, bytes(m.output).hex(), machine.mem32[0x14000010] - before))
print(json.dumps(found))
"""


@slow
def test_weights_read_ahead_of_their_use_give_the_twins_results(tmp_path: Path) -> None:
    """A dense network in ROMFS, with and without adapters; its inferences hardly read flash by the cache."""
    elm = pack_model(network(dense_chain(*WIDTHS)))
    rng = np.random.default_rng(1)
    x, y = (rng.integers(-128, 128, (6, n)).astype(np.int8) for n in (WIDTHS[0], WIDTHS[-1]))
    image = build.build_firmware("virtual-pico", {"wide.elm": elm}, tmp_path / "firmware.uf2")
    board = virtual_board.start("virtual-pico", image, tmp_path / "state", die_with_parent=True)
    try:
        hexed = {name: [row.tobytes().hex() for row in rows] for name, rows in (("X", x), ("Y", y))}
        head = f"RANKS, X, Y = {RANKS!r}, {hexed['X']!r}, {hexed['Y']!r}"
        found = json.loads(execute(board.port, head + ON_THE_BOARD))
    finally:
        board.stop()
    twin = Session(elm, RANKS, "frozen_a", micro_batch=2, momentum=2)
    twin.begin(7)
    for sample, target, (loss, output, accesses) in zip(x, y, found, strict=True):
        assert loss == twin.train(sample, target, 3000)
        twin.infer(sample)
        assert output == twin.logits.astype(np.int8).tobytes().hex()
        assert accesses < len(elm) // 8  # a word an access would be twice as many for the weights alone


WHERE = """
import edgelora, gc, uctypes
def where():
    return uctypes.addressof(edgelora.Model('/rom/small.elm', 0, 'infer').buffer) >> 28
print(where(), end=' ')
gc.collect()
held = []
while gc.mem_free() > 30000:
    held.append(bytearray(1024))
print(where())
"""


def test_a_small_base_is_copied_to_ram_only_if_much_is_free(tmp_path: Path) -> None:
    elm = pack_model(network(dense_chain(64, 64, 64, 10)))
    assert 7500 < len(elm) < 12288
    image = build.build_firmware("virtual-pico", {"small.elm": elm}, tmp_path / "firmware.uf2")
    board = virtual_board.start("virtual-pico", image, tmp_path / "state", die_with_parent=True)
    try:
        assert execute(board.port, WHERE).split() == [str(RAM >> 28), str(FLASH >> 28)]
    finally:
        board.stop()
