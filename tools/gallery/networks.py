"""What a gallery's networks have in common: how they are listed, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Build = Callable[..., Any]


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

    def __call__(self, family: str, shape: tuple[int, ...], data: str = "signal") -> Callable[[Build], Build]:
        """Lists a function that takes the shape of an input and returns a network."""

        def add(build: Build) -> Build:
            name = build.__name__.removeprefix("net_").replace("_", "-")
            self.networks.append(Network(f"{self.framework}-{name}", self.framework, family, shape, data, build))
            return build

        return add


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
