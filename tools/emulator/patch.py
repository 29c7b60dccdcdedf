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
    ctypedef struct thumb_core_t:
        unsigned int *r
        int n, z, c, v
        unsigned char *rom
        unsigned char *flash
        unsigned char *ram
        unsigned int rom_size, flash_size, ram_size
        int masked, event, unmasked
        long long cycles
    ctypedef struct thumb_chip_t:
        unsigned int *sio
        const double *timer
        double now, cycle
        unsigned int ipsr
        int pending
        long long divider_cycles
    ctypedef struct thumb_t:
        thumb_core_t core
        thumb_chip_t chip
    long thumb_run(thumb_t *t, long most, long long limit) nogil

cdef long CHUNK = 4096

cdef double CYCLE_NANOS""",
    ),
    (
        "    pios = rp2040.pio\n",
        """    cdef RPPIO first = rp2040.pio[0], second = rp2040.pio[1]
    cdef long ran = 0
    cdef long long limit
    cdef unsigned int[::1] sio = rp2040.sio.words
    cdef double[::1] timer = rp2040.timer.line
    cdef thumb_t thumb
    thumb.core.r = &core.registers[0]
    thumb.core.rom = <unsigned char *> &rp2040._bootrom[0]
    thumb.core.flash = &rp2040._flash[0]
    thumb.core.ram = &rp2040._sram[0]
    thumb.core.rom_size = rp2040.bootrom_byte_size
    thumb.core.flash_size = rp2040.flash_byte_size
    thumb.core.ram_size = rp2040.ram_byte_size
    thumb.chip.sio = &sio[0]
    thumb.chip.timer = &timer[0]
    thumb.chip.cycle = CYCLE_NANOS
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
            thumb.core.n, thumb.core.z, thumb.core.c, thumb.core.v = core.n, core.z, core.c, core.v
            thumb.core.masked, thumb.chip.ipsr, thumb.chip.now = core.pm, core.ipsr, clock._nanos_counter
            thumb.chip.pending = (core.pending_interrupts & core.enabled_interrupts) != 0 or core.pending_nmi
            thumb.chip.pending |= core.pending_pend_sv | core.pending_svcall | core.pending_systick
            ran = thumb_run(&thumb, CHUNK, limit)
            if ran:
                core.n, core.z, core.c, core.v = thumb.core.n, thumb.core.z, thumb.core.c, thumb.core.v
                core.pm = thumb.core.masked
                core.event_registered |= thumb.core.event
                core.interrupts_updated |= thumb.core.unmasked
                core.cycles += thumb.core.cycles + thumb.chip.divider_cycles
                clock.tick(thumb.core.cycles * CYCLE_NANOS)
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
# State that thumb.h reads and writes, too, lies in arrays.
WORDS = """

def _word(index):
    def write(sio, value):
        sio.words[index] = int(value) & 0xFFFFFFFF

    return property(lambda sio: sio.words[index], write)

"""
SIO = [
    (
        "\n\nclass RPSIO:\n",
        f"""{WORDS}
class RPSIO:
    div_dividend, div_divisor, div_quotient, div_remainder, div_csr, spin_lock = map(_word, range(6))

""",
    ),
    ("        self.rp2040 = rp2040\n", '        self.rp2040 = rp2040\n        self.words = array("I", bytes(24))\n'),
    ("from typing import TYPE_CHECKING\n", "from array import array\nfrom typing import TYPE_CHECKING\n"),
]
TIMER = [
    (
        "        self.clock: IClock = rp2040.clock\n",
        """        self.clock: IClock = rp2040.clock
        self.line = array("d", [0, 0, 1, 0])  # then, counted, scale, epoch
""",
    ),
    (
        "class RPTimer(BasePeripheral):\n",
        """class RPTimer(BasePeripheral):
    @property
    def _epoch_nanos(self):
        return self.line[3]

    @_epoch_nanos.setter
    def _epoch_nanos(self, nanos):
        self.line[3] = nanos

""",
    ),
    ("import math\n", "import math\nfrom array import array\n"),
]
# What runs a chip needs none of it: a wheel carries the emulator without its dependencies.
FIRMWARE = [
    ("\nimport semver\n", "\n"),
    (
        "        return semver.Version.parse(version, ",
        "        import semver\n\n        return semver.Version.parse(version, ",
    ),
]


def replace(path: Path, changes: list[tuple[str, str]]) -> None:
    text = path.read_text()
    for old, new in changes:
        if text.count(old) != 1:
            raise SystemExit(f"{path} is of another version: it has {text.count(old)} of {old!r}, expected 1")
        text = text.replace(old, new)
    path.write_text(text)


replace(NATIVE / "_simulator.pyx", LOOP)
replace(NATIVE.parent / "sio.py", SIO)
replace(NATIVE.parent / "peripherals" / "timer.py", TIMER)
replace(NATIVE.parent / "utils" / "firmware_retrieve.py", FIRMWARE)
shutil.copy(Path(__file__).parent / "thumb.h", NATIVE)
