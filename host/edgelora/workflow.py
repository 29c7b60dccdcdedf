"""The arrows between the parts: what `edgelora` commands and the demo do, as functions without a command line."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import data, float_lora, formats, kws, nn, pretrain, resources, twin
from .boards import BoardProfile, load_board
from .cost import predict
from .energy import EnergyRow, energy_by_clock
from .errors import EdgeloraError
from .link import Hello, Link, ModelInfo, RunReply, TrainReply
from .model import QuantModel
from .on_board import Pace, train_on_board
from .personalize import Progress, Recipe, Run, Samples, UpdateLog, confusion, placed, schedule, train, train_twin
from .plan import layer_plans
from .probe import board_of
from .recompute import choose_recompute
from .report import LayerRow, Report

CACHE = resources.cache("bases")
ADAPTER_PATH = "/adapter.ela"  # on the board: what it last learned,
STATE_PATH = "/adapter.state.ela"  # what training goes on from,
TRIAL_PATH = "/trial.ela"  # and one it is lent for a while
CACHE_PATH = "/features.bin"  # of the samples it trains on, if they are kept in flash


class WorkflowError(EdgeloraError, RuntimeError):
    """A step can't go on; the message says why and what to do."""


@dataclass(frozen=True)
class Base:
    """A base network as the host holds it: the `.elm` bytes, what they say, and its short file name."""

    name: str
    elm: bytes
    model: QuantModel

    @property
    def base_id(self) -> str:
        return formats.base_id(self.elm).hex()

    @property
    def paths(self) -> tuple[str, str]:
        """Where a board may have it: in ROMFS, or in its filesystem."""
        return f"/rom/{self.name}", f"/{self.name}"

    def samples(self, part: data.Dataset) -> Samples:
        """Windows quantized to this network's input; ValueError when they do not fit it."""
        try:
            frames = self.model.frames(part.x.shape[1:])
            targets = self.model.targets(part.y)
        except ValueError as error:
            raise WorkflowError(f"{self.name}: {error}; use data of the base's kind") from error
        if part.y.max() >= self.model.classes:
            raise WorkflowError(f"labels go up to {part.y.max()}, {self.name} has {self.model.classes} classes")
        x = self.model.input.quantize(part.x)
        if self.model.has_history:
            x = x.reshape(-1, frames, *self.model.input.shape)
        return Samples(x, part.y, None if targets is part.y else targets)


def load_base(path: Path) -> Base:
    """Reads and checks a `.elm` file."""
    elm = path.read_bytes()
    model = formats.unpack_model(elm, path.name)
    twin.check_model(elm)
    return Base(path.name, elm, model)


def load_adapter(path: Path, base: Base) -> bytes:
    """Reads an `.ela` file and checks that it is one for this base."""
    adapter = path.read_bytes()
    formats.unpack_adapter(adapter, base.model, formats.base_id(base.elm), path.name)
    return adapter


def adapter_ranks(base: Base, adapter: bytes | None) -> bytes:
    """The rank of every op in an adapter, for a session to infer with it; all 0 without one."""
    count = len(base.model.ops)
    return formats.unpack_adapter(adapter, base.model).ranks(count) if adapter else bytes(count)


def load_part(spec: str, part: str) -> data.Dataset:
    """Data by name: `har:SUBJECT` or `kws:VOICE` (its `part`: pretrain, train or test) or the path of an .npz file."""
    if spec.startswith("har:"):
        subject = spec.removeprefix("har:")
        if not subject.isdigit():
            raise WorkflowError(f"{spec}: give a subject, for example har:6")
        return getattr(data.load_har(int(subject)), part)
    if spec.startswith("kws:"):
        return getattr(kws.load_kws(spec.removeprefix("kws:")), part)
    return data.load_dataset(spec)


def load_parts(spec: str, test: str | None) -> data.Parts:
    """What trains and what tests: the parts of data by name, two files, or one that is split."""
    if test:
        return data.parts(load_part(spec, "train"), load_part(test, "test"), f"the test samples of {test}")
    if spec.startswith(("har:", "kws:")):
        return data.parts(load_part(spec, "train"), load_part(spec, "test"), f"the test samples of {spec}")
    return data.split(data.load_dataset(spec), spec)


