"""What becomes of one network of the gallery: imported, compared, or refused."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import networks
import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError
from edgelora.board.profiles import load_board
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.binding import check_model
from edgelora.core.twin.session import Session
from edgelora.model.datasets.dataset import channels_last
from edgelora.model.importers.tflite import convert
from edgelora.model.importers.tflite.convert import import_tflite, inputs_for_calibration
from edgelora.model.quantization.report import heard

BOARDS = {"RP2040": "rpi_pico", "ESP32": "esp32"}
CALIBRATION, COMPARED = 64, 8  # inputs; so many of both sorts are compared
GOOD_DB = 15.0  # signal to noise of a PyTorch module's outputs, quantized


@dataclass
class Verdict:
    """What became of one network.

    parameters: of the float network; activations: the most elements that one layer reads and writes, bytes as INT8;
    boards: those that have as much flash and memory; reference, compared, differing: with what the base was compared,
    on how many inputs, and how many differ; sqnr_db: of a PyTorch module's outputs; reason: why it was refused.
    """

    name: str
    family: str = ""
    parameters: int = 0
    activations: int = 0
    boards: list[str] = field(default_factory=list)
    accepted: bool = False
    ops: int = 0
    arena: int = 0
    reference: str = ""
    compared: int = 0
    differing: int = 0
    sqnr_db: float | None = None
    reason: str = ""

    @property
    def good(self) -> bool:
        return self.accepted and not self.differing


def judge(name: str, files: str | None) -> Verdict:
    """Makes one network, imports it and compares it."""
    warnings.simplefilter("ignore")
    network = next(network for network in listed() if network.name == name)
    verdict = Verdict(network.name, network.family)
    x = networks.inputs(network, CALIBRATION, seed=1)
    try:
        of = _keras if network.framework == "keras" else _torch
        of(network, x, verdict, Path(files) if files else None)
    except EdgeloraError as error:
        verdict.reason = " ".join(str(error).split())
    except Exception as error:  # a bug, of this project or of a framework
        verdict.accepted = False
        verdict.reason = f"CRASH: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return verdict


def listed() -> list[networks.Network]:
    import keras_networks
    import torch_networks

    return keras_networks.listed.networks + torch_networks.listed.networks


def _fits(verdict: Verdict, parameters: int, activations: int) -> None:
    verdict.parameters, verdict.activations = parameters, activations
    for board, profile in ((board, load_board(name)) for board, name in BOARDS.items()):
        room = profile.flash.total_bytes - profile.flash.program_bytes
        if activations <= profile.arena_bytes and parameters <= room:
            verdict.boards.append(board)


# ---- Keras -----------------------------------------------------------------------------------------------------------


def _keras(network: networks.Network, x: NDArray[np.float32], verdict: Verdict, files: Path | None) -> None:
    import keras_networks
    from oracle import Oracle

    from edgelora.model.importers import keras

    keras_networks.K.utils.set_random_seed(0)
    model = network.build(network.shape)
    keras_networks.seed_values(model)
    _fits(verdict, model.count_params(), max(_layer_elements(layer) for layer in model._flatten_layers()))
    kept = files / f"{network.name}.tflite" if files else None
    content = kept.read_bytes() if kept and kept.exists() else keras.convert(model, x)
    if kept:
        kept.write_bytes(content)
    base = import_tflite(content, name=network.name)
    real = x.reshape(len(x), *base.input.shape)
    convert.calibrate(base, inputs_for_calibration(base, real))
    session = _accepted(verdict, base)
    noise = np.random.default_rng(2).integers(-128, 128, (COMPARED, *base.input.shape)).astype(np.int8)
    oracle = Oracle(content)
    verdict.reference = oracle.name
    for row in (*base.input.quantize(real[:COMPARED]), *noise):
        session.infer(np.ascontiguousarray(row))
        verdict.compared += 1
        verdict.differing += bool((session.logits.reshape(-1) != oracle(row)).any())


def _layer_elements(layer: Any) -> int:
    """The elements that a layer reads and writes; 0 for one that has no ends of its own."""
    import tensorflow as tf

    try:
        ends = tf.nest.flatten([layer.input, layer.output])
    except (AttributeError, ValueError):
        return 0
    return sum(int(np.prod([side or 1 for side in end.shape], dtype=np.int64)) for end in ends)


def _accepted(verdict: Verdict, model: QuantModel) -> Session:
    elm = pack_model(model, "as .elm")
    check_model(elm)
    session = Session(elm, bytes(len(model.ops)), "infer")
    verdict.accepted, verdict.ops, verdict.arena = True, len(model.ops), session.arena_bytes
    return session


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def _torch(network: networks.Network, x: NDArray[np.float32], verdict: Verdict, files: Path | None) -> None:
    import torch
    import torch_networks

    import edgelora

    torch.manual_seed(0)
    module = network.build(network.shape)
    torch_networks.seed_values(module)
    module.eval()
    _fits(verdict, sum(p.numel() for p in module.parameters()), _largest_call(module, x[:1]))
    made = edgelora.from_torch(module, x)
    session = _accepted(verdict, made.model)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    wanted = channels_last(wanted.reshape(len(x), *wanted.shape[1:] or (1,))).reshape(len(x), -1)
    if made.model.ops[-1].kind == "softmax" and wanted.max() <= 0:  # its logarithms
        wanted = np.exp(wanted)
    found = []
    for row in made.model.input.quantize(channels_last(x)):
        session.infer(np.ascontiguousarray(row.reshape(made.model.input.shape)))
        found.append(made.model.output.dequantize(session.logits.reshape(-1)))
    got = np.stack(found)
    if made.model.loss == "cross_entropy" and made.model.ops[-1].kind != "softmax":
        wanted, got = (heard(part) for part in (wanted, got))
    noise = float(np.square(got - wanted).sum())
    verdict.sqnr_db = round(10 * np.log10(max(float(np.square(wanted).sum()), 1e-30) / max(noise, 1e-30)), 1)
    verdict.reference, verdict.compared = "the module", len(x)
    verdict.differing = len(x) if verdict.sqnr_db < GOOD_DB else 0


def _largest_call(module: Any, x: NDArray[np.float32]) -> int:
    import torch

    most = [0]

    def look(_: Any, inputs: Any, output: Any) -> None:
        tensors = [value for value in (*inputs, *(output if isinstance(output, tuple) else [output]))]
        most[0] = max(most[0], sum(value.numel() for value in tensors if isinstance(value, torch.Tensor)))

    hooks = [part.register_forward_hook(look) for part in module.modules() if not list(part.children())]
    with torch.no_grad():
        module(torch.from_numpy(x))
    for hook in hooks:
        hook.remove()
    return most[0]
