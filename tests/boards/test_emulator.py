"""The project's part of the Pico emulator (tools/emulator/thumb.h) against the emulator's own core."""

import ctypes
import random
import subprocess
from array import array
from pathlib import Path

import pytest
from fresh import SEED
from rp2040py.rp2040 import RP2040

from edgelora.board.sim import xip
from edgelora.board.sim.clock import SystemClock

ROOT = Path(__file__).parents[2]
RAM, FLASH, RAM_SIZE, FLASH_SIZE, ROM_SIZE = 0x20000000, 0x10000000, 264 * 1024, 1 << 20, 16 * 1024
CODE, DATA, SPAN = RAM + 0x1000, RAM + 0x8000, 0x100
LOW_FLAGS = ("n", "z", "c", "v")
MISS = 40  # cycles


class Core(ctypes.Structure):
    _fields_ = (
        [("r", ctypes.POINTER(ctypes.c_uint32)), ("pc", ctypes.c_uint32)]
        + [(name, ctypes.c_int) for name in LOW_FLAGS]
        + [(name, ctypes.POINTER(ctypes.c_uint8)) for name in ("rom", "flash", "ram")]
        + [(f"{name}_size", ctypes.c_uint32) for name in ("rom", "flash", "ram")]
        + [(name, ctypes.c_int) for name in ("masked", "event", "unmasked")]
        + [("cycles", ctypes.c_int64), ("xip", ctypes.POINTER(ctypes.c_uint32))]
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
