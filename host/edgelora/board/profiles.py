"""Board profiles, read from `boards/NAME/profile.toml`."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgelora.base import resources
from edgelora.base.errors import EdgeloraError

BOARDS_DIR = resources.boards()


class BoardError(EdgeloraError, ValueError):
    """An unknown board, or an invalid profile."""


@dataclass(frozen=True)
class FlashLayout:
    """Flash partitions of a board; sizes and offsets in bytes, offsets from `base_address`.

    store_bytes: size of the adapter store at the end of the storage; 0: it is a folder of the filesystem.
    image_offset: where a firmware image is written; not 0 on chips whose boot ROM starts elsewhere.
    miss_cycles: that the core waits for 4 bytes which its cache does not hold; 0: unknown.
    """

    base_address: int
    total_bytes: int
    program_bytes: int
    romfs_offset: int
    romfs_bytes: int
    storage_offset: int
    storage_bytes: int
    store_bytes: int = 0
    image_offset: int = 0
    miss_cycles: int = 0


@dataclass(frozen=True)
class Power:
    """Supply voltage, typical currents while one core computes with radios off, and their sources.

    The current at a clock is a static part plus one proportional to the clock, or linearly interpolated from a
    table. sleep_amps: in machine.lightsleep.
    """

    supply_volts: float
    source: str
    static_amps: float = 0.0
    amps_per_mhz: float = 0.0
    amps_at_mhz: dict[str, float] | None = None
    sleep_amps: float | None = None

    def watts(self, hz: float) -> float | None:
        """Power while the core computes at this clock; None if not documented."""
        if self.amps_at_mhz is None:
            return self.supply_volts * (self.static_amps + self.amps_per_mhz * hz / 1e6)
        points = sorted((int(mhz), amps) for mhz, amps in self.amps_at_mhz.items())
        for (low, at_low), (high, at_high) in zip(points, points[1:] or points, strict=False):
            if low <= hz / 1e6 <= high:
                return self.supply_volts * (at_low + (at_high - at_low) * (hz / 1e6 - low) / max(1, high - low))
        return None

    @property
    def sleep_watts(self) -> float | None:
        """Power in light sleep; None if not documented."""
        return None if self.sleep_amps is None else self.supply_volts * self.sleep_amps


@dataclass(frozen=True)
class Verified:
    """The test status of a board's support: "run (where)", "compiled (note)", "not compiled" or "not run"."""

    image: str
    flashing: str
    native_module: str
    kernels: str
    end_to_end: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not re.fullmatch(r"not (run|compiled)|compiled( \(.+\))?|run \(.+\)", value):
                raise TypeError(f"verified.{field.name} is {value!r}: give run (WHERE), [not] compiled or not run")


@dataclass(frozen=True)
class BoardProfile:
    """One board. aliases: other names for it in command lines.

    firmware: the board whose firmware it runs: its own name unless it emulates another one.

    stock_board: MicroPython's own name of the board definition that firmware is built from, if ours adds nothing.
    clocks_mhz: settings of machine.freq whose energy is compared, if figures exist for more than one.
    stock: its firmware lacks EdgeLoRA, which `edgelora install` adds as files.
    """

    name: str
    aliases: tuple[str, ...]
    description: str
    firmware: str
    port: str
    chip: str
    core: str
    native_arch: str
    clock_hz: int | None
    clocks_mhz: tuple[int, ...]
    ram_bytes: int
    arena_bytes: int
    flash: FlashLayout | None
    uf2_family_id: int | None
    uf2_board_id: str | None
    stock_board: str | None
    stock: bool
    power: Power | None
    verified: Verified

    @property
    def is_virtual(self) -> bool:
        """True for boards that run on this computer."""
        return self.firmware != self.name or self.port in ("unix", "qemu")

    def watts(self, clock_hz: float | None = None) -> float | None:
        """Power while the core computes at this clock, or at its usual one; None if unknown."""
        hz = clock_hz or self.clock_hz
        return self.power.watts(hz) if self.power and hz else None

    @property
    def cycles(self) -> dict[str, float] | None:
        """Cycles of each term of `edgelora.learn.planning.terms`; None if this chip's kernels were not measured."""
        return _read_cycles(self.chip)


def list_boards() -> list[str]:
    """Names of all boards with a profile, sorted."""
    return sorted(path.parent.name for path in BOARDS_DIR.glob("*/profile.toml"))


def board_names() -> list[str]:
    """Names and aliases of all boards, sorted."""
    return sorted([*list_boards(), *_aliases()])


def board_name(name: str) -> str:
    """The name of the board with this alias; other names are returned unchanged."""
    return _aliases().get(name.lower(), name)


@functools.cache
def _aliases() -> dict[str, str]:
    return {alias: name for name in list_boards() for alias in _read(name).get("aliases", ())}


def load_board(name: str) -> BoardProfile:
    """Reads a board's profile, by its name or an alias.

    A virtual board inherits missing entries from the board that it emulates.
    Raises `BoardError` for an unknown name or an incomplete profile.
    """
    name = board_name(name)
    data = _read(name)
    firmware, aliases = data.get("emulates", name), data.get("aliases", ())
    if firmware != name:
        data = {**_read(firmware), **data}
    uf2 = data.get("uf2", {})
    try:
        return BoardProfile(
            name=name,
            aliases=tuple(aliases),
            description=data["description"],
            firmware=firmware,
            port=data["port"],
            chip=data["chip"],
            core=data["core"],
            native_arch=data["native_arch"],
            clock_hz=data.get("clock_hz"),
            clocks_mhz=tuple(data.get("clocks_mhz", ())),
            ram_bytes=data["ram"]["total_bytes"],
            arena_bytes=data["ram"]["arena_bytes"],
            flash=FlashLayout(**data["flash"]) if "flash" in data else None,
            uf2_family_id=uf2.get("family_id"),
            uf2_board_id=uf2.get("board_id"),
            stock_board=data.get("stock_board"),
            stock=data.get("stock", False),
            power=Power(**data["power"]) if "power" in data else None,
            verified=Verified(**data["verified"]),
        )
    except (KeyError, TypeError) as error:
        raise BoardError(f"boards/{name}/profile.toml: {error}; compare it with boards/rpi_pico/profile.toml") from None


def verification_table() -> str:
    """The table of test statuses in docs/boards.md (Markdown)."""
    head = ("board", *(field.name.replace("_", " ") for field in fields(Verified)))
    boards = [load_board(name) for name in list_boards()]
    rows = [(f"{b.name} ({b.chip})", *(getattr(b.verified, field.name) for field in fields(Verified))) for b in boards]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def cycles_path(chip: str) -> Path:
    """The file of a chip's kernel cycles, which `edgelora bench cost --fit` measures and writes."""
    return BOARDS_DIR / f"{chip}.cycles.toml"


@functools.cache
def _read_cycles(chip: str) -> dict[str, float] | None:
    path = cycles_path(chip)
    return tomllib.loads(path.read_text())["cycles"] if path.exists() else None


def _read(name: str) -> dict[str, Any]:
    path = BOARDS_DIR / name / "profile.toml"
    if name not in list_boards():
        near = difflib.get_close_matches(name, board_names(), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BoardError(f"unknown board {name!r}; {hint}known boards: {', '.join(list_boards())}")
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"{path}: {error}") from None
