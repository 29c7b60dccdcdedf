"""Drawn tasks for encoders by PyTorch: the device's default, a rate of 2000, and float LoRA; a JSON row a task.

python -m benchmarks.encoder_rates FIRST LAST STEP. Seeds from 8000 pair new people with post-norm blocks, all else with
pre-norm ones; seeds from 9000 pair them the other way round, with 3, 10 or 30 samples a class.
"""

import json
import sys
from dataclasses import replace

import numpy as np
import torch
from torch import nn

import edgelora
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.host_run import as_board
from edgelora.learn.training.twin.loop import train
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.model.datasets.dataset import Dataset, channels_last
from edgelora.model.floatnet import attention, deterministic_math, functions, layers
from edgelora.model.floatnet.lora import ALPHA, merged, train_float_lora
from edgelora.model.importers.torch import float_net

RATE = 2000
PEOPLE = 6
FLOAT_RATES = {False: {"frozen_a": 0.02, "trainable_a": 0.008}, True: {"frozen_a": 0.04, "trainable_a": 0.028}}  # pre


def in_native_floats() -> None:
    """Float LoRA by NumPy's own products: faster than the package's, which are the same on all machines."""
    deterministic_math.product = attention.product = lambda a, b: a @ b
    deterministic_math.exp = np.exp
    deterministic_math.logistic = functions.logistic = lambda x: 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    layers._BACKWARD["gather"] = _gather_back
    layers._BACKWARD["reshape"] = lambda layer, inputs, d, _: ([d.reshape(inputs[0].shape)], None)


def _gather_back(layer, inputs, d_out, _):
    rows, columns, channels = (np.array(list(places)) for places in layer.places)
    d = np.zeros_like(inputs[0])
    part = np.transpose(d_out, (0, *(1 + int(i) for i in np.argsort(layer.order))))
    np.add.at(d, (slice(None), rows[:, None, None], columns[None, :, None], channels[None, None, :]), part)
    return [d], None


