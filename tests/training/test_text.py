"""Text by author: symbols, windows, and what is said where it can't be fetched."""

import subprocess

import numpy as np
import pytest

from edgelora.base.errors import InputError, MissingPackage
from edgelora.model.datasets import text


def test_symbols_of_a_text() -> None:
    ids = text.encode("“Ça”\t  va\n \n— it’s\x07\n")
    assert "".join(text.SYMBOLS[i] for i in ids) == '"Ca" va\n-- it\'s\n'
    assert len(text.SYMBOLS) == 96 and text.encode(text.SYMBOLS[1:]).tolist() == list(range(1, 96))


def test_windows_have_the_next_symbol_at_each_position() -> None:
    ids = np.arange(3 * text.WINDOW + 1, dtype=np.uint8)
    made = text.windows(ids, text.WINDOW - text.COUNTED)
    assert made.x.shape == (5, 1, text.WINDOW, 1) and made.y.shape == (5, text.WINDOW)
    assert np.array_equal(made.x[:, 0, :, 0] + 1, made.y) and made.x[:, 0, 0, 0].tolist() == [0, 32, 64, 96, 128]


def test_authors_are_named() -> None:
    with pytest.raises(InputError, match="barack_obama"):
        text.load_author("nobody")


def test_what_to_do_without_npm_or_network(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(text.shutil, "which", lambda name: None)
    with pytest.raises(MissingPackage, match="apt-get install npm"):
        text._archive(tmp_path)
    failed = subprocess.CompletedProcess([], 1, "", "ENOTFOUND")
    monkeypatch.setattr(text.shutil, "which", lambda name: name)
    monkeypatch.setattr(text.subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(text.TextError, match="ENOTFOUND.*network"):
        text._archive(tmp_path)
    (tmp_path / text.ARCHIVE).write_bytes(b"")
    with pytest.raises(text.TextError, match="remove it"):
        text._archive(tmp_path)
