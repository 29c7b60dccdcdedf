"""Replaces `edgelora` in tests of the link: training is a running sum that depends on the samples' order and number."""

import time

__version__ = "0"
SLOW = 9  # the label of a sample that takes half a second


class Model:
    def __init__(self, model, ranks=4, mode="frozen_a", micro_batch=8, momentum=0, frames=1, labels=3):
        open(model, "rb").close()
        self.base_id = b"12345678"
        self.labels = [f"label {i}" for i in range(labels)]
        self.arena = bytearray(100)
        self.ranks = bytes([ranks]) if isinstance(ranks, int) else ranks
        self.mode = mode
        self.input_size = self.sample_size = 16
        self.output_size = 3
        self.target_size = self.feature_size = 0
        self.output = memoryview(bytearray(3))
        self.sum = 0

    def infer_sample(self, x):
        self.output[0] = x[0]
        return x[0] % 3

    def begin(self, seed=0):
        self.sum = seed

    def load(self, adapter):
        with open(adapter) as file:
            self.sum = int(file.read())

    def train(self, x, label, learning_rate):
        if label == SLOW:
            time.sleep_ms(500)
        for i in range(16):
            self.sum = (self.sum * 31 + x[i] + label + learning_rate) & 0xFFFFFF
        return self.sum

    def flush(self, learning_rate):
        self.sum += 1

    def save(self, path=None, state=False):
        with open(path, "w") as file:
            file.write(str(self.sum))

    def adapter(self, source):
        open(source).close()
        return source

    def use(self, adapter):
        pass
