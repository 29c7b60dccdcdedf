"""The sensors that boards have drivers for: the records of the device's `sources.py`, and the pins that users give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edgelora.base.errors import InputError

from .twin import device

MOST_PIN = 54
MOST_ANALOG = 8  # pins of a sensor without roles


def sensors() -> dict[str, Any]:
    """The device's drivers by name: classes with `title`, `roles` of the pins, `usual` pins and `units`."""
    found: dict[str, Any] = device.module("sources").SENSORS
    return found


def named() -> str:
    """The names, for help and errors."""
    return ", ".join(sensors())


def pins_of(text: str) -> tuple[int, ...]:
    """Pins that a user typed, with commas or spaces between. InputError for anything but numbers of pins."""
    given = [part for part in re.split(r"[,\s]+", text.strip()) if part]
    if not all(part.isascii() and part.isdigit() and int(part) <= MOST_PIN for part in given):
        raise InputError(
            f"{text[:40]!r} are not pin numbers", remedy=f"give numbers up to {MOST_PIN}, for example 4, 5"
        )
    return tuple(map(int, given))


def check_pins(name: str, pins: Sequence[int]) -> None:
    """InputError unless a sensor of this name can be at these pins. Other names are modules, which have their own."""
    sensor = sensors().get(name)
    if sensor is None:
        return
    wanted = (len(sensor.roles),) if sensor.roles else range(1, MOST_ANALOG + 1)
    if len(pins) not in wanted:
        raise InputError(
            f"{name} on pins {', '.join(map(str, pins)) or 'none'}",
            remedy=f"give {roles(name)}, for example {usual(name)}",
        )


def roles(name: str) -> str:
    """What a sensor's pins are for: "SDA, SCL"."""
    return ", ".join(sensors()[name].roles) or f"1 to {MOST_ANALOG} analog pins"


def usual(name: str) -> str:
    """Pins of a Pico for a sensor: "4, 5"."""
    return ", ".join(map(str, sensors()[name].usual))
