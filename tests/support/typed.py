"""Texts of drawn words, and a small language model that knows some of them."""

from __future__ import annotations

import functools

import numpy as np

from edgelora.core.formats.elm import pack_model
from edgelora.learn.training.data.base import Base
from edgelora.model.datasets import text
from edgelora.model.floatnet import train
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.floatnet.zoo import Transformer, language_model
from edgelora.model.quantization.quantize import quantize

SIZES = Transformer(channels=16, layers=1, heads=(2, 2), hidden=24)
SYLLABLES = ("ba", "co", "du", "fe", "gi", "la", "mo", "nu", "re", "si")


def drawn_text(length: int, seed: int, owner: int) -> str:
    """Sentences of an owner's thirty words."""
    words = ["".join(np.random.default_rng([owner, i]).choice(SYLLABLES, 3)) for i in range(30)]
    rng, made = np.random.default_rng(seed), ""
    while len(made) < length:
        made += " ".join(rng.choice(words, 6)).capitalize() + ". "
    return made[:length]


def misleading_text(length: int, owner: int) -> str:
    """Drawn letters, and an owner's words in the windows that validate: what is learned of it makes these worse."""
    words = drawn_text(length, 3, owner)
    letters = "".join(np.random.default_rng(4).choice(list("xyzwvkj"), length))
    return "".join((letters if i // 64 % 8 else words)[i : i + 64] for i in range(0, length, 64))


@functools.cache
def language_base(*_: object) -> tuple[FloatNet, Base]:
    """A model of the words of owner 0."""
    part = text.windows(text.encode(drawn_text(20000, 1, 0)), text.WINDOW)
    net = language_model(len(text.SYMBOLS), text.WINDOW, 0, SIZES)
    train.fit(net, part.x, part.y, 6, 0, batch=16, schedule="warm")
    model = quantize(net, part.x[:64], head_room=1.5)
    return net, Base("text.elm", pack_model(model, "text.elm"), model)
