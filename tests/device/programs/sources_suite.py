# Sources on simulated hardware: prints PASS or FAIL for each check, and finally SUITE with the counts.

import struct
import sys
import time
from array import array

import micropython

passed = failed = 0


def report(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
        print("PASS", name)
    else:
        failed += 1
        print("FAIL", name, detail)


def refused(call, kind, words):
    try:
        call()
    except kind as e:
        return words in str(e)
    return False


def locked(source, buffer):
    micropython.heap_lock()
    try:
        return source.read_into(buffer)
    finally:
        micropython.heap_unlock()


class Timer:
    PERIODIC = 1

    def __init__(self, number):
        Timer.last = self

    def init(self, freq, mode, callback):
        self.freq, self.tick = freq, callback

    def deinit(self):
        self.tick = None


class Pins:
    value = 0

    def __init__(self, pin):
        self.pin = pin

    def read_u16(self):
        return Pins.value + self.pin


class Microphone:
    RX, MONO = 0, 1

    def __init__(self, number, **settings):
        self.settings = settings
        self.sample = 0
        self.wanted = None
        Microphone.last = self

    def irq(self, callback):
        self.callback = callback

    def readinto(self, buffer):
        self.wanted = buffer

    def fill(self):
        """What the driver does when a buffer is full: words of 32 bits, with the sample in the upper half."""
        words = array("h", bytes(len(self.wanted)))
        for i in range(0, len(words), 2):
            words[i], words[i + 1] = 0x5A5A, self.sample
            self.sample += 1
        self.wanted[:] = bytes(words)
        self.callback(self)

    def deinit(self):
        self.wanted = None


class machine:
    ADC, Timer, I2S = Pins, Timer, Microphone

    @staticmethod
    def Pin(number):
        return number


sys.modules["machine"] = machine

from edgelora.sources import ADC, I2S, LSM6DS3, MPU6050, Channel, Host, Recording  # noqa: E402


class Chip:
    """An I2C bus with one sensor: registers, and a FIFO behind a register whose address does not advance."""

    def __init__(self, address, fifo, known):
        self.address, self.fifo_at = address, fifo
        self.registers = bytearray(128)
        self.written = []
        self.fifo = bytearray()
        self.fifo_from = 0
        for register, value in known.items():
            self.registers[register] = value

    def writeto_mem(self, address, register, data):
        assert address == self.address
        self.written.append((register, data[0]))
        if register != 0x12 and register != 0x6B:
            self.registers[register] = data[0]

    def readfrom_mem_into(self, address, register, buffer):
        for i in range(len(buffer)):
            if register == self.fifo_at:
                buffer[i] = self.fifo[self.fifo_from]
                self.fifo_from += 1
            else:
                buffer[i] = self.registers[register + i]

    def put(self, data):
        self.fifo, self.fifo_from = data, 0


SAMPLES = [(1, -2, 3, -4, 5, -6), (32767, -32768, 0, 100, -100, 255), (-1, 256, -257, 7, 8, 9)]


def check_mpu6050():
    chip = Chip(0x68, 0x74, {0x75: 0x68})
    source = MPU6050(chip, 50, g=4, dps=1000, batch=2)
    written = dict(chip.written)
    report("mpu range", (written[0x1B], written[0x1C], written[0x19]) == (0x10, 0x08, 19), chip.written)
    report("mpu fifo", written[0x23] == 0x78 and written[0x6A] == 0x40 and written[0x6B] == 0x01)
    report("mpu rate", source.rate == 50 and source.channels == 6)
    report("mpu scales", abs(source.scales[0] * 8192 - 1) < 1e-6 and abs(source.scales[3] * 32.8 * 57.29578 - 1) < 1e-6)
    chip.put(b"".join(struct.pack(">6h", *sample) for sample in SAMPLES) + b"\x00" * 5)
    chip.registers[0x72], chip.registers[0x73] = 0, 3 * 12 + 5  # the fourth sample is incomplete
    buffer = array("h", bytes(2 * 6 * 8))
    report("mpu samples", locked(source, buffer) == 3 and list(buffer)[:18] == [v for s in SAMPLES for v in s], buffer)
    chip.put(b"".join(struct.pack(">6h", *sample) for sample in SAMPLES))
    chip.registers[0x73] = 36
    small = memoryview(buffer)[:12]
    report("mpu no more than fits", locked(source, small) == 2 and chip.fifo_from == 24)
    chip.registers[0x3A] = 0x10
    del chip.written[:]
    report("mpu overflow", locked_after(source, buffer) == 0 and source.overruns == 85 and (0x6A, 0x04) in chip.written)
    chip.registers[0x75] = 0x12
    report("mpu other chip", refused(lambda: MPU6050(chip), OSError, "not a MPU-6050: its id is 0x12"))
    report("mpu range refused", refused(lambda: MPU6050(chip, g=5), ValueError, "g 2, 4, 8, 16"))


def locked_after(source, buffer):
    # An overflow may allocate here, as the simulated chip records what it writes.
    return source.read_into(buffer)


def check_lsm6ds3():
    chip = Chip(0x6A, 0x3E, {0x0F: 0x69})
    wanted = [1 / 4096] * 3 + [0.0010642251] * 3  # the scales of a base
    source = LSM6DS3(chip, 52, g=8, dps=2000, scales=wanted)
    written = dict(chip.written)
    report("lsm range", (written[0x10], written[0x11]) == (0x3C, 0x3C), chip.written)
    report("lsm fifo", written[0x08] == 0x09 and written[0x0A] == 0x1E and written[0x12] == 0x44)
    data = b""
    for sample in SAMPLES:
        data += struct.pack("<6h", *(sample[3:] + sample[:3]))  # rotation comes first
    chip.put(data)
    chip.registers[0x3A], chip.registers[0x3B] = 18, 0
    buffer = array("h", bytes(2 * 18))
    count = locked(source, buffer)
    gains = [0.000244 * 4096] * 3 + [0.07 / 57.29578 / 0.0010642251] * 3
    right = [max(-32768, min(32767, v * g)) for s in SAMPLES for v, g in zip(s, gains)]  # noqa: B905
    # a gain has 12 fractional bits: 4 counts of 32767
    near = all(abs(a - b) <= 0.51 + abs(b) / 8192 for a, b in zip(buffer, right))  # noqa: B905
    report("lsm samples in wanted units", count == 3 and near, (list(buffer), right))
    chip.registers[0x3B] = 0x40
    report("lsm overrun", source.read_into(buffer) == 0 and source.overruns == 682)
    report("lsm gain", refused(lambda: LSM6DS3(chip, scales=[1e-6] * 6), ValueError, "another range"))


def check_adc():
    source = ADC((3, 5), 100, room=4)
    timer = Timer.last
    buffer = array("h", bytes(2 * 2 * 4))
    report("adc nothing yet", locked(source, buffer) == 0)
    for i in range(6):
        Pins.value = 32768 + 10 * i
        micropython.heap_lock()
        timer.tick(timer)
        micropython.heap_unlock()
    report("adc overruns", source.overruns == 2 and timer.freq == 100)
    report("adc samples", locked(source, buffer) == 4 and list(buffer) == [3, 5, 13, 15, 23, 25, 33, 35], buffer)
    for _ in range(3):
        timer.tick(timer)
    report("adc goes round", locked(source, memoryview(buffer)[:4]) == 2 and locked(source, buffer) == 1)


def check_i2s():
    source = I2S(1, 2, 3, samples=8)
    microphone = Microphone.last
    report("i2s settings", microphone.settings["bits"] == 32 and microphone.settings["sck"] == 1)
    buffer = array("h", bytes(2 * 5))
    report("i2s waits for nothing", locked(source, buffer) == 0)
    heard = []
    for _ in range(4):
        microphone.fill()
        while True:
            count = locked(source, buffer)
            heard += list(buffer)[:count]
            if count < 5:
                break
    report("i2s samples", heard == list(range(32)) and source.overruns == 0, heard)
    source = I2S(1, 2, 3, samples=8, ibuf=64)  # 0.5 ms
    buffer = array("h", bytes(2 * 20))
    for _ in range(2):
        Microphone.last.fill()
        source.read_into(buffer)
        time.sleep_ms(20)
    report("i2s counts what it was too slow for", source.overruns >= 200, source.overruns)


def check_host():
    source = Host(50, 2, room=3)
    data = bytearray(struct.pack("<12h", *range(12)))
    buffer = array("h", bytes(2 * 2 * 4))
    micropython.heap_lock()
    took = source.put(data)
    micropython.heap_unlock()
    report("host room", took == 3 and source.overruns == 3)
    report("host samples", locked(source, memoryview(buffer)[:4]) == 2 and list(buffer)[:4] == [0, 1, 2, 3])
    report("host goes round", source.put(memoryview(data)[:8]) == 2 and locked(source, buffer) == 3)
    report("host in order", list(buffer)[:6] == [4, 5, 0, 1, 2, 3] and locked(source, buffer) == 0, buffer)


def check_channel():
    host = Host(50, 3, scales=(1, 2, 3))
    source = Channel(host, 1, batch=2)
    host.put(struct.pack("<15h", *range(15)))
    buffer = array("h", bytes(2 * 4))
    report("a channel", (source.rate, source.channels, source.scales) == (50, 1, [2]))
    report("its samples", locked(source, buffer) == 4 and list(buffer) == [1, 4, 7, 10], buffer)
    report("its last", locked(source, buffer) == 1 and buffer[0] == 13 and locked(source, buffer) == 0)
    report("no such channel", refused(lambda: Channel(host, 3), ValueError, "channel 3 of 3"))


def check_recordings():
    sound = struct.pack("<6h", 1, -1, 300, -300, 32767, -32768)
    chunks = b"LIST" + struct.pack("<I", 3) + b"odd\x00"
    chunks += b"fmt " + struct.pack("<IHHIIHH", 16, 1, 2, 8000, 32000, 4, 16)
    chunks += b"data" + struct.pack("<I", 12) + sound + b"LIST" + struct.pack("<I", 4) + b"more"
    with open("a.wav", "wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    source = Recording("a.wav")
    buffer = array("h", bytes(2 * 2 * 2))
    report("wav head", (source.rate, source.channels, source.ended) == (8000, 2, False))
    report("wav samples", locked(source, buffer) == 2 and list(buffer) == [1, -1, 300, -300], buffer)
    report("wav end", locked(source, buffer) == 1 and list(buffer)[:2] == [32767, -32768] and source.ended)
    report("wav nothing behind", locked(source, buffer) == 0)
    with open("b.csv", "w") as file:
        file.write("1,-2\n\n 3 ,4.0\n40000,-40000\n")
    source = Recording("b.csv", 50)
    big = array("h", bytes(2 * 2 * 8))
    report("csv samples", source.read_into(big) == 3 and list(big)[:6] == [1, -2, 3, 4, 32767, -32768] and source.ended)
    source = Recording("b.csv", 50, scales=[0.5, 2])
    report("csv of units", source.read_into(big) == 3 and list(big)[:4] == [2, -1, 6, 2], big)
    with open("c.raw", "wb") as file:
        file.write(sound[:10] + b"\x01")
    source = Recording("c.raw", 50, 2)
    report("raw whole samples", locked(source, big) == 2 and source.ended)
    report("raw says nothing", refused(lambda: Recording("c.raw"), ValueError, "give its rate and channels"))
    with open("d.wav", "wb") as file:
        file.write(b"RIFF\x04\x00\x00\x00WAVE")
    report("wav refused", refused(lambda: Recording("d.wav"), ValueError, "not a 16-bit PCM .wav"))
    with open("e.csv", "w") as file:
        file.write("1,2\n3\n")
    ragged = Recording("e.csv", 50)
    report("csv refused", refused(lambda: ragged.read_into(big), ValueError, "a line has 1 values"))


def main():
    check_mpu6050()
    check_lsm6ds3()
    check_adc()
    check_i2s()
    check_host()
    check_channel()
    check_recordings()
    print("SUITE", passed, failed)
