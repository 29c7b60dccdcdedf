"""By default an encoder learns a new person in integers about as well as float LoRA does, on drawn tasks."""

import fresh
import numpy as np

from edgelora.core.formats.elm import pack_model
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.loop import train
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet import layers, lora, zoo
from edgelora.model.floatnet import train as float_train
from edgelora.model.quantization.quantize import quantize

CLASSES, CHANNELS, LENGTH = 6, 3, 32
SIZES = zoo.Transformer(16, 1, (2, 2), 32)
SEEDS = range(7000, 7004)
# By mode: float LoRA's best rate on other tasks, and how far behind it the mean of so few tasks may be.
RIVALS = {"frozen_a": (0.04, 0.02), "trainable_a": (0.028, 0.04)}


class Task:
    """Classes are sums of three waves a channel; a person mixes the channels and shifts them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        shape = CLASSES, CHANNELS, 3
        self.waves = self.rng.uniform(0.02, 0.25, shape), self.rng.normal(0, 0.8, shape), self.rng.uniform(0, 6, shape)

    def person(self, turn: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
        mix, _ = np.linalg.qr(np.eye(CHANNELS) + turn * self.rng.normal(0, 1, (CHANNELS, CHANNELS)))
        return mix * np.sign(np.diag(mix)), self.rng.normal(0, shift, CHANNELS)

    def samples(self, per_class: int, person: tuple[np.ndarray, np.ndarray]) -> Dataset:
        y = np.repeat(np.arange(CLASSES), per_class)
        frequency, size, phase = (wave[y][:, None] for wave in self.waves)
        t = np.arange(LENGTH)[None, :, None, None] + self.rng.uniform(0, 12, (len(y), 1, 1, 1))
        x = (size * np.sin(2 * np.pi * frequency * t + phase)).sum(-1) @ person[0] + person[1]
        return Dataset((x + self.rng.normal(0, 0.5, x.shape)).astype(np.float32)[:, None], y)


def accuracies(seed: int) -> dict[str, tuple[float, float, float]]:
    """Of the base, the device's default and float LoRA on samples that none of them saw, by mode."""
    task = Task(seed)
    people = [task.samples(20, task.person(0.15, 0.1)) for _ in range(6)]
    base = Dataset(np.concatenate([one.x for one in people]), np.concatenate([one.y for one in people]))
    owner = task.person(0.7, 0.4)
    own, unseen = task.samples(20, owner), task.samples(50, owner)
    net = zoo.encoder((1, LENGTH, CHANNELS), CLASSES, seed, sizes=SIZES)
    float_train.fit(net, base.x, base.y, 12, seed, batch=32, weight_decay=0.05, schedule="warm")
    model = quantize(net, base.x[:256])
    elm = pack_model(model)
    learned, judged = (Samples(model.input.quantize(part.x), part.y) for part in (own, unseen))
    found = {}
    for mode, (rate, _) in RIVALS.items():
        settings = Recipe(mode=mode, seed=seed).resolved(elm, len(learned.of_epoch))
        learner = TwinLearner(elm, settings.session)
        before = float(np.mean(learner.predict(judged.x) == judged.y))
        learner.begin(seed)
        train(learner, learned, settings)
        after = float(np.mean(learner.predict(judged.x) == judged.y))
        rival = lora.train_float_lora(
            net, own, unseen, epochs=settings.epochs, seed=seed, lr=rate, train_a=mode == "trainable_a"
        )
        adapted = lora.merged(net, rival.adapters, lora.ALPHA)
        found[mode] = before, after, layers.accuracy(adapted, unseen.x, unseen.y)
    return found


@fresh.slow
def test_by_default_an_encoder_is_not_far_behind_float_lora() -> None:
    runs = [accuracies(seed) for seed in SEEDS]
    for mode, (_, margin) in RIVALS.items():
        base, default, rival = np.mean([run[mode] for run in runs], axis=0)
        assert base < 0.8 and rival > base + 0.1
        assert default > rival - margin
