"""Learns gestures from a motion sensor and buttons: edgelora push examples/gestures/main.py

A press of a gesture's button takes the two seconds before it as one of that gesture; a press of a
second takes the last one back. The last button learns them all. What was recorded and learned is
in flash, and goes on after a reset.
"""

import time

from machine import I2C, Pin

import edgelora
from edgelora.recorder import Recorder
from edgelora.sources import MPU6050
from edgelora.store import Store, default_place
from edgelora.training import Run, SampleFile, begun, split, unfinished

NAMES = ("circle", "wave", "shake", "knock")  # as many as the base has classes, at most
PINS = (10, 11, 12, 13)  # their buttons, each between its pin and ground
LEARN = 14
EPOCHS = 16  # of 24 samples: some 40 updates
FILE, ADAPTER = "/gestures.eld", "gestures"


def button(pin):
    return Pin(pin, Pin.IN, Pin.PULL_UP)


def learn():
    """One bounded step after another; a reset in between costs the last few updates at most."""
    learned, held = split(samples, begun(store, ADAPTER))
    if held is None:
        return print("record some more: 8 of each gesture")
    run = Run(model, learned, store, ADAPTER, EPOCHS, held=held)
    while not run.done:
        run.step()
    print("learned:", run.best[0], "of", held.count, "right, before", run.before[0])
    if run.better:
        store.activate(ADAPTER)


model = edgelora.Model("/rom/har.elm")
signal = model.signal
store = Store(default_place())
store.open(model)
store.start()  # what was learned before a reset
try:
    samples = SampleFile(FILE, append=True)
except OSError:
    samples = SampleFile.create(FILE, model)
if unfinished(store, ADAPTER):
    learn()
i2c = I2C(0, sda=Pin(4), scl=Pin(5), freq=400_000)
sensor = MPU6050(i2c, rate=signal.rate, scales=signal.scales)
recorder = Recorder(model, sensor, samples, [(button(pin), i) for i, pin in enumerate(PINS)])
learning = button(LEARN)
looked = 0
print("ready")
while True:
    if recorder.step():
        counted = zip(NAMES, recorder.counts)  # noqa: B905
        print("recorded:", ", ".join(f"{name} {count}" for name, count in counted))
    if learning.value() == 0:
        learn()
        recorder.reset()
    if store.in_use and recorder.ready and recorder.windows - looked >= 8:  # each second
        looked = recorder.windows
        print(NAMES[model.infer(recorder.x)])
    time.sleep_ms(20)
