"""The Python API: what `import edgelora` offers.

    base = edgelora.load("base.elm")
    print(edgelora.plan(base, "rpi_pico"))
    with edgelora.Board() as board:
        run = edgelora.personalize(base, "mine.npz", board=board)
    run.save("me.ela")

Every function is a few lines over the packages below. It raises an `EdgeloraError` for what it can't use.
"""

from __future__ import annotations

import html
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.board.devices import pick_port
from edgelora.board.link.client import Link
from edgelora.board.profiles import load_board
from edgelora.board.sim import virtual_board
from edgelora.core.formats.ela import Adapter, pack_adapter, unpack_adapter
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.files import write_atomic
from edgelora.core.twin.session import Session
from edgelora.learn.personalize import personalize as learn_personalize
from edgelora.learn.planning import plan as planning_plan
from edgelora.learn.planning.plan import Plan
from edgelora.learn.report.record import Report
from edgelora.learn.report.sections import render_html, write_report
from edgelora.learn.training.board.board_learner import BoardLearner
from edgelora.learn.training.board.board_run import RunOptions
from edgelora.learn.training.data.base import (
    Base,
    WorkflowError,
    adapter_ranks,
    load_adapter,
    load_base,
    load_part,
    load_parts,
)
from edgelora.learn.training.data.data_checks import Remarks
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge import metrics
from edgelora.learn.training.judge.metrics import loss_unit
from edgelora.learn.training.recipe import Recipe, inference
from edgelora.learn.training.run.board_personalization import Task
from edgelora.learn.training.twin import adapter_sum, loop
from edgelora.model.datasets import dataset
from edgelora.model.datasets.dataset import Dataset, Parts
from edgelora.model.floatnet import pretraining
from edgelora.model.floatnet.files import load_net
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.importers.tflite.merge import Merged, find_source, merge_elm, merge_tflite
from edgelora.model.quantization import report as quantization_report
from edgelora.model.quantization.merging import Distance, MergedLayer
from edgelora.model.quantization.quantize import Quantized, quantize_on

Data = str | Path | Dataset | tuple[ArrayLike, ArrayLike]
"""Samples: by name (`har:3`, `kws:VOICE`), a .npz file, or x, float [N, height, width, channels], and classes y [N]."""
Network = Base | Quantized | str | Path
"""A base: loaded, just quantized, or a .elm file."""
DEFAULTS = Recipe()

# ---- networks --------------------------------------------------------------------------------------------------------


@overload
def load(path: str | Path) -> Base: ...
@overload
def load(path: str | Path, base: Base) -> Adapter: ...
def load(path: str | Path, base: Base | None = None) -> Base | Adapter:
    """Loads the base in a .elm file or, given its base, the adapter in a .ela file. Both are checked in full."""
    if base is None:
        return load_base(Path(path))
    return _adapter(load_adapter(Path(path), base), base)


def pretrain(
    data: Data,
    *,
    seed: int = 0,
    epochs: int | None = None,
    progress: Progress = no_progress,
    network: str = "convolutions",
) -> FloatNet:
    """Trains a small float network, "convolutions" or an "encoder", on data of many people; the result is the same on
    every computer."""
    return pretraining.pretrain(_samples(data, "pretrain"), seed, epochs, progress, network=network)


def quantize(net: FloatNet | str | Path, data: Data) -> Quantized:
    """Quantizes a float network, or one in a file that `pretrain` made, to INT8; calibrates on data as in use."""
    net = net if isinstance(net, FloatNet) else load_net(Path(net))
    part = _samples(data, "pretrain")
    model = quantize_on(net, part)
    elm = pack_model(model)
    return Quantized(model, elm, quantization_report.report(net, elm, model, part.x, part.y))


def plan(base: Network, board: str = "rpi_pico", recipe: Recipe = DEFAULTS) -> Plan:
    """Plans personalization on a board: size of arena and adapter and, if the board was measured, time."""
    return planning_plan.plan(_base(base).elm, load_board(board), recipe)


# ---- boards ----------------------------------------------------------------------------------------------------------


class Board:
    """A connection to a board over its serial port, open until `close`, which `with` calls. `link` sends all requests.

    port: the board's; by default that of the only board found. virtual: instead starts a virtual board of this name
    with this firmware (`unix` needs none); `close` ends it. Raises an `EdgeloraError` that lists the boards found, or
    says what the board lacks.
    """

    def __init__(
        self, port: str | None = None, *, virtual: str | None = None, firmware: str | Path | None = None
    ) -> None:
        with ExitStack() as stack:
            if virtual is not None:
                state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgelora-")))
                image = Path(firmware) if firmware is not None else None
                handle = virtual_board.start(virtual, image, state, die_with_parent=True)
                stack.callback(handle.stop)
                port = handle.port
            self.port = pick_port(port)
            self.link = stack.enter_context(Link.connect(self.port))
            self.hello = self.link.hello()
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Leaves the board at its REPL and releases the port; ends the virtual board that this object started."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        module = f"edgelora {self.hello.edgelora}" if self.hello.edgelora else "without edgelora"
        return f"<Board {self.hello.board} at {self.port}, {self.hello.micropython}, {module}>"


