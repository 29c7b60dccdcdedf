"""Makes the RP2040's emulator do less for each instruction, with the same cycles: emulator_faster.py SOURCE

Its loop looks up Python attributes, and calls a Python method for a branch, where C would do. What is replaced must be
there once: another version is refused.
"""

import sys
from pathlib import Path

NATIVE = Path(sys.argv[1]) / "src" / "rp2040py" / "native"

# The two PIOs as what they are, instead of a list of anything; whether to stop is asked where time may jump, and every
# 32 instructions.
SIMULATOR = [
    (
        "from rp2040py.native._rp2040 cimport RP2040\n",
        "from rp2040py.native._pio cimport RPPIO\nfrom rp2040py.native._rp2040 cimport RP2040\n",
    ),
    ("    pios = rp2040.pio\n", "    cdef RPPIO first = rp2040.pio[0], second = rp2040.pio[1]\n"),
    (
        "        for pio in pios:\n            if not pio.stopped:\n                pio.advance(cycles)\n",
        "        if not first.stopped:\n            first.advance(cycles)\n"
        "        if not second.stopped:\n            second.advance(cycles)\n",
    ),
    (
        "    while i < BATCH_INSTRUCTION_CEILING and not simulator.stopped:\n        ticks_since_check += 1\n",
        "    while i < BATCH_INSTRUCTION_CEILING:\n        ticks_since_check += 1\n"
        "        if (core.waiting or not i & 31) and simulator.stopped:\n            break\n",
    ),
]
# The condition of a branch from the flags: bit 0 of its number turns it over, but for the last.
CONDITION = [
    (
        "    return core.check_condition(cond)\n",
        "    cdef bint less = core.n != core.v, holds = True\n"
        "    cdef unsigned int which = cond >> 1\n"
        "    if which == 0:\n        holds = core.z\n"
        "    elif which == 1:\n        holds = core.c\n"
        "    elif which == 2:\n        holds = core.n\n"
        "    elif which == 3:\n        holds = core.v\n"
        "    elif which == 4:\n        holds = core.c and not core.z\n"
        "    elif which == 5:\n        holds = not less\n"
        "    elif which == 6:\n        holds = not less and not core.z\n"
        "    return not holds if cond & 1 and cond != 15 else holds\n",
    )
]


def replace(path: Path, changes: list[tuple[str, str]]) -> None:
    text = path.read_text()
    for old, new in changes:
        if text.count(old) != 1:
            raise SystemExit(f"{path} is of another version: it has {text.count(old)} of {old!r}, expected 1")
        text = text.replace(old, new)
    path.write_text(text)


replace(NATIVE / "_simulator.pyx", SIMULATOR)
replace(NATIVE / "_cortex_m0_core.pyx", CONDITION)
for name in ("_bit", "_cortex_m0_core", "_rp2040"):
    replace(NATIVE / f"{name}.pyx", [(" boundscheck=False,", " boundscheck=False, initializedcheck=False,")])
