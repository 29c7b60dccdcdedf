"""A base network on the host, with its adapters and data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base import resources
from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats import elm as formats_elm
from edgelora.core.formats.ela import Adapter, unpack_adapter
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import device
from edgelora.core.twin.binding import check_model
from edgelora.model.datasets import dataset, keywords, text
from edgelora.model.datasets.dataset import Dataset, Parts, by_name, load_dataset
from edgelora.model.datasets.har import HAR_SUBJECTS, HarData, load_har, load_har_people
from edgelora.model.datasets.keywords import PRETRAINING, load_kws, part_key
from edgelora.model.floatnet import pretraining
from edgelora.model.floatnet.files import load_net, save_net
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.floatnet.pretraining import PRETRAINING_VERSION

from .samples import Clipping, Samples

CACHE = resources.cache("bases")


class WorkflowError(EdgeloraError, RuntimeError):
    """A step can't go on; the message says why and what to do."""


@dataclass(frozen=True)
class Base:
    """A base network on the host: the `.elm` bytes, the model they hold, and its short file name."""

    name: str
    elm: bytes
    model: QuantModel

    @property
    def base_id(self) -> str:
        return formats_elm.base_id(self.elm).hex()

    def __repr__(self) -> str:
        shapes = f"{self.model.input.shape} -> {self.model.output.shape}"
        return f"<Base {self.name}: {shapes}, {len(self.elm)} bytes, {self.base_id}>"

    def adapter(self, ela: bytes, name: str = "adapter") -> Adapter:
        """The adapter in a `.ela` file for this base. FormatError for other files; `name` is for its message."""
        return unpack_adapter(ela, self.model, formats_elm.base_id(self.elm), name)

    @property
    def paths(self) -> tuple[str, str]:
        """Possible paths of the base on a board: in ROMFS, or in its filesystem."""
        return f"/rom/{self.name}", f"/{self.name}"

    def renamed(self, name: str, labels: Sequence[str]) -> Base:
        """The same network with another name and labels for its first outputs, to train it on other classes.

        The other outputs keep their names, in brackets. InputError if there are more labels than outputs.
        """
        if not 2 <= len(labels) <= self.model.classes or len(set(labels)) < len(labels):
            raise InputError(
                f"{len(labels)} classes for a network that distinguishes {self.model.classes} apart: give from 2 to "
                f"{self.model.classes}, of different names; others can be added afterwards"
            )
        rest = [f"({label})" for label in self.model.labels[len(labels) :]]
        model = replace(self.model, labels=[*labels, *rest])
        return Base(name, pack_model(model, name), model)

    def numbered(self, part: Dataset) -> Dataset:
        """The same data, with this network's numbers for the classes that it has by name."""
        named = len(self.model.labels) == self.model.classes and not self.model.learns_values
        names = self.model.labels if named else []
        return by_name(part, names, self.name)

    def inputs(self, part: Dataset) -> NDArray[np.int8]:
        """Windows quantized to this network's input, [N, ...]. WorkflowError if their shape differs."""
        return self._inputs(part, self._frames(part))

    def _frames(self, part: Dataset) -> int:
        try:
            return self.model.frames(part.x.shape[1:])
        except ValueError as error:
            raise WorkflowError(f"{self.name}: {error}; use data that fits the base") from error

    def samples(self, part: Dataset) -> Samples:
        """Windows quantized to this network's input, classes by name where both have names (`datasets.by_name`).

        The target of a network that learns values is its own input, the last frame of a window. ValueError if data do
        not fit the network.
        """
        part = self.numbered(part)
        targets: NDArray[Any] = part.y
        frames = self._frames(part)
        try:
            if not self.model.learns_values:
                targets = self.model.targets(part.y)
        except ValueError as error:
            raise WorkflowError(f"{self.name}: {error}; use data that fits the base") from error
        if self.model.learns_values:
            return self._reconstructed(part, frames)
        if self.model.learns_sequences:  # ids of no symbol have no loss
            return Samples(self._inputs(part, frames), np.zeros(len(part), np.int64), targets)
        if part.y.max() >= self.model.classes:
            raise WorkflowError(f"labels go up to {part.y.max()}, {self.name} has {self.model.classes} classes")
        clipping = Clipping.of(self.model.input, part.x)
        return Samples(self._inputs(part, frames), part.y, None if targets is part.y else targets, clipping)

    def _inputs(self, part: Dataset, frames: int) -> NDArray[np.int8]:
        x = self.model.quantize(part.x)
        return x.reshape(len(x), frames, *self.model.input.shape) if self.model.has_history else x

    def _reconstructed(self, part: Dataset, frames: int) -> Samples:
        """Windows whose last frame is the target, on the output's grid."""
        size, output = self.model.input.size, self.model.output
        if output.size != size:
            raise WorkflowError(
                f"{self.name} learns values and has {output.size} outputs for {size} inputs: only "
                "autoencoders have their targets in the data; train others with `edgelora.core.twin.session.Session`"
            )
        wanted = part.x.reshape(len(part), frames, size)[:, -1]
        clipping, beyond = Clipping.of(self.model.input, part.x), Clipping.of(output, wanted)
        return Samples(self._inputs(part, frames), part.y, output.quantize(wanted), clipping, beyond)