# ---- adapters --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Personalized:
    """The result of a personalization. before, after: accuracy on the test samples, 0 to 1; ela: the `.ela` file.

    For a network that learns values, before and after are mean squared errors; these and losses are in squared units
    of the data. report: the report of a run on a board, with its times; a notebook shows its page.
    """

    base: Base
    ela: bytes
    before: float
    after: float
    tested_on: str
    losses: list[float]  # nats, one per update
    remarks: Remarks  # warnings about samples and outputs: read them before trusting these figures
    report: Report | None = None

    @property
    def adapter(self) -> Adapter:
        return _adapter(self.ela, self.base)

    def save(self, path: str | Path) -> None:
        """Writes the `.ela` file atomically."""
        write_atomic(Path(path), self.ela)

    def save_report(self, folder: str | Path) -> Path:
        """Writes report.json and the page, whose path it returns. Raises an `EdgeloraError` if the run had no board."""
        if self.report is None:
            raise WorkflowError("this run has no report: give personalize() a board")
        return write_report(self.report, Path(folder))

    def __repr__(self) -> str:
        where = self.report.board if self.report else "this computer"
        message = f"accuracy {self.before:.1%} -> {self.after:.1%}"
        if self.base.model.learns_values:
            message = f"error {self.before:.4g} -> {self.after:.4g}"
        return f"<Personalized on {where}: {message}, {len(self.ela)} bytes>"

    def _repr_html_(self) -> str:
        if self.report is None:
            return html.escape(repr(self))
        page = html.escape(render_html(self.report))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 0"></iframe>'


def personalize(
    base: Network,
    data: Data,
    test: Data | None = None,
    *,
    board: Board | None = None,
    recipe: Recipe = DEFAULTS,
    progress: Progress = no_progress,
) -> Personalized:
    """Trains an adapter on one user's samples: on the board or, without one, on this computer; the bytes are the same.

    test: samples to test on. By default data by name have a test part; a file or arrays are split, and the samples for
    the test are not trained on.
    """
    base, parts = _base(base), _parts(data, test)
    task = Task.of(base, parts, _name(data))
    done = learn_personalize(base, task, recipe, board.link if board else None, RunOptions(progress=progress))
    before, after, losses = done.before.rounded, done.after.rounded, _losses(base, done.run.run.losses)
    details = (task.tested_on, losses, done.remarks, done.board_report)
    return Personalized(base, done.adapter, before, after, *details)


def evaluate(
    base: Network, data: Data, adapter: Adapter | str | Path | None = None, *, board: Board | None = None
) -> float:
    """Accuracy, 0 to 1, of a base alone or with an adapter: on the board or on this computer, with the same result.

    For a network that learns values: the mean squared error, in squared units of the data. adapter: an `Adapter` or a
    .ela file. Data by name are tested on their test part, files and arrays on all samples.
    """
    base = _base(base)
    tested = base.samples(_samples(data, "test"))
    return metrics.measured(base, _answers(base, tested, adapter, board), tested).rounded


def predict(
    base: Network, x: Data | ArrayLike, adapter: Adapter | str | Path | None = None, *, board: Board | None = None
) -> NDArray[np.int64]:
    """Predicts the class of each sample, int64 [N], by a base alone or with an adapter: on the board or this computer.

    x: float [N, height, width, channels], or samples as for `evaluate`. `base.model.labels` names the classes;
    classes that an adapter added are numbered after these. InputError for a network that learns values.
    """
    base = _of_classes(_base(base))
    given = _samples(x, "test").x if isinstance(x, str | Path | Dataset | tuple) else np.asarray(x, np.float32)
    return _answers(base, base.samples(Dataset.of(given, np.zeros(len(given), np.int64))), adapter, board)


def confusion_matrix(
    base: Network, data: Data, adapter: Adapter | str | Path | None = None, *, board: Board | None = None
) -> NDArray[np.int64]:
    """Counts samples by true class (rows) and predicted class (columns), for a base alone or with an adapter.

    Arguments are those of `evaluate`. Rows and columns are in the order of `base.model.labels`. If samples were
    predicted to be of a class that the adapter added, one more column counts them. InputError for a network that learns
    values.
    """
    base = _of_classes(_base(base))
    tested = base.samples(_samples(data, "test"))
    classes = base.model.classes
    said = np.minimum(_answers(base, tested, adapter, board), classes)
    counts = np.array(loop.confusion(said, tested.y, classes + 1), np.int64)[:classes]
    return counts if counts[:, classes].any() else counts[:, :classes]


