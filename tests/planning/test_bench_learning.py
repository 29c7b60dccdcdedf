"""Data of `edgelora bench learning` that no table has, and its comparison with floats."""

import dataclasses

import numpy as np

from benchmarks import command, other_data
from benchmarks.learning import ALL_TASKS, OTHER_TASKS, TASKS, LearningBench, LearningRun
from edgelora.model.datasets import keywords
from edgelora.model.datasets.har import load_har
from edgelora.model.datasets.speech import Voice


def test_other_data_share_nothing_with_the_tables() -> None:
    """One sensor of the watches, and digits by speakers whom neither bases nor tables have."""
    assert set(ALL_TASKS) == {*TASKS, *OTHER_TASKS} == {*TASKS, *command.OTHER_TASKS}
    whole, rotation = load_har(2), other_data.axes("2", "rotation")
    for part in ("pretrain", "train", "test"):
        windows, kept = getattr(whole, part), getattr(rotation, part)
        assert np.array_equal(kept.x, windows.x[..., 3:]) and np.array_equal(kept.y, windows.y)
    known = {voice.identity for voice in [*keywords.PRETRAINING, *keywords.VOICES.values()]}
    languages = {identity.partition("+")[0] for identity in known}
    assert not languages & {speaker.partition("+")[0] for speaker in other_data.SPEAKERS}
    assert not set(other_data.DIGITS) & set(keywords.KEYWORDS)


def test_other_words_are_spoken_in_the_order_of_their_labels() -> None:
    how = dataclasses.replace(keywords.PARTS["train"], keyword_clips=1, other_clips=2, silent_clips=1)
    speaker = Voice("espeak-ng", other_data.SPEAKERS[0])
    said = keywords.record([speaker], how, other_data.DIGITS, other_data.NO_DIGITS)
    assert said.labels == [*other_data.DIGITS, "unknown", "silence"]
    assert said.y.tolist() == [*range(10), 10, 10, 11] and said.x.shape == (13, 98, 40, 1)
    three = keywords.record([speaker], how, ("three", "four"), "zero")
    assert np.array_equal(three.x[0], said.x[3]) and three.y.tolist() == [0, 1, 2, 2, 3]


def test_integers_are_compared_with_floats_of_their_mode() -> None:
    runs = [LearningRun("1", seed, 0.5, 0.5, 0.8, 0.7, 0.6 + 0.1 * seed, 0.9, 0.7, 0.6) for seed in (0, 1)]
    bench = LearningBench(runs, {})
    assert bench.minus_float == {
        "integer_frozen_a": (-0.05, 0.05),
        "integer_trainable_a": (0.1, 0.0),
        "in_use_frozen_a": (0.0, 0.0),
        "in_use_trainable_a": (-0.2, 0.0),
    }
    assert bench.as_json()["minus_float"] == bench.minus_float
