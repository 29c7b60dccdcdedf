"""Boards: profiles, firmware, flashing, what is plugged in."""

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .build import SUFFIXES, build_firmware, has_program, program
    from .devices import Device, Permit, find_boot_loaders, find_devices, pick_port, survey
    from .doctor import examine
    from .energy import STEPS, EnergyRow, check_power, energy_by_clock
    from .installing import Installation, InstallError, check_format, choose_arch, install, read_package
    from .probe import ask, board_of, used_elsewhere
    from .profiles import (
        BoardError,
        BoardProfile,
        Verified,
        board_name,
        board_names,
        cycles_path,
        list_boards,
        load_board,
        verification_table,
    )
    from .resetting import reset
    from .romfs import check_romfs
    from .uf2 import MAGIC_START, FlashImage, Uf2Error, family, parse
else:
    __getattr__, __dir__ = lazily(__name__, __file__)

__all__ = [
    "BoardError",
    "BoardProfile",
    "Device",
    "EnergyRow",
    "FlashImage",
    "InstallError",
    "Installation",
    "MAGIC_START",
    "Permit",
    "STEPS",
    "SUFFIXES",
    "Uf2Error",
    "Verified",
    "ask",
    "board_name",
    "board_names",
    "board_of",
    "build_firmware",
    "check_format",
    "check_power",
    "check_romfs",
    "choose_arch",
    "cycles_path",
    "energy_by_clock",
    "examine",
    "family",
    "find_boot_loaders",
    "find_devices",
    "has_program",
    "install",
    "list_boards",
    "load_board",
    "parse",
    "pick_port",
    "program",
    "read_package",
    "reset",
    "survey",
    "used_elsewhere",
    "verification_table",
]
