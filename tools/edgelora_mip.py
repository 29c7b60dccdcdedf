"""Installs EdgeLoRA's package for this board's core by `mip`: mip itself can't choose among native modules.

import mip, edgelora_mip     # after mip.install() of the folder that this file is served from
edgelora_mip.install()
"""

import sys

INDEX = ""  # address of the folder that has the packages; `make site` writes it
FORMATS = {}  # format of native modules -> architectures that have a package; `make site` writes it
# By MicroPython's number of an architecture, from 1.
ARCHES = ["x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"]
ARCHES += ["xtensa", "xtensawin", "rv32imc", "rv64imc"]
THUMB = ARCHES[3:8]  # each runs what is built for those before it


def package(mpy: int = sys.implementation._mpy) -> str:
    """The package's folder in the index, such as "6.3/armv6m". mpy: sys.implementation._mpy of a board."""
    form = f"{mpy & 255}.{mpy >> 8 & 3}"
    if form not in FORMATS:
        raise ValueError(f"MicroPython has native modules of format {form}, there are packages for {list(FORMATS)}")
    number = mpy >> 10 & 0x2F  # bit 14 and those from 16 are flags of the core, which the packages don't need
    if not 0 < number <= len(ARCHES):
        raise ValueError(f"no native modules load here, or an unknown kind (sys.implementation._mpy is {mpy})")
    name = ARCHES[number - 1]
    runs = list(reversed(THUMB[: THUMB.index(name) + 1])) if name in THUMB else [name]
    for arch in runs:
        if arch in FORMATS[form]:
            return f"{form}/{arch}"
    raise ValueError(f"there is no package for {name}, only for {FORMATS[form]}")


def install(index: str = INDEX, target: str | None = None) -> None:
    """Downloads the package into `target`, by default the first folder of sys.path that ends in /lib."""
    import mip

    mip.install(f"{index}/{package()}/", target=target)
