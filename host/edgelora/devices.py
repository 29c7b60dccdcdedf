"""Which boards are there: MicroPython boards on USB, boot loaders, and this computer's virtual boards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

from edgelora import flash_rp2, sim
from edgelora.errors import EdgeloraError
from edgelora.probe import Answer, ask

VENDORS = {
    0x2E8A: "Raspberry Pi",
    0xF055: "MicroPython",
    0x303A: "Espressif",
    0x10C4: "CP210x serial adapter",
    0x1A86: "CH340 serial adapter",
    0x0403: "FTDI serial adapter",
    0x239A: "Adafruit",
    0x1B4F: "SparkFun",
    0x2341: "Arduino",
}
# What some say with no firmware's help.
PRODUCTS = {
    (0x303A, 0x0002): "ESP32-S2 in its boot loader",
    (0x303A, 0x1001): "an ESP32-S3, C3 or C6 on its own USB",
    (0x303A, 0x4001): "an ESP32-S2 or S3 with MicroPython",
}


class DeviceError(EdgeloraError, RuntimeError):
    """There is no board to talk to, or more than one to choose from."""


@dataclass(frozen=True)
class Device:
    """A board's serial port, or the volume of its boot loader. `board` is a profile's name where that is known for sure
    (virtual boards)."""

    port: str
    description: str
    virtual: bool
    board: str | None = None
    serial_number: str | None = None
    boot_loader: bool = False


def find_devices() -> list[Device]:
    """All boards with a serial port, real ones first. Only looks: opens nothing."""
    real = [
        Device(
            port.device,
            PRODUCTS.get((port.vid, port.pid)) or f"{VENDORS[port.vid]}: {port.product or port.description}",
            virtual=False,
            serial_number=port.serial_number,
        )
        for port in sorted(list_ports.comports(), key=lambda port: port.device)
        if port.vid in VENDORS
    ]
    return real + [_virtual(board) for board in sim.running()]


def _virtual(board: sim.SimHandle) -> Device:
    waiting = (Path(board.drive) / flash_rp2.INFO_NAME).exists()
    return Device(board.port, f"virtual {board.board}", True, board.board, boot_loader=waiting)


def find_boot_loaders() -> list[Device]:
    """RP2 boards whose boot loader's volume is mounted; `port` is its folder."""
    return [
        Device(str(path), f"boot loader of an {flash_rp2.board_id(path)} board", False, boot_loader=True)
        for path in flash_rp2.volumes()
    ]


def survey(interrupt: bool = False) -> list[tuple[Device, Answer]]:
    """All boards, and what each says of itself; see `ask`."""

    def answer(device: Device) -> Answer:
        if device.boot_loader:
            return Answer("boot loader", "waits for firmware: `edgelora flash`", device.board)
        return ask(device.port, interrupt)

    devices = find_devices() + find_boot_loaders()
    with ThreadPoolExecutor(max(len(devices), 1)) as pool:
        return list(zip(devices, pool.map(answer, devices), strict=True))


def pick_port(port: str | None = None) -> str:
    """The port asked for, or that of the only board. Raises `DeviceError` that lists what there is."""
    if port is not None:
        return port
    devices = find_devices()
    if len(devices) == 1:
        return devices[0].port
    if not devices:
        raise DeviceError("no board found; connect one by USB, or start a virtual one with `edgelora sim`")
    listing = "\n".join(f"  {device.port}  {device.description}" for device in devices)
    raise DeviceError(f"several boards found; choose one with --port:\n{listing}")
