"""An MPU-6050 on I2C: six axes, 50 times a second, in the units of the demo's network.

Copy it to the board: mpremote cp examples/gestures/motion.py :
"""

import struct
import time

from machine import I2C, Pin

_ADDRESS = 0x68
_WAKE, _GYROSCOPE_RANGE, _ACCELEROMETER_RANGE, _VALUES = 0x6B, 0x1B, 0x1C, 0x3B
_PERIOD_US = 20_000
_PER_G = 8192  # counts: the range is 4 g to either side
_PER_4_RAD_S = 7517  # counts: the range is 1000 degrees a second to either side


class Motion:
    def __init__(self):
        self._i2c = I2C(0, sda=Pin(4), scl=Pin(5), freq=400_000)
        self._i2c.writeto_mem(_ADDRESS, _WAKE, b"\x00")
        self._i2c.writeto_mem(_ADDRESS, _GYROSCOPE_RANGE, b"\x10")
        self._i2c.writeto_mem(_ADDRESS, _ACCELEROMETER_RANGE, b"\x08")
        self._due = time.ticks_us()

    def next(self):
        """The next 50th of a second: three accelerations in g, three rotations in 4 rad/s."""
        wait = time.ticks_diff(self._due, time.ticks_us())
        if wait > 0:
            time.sleep_us(wait)
        self._due = time.ticks_add(self._due, _PERIOD_US)
        # Seven values, the fourth of which is a temperature.
        counts = struct.unpack(">7h", self._i2c.readfrom_mem(_ADDRESS, _VALUES, 14))
        return [c / _PER_G for c in counts[:3]] + [c / _PER_4_RAD_S for c in counts[4:]]
