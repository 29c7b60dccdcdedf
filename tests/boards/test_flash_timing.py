"""The emulated Pico's flash: what its cache, erases, programs and reads by DMA cost, by programs on the chip itself."""

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from commands import execute
from fresh import slow
from programs import running
from rp2040py.execute_batch import execute_batch
from rp2040py.rp2040 import RP2040
from rp2040py.simulator import Simulator

from benchmarks.networks import dense_chain, network
from edgelora.board import build
from edgelora.board.link import raw_repl
from edgelora.board.sim import xip
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
import edgelora, json, machine, time
def found():
    m = edgelora.Model('/rom/wide.elm', RANKS, 'frozen_a', 2)
    m.begin(7)
    for x, y in zip(X, Y):
        x, y = bytes.fromhex(x), bytes.fromhex(y)
        then = time.ticks_us()
        loss = m.train(x, y, 3000)
        before = machine.mem32[0x14000010]
        m.infer(x)
        accesses = machine.mem32[0x14000010] - before
        yield loss, bytes(m.output).hex(), accesses, time.ticks_diff(time.ticks_us(), then)
"""


class Found(NamedTuple):
    """What a board finds for a sample. accesses: of the cache, by an inference; micros: of a step and an inference."""

    loss: int
    output: str
    accesses: int
    micros: int


def found_on_a_board(folder: Path, elm: bytes, ranks: bytes, samples: list[np.ndarray], code: str) -> list[list[Found]]:
    """What `code` prints, as many runs of `found()` for `samples` (inputs, targets) with a base in ROMFS."""
    image = build.build_firmware("virtual-pico", {"wide.elm": elm}, folder / "firmware.uf2")
    with running("virtual-pico", image, folder / "state") as board:
        x, y = ([row.tobytes().hex() for row in rows] for rows in samples)
        runs = json.loads(execute(board.port, f"RANKS, X, Y = {ranks!r}, {x!r}, {y!r}" + ON_THE_BOARD + code))
    return [[Found(*each) for each in run] for run in runs]


@slow
def test_weights_read_ahead_of_their_use_give_the_twins_results(tmp_path: Path) -> None:
    """A dense network in ROMFS, with and without adapters; its inferences hardly read flash by the cache."""
    elm = pack_model(network(dense_chain(*WIDTHS)))
    rng = np.random.default_rng(1)
    x, y = (rng.integers(-128, 128, (6, n)).astype(np.int8) for n in (WIDTHS[0], WIDTHS[-1]))
    (found,) = found_on_a_board(tmp_path, elm, RANKS, [x, y], "print(json.dumps([list(found())]))")
    twin = Session(elm, RANKS, "frozen_a", micro_batch=2, momentum=2)
    twin.begin(7)
    for sample, target, on_board in zip(x, y, found, strict=True):
        assert on_board.loss == twin.train(sample, target, 3000)
        twin.infer(sample)
        assert on_board.output == twin.logits.astype(np.int8).tobytes().hex()
        assert on_board.accesses < len(elm) // 8  # a word an access would be twice as many for the weights alone


# Register DMARDLR of the serial interface: the DMA is asked for words while more than so many wait. So the last ones
# never come, as if another DMA had taken some.
STALLS = """
runs = [list(found())]
for waiting in (15, 0):
    machine.mem32[0x18000054] = waiting
    runs.append(list(found()))
print(json.dumps(runs))
"""


def test_a_read_ahead_that_never_ends_is_given_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results are the same, 10 ms later at most; then the cache reads the base, until the chip is reset."""
    monkeypatch.setattr(raw_repl, "CODE_SECONDS", 2.0)  # of the board's time: a hang fails soon
    elm = pack_model(network(dense_chain(256, 64, 10)))
    rng = np.random.default_rng(2)
    samples = [rng.integers(-128, 128, (2, n)).astype(np.int8) for n in (256, 10)]
    ahead, stalled, after = found_on_a_board(tmp_path, elm, bytes((4, 0)), samples, STALLS)
    results = [[(each.loss, each.output) for each in run] for run in (ahead, stalled, after)]
    assert results[0] == results[1] == results[2]
    assert max(each.accesses for each in ahead) < len(elm) // 8 < min(each.accesses for each in stalled + after)
    delays = [late.micros - usual.micros for late, usual in zip(stalled, after, strict=True)]
    assert 4000 < delays[0] < 10_000 and abs(delays[1]) < 1000


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
    with running("virtual-pico", image, tmp_path / "state") as board:
        assert execute(board.port, WHERE).split() == [str(RAM >> 28), str(FLASH >> 28)]
