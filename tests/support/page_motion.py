"""Movements for the page of docs/try: acceleration in g and rotation in rad/s, at 60 Hz as phones tell them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

RATE = 60  # events a second
MOVEMENTS = ("rest", "shake", "circle")
TAKEN = 12  # samples of each
UNITS = np.array([9.80665] * 3 + [180 / np.pi] * 3)  # m/s2 in a g, degrees in a radian
# Events as a phone sends them, but at once: their time stamps are those of the recording.
PLAY = """({ values, start, rate }) => {
  values.forEach(([x, y, z, beta, gamma, alpha], i) => {
    const event = new Event("devicemotion");
    const accelerationIncludingGravity = { x, y, z };
    Object.defineProperties(event, {
      timeStamp: { value: 1000 * (start + i / rate) },
      accelerationIncludingGravity: { value: accelerationIncludingGravity },
      rotationRate: { value: { alpha, beta, gamma } },
    });
    window.dispatchEvent(event);
  });
}"""


def moved(movement: str, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Values [n, 6]: m/s2, then degrees a second about x, y and z."""
    at = np.arange(round(seconds * RATE)) / RATE
    values = rng.normal(0, 0.03, (len(at), 6))
    values[:, 2] += 1
    turn = 2 * np.pi * at * {"rest": 0, "shake": 3, "circle": 1.1}[movement] + rng.uniform(0, 6)
    if movement == "shake":
        values[:, 0] += 1.5 * np.sin(turn)
        values[:, 5] += 3 * np.cos(turn)
    if movement == "circle":
        values[:, 0] += 0.8 * np.sin(turn)
        values[:, 1] += 0.8 * np.cos(turn)
        values[:, 4] += 2 * np.sin(turn)
    return values * UNITS


def recorded(movement: str, folder: Path) -> Path:
    """A file in which a virtual board's sensor finds 20 s of a movement: g and rad/s."""
    path = folder / f"{movement}.csv"
    np.savetxt(path, moved(movement, 20, np.random.default_rng(3)) / UNITS, "%.6f", ",")
    return path


class Phone:
    """Plays movements to a page, one after the other."""

    def __init__(self, page: Page, seed: int = 1) -> None:
        self._page, self._rng, self._time = page, np.random.default_rng(seed), 1.0

    def move(self, movement: str, seconds: float) -> None:
        values = moved(movement, seconds, self._rng)
        self._page.evaluate(PLAY, {"values": values.tolist(), "start": self._time, "rate": RATE})
        self._time += seconds


def begun(page: Page, phone: Phone) -> None:
    """Chooses the motion sensor, which moves."""
    button = page.get_by_role("button", name="Motion sensor", exact=True)
    button.click()
    while button.get_attribute("aria-pressed") == "false":  # phones tell of their motion all the time
        phone.move("rest", 0.1)
        assert not page.get_by_role("alert").inner_text()


def taught(page: Page, phone: Phone, count: int = TAKEN) -> None:
    """Records samples of each movement."""
    for movement in MOVEMENTS:
        page.get_by_label("New class").fill(movement)
        page.get_by_role("button", name="Add").click()
        phone.move(movement, 3)
        page.get_by_role("button", name=f"Record {movement}").click()
        phone.move(movement, count)
        page.get_by_role("button", name=f"Stop recording {movement}").click()


def learned(page: Page, phone: Phone) -> None:
    """Takes samples of each movement, and learns them."""
    begun(page, phone)
    taught(page, phone)
    page.get_by_role("button", name="Learn", exact=True).click()
    expect(page.locator("#verdict")).to_contain_text("After:")
