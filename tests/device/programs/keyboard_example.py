"""Runs examples/keyboard/main.py with simulated keys, clock and USB device. Needs main.py, and keys: what is typed."""

import json
import sys
import time as real

with open("keys") as file:
    KEYS = file.read()
told, now, held = [], 0, []


class Pin:
    OUT, IN, PULL_UP = 0, 1, 2
    low = None

    def __init__(self, number, mode, pull=None, value=None):
        self.number, self.mode = number, mode

    def value(self, level=None):
        if level is None:
            return int((Pin.low, self.number) not in held)
        Pin.low = None if level else self.number


class Timer:
    PERIODIC = 1

    def __init__(self, period, mode, callback, hard):
        Clock.scan = callback


class Usb:
    BUILTIN_DEFAULT = type("Own", (), {"itf_max": 2, "ep_max": 3, "desc_cfg": bytes(9), "desc_dev": bytes(18)})
    busy = False

    def active(self, on):
        pass

    def config(self, *given):
        pass

    def submit_xfer(self, endpoint, report):
        Usb.busy = not Usb.busy  # the first report is still under way
        if not Usb.busy:
            told.append([report[0], report[2]])
        return not Usb.busy


class Clock:
    scan = None
    ticks_ms = staticmethod(lambda: now)
    ticks_us = real.ticks_us
    ticks_add = staticmethod(lambda a, b: a + b)
    ticks_diff = staticmethod(lambda a, b: a - b)

    @staticmethod
    def sleep_ms(ms):
        """Each key is down for 20 ms, and up for 20 ms; all keys are followed by some silence."""
        global now
        now += ms
        if now % 10:
            return
        at = now // 40
        if at >= len(KEYS) + 400:
            print(json.dumps([told, scope["words"].learned]))
            sys.exit()
        held.clear()
        if at < len(KEYS) and now % 40 < 20:
            i = "".join(scope["KEYS"]).index(KEYS[at])
            held.append((scope["ROWS"][i // 6].number, scope["COLUMNS"][i % 6].number))
        Clock.scan(None)


machine = type("machine", (), {"Pin": Pin, "Timer": Timer, "USBDevice": Usb, "I2C": None})
sys.modules["machine"], sys.modules["time"] = machine, Clock
scope = {"__name__": "__main__"}
with open("main.py") as file:
    exec(file.read(), scope)
