"""Quantization-aware training of adapters on the host, with more memory and time than a board has.

The masters are real numbers, A and B of a LoRA on the base's real weights. For every update they are rounded to an
adapter, with which the bit-exact twin takes the batch forward and backward, and Adam moves the masters by the gradients
at what they were rounded to (straight-through estimation; Y. Bengio et al., 2013, arXiv:1308.3432). The result is the
masters' running mean, rounded as `import-adapter` does. Samples may be augmented differently in each batch,
which makes long runs worthwhile.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.ela import Adapter, AdapterLayer, pack_adapter
from edgelora.core.formats.elm import base_id, unpack_model
from edgelora.core.formats.network import QuantModel, layer_size
from edgelora.core.twin.session import NAT
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.model.floatnet import train
from edgelora.model.floatnet.lora import ALPHA, RATE_TRAINED_A
from edgelora.model.floatnet.train import Adam, Augment, RunningMean
from edgelora.model.quantization.adapter_fit import (
    fit_layer,
    fitting_t_shift,
    op_inputs,
    op_patches,
    round_b,
    weight_scales,
)

from .loop import Run
from .twin_learner import TwinLearner, most_summed

RECIPE = Recipe(mode="trainable_a", micro_batch=32, epochs=60)  # a recipe's rate and momentum apply to boards only
RATE = RATE_TRAINED_A  # Adam's, falling to 0
KEPT = 0.98  # share of the masters' running mean kept in each update
CALIBRATION_SAMPLES = 64  # evenly spaced; their largest sums set t_shift
Matrix = NDArray[np.float64]


def train_qat(
    elm: bytes,
    samples: Samples,
    recipe: Recipe = RECIPE,
    progress: Progress = no_progress,
    augment: Augment | None = None,
) -> Run:
    """Trains by the recipe's ranks, batch, epochs and seed; with its state a board can continue training.

    augment: applies to real windows [N, height, width, channels]. ValueError if A is frozen or a sample too large.
    """
    model = unpack_model(elm)
    ranks = recipe.ranks(elm)
    rng = np.random.default_rng(recipe.seed)
    masters = Masters(elm, ranks, rng, samples)
    batch = min(recipe.micro_batch, most_summed(model, masters.ops))
    if recipe.mode != "trainable_a" or batch < 1:
        what = "a layer has too many positions" if batch < 1 else "A is frozen"
        raise InputError(f"{what}: quantization-aware training sums gradients of A and B over a batch")
    counting = recipe.settings(elm)._replace(micro_batch=batch + 1, threshold=0)
    learner = TwinLearner(elm, counting, samples.frames)
    optimizer, mean = Adam(masters.parameters), RunningMean(masters.parameters, KEPT)
    losses: list[float] = []
    epoch_losses: list[float] = []
    per_epoch = -(-len(samples) // batch)
    total = recipe.epochs * per_epoch
    for epoch in range(recipe.epochs):
        masters.calibrate()
        for picked in train.batches(len(samples), batch, rng):
            x = samples.x[picked]
            if augment:
                x = model.input.quantize(augment(model.input.dequantize(x), rng))
            rounded = masters.rounded()
            learner.load(pack_adapter(rounded))
            raw = learner.train(x, samples.targets[picked], 0)
            gradients = masters.gradients(rounded, learner.gradients())
            optimizer.step([g / len(picked) for g in gradients], train.scheduled("linear", RATE, len(losses) / total))
            mean.step()
            losses.append(float(np.mean(raw)) / NAT)
            progress(len(losses), total, f"epoch {epoch + 1}/{recipe.epochs} loss {losses[-1]:.3f}")
        epoch_losses.append(float(np.mean(losses[-per_epoch:])))
    mean.assign()
    learner.load(pack_adapter(masters.fitted()))
    return Run(learner.save(False), learner.save(True), losses, epoch_losses)


class Masters:
    """The masters of all layers. parameters: A and B of each layer in turn."""

    def __init__(self, elm: bytes, ranks: bytes, rng: np.random.Generator, samples: Samples) -> None:
        model = unpack_model(elm)
        self.ops = [op for op, rank in enumerate(ranks) if rank]
        read = op_inputs(elm, self.ops, samples.x[:: -(-len(samples) // CALIBRATION_SAMPLES)])
        self._layers = [_Master(model, op, ranks[op], rng, read[op]) for op in self.ops]
        self._base_id = base_id(elm)

    @property
    def parameters(self) -> list[Matrix]:
        return [matrix for layer in self._layers for matrix in (layer.a, layer.b)]

    def calibrate(self) -> None:
        for layer in self._layers:
            layer.calibrate()

    def rounded(self) -> Adapter:
        return self._adapter([layer.rounded() for layer in self._layers])

    def fitted(self) -> Adapter:
        """The adapter closest in its branches' outputs; slower: fits B to the rounded A by least squares."""
        return self._adapter([layer.fitted() for layer in self._layers])

    def _adapter(self, layers: list[AdapterLayer]) -> Adapter:
        return Adapter(self._base_id, 0, layers, trainable_a=True, a_stored=True)

    def gradients(self, rounded: Adapter, twins: dict[int, tuple[Matrix, Matrix]]) -> list[Matrix]:
        """Gradients of the parameters, from the twin's gradients of the rounded adapter."""
        pairs = (
            master.gradients(layer, *twins[layer.op])
            for master, layer in zip(self._layers, rounded.layers, strict=True)
        )
        return [gradient for pair in pairs for gradient in pair]


