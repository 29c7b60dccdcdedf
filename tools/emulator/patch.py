"""Puts thumb.h and xip.h into the RP2040's emulator: patch.py SOURCE

Its loop asks a Python object for each instruction. What needs only registers and memory is now run by thumb.h, up to
the next alarm; the rest is the emulator's own, as before. What is replaced must be there once: another version is
refused.
"""

import shutil
import sys
from pathlib import Path

import flash_cache
import second_core

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
        "\ncdef double CYCLE_NANOS = 1e9 / 125_000_000  # 125 MHz\n",
        """
cdef extern from "thumb.h":
    ctypedef struct xip_t:
        unsigned int stalled
    ctypedef struct bus_core_t:
        pass
    void bus_note(bus_core_t *core, long long cycle, unsigned int address, unsigned int held) nogil
    ctypedef struct bus_t:
        bus_core_t cores[2]
    void bus_serve(bus_t *b, long long until, long long *waits) nogil
    ctypedef struct thumb_core_t:
        unsigned int *r
        int n, z, c, v
        unsigned char *rom
        unsigned char *flash
        unsigned char *ram
        unsigned int rom_size, flash_size, ram_size
        int masked, event, unmasked
        long long cycles
        xip_t *xip
        bus_core_t *bus
        long long began
    ctypedef struct thumb_chip_t:
        unsigned int number
        unsigned int *divider
        unsigned int *locks
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

cdef double CYCLE_NANOS = 1e9 / 125_000_000  # 125 MHz


cdef long long cycle_of(double now) noexcept:
    return <long long> (now / CYCLE_NANOS + 0.5)


cdef prepare(thumb_t *thumbs, RP2040 rp2040):
    cdef unsigned int[::1] sio = rp2040.sio.words
    cdef double[::1] timer = rp2040.timer.line
    cdef CortexM0Core each
    for each in (rp2040.core0, rp2040.core1):
        thumbs[each.number].core.r = &each.registers[0]
        thumbs[each.number].core.rom = <unsigned char *> &rp2040._bootrom[0]
        thumbs[each.number].core.flash = &rp2040._flash[0]
        thumbs[each.number].core.ram = &rp2040._sram[0]
        thumbs[each.number].core.rom_size = rp2040.bootrom_byte_size
        thumbs[each.number].core.flash_size = rp2040.flash_byte_size
        thumbs[each.number].core.ram_size = rp2040.ram_byte_size
        thumbs[each.number].core.xip = <xip_t *> &rp2040._xip[0]
        thumbs[each.number].core.bus = &(<bus_t *> &rp2040._bus[0]).cores[each.number]
        thumbs[each.number].chip.number = each.number
        thumbs[each.number].chip.divider = &sio[5 * each.number]
        thumbs[each.number].chip.locks = &sio[10]
        thumbs[each.number].chip.timer = &timer[0]
        thumbs[each.number].chip.cycle = CYCLE_NANOS


cdef long run(thumb_t *thumb, CortexM0Core core, CortexM0Core other, double now, long long limit):
    # What `core` can do by itself from the chip's time `now` on, up to `limit` cycles: how many instructions. None may
    # have cycles, too: it is left after its fetch has stalled.
    cdef long ran
    thumb.core.n, thumb.core.z, thumb.core.c, thumb.core.v = core.n, core.z, core.c, core.v
    thumb.core.masked, thumb.chip.ipsr, thumb.chip.now = core.pm, core.ipsr, now
    thumb.core.began = cycle_of(now)
    thumb.chip.pending = (core.pending_interrupts & core.enabled_interrupts) != 0 or core.pending_nmi
    thumb.chip.pending |= core.pending_pend_sv | core.pending_svcall | core.pending_systick
    ran = thumb_run(thumb, CHUNK, limit)
    core.n, core.z, core.c, core.v = thumb.core.n, thumb.core.z, thumb.core.c, thumb.core.v
    core.pm = thumb.core.masked
    core.interrupts_updated |= thumb.core.unmasked
    core.cycles += thumb.core.cycles + thumb.chip.divider_cycles
    if thumb.core.event:
        core.signal()
        other.signal()
    return ran


cdef int step(thumb_t *thumb, CortexM0Core core, double now) except -1:
    # Cycles of an instruction by the emulator's own core, with stalls, which alone its neighbour may wait for.
    cdef int cycles
    thumb.core.xip.stalled = 0
    cycles = core.execute_instruction()
    core.cycles += thumb.core.xip.stalled
    if thumb.core.xip.stalled and thumb.core.bus != NULL:
        bus_note(thumb.core.bus, cycle_of(now), 0x10000000, thumb.core.xip.stalled)
    return cycles + thumb.core.xip.stalled


cdef catch_up(RP2040 rp2040, thumb_t *thumb, SimulationClock clock):
    # Core 1 runs for the time that it lags behind the chip, unless it falls asleep. Then each core waits for as long as
    # it was in the other's way.
    cdef CortexM0Core core = rp2040.core1
    cdef double now = clock._nanos_counter
    cdef long long waits[2]
    cdef long ran
    rp2040.core = core
    core.lag -= core.late
    core.late = 0
    while core.lag > 0 and not (core.waiting or core.held):
        ran = 0
        if not core.interrupts_updated:
            ran = run(thumb, core, rp2040.core0, now - core.lag, <long long> ceil(core.lag / CYCLE_NANOS))
            core.lag -= thumb.core.cycles * CYCLE_NANOS
        if not ran:
            core.lag -= step(thumb, core, now - core.lag) * CYCLE_NANOS
    rp2040.core = rp2040.core0
    bus_serve(<bus_t *> &rp2040._bus[0], cycle_of(now), waits)
    rp2040.core0.cycles += waits[0]
    core.cycles += waits[1]
    core.lag += waits[0] * CYCLE_NANOS
    core.late = waits[1] * CYCLE_NANOS
    if core.waiting or core.held:
        core.lag = core.late = 0
    if waits[0]:
        clock.tick(waits[0] * CYCLE_NANOS)


def pass_time(RP2040 rp2040, double nanos):
    # Time passes at once for the core that runs. If that is core 0, core 1 runs meanwhile.
    cdef CortexM0Core core = rp2040.core, core1 = rp2040.core1
    cdef thumb_t thumbs[2]
    core.cycles += cycle_of(nanos)
    rp2040.clock.tick(nanos)
    if core is not core1 and not (core1.waiting or core1.held):
        core1.lag += nanos
        prepare(thumbs, rp2040)
        catch_up(rp2040, &thumbs[1], rp2040.clock)

""",
    ),
    (
        "    pios = rp2040.pio\n",
        """    cdef RPPIO first = rp2040.pio[0], second = rp2040.pio[1]
    cdef long ran = 0
    cdef bint both
    cdef long long limit
    cdef double quantum = rp2040.quantum
    cdef CortexM0Core core1 = rp2040.core1
    cdef thumb_t thumbs[2]
    cdef bus_core_t *bus
    prepare(thumbs, rp2040)
    bus = thumbs[0].core.bus
""",
    ),
    (
        "    while i < BATCH_INSTRUCTION_CEILING and not simulator.stopped:\n        ticks_since_check += 1\n",
        """    while i < BATCH_INSTRUCTION_CEILING:
        if (ran or core.waiting or not i & 31) and simulator.stopped:
            break
        ran = 0
        both = not (core1.waiting or core1.held)
        if both and core1.lag >= quantum:
            catch_up(rp2040, &thumbs[1], clock)
            both = not (core1.waiting or core1.held)
        if tick_batch <= 1 and first.stopped and second.stopped and not (core.waiting or core.interrupts_updated):
            limit = CHUNK * 16
            if clock._next_alarm is not None:
                limit = min(limit, <long long> ceil((clock._next_alarm.nanos - clock._nanos_counter) / CYCLE_NANOS))
            thumbs[0].core.bus = bus if both else NULL
            if both:
                limit = min(limit, <long long> ceil((quantum - core1.lag) / CYCLE_NANOS))
            ran = run(&thumbs[0], core, core1, clock._nanos_counter, limit)
            if thumbs[0].core.cycles:
                if both:
                    core1.lag += thumbs[0].core.cycles * CYCLE_NANOS
                clock.tick(thumbs[0].core.cycles * CYCLE_NANOS)
            if ran:
                i += ran
                ticks_since_check += ran
                continue
        ticks_since_check += 1
""",
    ),
    (
        "            idle_nanos = clock.nanos_to_next_alarm\n",
        """            idle_nanos = clock.nanos_to_next_alarm
            if both:
                idle_nanos = min(idle_nanos or INFINITY, quantum - core1.lag)
                core1.lag += idle_nanos
""",
    ),
    (
        "            cycles = core.execute_instruction()\n",
        "            cycles = step(&thumbs[0], core, clock._nanos_counter)\n",
    ),
    (
        "            delta_nanos = cycles * CYCLE_NANOS\n",
        """            delta_nanos = cycles * CYCLE_NANOS
            if both:
                core1.lag += delta_nanos
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
for name, changes in (*second_core.FILES.items(), *flash_cache.FILES.items()):
    replace(NATIVE.parent / name, changes)
replace(NATIVE.parent / "peripherals" / "timer.py", TIMER)
replace(NATIVE.parent / "utils" / "firmware_retrieve.py", FIRMWARE)
for header in Path(__file__).parent.glob("*.h"):
    shutil.copy(header, NATIVE)
