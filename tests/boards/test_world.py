"""A motion sensor and buttons at the emulated Pico, read by the board's own drivers."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import edgelora, execute, result

from edgelora.base.resources import ROOT
from edgelora.board.sim.world import Mpu6050, load_motion, set_world
from edgelora.model.datasets.capture import Capture, save_wav

PICO = ROOT / ".build/rp2/rpi_pico/firmware.uf2"
LOOK = """
import machine, time
from array import array
from edgelora.sources import MPU6050
sensor = MPU6050(machine.I2C(0, sda=machine.Pin(4), scl=machine.Pin(5), freq=400_000), 100, g=4, dps=1000)
button = machine.Pin(15, machine.Pin.IN, machine.Pin.PULL_UP)
buffer, rows, pressed = array("h", bytes(12 * 32)), [], []
start = time.ticks_ms()
while len(rows) < 60:
    count = sensor.read_into(buffer)
    rows += [list(buffer[6 * i : 6 * i + 6]) for i in range(count)]
    if button.value() == 0:
        pressed.append(time.ticks_diff(time.ticks_ms(), start))
    time.sleep_ms(5)
print([rows, sensor.overruns, pressed])
"""


def motion(samples: int) -> np.ndarray:
    """Rows in g and rad/s, all different."""
    n = np.arange(samples)
    return np.column_stack([n / 100, -n / 200, np.ones(samples), n / 20, np.zeros(samples), -n / 10])


def test_a_recording_through_the_boards_own_driver(tmp_path: Path) -> None:
    """Every sample of 0.6 s in order, in the range set by the program; the button is pressed on schedule."""
    rows = motion(200)
    np.savetxt(tmp_path / "motion.csv", rows, "%.9g", ",")
    state = tmp_path / "board"
    told = ("--i2c", f"mpu6050={tmp_path / 'motion.csv'}", "--press", "3@0.01")
    board = result("sim", "virtual-pico", "--firmware", PICO, "--state", state)
    assert result("sim", "virtual-pico", "--state", state, *told) == board, "it runs on"
    set_world(state, None, [(15, 0.25 * i) for i in range(1, 21)])  # two of these, whenever the program starts
    seen, overruns, pressed = json.loads(execute(board["port"], LOOK))
    edgelora("sim", "virtual-pico", "--stop", "--state", state)
    scale = np.array([8192] * 3 + [np.degrees(32.8)] * 3)
    first = round(seen[0][0] / 8192 * 100)
    wanted = np.rint(rows[(first + np.arange(len(seen)) // 2) % 200] * scale)  # the recording has half this rate
    shifted = np.rint(rows[(first + (1 + np.arange(len(seen))) // 2) % 200] * scale)
    assert overruns == 0 and min(np.abs(np.array(seen) - w).max() for w in (wanted, shifted)) <= 1
    assert 10 < len(pressed) < 110 and 0.1 < (pressed[-1] - pressed[0]) / 1000 < 0.7
    assert json.loads((state / "world.json").read_text())["presses"] == []


HEAR = """
import time
from array import array
import rp2
from edgelora.sources import I2S
microphone = I2S(16, 17, 18, samples=64)
device = rp2.Flash()
blocks = device.ioctl(4, 0)
chunk, heard, wait = array("h", bytes(2 * 4000)), [], 0
until = time.ticks_add(time.ticks_ms(), 8000)
print("ready")
while len(heard) < 6000 and time.ticks_diff(until, time.ticks_ms()) > 0:
    count = microphone.read_into(chunk)
    heard += [word for word in chunk[:count] if word]
    wait = (wait + 7) % 40  # never so long that the driver's own buffer overflows
    time.sleep_ms(wait)
    if WRITES and wait % 2:  # MicroPython's interrupts wait for an erase, 45 ms
        device.ioctl(6, blocks - 1)