def _answers(base: Base, samples: Samples, adapter: Adapter | str | Path | None, board: Board | None) -> NDArray[Any]:
    """Classes of samples, or squared errors: see `metrics.answers`."""
    ela = _ela(base, adapter) if adapter is not None else None
    ranks = adapter_ranks(base, ela)
    if board is None:
        session = Session(base.elm, ranks, "infer", 1, frames=samples.frames)
        session.use(ela)
        return metrics.answers(base, session, samples)
    learner = BoardLearner(board.link, base, inference(ranks), frames=samples.frames)
    learner.use(ela)
    return learner.answers(samples)


def _of_classes(base: Base) -> Base:
    if base.model.learns_values:
        raise InputError(f"{base.name} learns values, and has no classes", remedy="evaluate() returns its error")
    return base


def blend(
    base: Network,
    adapters: Sequence[Adapter | str | Path],
    weights: Sequence[float] | None = None,
    *,
    to_train: bool = False,
) -> Adapter:
    """The weighted sum of adapters of one base; without weights, their mean.

    If all adapters have the same A (frozen, of one seed), their B's are added; otherwise ranks add up, to 32 at most.
    to_train: B keeps the step size that training uses; by default it has the finest steps that int8 allows.
    """
    base = _base(base)
    files = [_ela(base, adapter) for adapter in adapters]
    return _adapter(adapter_sum.blend(base, files, weights, not to_train).ela, base)


@dataclass(frozen=True, repr=False)
class MergedNetwork:
    """A network with an adapter in its weights. layers: each one's errors; distance: to the base with the adapter."""

    _merged: Merged

    @property
    def layers(self) -> list[MergedLayer]:
        return self._merged.merging.layers

    @property
    def distance(self) -> Distance:
        return self._merged.merging.distance

    def save(self, path: str | Path) -> None:
        """Writes the network as a .tflite or a .elm file, atomically."""
        write_atomic(Path(path), self._merged.file(Path(path).name))

    def __repr__(self) -> str:
        far = self.distance
        return f"<MergedNetwork, outputs up to {far.steps} steps from the adapter's, {far.mean:.2f} on average>"


def merge(
    base: Network,
    adapter: Adapter | str | Path,
    *,
    elm: Network | None = None,
    x: ArrayLike | None = None,
    refit: bool = False,
) -> MergedNetwork:
    """Merges an adapter into the INT8 network, as boards do; the result runs wherever TensorFlow Lite does.

    base: a .elm, or the .tflite that it was imported from. elm: for a .tflite, the imported .elm, if the import was
    given labels, a loss or calibration inputs. x: inputs [N, ...], real or int8, to measure on; by default noise.
    refit: chooses scales, roundings and biases on x, so that the result is closer to the base with the adapter.
    """
    inputs = None if x is None else np.asarray(x)
    if isinstance(base, str | Path) and Path(base).suffix == ".tflite":
        ela = _bytes(adapter)
        of, name = unpack_adapter(ela).base_id, Path(base).name
        source = find_source(Path(base).read_bytes(), of, name, None if elm is None else _base(elm).elm, inputs)
        return MergedNetwork(merge_tflite(source, ela, inputs, refit))
    network = _base(base)
    return MergedNetwork(merge_elm(network.elm, _ela(network, adapter), inputs, refit))


# ---- arguments -------------------------------------------------------------------------------------------------------


def _base(given: Network) -> Base:
    if isinstance(given, Quantized):
        return Base("base.elm", given.elm, given.model)
    return given if isinstance(given, Base) else load(given)


def _losses(base: Base, losses: list[float]) -> list[float]:
    unit = loss_unit(base)
    return [loss * unit for loss in losses]


def _adapter(ela: bytes, base: Base) -> Adapter:
    return base.adapter(ela)


def _bytes(given: Adapter | str | Path) -> bytes:
    return pack_adapter(given) if isinstance(given, Adapter) else Path(given).read_bytes()


def _ela(base: Base, given: Adapter | str | Path) -> bytes:
    """The bytes of an adapter, which must be for this base."""
    ela = _bytes(given)
    _adapter(ela, base)
    return ela


def _samples(given: Data, part: str) -> Dataset:
    if isinstance(given, str | Path):
        return load_part(str(given), part)
    return given if isinstance(given, Dataset) else Dataset.of(np.asarray(given[0]), np.asarray(given[1]))


def _parts(data: Data, test: Data | None) -> Parts:
    if isinstance(data, str | Path) and (test is None or isinstance(test, str | Path)):
        return load_parts(str(data), None if test is None else str(test))
    if test is None:
        return dataset.split(_samples(data, "train"), _name(data))
    return dataset.parts(_samples(data, "train"), _samples(test, "test"), f"the test samples of {_name(test)}")


def _name(data: Data) -> str:
    return str(data) if isinstance(data, str | Path) else "the given samples"
