"""The project's part of the Pico emulator (tools/emulator/thumb.h) against the emulator's own core."""

import ctypes
import random
import subprocess
from array import array
from pathlib import Path

import pytest
from fresh import SEED, slow
from rp2040py.rp2040 import RP2040

from edgelora.board.sim import xip
from edgelora.board.sim.clock import SystemClock

ROOT = Path(__file__).parents[2]
RAM, FLASH, RAM_SIZE, FLASH_SIZE, ROM_SIZE = 0x20000000, 0x10000000, 264 * 1024, 1 << 20, 16 * 1024
CODE, DATA, SPAN = RAM + 0x1000, RAM + 0x8000, 0x100
LOW_FLAGS = ("n", "z", "c", "v")
MISS = 40  # cycles
BUS_SLOTS, BUS_SRAM0, BUS_XIP, BUS_ROM, BUS_HELD = 4096, 1, 7, 8, 16  # as in bus.h


class BusCore(ctypes.Structure):
    _fields_ = (("waited", ctypes.c_int64), ("fetched", ctypes.c_uint32), ("slots", ctypes.c_uint8 * BUS_SLOTS))


class Bus(ctypes.Structure):
    _fields_ = (("cores", BusCore * 2), ("until", ctypes.c_int64), ("last", ctypes.c_uint8 * (BUS_ROM + 1)))


class Core(ctypes.Structure):
    _fields_ = (
        [("r", ctypes.POINTER(ctypes.c_uint32)), ("pc", ctypes.c_uint32)]
        + [(name, ctypes.c_int) for name in LOW_FLAGS]
        + [(name, ctypes.POINTER(ctypes.c_uint8)) for name in ("rom", "flash", "ram")]
        + [(f"{name}_size", ctypes.c_uint32) for name in ("rom", "flash", "ram")]
        + [(name, ctypes.c_int) for name in ("masked", "event", "unmasked")]
        + [("cycles", ctypes.c_int64), ("xip", ctypes.POINTER(ctypes.c_uint32))]
        + [("bus", ctypes.POINTER(BusCore)), ("began", ctypes.c_int64)]
    )


class Chip(ctypes.Structure):
    _fields_ = (
        [("number", ctypes.c_uint32)]
        + [(name, ctypes.POINTER(ctypes.c_uint32)) for name in ("divider", "locks")]
        + [("timer", ctypes.POINTER(ctypes.c_double))]
        + [(name, ctypes.c_double) for name in ("now", "cycle")]
        + [("ipsr", ctypes.c_uint32), ("pending", ctypes.c_int), ("divider_cycles", ctypes.c_int64)]
    )


class Thumb(ctypes.Structure):
    _fields_ = (("core", Core), ("chip", Chip))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("thumb")
    source = folder / "thumb.c"
    source.write_text(
        f'#include "{ROOT}/tools/emulator/thumb.h"\n'
        "long run(thumb_t *t, long most, int64_t limit) { return thumb_run(t, most, limit); }\n"
        "void serve(bus_t *b, int64_t until, long long *waits) { bus_serve(b, until, waits); }\n"
    )
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, str(source), "-o", str(folder / "thumb.so")], check=True)
    return ctypes.CDLL(str(folder / "thumb.so"))


def differs_from_arm(op: int, r: list[int], carry: bool) -> bool:
    """Whether the emulator's core differs from Arm's manual: carries at limits, shifts by 0 or over 31, BLX of LR."""
    by, kind = r[op >> 3 & 7] & 255, op >> 6
    shifts = kind in (0b0100000010, 0b0100000011, 0b0100000100, 0b0100000111) and (by == 0 or by > 31)
    adds = kind == 0b0100000101 and carry and r[op & 7] in (0x7FFFFFFF, 0xFFFFFFFF)
    subtracts = kind == 0b0100000110 and not carry and r[op >> 3 & 7] in (0x7FFFFFFF, 0xFFFFFFFF)
    return shifts or adds or subtracts or op == 0x47F0


def drawn_special(rng: random.Random) -> tuple[int, int]:
    """Barriers, MRS and MSR, CPS, SEV, and neighbouring encodings."""
    number = rng.choice((5, 16, rng.randrange(32)))
    return rng.choice(
        (
            (0xF3BF, 0x8F00 | rng.randrange(0x20, 0x80)),
            (0xF3EF, 0x8000 | rng.randrange(13) << 8 | number),
            (0xF380 | rng.randrange(13), 0x8800 | number),
            (0xB662 | rng.randrange(2) << 4, 0xBF00),
            (0xBF40, 0xBF00),
        )
    )


