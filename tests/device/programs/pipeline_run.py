# Runs a pipeline over a recording and prints its decisions, a JSON object per line.

import json

import micropython

import edgelora
from edgelora.pipeline import Pipeline
from edgelora.sources import Recording


class Differences:
    """A front end for the test: sums over 4 samples of 2 channels, without output in its first step."""

    window, hop, size = 4, 2, 3

    def reset(self):
        self.steps = 0

    def step(self, samples, out):
        self.steps += 1
        for i in range(3):
            out[i] = samples[2 * i] + samples[2 * i + 1] - samples[2 * i + 2]
        return self.steps > 1


def tell(pipeline):
    told = [pipeline.end, pipeline.seen, pipeline.label, pipeline.clipped]
    print(json.dumps(told + [[v - 256 if v > 127 else v for v in pipeline.model.output]]))


def source_of(case):
    signal = edgelora.Model(case["base"], 0, "infer", 1).signal
    return Recording(case["recording"], signal.rate, signal.channels, signal.scales if case["scaled"] else None)


def make(case):
    model = edgelora.Model(case["base"], case["rank"], case["mode"], 2, 3)
    front = Differences() if case["front"] else None
    return Pipeline(model, source_of(case), front, vote=tuple(case["vote"]), chunk=case["chunk"])


def main(path):
    with open(path) as file:
        case = json.load(file)
    pipeline = make(case)
    model = pipeline.model
    if case["mode"] != "infer":
        return learn(pipeline, case)
    if case["asyncio"]:
        return in_turns(pipeline)
    step, most = pipeline.step, 0
    model.probabilities()
    while not pipeline.ended:
        micropython.heap_lock()
        try:
            before = pipeline.samples
            new = step()
            most = max(most, pipeline.samples - before)
            if new:
                model.probabilities()
        finally:
            micropython.heap_unlock()
        if new:
            tell(pipeline)
    print(json.dumps([most, pipeline.windows, pipeline.overruns]))


def learn(pipeline, case):
    pipeline.model.begin(5)
    pipeline.model.learning_rate = 9000
    losses = []
    while not pipeline.ended:
        pipeline.teach = case["labels"][pipeline.windows % len(case["labels"])]
        micropython.heap_lock()
        new = pipeline.step()
        micropython.heap_unlock()
        if new:
            losses.append(pipeline.loss)
    print(json.dumps([losses, edgelora.hex_id(pipeline.model.save())]))


def in_turns(pipeline):
    import asyncio

    async def beat(beats):
        while True:
            beats[0] += 1
            await asyncio.sleep_ms(0)

    async def watch():
        beats = [0]
        other = asyncio.create_task(beat(beats))
        async for now in pipeline:
            tell(now)
        other.cancel()
        print(json.dumps([beats[0] > pipeline.windows]))

    asyncio.run(watch())