class _Master:
    """One op's masters: real weights change by ALPHA / rank * B A; A [rank, K], B [O, rank] start as in float LoRA."""

    def __init__(self, model: QuantModel, op: int, rank: int, rng: np.random.Generator, x: NDArray[np.int8]) -> None:
        outputs, inputs = layer_size(model, op)
        self.a: Matrix = rng.uniform(-1, 1, (rank, inputs)) / math.sqrt(inputs)
        self.b: Matrix = np.zeros((outputs, rank))
        self._model, self._op, self._inputs, self._t_shift = model, op, x, 0
        self._patches = op_patches(model, model.ops[op], x).astype(np.float32)
        scales = weight_scales(model, model.ops[op])[:, None]
        self._per_weight_step = np.divide(ALPHA / rank, scales, where=scales > 0, out=np.zeros_like(scales))
        source, target = (model.tensors[i].scale for i in (model.ops[op].input, model.ops[op].output))
        self._per_output_step = ALPHA / rank * source / target

    @property
    def _steps(self) -> Matrix:
        """The real size of A's int8 steps [rank]: a row's largest entry is 127 steps."""
        peaks = np.abs(self.a).max(axis=1)
        return np.where(peaks > 0, peaks, 1.0) / 127

    def _rounded_a(self) -> NDArray[np.int8]:
        return np.rint(self.a / self._steps[:, None]).astype(np.int8)

    def calibrate(self) -> None:
        """Chooses the t_shift that the largest t fits, for this op's inputs in the base alone."""
        sums = self._patches @ self._rounded_a().T.astype(np.float32)
        self._t_shift = fitting_t_shift(float(np.abs(sums).max()))

    def rounded(self) -> AdapterLayer:
        b = self.b * self._per_weight_step * (self._steps * 2.0**self._t_shift)
        return round_b(self._op, self._rounded_a(), b, self._t_shift)

    def fitted(self) -> AdapterLayer:
        steps = self.b * self._per_weight_step
        return fit_layer(self._model, self._op, self.a, steps, len(self.a), self._inputs)[0]

    def gradients(self, layer: AdapterLayer, a: Matrix, b: Matrix) -> tuple[Matrix, Matrix]:
        """dA and dB from the twin's, which omit constant factors: shifts and, for B, the output's multiplier."""
        d_a = a * 2.0 ** (layer.branch_shift - layer.t_shift) / self._steps[:, None]
        return d_a, b * (self._per_output_step * 2.0**layer.t_shift * self._steps)
