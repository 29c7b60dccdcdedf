"""Notes on class names, on inputs and outputs beyond their grids, and on samples that say little."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelora.base.errors import InputError
from edgelora.cli.main import main
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base, WorkflowError, adapter_ranks
from edgelora.learn.training.data.data_checks import remarks
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.host_run import train_adapter
from edgelora.model.datasets.dataset import Dataset, by_name, parts, save_dataset
from edgelora.model.floatnet import layers
from edgelora.model.quantization.quantize import HEAD_ROOM, quantize

NAMES = ["still", "walk", "run"]


def steps(count: int, seed: int, labels: list[str] = NAMES) -> Dataset:
    """Noisy steps, whose position is the class."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(count) % 3)
    x = rng.normal(0, 0.1, (count, 1, 12, 2))
    for i, label in enumerate(y):
        x[i, 0, 4 * label : 4 * label + 4] += 1
    return Dataset(x.astype(np.float32), y, labels)


@pytest.fixture(scope="module")
def base() -> Base:
    return made()


def made(head_room: float = HEAD_ROOM) -> Base:
    net = layers.build((1, 12, 2), [layers.conv(8, (1, 3)), layers.dense(3)], 7)
    model = quantize(net, steps(64, 1).x, head_room=head_room)
    model.labels = list(NAMES)
    elm = pack_model(model)
    return Base("toy.elm", elm, unpack_model(elm))


def test_permuted_names_are_the_same_classes(base: Base) -> None:
    """Samples with class names in another order train the same adapter."""
    own = steps(24, 2)
    order = ["run", "still", "walk"]
    other = Dataset(own.x, np.array([order.index(NAMES[label]) for label in own.y]), order)
    assert not np.array_equal(other.y, own.y)
    first, second = base.samples(own), base.samples(other)
    assert np.array_equal(first.y, second.y)
    test, recipe = base.samples(steps(30, 3)), Recipe(rank=2, epochs=1)
    assert train_adapter(base, first, test, recipe).run == train_adapter(base, second, test, recipe).run


def test_unknown_names_are_refused_with_what_to_do(base: Base) -> None:
    strange = steps(24, 2, ["still", "walk", "swim"])
    with pytest.raises(InputError, match="toy.elm has no class 'swim'; its classes are 'still', 'walk', 'run': name"):
        base.samples(strange)
    unused = Dataset(strange.x[strange.y < 2], strange.y[strange.y < 2], strange.labels)
    assert np.array_equal(base.samples(unused).y, unused.y)  # the unknown class has no samples


def test_data_without_names_is_matched_by_class_numbers(base: Base) -> None:
    own = steps(24, 2, [])
    assert np.array_equal(base.samples(own).y, own.y)
    named = steps(24, 2, ["a", "b", "c"])
    for names in ([], ["a"], ["a", "a", "b"]):  # none, one for three outputs, a duplicate
        model = replace(base.model, labels=names)
        assert np.array_equal(Base("nameless.elm", base.elm, model).samples(named).y, named.y)
    with pytest.raises(WorkflowError, match="labels go up to 5"):
        base.samples(Dataset(own.x, own.y + 3))


def test_test_samples_are_numbered_as_those_trained() -> None:
    """Even if the base has no names, but both files have."""
    train, test = steps(12, 2), steps(9, 3, ["run", "walk", "still"])
    matched = parts(train, test, "others").test
    assert [matched.labels[label] for label in matched.y] == [test.labels[label] for label in test.y]
    assert matched.labels == train.labels
    more = steps(9, 3, ["run", "walk", "swim"])
    assert parts(train, more, "others").test is more  # left to the base
    assert by_name(test, [], "nobody") is test


