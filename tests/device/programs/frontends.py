# Front ends on a board: prints their outputs for files of samples, a line of hex each, and PASS or FAIL for wrong uses.

import binascii
from array import array

import micropython

from edgelora.frontend import Audio, Spectral


def features(name, front, path, channels=1):
    """Prints the outputs of each step that has any; steps must not allocate."""
    samples = array("h", [0] * (front.window * channels))
    out = array(front.typecode, [0] * front.size)
    with open(path, "rb") as file:
        while file.readinto(samples) == 2 * len(samples):
            micropython.heap_lock()
            try:
                done = front.step(samples, out)
            finally:
                micropython.heap_unlock()
            if done:
                print(name, binascii.hexlify(bytes(out)).decode())


def pipeline(path):
    """Prints what a base with a front end decides on samples.raw, from the recording to the logits."""
    from edgelora import Model
    from edgelora.pipeline import Pipeline
    from edgelora.sources import Recording

    model = Model(path, 0, "infer", 1)
    signal = model.signal
    front = Audio() if signal.front == "audio" else Spectral(signal.channels, 1)
    source = Recording("samples.raw", signal.rate, signal.channels)
    taken = Pipeline(model, source, front)
    while not taken.ended:
        micropython.heap_lock()
        try:
            whole = taken.step()
        finally:
            micropython.heap_unlock()
        if whole:
            print(taken.end, taken.seen, taken.clipped, binascii.hexlify(model.output).decode())


def refused(name, call, expected):
    try:
        call()
        told = "nothing"
    except (ValueError, TypeError) as e:
        told = str(e)
    print("PASS" if expected in told else "FAIL", name, told)


def misuse():
    sound, out, raw = Audio(), array("h", [0] * 40), bytearray(321)
    good = array("h", [0] * 160)
    sound.step(memoryview(raw)[:320], memoryview(bytearray(80)))  # bytes are accepted at an even address
    for name, samples, to in (
        ("odd", memoryview(raw)[1:], out),
        ("few samples", array("h", [0] * 159), out),
        ("few outputs", good, array("h", [0] * 39)),
        ("floats", array("f", [0] * 80), out),
        ("text", "a" * 320, out),
        ("unsigned", array("H", [0] * 160), out),
        ("bytes for words", good, bytearray(40)),
    ):
        refused(name, lambda samples=samples, to=to: sound.step(samples, to), "`window` int16 samples")
    refused("nothing", lambda: sound.step(None, out), "")
    for name, settings in (
        ("channel", (2, 2)),
        ("channels", (0,)),
        ("many", (17,)),
        ("frames", (1, 0, 12)),
        ("negative", (1, -1)),
    ):
        refused(name, lambda settings=settings: Spectral(*settings), "channels are 1 to 16")
    refused("firmware", lambda: Spectral(to="firmware"), "channels are 1 to 16")
    refused("word", lambda: Audio("loud"), 'None, "firmware" or a Model')
    for name, state in (("no state", bytearray(8)), ("not begun", bytearray(len(sound.state)))):
        sound.state = state
        refused(name, lambda: sound.step(good, out), "front end was not begun")


def main(model=None):
    features("audio", Audio(), "samples.raw")
    features("firmware", Audio("firmware"), "samples.raw")
    features("spectral", Spectral(), "samples.raw")
    features("channel", Spectral(2, 1, 16), "samples.raw", 2)
    if model:
        import edgelora

        model = edgelora.Model(model, ranks=0, mode="infer")
        features("model", Audio(model), "samples.raw")
        features("shaken", Spectral(to=model), "samples.raw")
    misuse()
    print("END")
