"""What a gallery's networks have in common: how they are written and listed, and inputs for them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Build = Callable[..., Any]
PADDINGS = {"same", "valid", "causal"}


@dataclass(frozen=True)
class Network:
    """One network as people write it.

    framework: keras or torch. family: what it is an example of. shape: of one input, as the framework has it. data:
    what inputs are like, a key of `INPUTS`.
    """

    name: str
    framework: str
    family: str
    shape: tuple[int, ...]
    data: str
    build: Build


class Listed:
    """The networks of one framework, in the order in which they are written."""

    def __init__(self, framework: str) -> None:
        self.framework = framework
        self.networks: list[Network] = []

    def __call__(self, head: str, build: Build) -> None:
        """Lists a function that takes the shape of an input and returns a network.

        head: "name family shape data", as in "iris classifier 4 raw", "lenet5 image 28x28x1 image".
        """
        name, family, shape, data = head.split()
        sides = tuple(map(int, shape.split("x")))
        self.networks.append(Network(f"{self.framework}-{name}", self.framework, family, sides, data, build))


def chains(text: str) -> Iterator[tuple[str, str]]:
    """Heads of networks, and the layers of each: "head: layer, layer". A line that begins with blanks continues one."""
    for entry in re.split(r"\n(?!\s)", text.strip()):
        head, _, layers = entry.partition(":")
        yield head, layers


def layers(text: str, kinds: Callable[[str], Build]) -> list[Any]:
    """Layers from "Conv2D 32 3 strides=2 same relu, Flatten": numbers, options, a padding's or activation's name.

    kinds: a layer's constructor, by its name.
    """
    made = []
    for kind, *words in map(str.split, re.split(r",\s", text)):
        plain: list[Any] = []
        named: dict[str, Any] = {}
        for word in words:
            key, _, value = word.rpartition("=")
            parsed = _parsed(value)
            if not key and not isinstance(parsed, str):
                plain.append(parsed)
            else:
                named[key or ("padding" if value in PADDINGS else "activation")] = parsed
        made.append(kinds(kind)(*plain, **named))
    return made


def _parsed(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except ValueError:
        return word


def _signal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """Slow waves and noise, each channel by itself, about standardized."""
    noise = rng.normal(0, 1, shape)
    if len(shape) < 3:
        return noise
    time = np.arange(shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))
    pitch = rng.uniform(0.05, 0.6, (shape[0], 1, *shape[2:]))
    phase = rng.uniform(0, 2 * np.pi, (shape[0], 1, *shape[2:]))
    return np.sin(pitch * time + phase) + 0.4 * noise


def _image(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """Soft patches of light, 0 to 1."""
    rough = rng.uniform(0, 1, shape)
    for axis in range(1, len(shape)):
        if shape[axis] > 4:
            rough = (rough + np.roll(rough, 1, axis) + np.roll(rough, 2, axis)) / 3
    low, high = rough.min(), rough.max()
    return (rough - low) / (high - low)


INPUTS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]] = {
    "signal": _signal,
    "image": _image,  # 0 to 1
    "pixels": lambda rng, shape: np.floor(255 * _image(rng, shape)),  # 0 to 255, as networks with a Rescaling take them
    "raw": lambda rng, shape: np.abs(rng.normal(5, 30, shape)) + rng.normal(0, 1, shape),  # columns of a table
    "tokens": lambda rng, shape: rng.integers(0, 1000, shape),
}


def inputs(network: Network, count: int, seed: int) -> NDArray[np.float32]:
    """Inputs [count, ...] like those that the network would be trained on."""
    rng = np.random.default_rng(seed)
    return INPUTS[network.data](rng, (count, *network.shape)).astype(np.float32)
