"""Detection of boards: MicroPython boards on USB, boot loaders, and this computer's virtual boards."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serial.tools import list_ports

from edgelora.base.errors import EdgeloraError

from . import virtual_boards
from .flash import rp2
from .flash.rp2 import INFO_NAME, board_id
from .link.serial_line import BRIDGES
from .probe import Answer, ask

VENDORS = {
    0x2E8A: "Raspberry Pi",
    0xF055: "MicroPython",
    0x303A: "Espressif",
    **{vendor: f"{chip} serial adapter" for vendor, chip in BRIDGES.items()},
    0x239A: "Adafruit",
    0x1B4F: "SparkFun",
    0x2341: "Arduino",
}
# Descriptions of devices that need no firmware.
PRODUCTS = {
    (0x303A, 0x0002): "ESP32-S2 in its boot loader",
    (0x303A, 0x1001): "an ESP32-S3, C3 or C6 on its own USB",
    (0x303A, 0x4001): "an ESP32-S2 or S3 with MicroPython",
}
# USB ids assigned to MicroPython: opening these ports resets nothing.
MICROPYTHON_VENDORS = {0xF055}
MICROPYTHON_PRODUCTS = {(0x2E8A, 0x0005), (0x303A, 0x4001)}


class PortError(EdgeloraError, RuntimeError):
    """No board was found, or several to choose from."""


@dataclass(frozen=True)
class Device:
    """A board's serial port, or the volume of its boot loader. `board` is a profile's name if certain
    (for virtual boards).

    known: its USB ids are MicroPython's; opening another port may reset an unrelated device.
    state_dir: of a virtual board.
    """

    port: str
    description: str
    virtual: bool
    board: str | None = None
    serial_number: str | None = None
    boot_loader: bool = False
    known: bool = True
    state_dir: str | None = None


Permit = Callable[[Device], bool]  # whether to open a port that may not be MicroPython's


def find_devices() -> list[Device]:
    """All boards with a serial port, real ones first. Opens no port."""
    real = [
        Device(
            port.device,
            PRODUCTS.get((port.vid, port.pid)) or f"{VENDORS[port.vid]}: {port.product or port.description}",
            virtual=False,
            serial_number=port.serial_number,
            known=_is_micropython(port),
        )
        for port in sorted(list_ports.comports(), key=lambda port: port.device)
        if port.vid in VENDORS
    ]
    return real + [_virtual(board) for board in virtual_boards.running()]


def _virtual(board: virtual_boards.SimHandle) -> Device:
    waiting = (Path(board.drive) / INFO_NAME).exists()
    return Device(
        board.port, f"virtual {board.board}", True, board.board, boot_loader=waiting, state_dir=board.state_dir
    )


def _is_micropython(port: Any) -> bool:
    return (
        port.vid in MICROPYTHON_VENDORS
        or (port.vid, port.pid) in MICROPYTHON_PRODUCTS
        or "MicroPython" in (port.manufacturer or "")
    )


def find_boot_loaders() -> list[Device]:
    """RP2 boards with a mounted boot loader volume; `port` is its folder."""
    return [
        Device(str(path), f"boot loader of an {board_id(path)} board", False, boot_loader=True)
        for path in rp2.volumes()
    ]


def survey(interrupt: bool = False, permit: Permit = lambda device: False) -> list[tuple[Device, Answer]]:
    """All boards, each with its answer; see `ask`.

    permit: whether to also open a port that may not be MicroPython's.
    """

    def answer(device: Device, permitted: bool) -> Answer:
        if device.boot_loader:
            return Answer("boot loader", "waits for firmware: `edgelora flash`", device.board)
        if not permitted:
            return Answer("not asked", "opening it may reset the device: use --probe, or --port to ask this one")
        return ask(device.port, interrupt)

    devices = find_devices() + find_boot_loaders()
    permitted = [device.known or permit(device) for device in devices]
    with ThreadPoolExecutor(max(len(devices), 1)) as pool:
        return list(zip(devices, pool.map(answer, devices, permitted), strict=True))


def pick_port(port: str | None = None) -> str:
    """The given port, or that of the only board. Raises `PortError`, which lists the candidates.

    Without a port, boards count if their USB ids are MicroPython's, or if they are virtual with state in this folder.
    """
    if port is not None:
        return port
    devices = find_devices()
    here = Path.cwd()
    ours = [d for d in devices if (Path(d.state_dir).is_relative_to(here) if d.state_dir else d.known)]
    if len(ours) == 1:
        return ours[0].port
    if not devices:
        raise PortError("no board found; connect one by USB, or start a virtual one with `edgelora sim`")
    listing = "\n".join(f"  --port {device.port}  {device.description}" for device in ours or devices)
    if ours:
        raise PortError(f"several boards found; choose one:\n{listing}")
    raise PortError(
        f"no board found for certain: choose a virtual board of another folder, or an unknown device's port:\n{listing}"
    )
