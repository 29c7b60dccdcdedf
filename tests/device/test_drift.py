"""Drift of unlabelled windows: the rule in NumPy, and desktop MicroPython against the same code on the host."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from programs import desktop

from edgelora.base.errors import InputError
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.twin import device, native
from edgelora.learn.training.data.base import pretrained_har
from edgelora.model.datasets.har import load_har
from edgelora.model.quantization.quantize import quantize_on

PERSON = 5
COUNT = 128


@pytest.fixture(scope="module")
def life() -> tuple[bytes, NDArray[np.int8], NDArray[np.int8]]:
    """A base, and a person's windows in random order, each three times with noise; the same with turned axes."""
    people = load_har(PERSON)
    model = replace(quantize_on(pretrained_har(PERSON, 0), people.pretrain), signal=people.train.signal)
    rng = np.random.default_rng(3)
    x = people.train.x[np.concatenate([rng.permutation(len(people.train)) for _ in range(3)])]
    x = x + rng.normal(0, 0.05, x.shape)
    turned = np.concatenate([x[..., [1]], -x[..., [0]], x[..., [2, 4]], -x[..., [3]], x[..., [5]]], -1)
    return pack_model(model), *(model.input.quantize(one.astype(np.float32)) for one in (x, turned))


def drift_of(elm: bytes, *given: Any) -> Any:
    with device.refusals():
        return device.module("drift").Drift(device.module().Model(elm, mode="infer"), *given)


def alarms_of(drift: Any, windows: NDArray[np.int8]) -> list[int]:
    return [i for i, window in enumerate(windows) if drift.add(window.tobytes())]


def by_the_rule(windows: NDArray[np.int8], count: int, first: int) -> list[int]:
    """The windows with an alarm, as SPEC says."""
    means = windows.reshape(len(windows), -1, 6).astype(int).sum(1) // 100
    slots = list(range(count))
    for i in range(count, first):
        if (slot := native.draw(0, 131074, i, i + 1)) < count:
            slots[slot] = i
    usual = means[slots]
    apart = np.abs(usual[:, None] - usual).sum(-1) + np.eye(count, dtype=int) * 10**6
    limit = np.sort(apart.min(1))[(count - 1) * 19 // 20]
    is_new = np.abs(means[:, None] - usual).sum(-1).min(1) > limit
    return [i for i in range(first, len(means)) if is_new[max(first, i - 31) : i + 1].sum() >= 20]


@pytest.mark.parametrize(("count", "first"), [(COUNT, COUNT), (40, 130)])
def test_the_rule(count: int, first: int, life: tuple[bytes, NDArray[np.int8], NDArray[np.int8]]) -> None:
    elm, usual, turned = life
    windows = np.concatenate([usual[:200], turned[:80], usual[200:260]])
    drift = drift_of(elm, None, count, first)
    assert drift.left == first
    found = alarms_of(drift, windows)
    assert found == by_the_rule(windows, count, first) and drift.left == 0


def test_a_turned_sensor_is_an_alarm(life: tuple[bytes, NDArray[np.int8], NDArray[np.int8]]) -> None:
    """Within 32 windows, none without it; after a restart the turned windows are what is usual."""
    elm, usual, turned = life
    drift = drift_of(elm)
    assert not alarms_of(drift, usual) and not drift.alarm
    assert alarms_of(drift, turned[:32]) and drift.alarm and drift.new >= 20
    drift.restart()
    assert drift.left == COUNT and not drift.alarm and not alarms_of(drift, turned)
    assert alarms_of(drift, usual[:32])


def test_a_board_does_the_same(life: tuple[bytes, NDArray[np.int8], NDArray[np.int8]], tmp_path: Path) -> None:
    """With a reset before and after it has learned what is usual."""
    elm, usual, turned = life
    windows = np.concatenate([usual[:120], turned[:60]])
    (tmp_path / "base.elm").write_bytes(elm)
    packed = pack_samples(windows, np.zeros(len(windows), np.int64), None, base_id(elm))
    (tmp_path / "windows.eld").write_bytes(packed)
    drift = drift_of(elm, None, 24, 80)
    wanted = [alarms_of(drift, windows), drift.kept.hex()]
    assert wanted[0]
    for reset in (50, 150):
        assert json.loads(desktop(tmp_path, f"import drift_runs; drift_runs.main(24, 80, {reset})")) == wanted


def test_what_is_not_its_own_is_refused(life: tuple[bytes, NDArray[np.int8], NDArray[np.int8]]) -> None:
    elm, usual, _ = life
    drift = drift_of(elm, None, 4)
    alarms_of(drift, usual[:20])
    kept = drift.kept
    for at in range(len(kept)):
        with pytest.raises(InputError, match="damaged"):
            drift_of(elm, kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
        with pytest.raises(InputError, match="damaged"):
            drift_of(elm, kept[:at])
    model = unpack_model(elm)
    model.ops[0].weights.flat[0] ^= 1
    with pytest.raises(InputError, match="another base"):
        drift_of(pack_model(model), kept)
    with pytest.raises(InputError, match="signal"):
        drift_of(pack_model(replace(model, signal=None)))
    for count, windows in ((1, 0), (8, 7), (1025, 0)):
        with pytest.raises(InputError, match="of at least as many"):
            drift_of(elm, None, count, windows)
    with pytest.raises(ValueError, match="must be 600"):
        drift.add(bytes(599))