def test_clipped_inputs_are_counted(base: Base) -> None:
    """Units off by 9.81 and a too narrow range give different notes; below 1 % there is none."""
    own, test = steps(60, 2), base.samples(steps(60, 3))
    low, high = base.model.input.span
    for factor in (1.0, 9.80665, 100.0):
        part = Dataset(own.x * np.float32(factor), own.y, NAMES)
        q = np.floor(part.x.astype(np.float64) / base.model.input.scale + 0.5) + base.model.input.zero_point
        told = remarks(base, None, test, base.samples(part))
        assert told.clipped == round(float(np.mean((q < -128) | (q > 127))), 4)
        said = [note for note in told.notes if "are clipped" in note]
        assert bool(said) == (told.clipped >= 0.01) == (factor > 1)
        assert all(f"range {low:.4g} to {high:.4g}" in note and "edgelora quantize" in note for note in said)
        assert ["m/s2" in note for note in said] == ([factor < 100] if said else [])
    assert [note for note in remarks(base, None, base.samples(part)).notes if "test samples' values" in note]


def test_values_at_the_ends_of_the_range_are_not_clipped(base: Base) -> None:
    tensor = base.model.input
    low, high = tensor.span
    assert list(tensor.quantize(np.array([low, high]))) == [-128, 127]
    assert tensor.clipped(np.array([low, high])) == 0
    assert tensor.clipped(np.array([low - tensor.scale, low, high, high + tensor.scale])) == 0.5


def test_saturated_outputs_are_counted(base: Base) -> None:
    """The share equals that of the adapter's answers, sample by sample; logits without room give a note."""
    samples, data = base.samples(steps(60, 2)), steps(40, 3)
    adapter = train_adapter(base, samples, base.samples(data), Recipe(rank=4, epochs=2)).run.adapter
    for ela in (None, adapter):
        told = remarks(base, ela, base.samples(data))
        assert told.saturated == saturated_by_hand(base, ela, base.samples(data)) < 0.1 and not told.notes
    tight = made(head_room=0.5)
    told = remarks(tight, None, tight.samples(data))
    assert told.saturated == saturated_by_hand(tight, None, tight.samples(data)) > 0.1
    assert any("saturate an int8 output" in note for note in told.notes)


def saturated_by_hand(base: Base, adapter: bytes | None, test: Samples) -> float:
    session = Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
    session.use(adapter)
    count = 0
    for x in test.x:
        session.infer_sample(x)
        count += int(session.logits.max()) in (-128, 127)
    return round(count / len(test), 4)


def test_remarks_about_few_or_uniform_samples(base: Base) -> None:
    own, test = steps(30, 2), base.samples(steps(30, 3))
    assert remarks(base, None, test, base.samples(own)).notes == []
    walks = Dataset(own.x[own.y == 1], own.y[own.y == 1], NAMES)
    (note,) = remarks(base, None, test, base.samples(walks)).notes
    assert note.startswith("all 10 training samples are of one class, walk")
    few = base.samples(steps(19, 3))
    assert [note[:15] for note in remarks(base, None, few, base.samples(own)).notes] == ["19 test samples"]


def test_commands_tell(base: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In text and in JSON, for training and test samples; other names are refused."""
    (tmp_path / "toy.elm").write_bytes(base.elm)
    own, test = steps(40, 2), steps(12, 3)
    save_dataset(Dataset(own.x * np.float32(9.8), own.y, NAMES), tmp_path / "train.npz")
    save_dataset(test, tmp_path / "test.npz")
    save_dataset(steps(12, 3, ["a", "b", "c"]), tmp_path / "other.npz")
    elm, few = tmp_path / "toy.elm", "12 test samples are few"
    commands = {
        "m/s2": ("train-adapter", elm, "--data", tmp_path / "train.npz", "--test", tmp_path / "test.npz"),
        few: ("eval", elm, "--data", tmp_path / "test.npz", "--twin"),
    }
    for said, command in commands.items():
        rest = ("--epochs", 1, "-o", tmp_path / "a.ela") if command[0] == "train-adapter" else ()
        main([str(arg) for arg in (*command, *rest)])
        assert said in capsys.readouterr().err
        main([str(arg) for arg in (*command, *rest, "--json")])
        printed = capsys.readouterr()
        told = json.loads(printed.out)
        assert said in " ".join(told["notes"]) and few in " ".join(told["notes"]) and not printed.err
        assert (told["clipped"] > 0.01) == (command[0] == "train-adapter") and told["saturated"] < 0.1
    assert main(["eval", str(elm), "--data", str(tmp_path / "other.npz"), "--twin"]) == 1
    assert "has no class 'a', 'b', 'c'" in capsys.readouterr().err