def load_base(path: Path) -> Base:
    """Reads and checks a `.elm` file."""
    elm = path.read_bytes()
    model = unpack_model(elm, path.name)
    check_model(elm)
    return Base(path.name, elm, model)


def load_adapter(path: Path, base: Base) -> bytes:
    """Reads an `.ela` file and checks that it is for this base."""
    adapter = path.read_bytes()
    base.adapter(adapter, path.name)
    return adapter


def adapter_ranks(base: Base, adapter: bytes | None) -> bytes:
    """The rank of every op in an adapter, for a session that infers with it; all 0 without an adapter."""
    count = len(base.model.ops)
    return base.adapter(adapter).ranks(count) if adapter else bytes(count)


def opened(base: Base, adapter: bytes | None) -> Any:
    """The device's `Model` on this computer, which infers with an adapter; None: the base alone."""
    model = device.module().Model(base.elm, adapter_ranks(base, adapter), "infer", 1)
    model.use(adapter and model.adapter(adapter))
    return model


def labels_of(base: Base, adapter: bytes | None) -> list[str]:
    """Names of all classes that a board distinguishes with an adapter, by number."""
    return list(opened(base, adapter).labels)


def _har(subject: str) -> HarData:
    if not subject.isdigit():
        raise WorkflowError(f"har:{subject}: give a subject, for example har:6")
    return load_har(int(subject))


NAMED: dict[str, Callable[[str], Any]] = {"har": _har, "kws": load_kws}  # with parts pretrain, train and test


def is_named(spec: str) -> bool:
    """Whether this names data, `har:SUBJECT` or `kws:VOICE`, rather than a file."""
    kind, colon, _ = spec.partition(":")
    return bool(colon) and kind in NAMED


def load_part(spec: str, part: str) -> Dataset:
    """Data by name, its `part` (pretrain, train or test), or the path of an .npz file."""
    if not is_named(spec):
        return load_dataset(spec)
    found: Dataset = getattr(_named(spec), part)
    return found


def _named(spec: str) -> Any:
    kind, _, which = spec.partition(":")
    return NAMED[kind](which)


def load_parts(spec: str, test: str | None) -> Parts:
    """The training and test data: the parts of data by name, two files, or one file that is split."""
    if test:
        return dataset.parts(load_part(spec, "train"), load_part(test, "test"), f"the test samples of {test}")
    if is_named(spec):
        data = _named(spec)
        return dataset.parts(data.train, data.test, f"the test samples of {spec}")
    return dataset.split(load_dataset(spec), spec, "others with --test, or ")


def pretrained_har(subject: int, seed: int, progress: Progress = no_progress, cache: Path = CACHE) -> FloatNet:
    """The base pretrained without `subject`, from the cache if it is there."""
    return pretrained(f"har-{subject}", lambda: load_har(subject).pretrain, seed, progress, cache)


def pretrained_kws(seed: int, progress: Progress = no_progress, cache: Path = CACHE) -> FloatNet:
    """The base pretrained on all voices but those in `keywords.VOICES`, from the cache if it is there."""
    name = f"kws-{part_key(PRETRAINING, 'pretrain')}"
    return pretrained(name, lambda: keywords.spoken(PRETRAINING, "pretrain"), seed, progress, cache)


def pretrained_encoder(
    subject: int, seed: int, progress: Progress = no_progress, cache: Path = CACHE, epochs: int | None = None
) -> FloatNet:
    """The encoder pretrained without `subject` of 1 to 6, or on all of these, from the cache if it is there."""

    def load() -> Dataset:
        return load_har(subject).pretrain if subject in HAR_SUBJECTS else load_har_people(HAR_SUBJECTS)

    name = f"encoder-{subject if subject in HAR_SUBJECTS else 'all'}" + (f"-epochs-{epochs}" if epochs else "")
    how = partial(pretraining.pretrain, network="encoder", epochs=epochs)
    return pretrained(name, load, seed, progress, cache, how)


def pretrained_language(seed: int, progress: Progress = no_progress, cache: Path = CACHE, since: int = 0) -> FloatNet:
    """The language model pretrained on everyone before `text.AUTHORS`, from a first year on, or from the cache."""
    name = f"text-{since}" if since else "text"
    return pretrained(name, lambda: text.load_base_text(since)[0], seed, progress, cache, pretraining.pretrain_language)


def pretrained(
    name: str,
    load: Callable[[], Dataset],
    seed: int,
    progress: Progress = no_progress,
    cache: Path = CACHE,
    how: Callable[..., FloatNet] = pretraining.pretrain,
) -> FloatNet:
    """A base pretrained on data of this name, from the cache if it is there."""
    path = cache / f"{name}-{seed}-{PRETRAINING_VERSION}.npz"
    if not path.exists():
        save_net(how(load(), seed, progress=progress), path)
    return load_net(path)


def accuracy(predicted: NDArray[np.int64], test: Samples) -> float:
    """Share of 1, to four places."""
    return round(float(np.mean(predicted == test.y)), 4)
