"""Trains, infers and saves until Ctrl-C came so many times, and tells what was learned. Here is base.elm."""

import sys

import edgelora

RATE = 20000


def work(model, x):
    # An interrupted call is over before the interrupt is heard of: the counts tell what was learned.
    while True:
        done = model.counts()[1]
        model.train(x[done % 4], done % 2, RATE)
        model.infer(x[done % 4])
        model.save(None, False)


def work_without_heap(model, x):
    # For MicroPython that interrupts its own C code anywhere, too: what takes from the heap may be broken then.
    while True:
        model.train(x[0], 0, RATE)
        model.infer(x[0])


def main(ranks, times, heap=True):
    model = edgelora.Model("base.elm", bytes(ranks), "trainable_a", 2)
    x = [bytes((i * 37 + k) & 255 for i in range(model.sample_size)) for k in range(4)]
    model.begin(1)
    for _ in range(times):
        try:
            print("READY")
            (work if heap else work_without_heap)(model, x)
        except KeyboardInterrupt:
            continue
    print(model.counts()[1], edgelora.hex_id(model.save(None, False)))


if __name__ == "__main__":
    main(*sys.argv[1:])
