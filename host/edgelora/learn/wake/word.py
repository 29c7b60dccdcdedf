"""A wake word on this computer: its network, its decision rule, and what it hears in a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.wake_manifest import WakeManifest
from edgelora.core.front_ends import AUDIO_RATE, AUDIO_SIZE, AudioFrontEnd, heard_as
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base, adapter_ranks
from edgelora.model.importers.tflite.convert import calibrate, import_tflite, inputs_for_calibration

_wake = device.module("wake")
Frames = NDArray[np.int8]  # [frames, values]: inputs of a network, one after another
Outputs = NDArray[np.uint8]  # [frames]: probabilities in 1/255


@dataclass(frozen=True)
class Rule:
    """The word is heard while the mean of `window` outputs is above the cutoff, 0 to 1."""

    cutoff: float
    window: int

    def __str__(self) -> str:
        return f"cutoff {self.cutoff:.2f}, window {self.window}"

    @property
    def steps(self) -> int:
        """The cutoff as boards take it."""
        return int(_wake.cutoff_of(self.cutoff))

    def wakes(self, outputs: Outputs) -> list[int]:
        """The frames at which the word begins to be heard, by the device's own rule from a reset state."""
        with device.refusals():
            rule = _wake.Rule(self.steps, self.window)
        said = [rule.step(p) for p in outputs.tolist()]
        return [i for i, now in enumerate(said) if now and not (i and said[i - 1])]


@dataclass(frozen=True)
class WakeWord:
    """A streaming network that says with one output whether its word was just said, and its author's rule."""

    base: Base
    rule: Rule

    def __post_init__(self) -> None:
        model, signal = self.base.model, self.base.model.signal
        if not model.has_history or model.output.size != 1 or model.loss != "binary_cross_entropy":
            raise InputError(
                f"{self.base.name} is no wake word: it needs a streaming network with one output, a probability"
            )
        if signal is None or signal.front != "audio":
            raise InputError(
                f"{self.base.name} doesn't say how it hears: import it with --front firmware, or --front audio"
            )

    @cached_property
    def frames(self) -> int:
        """The number of frames that an output depends on, which a sample has."""
        return self.base.model.reach

    def with_rule(self, rule: Rule) -> WakeWord:
        return replace(self, rule=rule)

    @cached_property
    def _session(self) -> Session:
        return Session(self.base.elm, bytes(len(self.base.model.ops)), "infer", 1)

    def inputs(self, rows: NDArray[np.int16]) -> Frames:
        """The network's inputs of the front end's rows [n, 40], from a stream's beginning."""
        size = self.base.model.input.size
        each = size // AUDIO_SIZE
        whole = rows[: len(rows) // each * each]
        return self._session.quantize(np.ascontiguousarray(whole))[0].reshape(-1, size)

    def heard(self, sound: NDArray[np.int16]) -> Frames:
        """The network's inputs of a sound of 16 kHz, int16 [n] or [n, 1]."""
        return self.inputs(AudioFrontEnd().feed(np.ascontiguousarray(sound).ravel()))

    def outputs(self, adapter: bytes | None, streams: Sequence[Frames]) -> list[Outputs]:
        """The outputs for each stream, from a reset state, with an adapter or by the base alone."""
        session = Session(self.base.elm, adapter_ranks(self.base, adapter), "infer", 1)
        session.use(adapter)
        return [_outputs(session, stream) for stream in streams]

    @property
    def frame_seconds(self) -> float:
        signal: Any = self.base.model.signal
        return float(signal.hop / AUDIO_RATE)


def imported(network: bytes, manifest: WakeManifest) -> WakeWord:
    """A wake word of a `.tflite` and its manifest, as `edgelora import` of the manifest makes it."""
    stem = Path(manifest.model).stem
    model = import_tflite(network, name=manifest.model)
    model.labels = model.labels or manifest.labels
    model.signal = heard_as("firmware", model.input)
    calibrate(model, inputs_for_calibration(model, None))
    base = Base(f"{stem}.elm", pack_model(model, stem), model)
    return WakeWord(base, Rule(manifest.cutoff, manifest.window))


def _outputs(session: Session, stream: Frames) -> Outputs:
    session.reset()
    found = np.zeros(len(stream), np.int16)
    for i, frame in enumerate(stream):
        session.infer(frame)
        found[i] = session.logits[0]
    return (found + 128).astype(np.uint8)