def drawn_value(rng: random.Random) -> int:
    return rng.choice(
        (
            DATA + rng.randrange(SPAN),
            DATA + 4 * rng.randrange(SPAN // 4),
            FLASH + 4 * rng.randrange(64),
            rng.randrange(80),
            rng.choice((0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, FLASH + FLASH_SIZE - 4, RAM + RAM_SIZE - 4, RAM - 2)),
            rng.getrandbits(32),
        )
    )


@slow
def test_single_instructions_equal_those_of_the_emulators_core(library: ctypes.CDLL) -> None:
    """Registers, flags, cycles and memory after random instructions, which cover at least 50 of the 64 groups."""
    rng = random.Random(SEED)
    mcu = RP2040()
    mcu.flash[:256] = rng.randbytes(256)
    rom, flash = ((ctypes.c_uint8 * size)() for size in (ROM_SIZE, FLASH_SIZE))
    ram = (ctypes.c_uint8 * RAM_SIZE)()
    ctypes.memmove(flash, bytes(mcu.flash), FLASH_SIZE)
    registers = (ctypes.c_uint32 * 16)()
    sizes = {"rom_size": ROM_SIZE, "flash_size": FLASH_SIZE, "ram_size": RAM_SIZE}
    cache = (ctypes.c_uint32 * len(mcu.xip))()
    cache[xip.CONTROL], cache[xip.MISS_CYCLES] = xip.ENABLE, MISS
    mcu.xip[:] = array("I", cache)
    thumb = Thumb(Core(r=registers, rom=rom, flash=flash, ram=ram, xip=cache, **sizes))
    groups, code, data = set(), slice(CODE - RAM, CODE - RAM + 4), slice(DATA - RAM - 64, DATA - RAM + SPAN + 1024)
    core = mcu.core
    for _ in range(8_000):
        op = rng.getrandbits(16)
        second = rng.getrandbits(16) | 0xD000
        if rng.random() < 0.1:  # rare among random words
            op, second = drawn_special(rng)
        words = (op | second << 16).to_bytes(4, "little")
        before, flags = [drawn_value(rng) for _ in range(15)] + [CODE], [rng.random() < 0.5 for _ in LOW_FLAGS]
        before[13] &= ~3
        if differs_from_arm(op, before, flags[2]):
            continue
        fill, masked, waits = rng.randbytes(data.stop - data.start), rng.random() < 0.5, rng.random() < 0.5
        thumb.chip.ipsr = core.ipsr = rng.randrange(48)
        thumb.chip.pending, thumb.core.masked, core.pm = waits, masked, masked
        core.interrupts_updated = core.event_registered = False
        registers[:] = before
        for at, filled in ((code.start, words), (data.start, fill)):
            ctypes.memmove(ctypes.byref(ram, at), filled, len(filled))
        mcu.sram[code], mcu.sram[data] = words, fill
        for name, value in zip(LOW_FLAGS, flags, strict=True):
            setattr(thumb.core, name, value)
            setattr(core, name, value)
        if not library.run(ctypes.byref(thumb), 1, 100):
            assert list(registers) == before and bytes(ram[data]) == fill, f"{op:#x} was left, but not as it was"
            mcu.xip[:] = array("I", cache)
            continue
        groups.add(op >> 10)
        for index, value in enumerate(before):
            core.registers[index] = value
        mcu.xip[xip.STALLED] = 0
        assert mcu.core.execute_instruction() + mcu.xip[xip.STALLED] == thumb.core.cycles, hex(op)
        assert list(mcu.core.registers) == list(registers), f"{op:#x} of {before}"
        assert [getattr(mcu.core, name) for name in LOW_FLAGS] == [getattr(thumb.core, name) for name in LOW_FLAGS], (
            hex(op)
        )
        assert mcu.sram[data] == bytes(ram[data]), hex(op)
        assert (core.pm, core.event_registered) == (thumb.core.masked, thumb.core.event), hex(op)
        assert thumb.core.unmasked == (masked and not core.pm and waits)
        assert core.interrupts_updated or not thumb.core.unmasked
    assert len(groups) >= 50
    assert mcu.xip[xip.TABLES :] == array("I", cache)[xip.TABLES :]
    assert mcu.xip[xip.ACCESSES] == cache[xip.ACCESSES] > cache[xip.HITS] > 100


def test_the_cores_peripherals_are_the_emulators_own(library: ctypes.CDLL) -> None:
    """The divider, spinlocks, the core's number and the timer, written and read in random order by both cores."""
    rng = random.Random(SEED)
    mcu = RP2040()
    time = SystemClock(mcu)
    registers, ram = (ctypes.c_uint32 * 16)(), (ctypes.c_uint8 * RAM_SIZE)()
    sio = (ctypes.c_uint32 * 11)(*mcu.sio.words)  # a divider of each core, then the spinlocks
    empty, line = (ctypes.c_uint8 * 64)(), (ctypes.c_double * 4)()
    sizes = {"rom_size": 64, "flash_size": 64, "ram_size": RAM_SIZE}
    cache = (ctypes.c_uint32 * len(mcu.xip))()
    core, chip = Core(r=registers, rom=empty, flash=empty, ram=ram, xip=cache, **sizes), Chip(timer=line, cycle=8)
    thumb = Thumb(core, chip)
    parts = [ctypes.cast(ctypes.byref(sio, at), ctypes.POINTER(ctypes.c_uint32)) for at in (0, 20, 40)]
    ran, scales = 0, set()
    for _ in range(6_000):
        load, word, number = rng.random() < 0.5, rng.randrange(7), rng.randrange(2)
        mcu.core = (mcu.core0, mcu.core1)[number]
        thumb.chip.number, thumb.chip.divider, thumb.chip.locks = number, parts[number], parts[2]
        first = rng.choice((0xD0000060, 0xD0000060, 0xD0000100, 0xD0000164, 0xD0000000, 0xD000005C, 0x40054024))
        if first in (0xD0000000, 0xD000005C, 0x40054024):
            load, word = True, rng.randrange(2) if first == 0x40054024 else 0
        op = 0x6001 | load << 11 | word << 6  # LDR or STR r1, [r0, 4 * word]
        drawn = rng.choice((0, 1, 7, 10, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.getrandbits(9), rng.getrandbits(32)))
        before = [first, drawn, *[0] * 13, CODE]
        code = op.to_bytes(2, "little")
        mcu.sram[CODE - RAM : CODE - RAM + 2] = code
        ctypes.memmove(ctypes.byref(ram, CODE - RAM), code, 2)
        registers[:] = before
        for index, value in enumerate(before):
            mcu.core.registers[index] = value
        if rng.random() < 0.05:  # change the clock frequency
            time._pll.write_uint32(0x8, rng.choice((125, 100, 133, 40)))
            time._pll.write_uint32(0xC, rng.randrange(1, 8) << 16 | rng.randrange(1, 8) << 12)
            mcu.clocks.write_uint32(0x3C, 1)
            time._follow()
            scales.add(time.scale)
        if rng.random() < 0.02:
            mcu.timer.reset()
        mcu.clock.tick(8.0 * rng.choice((1, 2, 5, 1 << rng.randrange(40))))
        thumb.chip.now, line[:] = mcu.clock.nanos, mcu.timer.line
        counted = mcu.core.cycles
        if library.run(ctypes.byref(thumb), 1, 100):
            ran += 1
            assert mcu.core.execute_instruction() == thumb.core.cycles
            assert mcu.core.cycles - counted == thumb.core.cycles + thumb.chip.divider_cycles
            assert mcu.core.registers[1] == registers[1], (hex(first), load, word, list(sio))
        else:
            assert first == 0xD0000060 and not load and (word >= 4 or 0 in (drawn, sio[5 * number + 1])), (word, drawn)
            mcu.core.execute_instruction()
            sio[:] = mcu.sio.words
        assert list(sio) == list(mcu.sio.words)
    assert ran > 4_000
    assert len(scales) > 10


def test_the_cycles_in_which_a_core_wants_its_ports(library: ctypes.CDLL) -> None:
    """A word of code one cycle before its first half runs, data in the cycles that Arm's manual has for them."""
    registers, ram, flash = (ctypes.c_uint32 * 16)(), (ctypes.c_uint8 * RAM_SIZE)(), (ctypes.c_uint8 * 64)()
    cache = (ctypes.c_uint32 * len(RP2040().xip))()
    cache[xip.CONTROL], cache[xip.MISS_CYCLES] = xip.ENABLE, MISS
    bus = BusCore(waited=5)
    sizes = {"rom_size": 64, "flash_size": 64, "ram_size": RAM_SIZE}
    thumb = Thumb(
        Core(r=registers, rom=flash, flash=flash, ram=ram, xip=cache, bus=ctypes.pointer(bus), began=105, **sizes)
    )
    code = (0x6808, 0xCA38, 0x6830, 0x7030)  # ldr r0, [r1]; ldm r2!, {r3, r4, r5}; ldr r0, [r6]; strb r0, [r6]
    ctypes.memmove(ctypes.byref(ram, CODE - RAM), b"".join(op.to_bytes(2, "little") for op in code), 8)
    registers[1], registers[2], registers[6], registers[15] = DATA + 12, RAM + RAM_SIZE - 16, FLASH, CODE
    assert library.run(ctypes.byref(thumb), 3, 100) == 3
    registers[6], thumb.core.began = 0x20040001, 205
    assert library.run(ctypes.byref(thumb), 1, 100) == 1
    noted = {cycle: port for cycle, port in enumerate(bus.slots) if port}
    assert noted == {
        99: BUS_SRAM0,  # the first two instructions
        100: BUS_SRAM0 + 3,
        **dict.fromkeys((102, 103, 104), BUS_SRAM0 + 5),
        105: BUS_SRAM0 + 1,
        106: BUS_XIP,
        **{107 + i: BUS_XIP | BUS_HELD for i in range(MISS)},
        200: BUS_SRAM0 + 4,
    }


def test_cores_wait_as_long_as_requests_to_ports_one_after_the_other(library: ctypes.CDLL) -> None:
    """Drawn accesses, served in drawn stretches, against arbitration of requests by the time at which they come."""
    rng = random.Random(SEED)
    for _ in range(40):
        end, bus, wants = 3000, Bus(), ([], [])
        for core in range(2):
            at = rng.randrange(4)
            while at < end:
                port, held = rng.choice([*range(BUS_SRAM0, BUS_SRAM0 + 4), BUS_XIP]), 0
                if port == BUS_XIP:
                    held = rng.choice((0, 0, 0, 40))
                wants[core].append((at, port, held))
                at += 1 + held + rng.choice((0, 0, 1, 2, 7))
        expected, served_to = requests_served(wants, end), 0
        ready, waited = [0, 0], [0, 0]
        while served_to < end:
            served_to = min(end, served_to + rng.randrange(1, 60))
            for core, accesses in enumerate(wants):
                while ready[core] < len(accesses) and accesses[ready[core]][0] + waited[core] < served_to:
                    at, port, held = accesses[ready[core]]
                    slots = bus.cores[core].slots
                    slots[at % BUS_SLOTS] = port
                    for i in range(1, held + 1):
                        slots[(at + i) % BUS_SLOTS] = port | BUS_HELD
                    ready[core] += 1
            waits = (ctypes.c_longlong * 2)()
            library.serve(ctypes.byref(bus), ctypes.c_int64(served_to), waits)
            waited = [total + wait for total, wait in zip(waited, waits, strict=True)]
        assert waited == [core.waited for core in bus.cores]
        assert waited == expected
        assert min(waited) > 100


def requests_served(wants: tuple[list[tuple[int, int, int]], ...], end: int) -> list[int]:
    """Cycles that each core waits before cycle `end`, for (cycle, port, cycles held behind it)."""
    waits, nexts, free, last = [0, 0], [0, 0], dict[int, int](), dict[int, int]()
    while True:
        coming = []
        for core, accesses in enumerate(wants):
            if nexts[core] < len(accesses):
                at, port, held = accesses[nexts[core]]
                at += waits[core]
                coming.append((max(at, free.get(port, 0)), at, last.get(port, 0) == core, core, port, held))
        coming = [request for request in coming if request[1] < end]
        if not coming:
            return waits
        start, at, _, core, port, held = min(coming)
        waits[core] += min(start, end) - at
        free[port], last[port] = start + 1 + held, core
        nexts[core] += 1
