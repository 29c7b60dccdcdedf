"""Two threads on one session. Needs base.elm and its ranks; prints whether the results equal those of one alone."""

import _thread
import sys
import time

import edgelora

RATE, SAMPLES = 20000, 60


def patiently(call, *args):
    """Repeats the call until the session is free: its result, and how often the session was busy."""
    refused = 0
    while True:
        try:
            return call(*args), refused
        except ValueError as error:
            if "another core" not in str(error):
                raise
            refused += 1


def train(model, samples):
    met = patiently(model.begin, 1)[1]
    losses = []
    for i in range(SAMPLES):
        loss, refused = patiently(model.train, samples[i % len(samples)], i % 2, RATE)
        losses.append(loss)
        met += refused
    return losses, bytes(patiently(model.save, None, True)[0]), met


def main(ranks):
    model = edgelora.Model("base.elm", bytes(ranks), "frozen_a", 2)
    samples = [bytes((i * 37 + k) & 255 for i in range(model.sample_size)) for k in range(4)]
    alone = train(model, samples)
    ended, other = [], []

    def infer():
        while not ended:
            try:
                model.infer(samples[0])
            except ValueError as error:
                other.append(str(error))
        ended.append(True)

    _thread.start_new_thread(infer, ())
    met, equal = 0, True
    for _ in range(200):
        if met or other:
            break
        *found, refused = train(model, samples)
        met += refused
        equal = equal and tuple(found) == alone[:2]
    ended.append(True)
    while len(ended) < 2:
        time.sleep_ms(1)
    equal = equal and bool(met or other)
    print("EQUAL" if equal and all("another core" in text for text in other) else "DIFFERENT")


if __name__ == "__main__":
    main(*sys.argv[1:])
