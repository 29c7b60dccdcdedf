"""The second core of the RP2040, for patch.py: what to replace in the emulator's files, as (old, new).

The emulator has one core. Here it has two, `core0` and `core1`, with an interrupt controller, SysTick, divider and
interpolators each; `core` is the one that runs at the moment, so the chip's other parts need not know. Core 1 begins in
the boot ROM, which waits for the address of a program in the FIFO. Core 1 runs after core 0, for as many cycles as
core 0 ran, in quanta of the chip's time: what one core does never depends on how fast the host is. Asleep it costs
nothing. Sources: RP2040 Datasheet, 2.3.1 (SIO), 2.4 (processors), 2.8.2 (launch), 2.13 (power-on state machine).
"""

CORE = [
    ("    cpdef reset(self)\n", "    cpdef reset(self)\n    cpdef signal(self)\n"),
    (
        "    cdef public bint waiting\n",
        """    cdef public bint waiting
    cdef public bint listening  # waits by WFE, which an event ends
    cdef public bint held  # in reset
    cdef public int number
    cdef public double lag  # of the chip's time, ns: what this core has yet to run
    cdef public double late  # ns that it has waited for the other core, still to be taken off `lag`
""",
    ),
]
CORE_CODE = [
    (
        "    cpdef set_interrupt(self, irq, value):\n",
        """    cpdef signal(self):
        # An event, of SEV: ends the wait of WFE, or that of the next one.
        if self.waiting and self.listening:
            self.waiting = False
        else:
            self.event_registered = True

    cpdef set_interrupt(self, irq, value):
""",
    ),
    (
        '    core.event_registered = True\n    core.rp2040.logger.info(LOG_NAME, "SEV")\n',
        "    core.rp2040.core0.signal()\n    core.rp2040.core1.signal()\n",
    ),
    (
        "        core.event_registered = False\n    else:\n        core.waiting = True\n",
        "        core.event_registered = False\n    else:\n        core.waiting = core.listening = True\n",
    ),
    ("    # WFI\n    core.waiting = True\n", "    # WFI\n    core.waiting, core.listening = True, False\n"),
]
CHIP = [
    (
        "    cdef public CortexM0Core core\n",
        "    cdef public CortexM0Core core, core0, core1\n    cdef long long[::1] _bus\n",
    ),
]
CHIP_CODE = [
    (
        "from rp2040py.native._cortex_m0_core cimport CortexM0Core\n",
        """cdef extern from "bus.h":
    ctypedef struct bus_t:
        pass

from rp2040py.native._cortex_m0_core cimport CortexM0Core
""",
    ),
    (
        "        self.core = CortexM0Core(self)\n",
        """        self.core = self.core0 = CortexM0Core(self)
        self.core1 = CortexM0Core(self)
        self.core1.number = 1
""",
    ),
    (
        '        self.ppb = RPPPB(self, "PPB")\n',
        "        self.quantum = 32 * 8.0  # ns\n"
        '        self._bus = array.array("q", bytes(sizeof(bus_t)))\n'
        '        self.ppbs = [RPPPB(self, "PPB", core) for core in (self.core0, self.core1)]\n',
    ),
    (
        "    @property\n    def run_pin_low(self):\n",
        """    @property
    def ppb(self):
        return self.ppbs[self.core.number]

    def hold_core1(self, held):
        # Core 1 in reset, or out of it and in the boot ROM, if there is one.
        self.core1.reset()
        self.ppbs[1].reset()
        self.core1.held = held or not self._bootrom[1]
        self.core1.lag = self.core1.late = 0

    @property
    def run_pin_low(self):
""",
    ),
    ("        self.core.pc = FLASH_START_ADDRESS\n", "        self.core0.pc = FLASH_START_ADDRESS\n"),
    (
        "        self.core.reset()\n        self.ppb.reset()\n",
        """        self.core0.reset()
        self.ppbs[0].reset()
        self.hold_core1(False)
""",
    ),
    (
        "        self.core.set_interrupt(irq, value)\n",
        """        if irq != IRQ.SIO_PROC1:
            self.core0.set_interrupt(irq, value)
        if irq != IRQ.SIO_PROC0:
            self.core1.set_interrupt(irq, value)
""",
    ),
]
PPB = [
    (
        '    def __init__(self, rp2040: "RP2040", name: str):\n        super().__init__(rp2040, name)\n',
        '    def __init__(self, rp2040: "RP2040", name: str, core):\n'
        "        super().__init__(rp2040, name)\n        self.core = core\n",
    ),
    (
        """                self.rp2040.core.pending_systick = True
                self.rp2040.core.interrupts_updated = True
""",
        """                self.core.pending_systick = True
                self.core.interrupts_updated = True
""",
    ),
    (
        "    def read_uint32(self, offset: int) -> int:\n        core = self.rp2040.core\n",
        "    def read_uint32(self, offset: int) -> int:\n        core = self.core\n",
    ),
    (
        "    def write_uint32(self, offset: int, value: int) -> None:\n        core = self.rp2040.core\n",
        "    def write_uint32(self, offset: int, value: int) -> None:\n        core = self.core\n",
    ),
    (  # the next count is that of the reload register
        "            self.systick_timer.set(0)\n",
        "            self.systick_timer.set(self.systick_reload)\n",
    ),
]
PSM = [
    (
        "            self._frce_off = value & PSM_BITS_MASK\n",
        """            changed, self._frce_off = self._frce_off ^ value, value & PSM_BITS_MASK
            if changed & WDSEL_PROC1:
                self.rp2040.hold_core1(bool(value & WDSEL_PROC1))
""",
    ),
]
# State that thumb.h reads and writes, too, lies in an array: a divider for each core, then the spinlocks.
SIO = [
    (
        "from typing import TYPE_CHECKING\n",
        "from array import array\nfrom collections import deque\nfrom typing import TYPE_CHECKING\n",
    ),
    (
        "\n\nclass RPSIO:\n",
        '''

def _divider(index):
    def write(sio, value):
        sio.words[5 * sio.rp2040.core.number + index] = int(value) & 0xFFFFFFFF

    return property(lambda sio: sio.words[5 * sio.rp2040.core.number + index], write)


class _Fifo:
    """Words that one core sends to the other, `reader`, whose interrupt says that there is one or that one was lost."""

    DEPTH = 8

    def __init__(self, rp2040, reader):
        self.rp2040, self.reader, self.words = rp2040, reader, deque()
        self.full = self.empty = False  # written when full, read when empty

    def push(self, value):
        if len(self.words) < self.DEPTH:
            self.words.append(value & 0xFFFFFFFF)
        else:
            self.rp2040.sio.fifos[1 - self.reader].full = True

    def pop(self):
        self.empty = self.empty or not self.words
        return self.words.popleft() if self.words else 0

    def clear(self):
        self.words.clear()
        self.full = self.empty = False


class RPSIO:
    div_dividend, div_divisor, div_quotient, div_remainder, div_csr = map(_divider, range(5))

    @property
    def spin_lock(self):
        return self.words[10]

    @spin_lock.setter
    def spin_lock(self, value):
        self.words[10] = value & 0xFFFFFFFF

    @property
    def interp0(self):
        return self.interpolators[self.rp2040.core.number][0]

    @property
    def interp1(self):
        return self.interpolators[self.rp2040.core.number][1]

    def read_fifo(self, offset):
        own, other = self.fifos[self.rp2040.core.number], self.fifos[1 - self.rp2040.core.number]
        if offset == FIFO_ST:
            room = len(other.words) < other.DEPTH
            return bool(own.words) | room << 1 | own.full << 2 | own.empty << 3
        value = own.pop() if offset == FIFO_RD else 0
        self.tell()
        return value

    def write_fifo(self, offset, value):
        own, other = self.fifos[self.rp2040.core.number], self.fifos[1 - self.rp2040.core.number]
        if offset == FIFO_WR:
            other.push(value)
        elif offset == FIFO_ST:
            own.full, own.empty = own.full and not value & 4, own.empty and not value & 8
        self.tell()

    def tell(self):
        for fifo, irq in zip(self.fifos, (IRQ.SIO_PROC0, IRQ.SIO_PROC1)):
            self.rp2040.set_interrupt(irq, bool(fifo.words) or fifo.full or fifo.empty)

''',
    ),
    (
        "        self.rp2040 = rp2040\n",
        """        self.rp2040 = rp2040
        self.words = array("I", bytes(44))
        self.words[1] = self.words[6] = 1
        self.interpolators = [(Interpolator(0), Interpolator(1)) for _ in range(2)]
        self.fifos = [_Fifo(rp2040, reader) for reader in range(2)]
""",
    ),
    (
        """        self.spin_lock = 0
        self.interp0 = Interpolator(0)
        self.interp1 = Interpolator(1)
""",
        "",
    ),
    (
        """        self.spin_lock = 0
        self.interp0.reset()
        self.interp1.reset()
""",
        """        self.words[:] = array("I", [0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0])
        for fifo, (first, second) in zip(self.fifos, self.interpolators):
            fifo.clear()
            first.reset()
            second.reset()
        self.tell()
""",
    ),
    (
        "            # Returns the current CPU core id (always 0 for now)\n            return 0\n",
        "            return self.rp2040.core.number\n",
    ),
    (
        """            self.rp2040.logger.warning(
                LOG_NAME,
                "Inter-core FIFO (0x50-0x58) is not implemented. core1/_thread is unsupported "
                "(see docs/records/0053-core1-and-inter-core-fifo.md)",
            )
            return 0xFFFFFFFF
""",
        "            return self.read_fifo(offset)\n",
    ),
    (
        "        prev_gpio_value = self.gpio_value\n",
        """        if FIFO_ST <= offset <= FIFO_RD:
            self.write_fifo(offset, value)
            return

        prev_gpio_value = self.gpio_value
""",
    ),
    (
        "from rp2040py.interpolator import Interpolator\n",
        "from rp2040py.interpolator import Interpolator\nfrom rp2040py.irq import IRQ\n",
    ),
]
FILES = {
    "native/_cortex_m0_core.pxd": CORE,
    "native/_cortex_m0_core.pyx": CORE_CODE,
    "native/_rp2040.pxd": CHIP,
    "native/_rp2040.pyx": CHIP_CODE,
    "peripherals/ppb.py": PPB,
    "peripherals/psm.py": PSM,
    "sio.py": SIO,
}
