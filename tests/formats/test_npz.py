"""`.npz` files of any kind are read correctly or refused with one line; nothing is ever unpickled."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import edgelora

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.npz import NpzError, read_npz
from edgelora.model.datasets import dataset
from edgelora.model.datasets.recordings import load_capture
from edgelora.model.floatnet import files, layers
from edgelora.model.quantization.quantize import quantize

X = np.random.default_rng(0).normal(size=(8, 1, 12, 2)).astype(np.float32)
Y = np.arange(8) % 3
SIGNALLING = np.full(X.shape, 0x7FF0000000000001, np.uint64).view(np.float64)  # signalling NaNs: arithmetic warns


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(f"{name}.npy", content)
    return file.getvalue()


def saved(compressed: bool = False, **arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return np.lib.format.magic(1, 0) + struct.pack("<H", len(text)) + text + content


def claiming(size: int) -> bytes:
    """An archive whose table states a wrong size for its array."""
    whole = bytearray(saved(x=X))
    struct.pack_into("<I", whole, whole.rindex(b"PK\1\2") + 24, size)
    return bytes(whole)


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (pytest.fail, ("it was unpickled",))


def pickled() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.array([Evil()], object), y=Y)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_written_is_read(tmp_path: Path, compressed: bool) -> None:
    arrays = {"x": X, "turned": np.asfortranarray(X[0, 0]), "none": X[:0], "names": np.array(["a", "bc"]), "one": Y[0]}
    (tmp_path / "a.npz").write_bytes(saved(compressed, **arrays))
    found = read_npz(tmp_path / "a.npz", "")
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) and found[name].flags.writeable for name in arrays)


def test_cut_or_with_bits_flipped_anywhere(tmp_path: Path) -> None:
    """A file is read or refused with an NpzError: no other exception is raised."""
    file, rng, refused = tmp_path / "a.npz", np.random.default_rng(1), 0
    for whole in (saved(x=X[:1], y=Y[:2]), saved(True, x=X[:1], y=Y[:2])):
        damaged = [whole[:size] for size in range(0, len(whole), 3)]
        for _ in range(2000):
            flipped = bytearray(whole)
            for at in rng.integers(0, len(whole), rng.integers(1, 3)):
                flipped[at] ^= 1 << rng.integers(8)
            damaged.append(bytes(flipped))
        for content in damaged:
            file.write_bytes(content)
            try:
                with warnings.catch_warnings(action="ignore"):
                    read_npz(file, "")
            except NpzError as error:
                assert "\n" not in str(error) and str(error).startswith(str(file))
                refused += 1
    assert refused > 2000


LARGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"
DAMAGED = {
    "empty": b"",
    "text": b"x,y\n1,2\n",
    "one bare array": npy(LARGE % "2,", bytes(8)),
    "larger than its table says": claiming(64),
    "3 GB in its table": claiming(3_000_000_000),
    "1 TB in a header": archive(x=npy(LARGE % "1000000, 1000000"), y=npy(LARGE % "0,")),
    "a count that overflows": archive(x=npy(LARGE % "4294967296, 4294967296, 16")),
    "negative": archive(x=npy(LARGE % "-2, -2", bytes(16))),
    "a header that is code": archive(x=npy("__import__('os').abort()")),
    "a long header": archive(x=npy("(" * 60000)),
    "no array": archive(x=b"hello"),
    "another version": archive(x=b"\x93NUMPY\x09\x00" + bytes(64)),
    "objects": pickled(),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.npz").write_bytes(DAMAGED[name])
    for load, remedy in (
        (dataset.load_dataset, "numpy.savez"),
        (dataset.load_inputs, "savez"),
        (files.load_net, "pretrain"),
    ):
        with pytest.raises(ValueError, match=r"bad\.npz: .*" + remedy) as told:
            load(tmp_path / "bad.npz")
        assert "\n" not in str(told.value) and len(str(told.value)) < 400


def test_too_many_and_equal_names_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(tmp_path / "a.npz", "w") as twice:
        twice.writestr("x.npy", npy(LARGE % "0,"))
        twice.writestr("x.npy", npy(LARGE % "0,"))
    with pytest.raises(NpzError, match="same name"):
        read_npz(tmp_path / "a.npz", "")
    np.savez(tmp_path / "b.npz", x=X)
    with pytest.raises(NpzError, match=f"have {X.nbytes + 128} bytes once unpacked, the limit is {X.nbytes}"):
        read_npz(tmp_path / "b.npz", "", X.nbytes)
    assert np.array_equal(read_npz(tmp_path / "b.npz", "", X.nbytes + 128)["x"], X)


def test_decompression_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    """A few hundred kilobytes that unpack to 300 MiB of samples; reading takes memory for the data only once."""
    rows, path = 300 << 20 >> 3, tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("samples.npy", "w") as file:
        file.write(npy(LARGE.replace("<f4", "<i2") % f"{rows}, 4"))
        for _ in range(300):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    np.savez_compressed(tmp_path / "plain.npz", x=np.zeros(16 << 20, np.int8))
    tracemalloc.start()
    try:
        with pytest.raises(NpzError, match=r"bomb\.npz: .*once unpacked, the limit is 268435456"):
            load_capture(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        read_npz(tmp_path / "plain.npz", "")
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X.astype(np.float64) * 1e300, "y": Y}, "not finite in float32, first in sample 0"),
        ({"x": SIGNALLING, "y": Y}, "not finite in float32, first in sample 0"),
        ({"x": X, "y": Y.astype(np.uint64) + 2**63}, "y ranges from 9223372036854775808"),
        ({"x": X, "y": Y * 1000}, "at most 256 classes"),
        ({"x": X, "y": Y, "labels": np.array([b"a", b"b", b"c"])}, "must be a list of text"),
        ({"x": X, "y": Y, "labels": np.array([["a", "b", "c"]])}, "must be a list of text"),
        ({"x": X.astype(complex), "y": Y}, "type complex128"),
        ({"x": np.float32(1), "y": Y}, "'x' is a single value"),
        ({"x": X.view([("a", "<f4")]), "y": Y}, "it must be a float type"),
    ],
)
def test_arrays_that_are_no_data_set(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=r"bad\.npz: .*" + message), np.errstate(invalid="raise"):
        dataset.load_dataset(tmp_path / "bad.npz")


def test_commands_report_damage_in_one_line(tmp_path: Path) -> None:
    """For data, a float network, calibration inputs: the line names the file, the error and the remedy."""
    net = layers.build((1, 12, 2), [layers.conv(4, (1, 3)), layers.dense(3)], 5)
    base, bad, good = tmp_path / "toy.elm", tmp_path / "bad.npz", tmp_path / "good.npz"
    base.write_bytes(pack_model(quantize(net, X)))
    dataset.save_dataset(dataset.Dataset(X, Y, list("abc")), good)
    bad.write_bytes(good.read_bytes()[:900])
    for command in (
        ("train-adapter", base, "--data", bad, "-o", tmp_path / "a.ela"),
        ("train-adapter", base, "--data", good, "--test", bad, "-o", tmp_path / "a.ela"),
        ("eval", base, "--data", bad, "--twin"),
        ("plan", base, "--data", bad),
        ("pretrain", bad, "-o", tmp_path / "n.npz"),
        ("quantize", bad, "--data", good, "-o", tmp_path / "b.elm"),
        ("quantize", good, "--data", good, "-o", tmp_path / "b.elm"),
        ("import", tmp_path / "no.tflite", "--data", bad, "-o", tmp_path / "b.elm"),
    ):
        told = edgelora(*command, code=1)
        assert told.count("\n") == 1 and "npz: " in told and ("savez" in told or "pretrain" in told), told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.npz", "good.npz", "toy.elm"]
