"""Learns gestures from a motion sensor and buttons: edgelora push examples/gestures/main.py

A press of a gesture's button takes the two seconds before it as one of that gesture; a press of a
second takes the last one back. The last button learns the first three. The fourth takes no
learning: after four presses, and after every four more, it is a class that the base does not have.
What was recorded and learned is in flash, and goes on after a reset.
"""

import time
from array import array

from machine import I2C, Pin

import edgelora
from edgelora.recorder import Recorder
from edgelora.sources import MPU6050
from edgelora.store import Store, default_place
from edgelora.training import Part, Run, SampleFile, begun, split, unfinished

LEARNED = ("circle", "wave", "shake")  # in place of classes of the base
ADDED = "knock"  # behind all of the base's classes
PINS = (10, 11, 12, 13)  # their buttons, each between its pin and ground
LEARN = 14
EPOCHS = 8  # of 24 samples, of which 18 are learned: 18 updates
FILE = "/gestures.eld"
LAYERS, ADAPTER = "learned", "gestures"  # what learning makes; the same with the added gesture


def button(pin):
    return Pin(pin, Pin.IN, Pin.PULL_UP)


def windows(number):
    """A gesture's samples, one after the other in the same buffer."""
    for i in range(samples.count):
        if samples.read(i, window) == number:
            yield window


def use():
    """What was learned last infers, with the added gesture if it has that."""
    name = ADAPTER if store.find(ADAPTER) else LAYERS
    model.use(model.adapter(store.read(name)) if store.find(name) else None)


def learn():
    """One bounded step after another; a reset in between costs the last few updates at most."""
    numbers = [i for i in range(samples.count) if samples.read(i, window) < len(LEARNED)]
    learned, held = split(Part(samples, array("H", numbers)), begun(store, LAYERS)) if numbers else (None, None)
    if held is None:
        return print("record some more: 8 of each gesture")
    run = Run(model, learned, store, LAYERS, EPOCHS, held=held)
    while not run.done:
        run.step()
    if store.find(ADAPTER):
        store.remove(ADAPTER)  # its rows were made of other layers
    use()
    print("learned:", run.best[0], "of", held.count, "right, before", run.before[0])


def add():
    """A row for the added gesture, and for each of the others: what they look like to the layers in use."""
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
    if error.errno != 2:  # there is a file, which can't be read
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
    if model.used and recorder.ready and recorder.windows - looked >= 8:  # each second
        looked = recorder.windows
        seen = model.infer(recorder.x)
        print(LEARNED[seen] if seen < len(LEARNED) else model.labels[seen])
    time.sleep_ms(20)