lost = microphone.overruns
time.sleep_ms(300)
microphone.read_into(chunk)
microphone.close()
print([heard[0], len(heard), [[a, b] for a, b in zip(heard, heard[1:]) if b - a != 1], lost, microphone.overruns])
"""


@pytest.mark.parametrize("writes", [False, True], ids=["", "while flash is erased"])
def test_a_microphone_on_i2s(writes: bool, tmp_path: Path) -> None:
    """No sample is missing or twice while a program is slow; what it is too slow for is counted."""
    counts = np.arange(-3000, 3001)
    save_wav(tmp_path / "ramp.wav", Capture(counts[counts != 0][:, None].astype(float), 16000.0, counts=True))
    state = tmp_path / "board"
    board = result("sim", "virtual-pico", "--firmware", PICO, "--state", state)
    with subprocess.Popen(
        [sys.executable, "-m", "mpremote", "connect", board["port"], "exec", f"WRITES = {writes}{HEAR}"],
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout and program.stdout.readline().strip() == "ready"
        edgelora("sim", "virtual-pico", "--state", state, "--i2s", tmp_path / "ramp.wav")
        first, count, jumps, lost, later = json.loads(program.stdout.read())
    edgelora("sim", "virtual-pico", "--stop", "--state", state)
    assert (first, count, jumps, lost) == (-3000, 6000, [[-1, 1]], 0) and later > 1000


SAMPLED = """
import rp2, time
from array import array
from edgelora.sources import ADC
device = rp2.Flash()
source, chunk, taken = ADC([26], 1000), array("h", bytes(2 * 256)), 0
then = time.ticks_ms()
for i in range(60):
    taken += source.read_into(chunk)
    time.sleep_ms(20)
    if i % 5 == 0:
        device.ioctl(6, device.ioctl(4, 0) - 1)
