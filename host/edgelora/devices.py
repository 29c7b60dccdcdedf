"""Which boards are there: MicroPython boards on USB, and this computer's virtual boards."""

from __future__ import annotations

from dataclasses import dataclass

from serial.tools import list_ports

from edgelora import sim

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


class DeviceError(RuntimeError):
    """There is no board to talk to, or more than one to choose from."""


@dataclass(frozen=True)
class Device:
    """A board's serial port. `board` is a profile's name where that is known for sure (virtual boards)."""

    port: str
    description: str
    virtual: bool
    board: str | None = None
    serial_number: str | None = None


def find_devices() -> list[Device]:
    """All boards that can be reached, real ones first."""
    real = [
        Device(
            port.device,
            f"{VENDORS[port.vid]}: {port.product or port.description}",
            virtual=False,
            serial_number=port.serial_number,
        )
        for port in sorted(list_ports.comports(), key=lambda port: port.device)
        if port.vid in VENDORS
    ]
    return real + [Device(board.port, f"virtual {board.board}", True, board.board) for board in sim.running()]


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
