"""Trains, infers and saves until Ctrl-C has come this many times, and prints what was learned. Needs base.elm."""

import sys

import edgelora

RATE = 20000


def work(model, x):
    # The interrupt is raised after the interrupted call returns, so the counts include its result.
    while True:
        done = model.counts()[1]
        model.train(x[done % 4], done % 2, RATE)
        model.infer(x[done % 4])
        model.save(None, False)


def work_without_heap(model, x):
    # For MicroPython builds that interrupt C code anywhere: after that, functions that allocate may fail.
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
