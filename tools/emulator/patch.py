"""Puts thumb.h into the RP2040's emulator: patch.py SOURCE

Its loop asks a Python object for each instruction. What needs only registers and memory is now run by thumb.h, up to
the next alarm; the rest is the emulator's own, as before. What is replaced must be there once: another version is
refused.
"""

import shutil
import sys
from pathlib import Path

NATIVE = Path(sys.argv[1]) / "src" / "rp2040py" / "native"
LOOP = [
    ("from libc.math cimport INFINITY\n", "from libc.math cimport INFINITY, ceil\n"),
    (
        "from rp2040py.native._rp2040 cimport RP2040\n",
        """from rp2040py.native._pio cimport RPPIO
from rp2040py.native._rp2040 cimport RP2040
""",
    ),
    (
        "\ncdef double CYCLE_NANOS",
        """
cdef extern from "thumb.h":
    ctypedef struct thumb_t:
        unsigned int *r
        int n, z, c, v
        unsigned char *rom
        unsigned char *flash
        unsigned char *ram
        unsigned int rom_size, flash_size, ram_size
        unsigned int *divider
        long long cycles, divider_cycles
    long thumb_run(thumb_t *t, long most, long long limit) nogil

cdef long CHUNK = 4096

cdef double CYCLE_NANOS""",
    ),
    (
        "    pios = rp2040.pio\n",
        """    cdef RPPIO first = rp2040.pio[0], second = rp2040.pio[1]
    cdef long ran = 0
    cdef long long limit
    cdef unsigned int[::1] divider = rp2040.sio.divider
    cdef thumb_t thumb
    thumb.r = &core.registers[0]
    thumb.rom = <unsigned char *> &rp2040._bootrom[0]
    thumb.flash = &rp2040._flash[0]
    thumb.ram = &rp2040._sram[0]
    thumb.rom_size = rp2040.bootrom_byte_size
    thumb.flash_size = rp2040.flash_byte_size
    thumb.ram_size = rp2040.ram_byte_size
    thumb.divider = &divider[0]
""",
    ),
    (
        "    while i < BATCH_INSTRUCTION_CEILING and not simulator.stopped:\n        ticks_since_check += 1\n",
        """    while i < BATCH_INSTRUCTION_CEILING:
        if (ran or core.waiting or not i & 31) and simulator.stopped:
            break
        ran = 0
        if tick_batch <= 1 and first.stopped and second.stopped and not (core.waiting or core.interrupts_updated):
            limit = CHUNK * 16
            if clock._next_alarm is not None:
                limit = min(limit, <long long> ceil((clock._next_alarm.nanos - clock._nanos_counter) / CYCLE_NANOS))
            thumb.n, thumb.z, thumb.c, thumb.v = core.n, core.z, core.c, core.v
            ran = thumb_run(&thumb, CHUNK, limit)
            if ran:
                core.n, core.z, core.c, core.v = thumb.n, thumb.z, thumb.c, thumb.v
                core.cycles += thumb.cycles + thumb.divider_cycles
                clock.tick(thumb.cycles * CYCLE_NANOS)
                i += ran
                ticks_since_check += ran
                continue
        ticks_since_check += 1
""",
    ),
    (
        "        for pio in pios:\n            if not pio.stopped:\n                pio.advance(cycles)\n",
        """        if not first.stopped:
            first.advance(cycles)
        if not second.stopped:
            second.advance(cycles)
""",
    ),
]
# The divider's words, where thumb.h has them, too.
DIVIDER = [
    (
        "\n\nclass RPSIO:\n",
        """

def _divider_word(index):
    def write(sio, value):
        sio.divider[index] = int(value) & 0xFFFFFFFF

    return property(lambda sio: sio.divider[index], write)


class RPSIO:
    div_dividend, div_divisor, div_quotient, div_remainder, div_csr = map(_divider_word, range(5))

""",
    ),
    ("        self.rp2040 = rp2040\n", '        self.rp2040 = rp2040\n        self.divider = array("I", bytes(20))\n'),
    ("from typing import TYPE_CHECKING\n", "from array import array\nfrom typing import TYPE_CHECKING\n"),
]


def replace(path: Path, changes: list[tuple[str, str]]) -> None:
    text = path.read_text()
    for old, new in changes:
        if text.count(old) != 1:
            raise SystemExit(f"{path} is of another version: it has {text.count(old)} of {old!r}, expected 1")
        text = text.replace(old, new)
    path.write_text(text)


replace(NATIVE / "_simulator.pyx", LOOP)
replace(NATIVE.parent / "sio.py", DIVIDER)
shutil.copy(Path(__file__).parent / "thumb.h", NATIVE)