class BoardLearner:
    """A board behind a link.

    train_us: microseconds for `trained` samples; last_us, last_loss: of the last call; infer_us: a window's share of
    the last prediction.
    """

    def __init__(
        self,
        link: Link,
        base: Base,
        recipe: Recipe,
        progress: Progress | None = None,
        ranks: bytes | None = None,
        frames: int = 1,
    ) -> None:
        self.link, self.base, self.recipe, self.progress = link, base, recipe, progress
        self.info = open_base(link, base, recipe, ranks, frames)
        self.trained = self.train_us = self.last_us = 0
        self.infer_us = 0.0
        self.last_loss = 0.0  # nats, mean

    def begin(self, seed: int) -> None:
        self.link.begin(seed)

    def load(self, adapter: bytes) -> None:
        self.link.put(STATE_PATH, adapter)
        self.link.load(STATE_PATH)

    def cache(self, x: NDArray[np.int8]) -> None:
        self.link.cache(x, CACHE_PATH if self.recipe.cache == "flash" else None, self._on_window)

    def train_cached(self, picked: NDArray[np.int64], y: NDArray, learning_rate: int) -> list[int]:
        return self._trained(self.link.train_cached(picked, y, learning_rate))

    def train(self, x: NDArray[np.int8], y: NDArray, learning_rate: int) -> list[int]:
        return self._trained(self.link.train(x, y, learning_rate))

    def _trained(self, reply: TrainReply) -> list[int]:
        self.trained += len(reply.losses)
        self.last_us = reply.elapsed_us
        self.last_loss = float(np.mean(reply.losses / 4096))
        self.train_us += reply.elapsed_us
        return reply.losses.tolist()

    def flush(self, learning_rate: int) -> None:
        self.link.flush(learning_rate)

    def save(self, state: bool) -> bytes:
        path = STATE_PATH if state else ADAPTER_PATH
        self.link.save(path, state)
        return self.link.get(path)

    def use(self, adapter: bytes | None) -> None:
        if adapter is None:
            return self.link.use(None)
        self.link.put(TRIAL_PATH, adapter)
        try:
            self.link.use(TRIAL_PATH)
        finally:
            self.link.remove(TRIAL_PATH)

    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]:
        reply = self.link.eval(x, lock_heap=True, progress=self._on_window)
        self.infer_us = reply.elapsed_us / len(x)
        return reply.predictions.astype(np.int64)

    def _on_window(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(done, total, "windows")


def open_base(link: Link, base: Base, recipe: Recipe, ranks: bytes | None = None, frames: int = 1) -> ModelInfo:
    """Opens the base on the board, from ROMFS if it is there, else from its filesystem, where it is put if missing.

    ranks: to infer with an adapter of these; None: to train by the recipe. frames: of a sample.
    """
    recompute = recomputed(base, recipe) if ranks is None else None
    mode = recipe.mode if ranks is None else "infer"
    here = [path for path in base.paths if link.holds(path, base.elm)]
    if not here:
        link.put(base.paths[1], base.elm)
        here = [base.paths[1]]
    ranks = recipe.ranks(base.model) if ranks is None else ranks
    settings = (list(ranks), mode, recipe.micro_batch, recipe.momentum, recompute, recipe.threshold)
    info = link.open_model(here[0], *settings, frames=frames)
    if info.base_id != base.base_id:
        raise WorkflowError(
            f"the board's {here[0]} has base id {info.base_id}, {base.name} has {base.base_id}: flash again"
        )
    return info


def recomputed(base: Base, recipe: Recipe) -> bytes | None:
    """Which outputs training computes again, so that it fits the recipe's RAM: one byte an op, None for none."""
    return choose_recompute(base.elm, recipe, recipe.ram) if recipe.ram else None


@dataclass(frozen=True)
class BoardRun:
    """A personalization on a board: the run, accuracy before and after (shares of 1), and its costs.

    Microseconds are the board's own; train_step_us is a sample's share, updates included, None if
    a resumed run had nothing left to train. energy: by clock, where the board's power is known at several. end: of a
    run that the board did by itself.
    """

    run: Run
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    info: ModelInfo
    train_step_us: float | None
    infer_us: float
    swap_us: float
    swap_flash_us: float
    energy: list[EnergyRow]
    clock_hz: int | None = None  # of training, if not the board's usual one
    end: RunReply | None = None


def personalize_board(
    link: Link,
    base: Base,
    samples: Samples,
    test: Samples,
    recipe: Recipe,
    metrics: UpdateLog,
    progress: Progress | None = None,
    resume: bool = False,
    pace: Pace | None = None,
    note: Callable[[str], None] | None = None,
) -> BoardRun:
    """Evaluates, trains, saves and evaluates again on the board; every epoch ends with a checkpoint in its flash.

    pace: how the board trains by itself, for recipes that say so; else the host hands it every sample.
    """
    learner = BoardLearner(link, base, recipe, progress, frames=samples.frames)
    learner.use(None)
    before = learner.predict(test.x)
    profile = _profile(link.hello())
    end = None
    if recipe.on_board:
        pace = pace or Pace()
        identity = formats.base_id(base.elm)
        trained = train_on_board(link, identity, samples, recipe, pace, profile, metrics, progress, resume, note)
        run = Run(learner.save(False), learner.save(True), trained.losses, trained.epoch_losses)
        step_us, end, clock_hz = trained.step_us, trained.end, pace.clock_hz
        if end.crc != zlib.crc32(run.adapter):
            raise WorkflowError("the adapter in the board's store is not the one that it trained: train again")
    else:
        watts = profile.watts() if profile else None
        run = _train_from_host(learner, samples, recipe, metrics, watts, progress, resume)
        step_us = round(learner.train_us / learner.trained, 1) if learner.trained else None
        clock_hz = None
    link.use(ADAPTER_PATH)
    after = learner.predict(test.x)
    infer_us = learner.infer_us
    swap_us = link.bench_swap(ADAPTER_PATH, ADAPTER_PATH, 20).mean_us
    swap_flash_us = link.bench_swap_file(ADAPTER_PATH, ADAPTER_PATH, 10).mean_us
    if recipe.cache == "flash" and learner.trained:
        link.remove(CACHE_PATH)
    energy = []
    if step_us is not None and profile:
        energy = energy_by_clock(link, profile, recipe.micro_batch, step_us, infer_us, clock_hz)
    return BoardRun(run, before, after, learner.info, step_us, infer_us, swap_us, swap_flash_us, energy, clock_hz, end)


def _profile(hello: Hello) -> BoardProfile | None:
    name = board_of(hello.board, "")
    return load_board(name) if name else None


def _train_from_host(
    learner: BoardLearner,
    samples: Samples,
    recipe: Recipe,
    metrics: UpdateLog,
    watts: float | None,
    progress: Progress | None,
    resume: bool,
) -> Run:
    done = _resume(learner, samples) if resume else 0
    if not done:
        learner.begin(recipe.seed)
    recording = _recording(metrics, learner, samples, recipe, watts, progress)
    return train(learner, samples, recipe, recording, lambda: _checkpoint(learner.link), done)


def _recording(
    metrics: UpdateLog,
    learner: BoardLearner,
    samples: Samples,
    recipe: Recipe,
    watts: float | None,
    progress: Progress | None,
) -> Progress:
    """A progress callback that also writes a line of metrics for every update."""
    updates = schedule(len(samples), recipe)

    def record(done: int, total: int, what: str) -> None:
        batch = updates[done - 1]
        us = learner.last_us
        joules = None if watts is None else us * 1e-6 * watts
        metrics.update(done, batch.epoch + 1, learner.last_loss, batch.learning_rate, len(batch.picked), us, joules)
        if progress:
            progress(done, total, what)

    return record


def _checkpoint(link: Link) -> None:
    try:
        link.save(STATE_PATH, state=True)
    except RuntimeError as error:
        if "pending" not in str(error):
            raise


def _resume(learner: BoardLearner, samples: Samples) -> int:
    """Loads the board's checkpoint; the number of updates it has behind it, 0 if there is none.

    The host twin repeats these updates, so that a checkpoint of other samples or another recipe is told apart.
    """
    link, base, recipe = learner.link, learner.base, learner.recipe
    if STATE_PATH.lstrip("/") not in {entry.name for entry in link.list("/")}:
        return 0
    checkpoint = link.get(STATE_PATH)
    done = formats.unpack_adapter(checkpoint, name=STATE_PATH).updates
    if train_twin(base.elm, recipe.ranks(base.model), samples, recipe, done).state != checkpoint:
        raise WorkflowError(
            "the board's checkpoint is of another run (base, samples or settings): repeat these, "
            "or start without --resume"
        )
    link.load(STATE_PATH)
    return done


def check_identical(base: Base, samples: Samples, recipe: Recipe, run: BoardRun) -> bool:
    """Trains the host twin on the same samples: has it the board's adapter and training state, byte for byte?"""
    twin_run = train_twin(base.elm, recipe.ranks(base.model), samples, recipe)
    return twin_run.adapter == run.run.adapter and twin_run.state == run.run.state


def float_baseline(
    net: nn.FloatNet,
    train_part: data.Dataset,
    test_part: data.Dataset,
    recipe: Recipe,
) -> float_lora.FloatLoraResult:
    """Float LoRA on the host with the recipe's rank, placement, samples, epochs and mode."""
    return float_lora.train_float_lora(
        net,
        train_part,
        test_part,
        recipe.rank,
        placed(net.layers, recipe.placement),
        epochs=recipe.epochs,
        seed=recipe.seed,
        train_a=recipe.mode == "trainable_a",
        batch=recipe.micro_batch,
        ranks=recipe.given_ranks,
    )


def pretrained_har(subject: int, seed: int, progress: Progress | None = None, cache: Path = CACHE) -> nn.FloatNet:
    """The base pretrained without `subject`: from the cache if it was made before."""
    return _pretrained(
        cache / f"har-{subject}-{seed}-{pretrain.VERSION}.npz", lambda: data.load_har(subject).pretrain, seed, progress
    )


def pretrained_kws(seed: int, progress: Progress | None = None, cache: Path = CACHE) -> nn.FloatNet:
    """The base pretrained on all voices but those in `kws.VOICES`: from the cache if it was made before."""
    path = cache / f"kws-{kws.part_key(kws.PRETRAINING, 'pretrain')}-{seed}-{pretrain.VERSION}.npz"
    return _pretrained(path, lambda: kws.spoken(kws.PRETRAINING, "pretrain"), seed, progress)


def _pretrained(path: Path, load: Callable[[], data.Dataset], seed: int, progress: Progress | None) -> nn.FloatNet:
    if not path.exists():

        def on_epoch(done: int, total: int, loss: float) -> None:
            if progress:
                progress(done, total, f"loss {loss:.3f}")

        pretrain.save_net(pretrain.pretrain(load(), seed, progress=on_epoch), path)
    return pretrain.load_net(path)


def make_report(
    base: Base,
    samples: Samples,
    test: Samples,
    recipe: Recipe,
    run: BoardRun,
    hello: Hello,
    baseline: float_lora.FloatLoraResult | None,
    subject: str,
    identical: bool,
    tested_on: str,
) -> Report:
    """Everything a run measured, in one report."""
    settings = (recipe.mode, recipe.micro_batch, recipe.momentum, recomputed(base, recipe))
    layout = twin.layout(base.elm, recipe.ranks(base.model), *settings)
    profile = _profile(hello)
    cost = profile and predict(base.elm, recipe.ranks(base.model), *settings, profile, samples.frames)
    power = profile and profile.power
    slower = cost.clock_hz / run.clock_hz if cost and run.clock_hz else 1
    classes = base.model.classes
    notes = ["Times are the board's own clock."]
    if test.frames > 1:
        notes.append(f"Inference is that of a whole window of {test.frames} frames.")
    if run.clock_hz:
        notes.append(f"Training ran at {run.clock_hz / 1e6:g} MHz.")
    return Report(
        title=f"Personalizing {base.name} to {subject}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        board=hello.board,
        firmware=f"{hello.micropython}, edgelora {hello.edgelora}",
        subject=subject,
        seed=recipe.seed,
        labels=base.model.labels,
        base_accuracy=accuracy(run.before, test),
        adapted_accuracy=accuracy(run.after, test),
        float_base_accuracy=baseline.base_accuracy if baseline else None,
        float_lora_accuracy=baseline.accuracy if baseline else None,
        float_lora_losses=baseline.losses if baseline else [],
        host_twin_identical=identical,
        arena_bytes=run.info.arena,
        free_heap_bytes=run.info.free,
        adapter_bytes=len(run.run.adapter),
        model_bytes=len(base.elm),
        base_id=base.base_id,
        infer_us=round(run.infer_us, 1),
        train_step_us=run.train_step_us,
        swap_us=round(run.swap_us, 1),
        swap_flash_us=round(run.swap_flash_us, 1),
        predicted_infer_us=round(cost.infer_us, 1) if cost else None,
        predicted_train_step_us=round(cost.step_us * slower, 1) if cost and recipe.cache == "none" else None,
        active_watts=profile.watts() if profile else None,
        power_source=power.source if power else "",
        update_joules=_update_joules(run.train_step_us, recipe, profile.watts(run.clock_hz) if profile else None),
        energy=run.energy,
        checkpoint_bytes=run.end.checkpoint if run.end else None,
        samples=len(samples),
        test_samples=len(test),
        tested_on=tested_on,
        epochs=recipe.epochs,
        steps=len(schedule(len(samples), recipe)),
        rank=max(recipe.ranks(base.model)),
        mode=recipe.mode,
        micro_batch=recipe.micro_batch,
        momentum=recipe.momentum,
        learning_rate=recipe.learning_rate,
        losses=run.run.losses,
        epoch_losses=run.run.epoch_losses,
        confusion_base=confusion(run.before, test.y, classes),
        confusion_adapted=confusion(run.after, test.y, classes),
        layers=[
            LayerRow(p.op, p.kind, list(p.input), list(p.output), p.weights, p.rank, p.adapter_bytes)
            for p in layer_plans(base.model, recipe)
        ],
        memory=list(layout.regions),
        memory_steps=layout.steps,
        notes=notes,
    )


def _update_joules(step_us: float | None, recipe: Recipe, watts: float | None) -> float | None:
    return None if step_us is None or watts is None else recipe.micro_batch * step_us * 1e-6 * watts


def accuracy(predicted: NDArray[np.int64], test: Samples) -> float:
    """Share of 1, to four places."""
    return round(float(np.mean(predicted == test.y)), 4)