time.sleep_ms(50)
taken += source.read_into(chunk)
print(time.ticks_diff(time.ticks_ms(), then), taken, source.overruns)
"""


def test_samples_that_an_erase_takes_from_a_timer_are_counted(tmp_path: Path) -> None:
    state = tmp_path / "board"
    board = result("sim", "virtual-pico", "--firmware", PICO, "--state", state)
    milliseconds, taken, lost = map(int, execute(board["port"], SAMPLED).split())
    edgelora("sim", "virtual-pico", "--stop", "--state", state)
    assert taken < 0.8 * milliseconds and abs(taken + lost - milliseconds) < 12, "1000 samples a second"


NOISE = "import os, json; print(json.dumps(list(os.urandom(512))))"


def test_noise_of_the_ring_oscillator(tmp_path: Path) -> None:
    """Random bytes of the three modes: from the computer, reproducible from a seed, or constant."""
    state = tmp_path / "board"
    drawn = {}
    for mode in ("free", "free", "7", "7", "8", "stuck"):
        firmware = () if state.exists() else ("--firmware", PICO)
        port = result("sim", "virtual-pico", *firmware, "--state", state, "--oscillator", mode)["port"]
        drawn.setdefault(mode, []).append(json.loads(execute(port, NOISE)))
        edgelora("sim", "virtual-pico", "--stop", "--state", state)
    free, again = drawn["free"]
    assert free != again and drawn["7"][0] != drawn["8"][0]
    ones = np.unpackbits(np.array([*free, *again, *drawn["7"][0]], np.uint8)).mean()
    assert abs(ones - 0.5) < 0.03, "over six times the spread of 12,288 fair bits"
    followed = [len(set(itertools.pairwise(noise))) - len(set(noise[:-1])) for noise in (free, drawn["stuck"][0])]
    assert followed[0] > 100 and followed[1] == 0, (
        "MicroPython's register of 8 bits goes on by itself: each byte tells the next"
    )


def drive(chip: Mpu6050, register: int, *values: int) -> None:
    chip.begin(writing=True)
    for value in (register, *values):
        chip.write(value)


def fetch(chip: Mpu6050, register: int, count: int) -> bytes:
    drive(chip, register)
    chip.begin(writing=False)
    return bytes(chip.read() for _ in range(count))


def test_a_fifo_that_overflows() -> None:
    now = [0.0]
    chip = Mpu6050(lambda: now[0])
    assert fetch(chip, chip.WHO, 1) == b"\x68" and fetch(chip, chip.VALUES, 14) == bytes(14), "asleep"
    for register, value in ((chip.POWER, 1), (chip.CONFIG, 4), (chip.DIVIDER, 19), (chip.FIFO_EN, 0x78)):
        drive(chip, register, value)
    assert fetch(chip, chip.VALUES, 14) == bytes(4) + (16384).to_bytes(2, "big") + bytes(8), "1 g upwards"
    drive(chip, chip.USER, 0x44)
    chip.play(motion(100), 50)
    now[0] = 1.0
    assert fetch(chip, chip.COUNT, 2) == (50 * 12).to_bytes(2, "big") and fetch(chip, chip.STATUS, 1) == b"\0"
    assert len(fetch(chip, chip.FIFO, 600)) == 600 and fetch(chip, chip.COUNT, 2) == b"\0\0"
    now[0] = 1000.0
    assert fetch(chip, chip.STATUS, 1) == b"\x10" and fetch(chip, chip.COUNT, 2) == (1024).to_bytes(2, "big")
    assert fetch(chip, chip.STATUS, 1) == b"\0", "told once"
    drive(chip, chip.USER, 0x44)
    assert fetch(chip, chip.COUNT, 2) == b"\0\0" and fetch(chip, chip.FIFO, 1) == b"\xff"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("virtual-pico", "--i2c", "bmi270=x.csv"), "give mpu6050=FILE"),
        (("virtual-pico", "--press", "40"), "pins are 0 to 29"),
        (("virtual-pico", "--press", "3@soon"), "not a press"),
        (("unix", "--press", "3"), "no sensor, no buttons, no oscillator"),
        (("virtual-pico", "--i2c", "mpu6050=two.csv"), "plays 6 channels"),
        (("virtual-pico", "--i2s", "two.csv"), "16-bit .wav of 16000 samples a second"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.csv").write_text("1,2\n3,4\n")
    assert words in edgelora("sim", *arguments, "--state", "s", code=1)
    assert not Path("s").exists()


def test_a_recording_in_other_units(tmp_path: Path) -> None:
    head = {"protected": {"ver": "v1", "alg": "none"}, "signature": "0" * 64}
    sensors = [{"name": f"a{i}", "units": "m/s2"} for i in range(3)] + [
        {"name": f"g{i}", "units": "dps"} for i in "xyz"
    ]
    payload = {"device_type": "x", "interval_ms": 10, "sensors": sensors, "values": [[9.80665, 0, 0, 180, 0, 0]] * 3}
    (tmp_path / "m.json").write_text(json.dumps(head | {"payload": payload}))
    values, rate = load_motion(str(tmp_path / "m.json"))
    assert rate == 100 and np.allclose(values, [1, 0, 0, np.pi, 0, 0])
    set_world(tmp_path, tmp_path / "m.json", [(3, 1.0)])
    set_world(tmp_path, None, [])
    assert json.loads((tmp_path / "world.json").read_text())["motion"][0] == str(tmp_path / "m.json")


def test_concurrent_changes_of_a_world_lose_nothing(tmp_path: Path) -> None:
    """One process sets recordings while two others press buttons: no press and no recording is lost."""
    program = f"from edgelora.board.sim.world import set_world; from pathlib import Path; s = Path({str(tmp_path)!r})"
    pressing = [
        subprocess.Popen([sys.executable, "-c", f"{program}\nfor i in range(100): set_world(s, None, [({pin}, 0)])"])
        for pin in (1, 2)
    ]
    for name in itertools.cycle(("circle", "wave")):
        set_world(tmp_path, f"demo:{name}", [])
        assert json.loads((tmp_path / "world.json").read_text())["motion"][0] == f"demo:{name}"
        if all(one.poll() is not None for one in pressing):
            break
    pins = [pin for pin, _ in json.loads((tmp_path / "world.json").read_text())["presses"]]
    assert sorted(pins) == [1] * 100 + [2] * 100
