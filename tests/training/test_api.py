"""`import edgelora` beyond runs: predictions of a base and of adapters, given as objects or as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgelora
from edgelora.base.errors import InputError
from edgelora.board.sim import virtual_board
from edgelora.core.formats.elm import unpack_model
from edgelora.learn.training.data.base import Base


@pytest.fixture
def base(keyword_elm: bytes) -> Base:
    return Base("kws.elm", keyword_elm, unpack_model(keyword_elm))


def samples(base: Base, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    tensor = base.model.input
    x = (rng.integers(-128, 128, (count, *tensor.shape)) - tensor.zero_point) * tensor.scale
    return x.astype(np.float32), rng.integers(0, base.model.classes, count)


def test_predictions_of_a_base_and_of_adapters(base: Base, tmp_path: Path) -> None:
    """Classes, accuracy and confusion matrix agree; an adapter may be a file; a board gives the same answers."""
    x, y = samples(base, 60)
    run = edgelora.personalize(base, (x, y), (x, y), recipe=edgelora.Recipe(rank=2, epochs=20, learning_rate=20000))
    run.save(tmp_path / "me.ela")
    for adapter in (None, run.adapter, tmp_path / "me.ela", str(tmp_path / "me.ela")):
        said = edgelora.predict(base, x, adapter)
        accuracy = run.before if adapter is None else run.after
        assert edgelora.evaluate(base, (x, y), adapter) == accuracy == round(float(np.mean(said == y)), 4)
        counts = edgelora.confusion_matrix(base, (x, y), adapter)
        assert counts.shape == (base.model.classes,) * 2 and counts.sum() == 60
        assert counts.trace() == (said == y).sum() and (counts.sum(1) == np.bincount(y, minlength=12)).all()
        assert (edgelora.predict(base, (x, y), adapter) == said).all()
    assert (edgelora.predict(base, x) != edgelora.predict(base, x, run.adapter)).any()
    board = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    try:
        with edgelora.Board(board.port) as behind:
            assert (edgelora.predict(base, x, run.adapter, board=behind) == said).all()
            assert (edgelora.confusion_matrix(base, (x, y), tmp_path / "me.ela", board=behind) == counts).all()
    finally:
        board.kill()


def test_settings_of_a_recipe() -> None:
    """With the usual names; other settings have the mode's defaults, also after a change of the mode."""
    given = edgelora.Recipe(learning_rate=700, momentum=1)
    assert (given.initial_rate, given.momentum_shift) == (700, 1)
    usual = edgelora.Recipe(mode="trainable_a")
    assert usual.learning_rate is None and usual.initial_rate != edgelora.Recipe().initial_rate
    for wrong, said in (({"learning_rate": 0}, "learning rate 0: give one from 1"), ({"momentum": 99}, "momentum 99")):
        with pytest.raises(InputError, match=said):
            edgelora.Recipe(**wrong)


def test_calls_that_have_no_result_are_refused(base: Base, tmp_path: Path) -> None:
    x, y = samples(base, 3)
    with pytest.raises(OSError, match="nothing.ela"):
        edgelora.evaluate(base, (x, y), tmp_path / "nothing.ela")
    with pytest.raises(InputError):
        edgelora.predict(base, x[:0])
    with pytest.raises(edgelora.EdgeloraError):
        edgelora.predict(base, x[:, :1])