def settings(seed: int) -> dict:
    """Of a task, its base and its samples."""
    crossed = seed >= 9000
    rng = np.random.default_rng([5, seed])
    length = int(rng.choice([24, 32]))
    rng.choice([1, 4])
    drawn = {
        "channels": int(rng.choice([3, 4, 6])),
        "width": int(rng.choice([16, 24, 32])),
        "heads": int(rng.choice([2, 4])),
        "activation": str(rng.choice(["relu", "gelu"])),
        "family": str(rng.choice(["sines", "walks"])),
    }
    rng.choice([4, 5, 6])
    drawn["noise"] = float(rng.choice([0.5, 0.7, 1.0])) * (2.5 if drawn["family"] == "walks" else 1)
    rng.choice([5, 10, 20])
    drawn["dropout"], drawn["rate"] = float(rng.choice([0, 0.1])), float(rng.choice([1e-3, 3e-3]))
    drawn |= {"seed": seed, "length": length, "patch": int(np.random.default_rng(seed).choice([1, 2]))}
    drawn["kind"] = ["person", "person", "classes", "speed"][seed % 4]
    drawn["pre_norm"] = (seed // 2 % 2 == 1) != crossed
    if crossed:
        more = {"blocks": [1, 2, 4][seed // 4 % 3], "per_class": _choice(1, seed, [3, 10, 30])}
        return drawn | more | {"classes": _choice(2, seed, [3, 6, 10])}
    return drawn | {"blocks": [1, 2][seed // 4 % 2], "per_class": [5, 10, 20][seed // 8 % 3], "classes": 4 + seed % 3}


def _choice(salt: int, seed: int, of: list[int]) -> int:
    return int(np.random.default_rng([salt, seed]).choice(of))


class Task:
    """Classes are sums of sines or random walks; a person mixes and shifts the channels."""

    def __init__(self, drawn: dict) -> None:
        self.rng, self.drawn = np.random.default_rng([77, drawn["seed"]]), drawn
        self.kinds = self._kinds()

    def parts(self) -> tuple:
        """(x, y) of the base, of the person to learn, and of that person's test samples."""
        base = []
        for _ in range(PEOPLE):
            y = self.rng.integers(0, self.drawn["classes"], 160)
            base.append((y, self._person(0.15, 0.1), float(np.exp(self.rng.normal(0, 0.05)))))
            base[-1] = self._windows(self.kinds, *base[-1]), y
        owner, kinds, speed = self._person(0.15, 0.1), self.kinds, 1.0
        if self.drawn["kind"] == "person":
            owner = self._person(0.7, 0.4)
        elif self.drawn["kind"] == "classes":
            kinds = self._kinds()
            owner = self._mixed(0.3), owner[1]
        else:
            owner, speed = (self._mixed(0.3) * 1.3, owner[1]), 1.35
        labels = [np.repeat(np.arange(self.drawn["classes"]), n) for n in (self.drawn["per_class"], 60)]
        own, test = ((self._windows(kinds, y, owner, speed), y) for y in labels)
        return tuple(np.concatenate(part) for part in zip(*base, strict=True)), own, test

    def _kinds(self) -> list:
        classes, length, channels = (self.drawn[name] for name in ("classes", "length", "channels"))
        if self.drawn["family"] == "sines":
            shape = classes, channels, 3
            frequency, size = self.rng.uniform(0.03, 0.3, shape), self.rng.normal(0, 1, shape) / np.sqrt(1.5)
            return [frequency, size, self.rng.uniform(0, 2 * np.pi, shape)]
        walks = np.cumsum(self.rng.normal(0, 1, (classes, 2 * length, channels)), 1)
        walks -= walks.mean(1, keepdims=True)
        return [walks / walks.std((1, 2), keepdims=True)]

    def _mixed(self, amount: float):
        channels = self.drawn["channels"]
        q, r = np.linalg.qr(np.eye(channels) + amount * self.rng.normal(0, 1, (channels, channels)))
        return q * np.sign(np.diag(r))

    def _person(self, turn: float, shift: float) -> tuple:
        return self._mixed(turn), self.rng.normal(0, shift, self.drawn["channels"])

    def _windows(self, kinds, y, person, speed):
        rng, length, count = self.rng, self.drawn["length"], len(y)
        if self.drawn["family"] == "sines":
            frequency, size, phase = (kind[y][:, None] for kind in kinds)
            times = np.arange(length)[None, :, None, None]
            pace = speed * np.exp(rng.normal(0, 0.08, (count, 1, 1, 1)))
            angle = 2 * np.pi * frequency * (times * pace + rng.uniform(0, 12, (count, 1, 1, 1))) + phase
            clean = (np.sin(angle) * size * np.exp(rng.normal(0, 0.25, (count, 1, len(person[1]), 3)))).sum(-1)
        else:
            at = np.arange(length)[None] * speed * np.exp(rng.normal(0, 0.06, (count, 1)))
            at = np.clip(at + rng.uniform(0, 4, (count, 1)), 0, 2 * length - 1).astype(int)
            clean = kinds[0][y][np.arange(count)[:, None], at] * np.exp(rng.normal(0, 0.2, (count, 1, 1)))
        noise = rng.normal(0, self.drawn["noise"], clean.shape)
        return (clean @ person[0] + person[1] + noise).astype(np.float32)


class Encoder(nn.Module):
    """Tokens of `patch` samples, learned positions, PyTorch's encoder, the mean over tokens."""

    def __init__(self, drawn: dict) -> None:
        super().__init__()
        width, patch = drawn["width"], drawn["patch"]
        self.embed = nn.Linear(drawn["channels"] * patch, width)
        self.places = nn.Parameter(0.02 * torch.randn(1, drawn["length"] // patch, width))
        block = nn.TransformerEncoderLayer(
            width,
            drawn["heads"],
            2 * width,
            dropout=drawn["dropout"],
            activation=drawn["activation"],
            batch_first=True,
            norm_first=drawn["pre_norm"],
        )
        self.blocks = nn.TransformerEncoder(block, drawn["blocks"], enable_nested_tensor=False)
        self.last = nn.Linear(width, drawn["classes"])

    def forward(self, x):
        return self.last(self.blocks(self.embed(x) + self.places).mean(1))


def pretrain(net: nn.Module, x, y, drawn: dict, epochs: int = 20) -> None:
    generator = torch.Generator().manual_seed(drawn["seed"])
    optimizer = torch.optim.AdamW(net.parameters(), drawn["rate"], weight_decay=0.01)
    inputs, labels, step = torch.tensor(x), torch.tensor(y), 0
    net.train()
    for _ in range(epochs):
        for picked in torch.randperm(len(inputs), generator=generator).split(64):
            for group in optimizer.param_groups:
                group["lr"] = drawn["rate"] * min(1, (step + 1) / 30) * (1 - step / (epochs * 15))
            step += 1
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[picked]), labels[picked]).backward()
            optimizer.step()
    net.eval()


def run(seed: int) -> dict:
    """Accuracies on the test samples: run: trained on all samples; command: what `personalize` puts to use."""
    drawn = settings(seed)
    torch.manual_seed(seed)
    base, own, test = Task(drawn).parts()
    tokens = drawn["length"] // drawn["patch"]
    base, own, test = ((x.reshape(len(x), tokens, -1), y) for x, y in (base, own, test))
    net = Encoder(drawn)
    pretrain(net, *base, drawn)
    model = edgelora.from_torch(net, base[0][:200])
    floats, _ = float_net(net, base[0][:64])
    exact = [
        replace(layer, function=functions.GELU) if layer.kind == "lookup" and "gelu" in (layer.name or "") else layer
        for layer in floats.layers
    ]
    floats = replace(floats, layers=exact)
    learned, judged = (Samples(model.model.input.quantize(channels_last(x)), y) for x, y in (own, test))
    row = dict(drawn)
    for mode, rate in FLOAT_RATES[drawn["pre_norm"]].items():
        for name, recipe in (
            ("default", Recipe(mode=mode, seed=seed)),
            (str(RATE), Recipe(mode=mode, seed=seed, learning_rate=RATE)),
        ):
            plan = recipe.resolved(model.elm, len(learned.of_epoch))
            learner = TwinLearner(model.elm, plan.session)
            learner.begin(seed)
            train(learner, learned, plan)
            row[f"{mode} {name} run"] = float(np.mean(learner.predict(judged.x) == judged.y))
            learner.use(as_board(model.elm, learned, recipe).adapter)
            row[f"{mode} {name} command"] = float(np.mean(learner.predict(judged.x) == judged.y))
        mine, unseen = Dataset(channels_last(own[0]), own[1]), Dataset(channels_last(test[0]), test[1])
        rival = train_float_lora(
            floats,
            mine,
            Dataset(unseen.x[:1], unseen.y[:1]),
            epochs=plan.epochs,
            seed=seed,
            lr=rate,
            train_a=mode == "trainable_a",
        )
        row[f"{mode} float"] = layers.accuracy(merged(floats, rival.adapters, ALPHA), unseen.x, unseen.y)
    return row


if __name__ == "__main__":
    torch.set_num_threads(1)
    in_native_floats()
    for number in range(*map(int, sys.argv[1:])):
        print(json.dumps(run(number), default=float), flush=True)
