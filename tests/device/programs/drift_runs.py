"""Looks for drift in windows, with a reset, on MicroPython. Needs base.elm and windows.eld."""

import binascii
import json

import edgelora
from edgelora.drift import Drift
from edgelora.training import SampleFile


def main(count, windows, reset):
    """Prints which windows are alarms, and the bytes kept at the end."""
    model = edgelora.Model("base.elm", mode="infer")
    file, window = SampleFile("windows.eld"), bytearray(model.sample_size)
    drift, alarms = Drift(model, None, count, windows), []
    for i in range(file.count):
        file.read(i, window)
        if drift.add(window):
            alarms.append(i)
        if i == reset:
            drift = Drift(model, drift.kept)
    print(json.dumps([alarms, binascii.hexlify(drift.kept).decode()]))
