"""Learns gestures from a motion sensor and buttons: edgelora push examples/gestures/main.py

A short press of a gesture's button records the two seconds before it as that gesture; a press of
one second deletes the last recording. The last button learns the first three gestures. The fourth
needs no training: after four presses, and again after every four more, it is added as a class that
the base does not have. Recordings and results are kept in flash; learning continues after a reset.
"""

import time
from array import array

from machine import I2C, Pin

import edgelora
from edgelora.recorder import Recorder
from edgelora.sources import MPU6050
from edgelora.store import Store, default_place
from edgelora.training import Part, Run, SampleFile, begun, split, unfinished

LEARNED = ("circle", "wave", "shake")  # replace classes of the base
ADDED = "knock"  # comes after all classes of the base
PINS = (10, 11, 12, 13)  # the gestures' buttons, each between its pin and ground
LEARN = 14
EPOCHS = 8  # with 24 samples, 18 of them for training: 18 updates
FILE = "/gestures.eld"
LAYERS, ADAPTER = "learned", "gestures"  # adapters: as learned, and with the added gesture


def button(pin):
    return Pin(pin, Pin.IN, Pin.PULL_UP)


def windows(number):
    """Yields a gesture's samples, one after the other in the same buffer."""
    for i in range(samples.count):
        if samples.read(i, window) == number:
            yield window


def use():
    """Uses the adapter learned last, with the added gesture if there is one."""
    name = ADAPTER if store.find(ADAPTER) else LAYERS
    model.use(model.adapter(store.read(name)) if store.find(name) else None)


def learn():
    """Learns in short steps; a reset in between loses the last few updates at most."""
    numbers = [i for i in range(samples.count) if samples.read(i, window) < len(LEARNED)]
    learned, held = split(Part(samples, array("H", numbers)), begun(store, LAYERS)) if numbers else (None, None)
    if held is None:
        return print("record some more: 8 of each gesture")
    run = Run(model, learned, store, LAYERS, EPOCHS, held=held)
    while not run.done:
        run.step()
    if store.find(ADAPTER):
        store.remove(ADAPTER)  # its rows are for the previous layers
    use()
    print("learned:", run.best[0], "of", held.count, "right, before", run.before[0])


def add():
    """Adds a row for the added gesture, and recomputes those of the others."""
    if recorder.counts[len(LEARNED)] < 4:
        return
    for i in range(len(LEARNED)):
        if recorder.counts[i]:
            model.add_class(i, windows(i))
    adapter = model.add_class(ADDED, windows(len(LEARNED)))
    store.put(ADAPTER, adapter.buffer)
    print("added:", ADDED)


model = edgelora.Model("/rom/har.elm")
signal = model.signal
window = bytearray(model.sample_size)
recorder = None
store = Store(default_place())
store.open(model)
use()
try:
    samples = SampleFile(FILE, append=True)
except OSError as error:
    if error.errno != 2:  # the file exists, but can't be read
        raise
    samples = SampleFile.create(FILE, model)
if unfinished(store, LAYERS):
    learn()
i2c = I2C(0, sda=Pin(4), scl=Pin(5), freq=400_000)
sensor = MPU6050(i2c, rate=signal.rate, scales=signal.scales)
recorder = Recorder(model, sensor, samples, [(button(pin), i) for i, pin in enumerate(PINS)])
learning = button(LEARN)
looked = 0
if not store.find(ADAPTER):
    add()
print("ready")
while True:
    if recorder.step():
        counted = zip(LEARNED + (ADDED,), recorder.counts)  # noqa: B905
        print("recorded:", ", ".join(f"{name} {count}" for name, count in counted))
        if recorder.taken == len(LEARNED) and recorder.counts[recorder.taken] % 4 == 0:
            add()
    if learning.value() == 0:
        learn()
        add()
        recorder.reset()
    if model.used and recorder.ready and recorder.windows - looked >= 8:  # once a second
        looked = recorder.windows
        seen = model.infer(recorder.x)
        print(LEARNED[seen] if seen < len(LEARNED) else model.labels[seen])
    time.sleep_ms(20)
