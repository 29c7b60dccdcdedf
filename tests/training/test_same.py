"""A pretrained base is the same on every computer: other kernels, threads and instructions change no byte."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from fresh import some
from numpy._core import _multiarray_umath as numpy_core

from edgelora.model.floatnet import deterministic_math

# Trains a base of either kind for an epoch, with all steps, and prints hashes of its bytes.
TRAINING = """
import hashlib
import numpy as np
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet.pretraining import pretrain
from edgelora.model.quantization.quantize import quantize
rng = np.random.default_rng(0)
for shape in ((1, 100, 6), (49, 10, 1)):
    x = rng.integers(-999, 999, (70, *shape)).astype(np.float32) / np.float32(300)
    part = Dataset(x, rng.integers(0, 5, 70), list("abcde"))
    net = pretrain(part, 1, 2 if shape[0] == 1 else 1)
    weights = b"".join(layer.weights.tobytes() + layer.bias.tobytes() for layer in net.layers if layer.bias is not None)
    elm = pack_model(quantize(net, x))
    print(hashlib.sha256(weights).hexdigest(), base_id(elm).hex())
"""
FEATURES = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__.get(name)]
KERNELS = ("Haswell", "Prescott", "Zen", *(["SkylakeX"] if numpy_core.__cpu_features__["AVX512_SKX"] else []))
COMPUTERS = {
    "one thread": {"OPENBLAS_NUM_THREADS": "1"},
    "two threads": {"OPENBLAS_NUM_THREADS": "2"},
    **{core: {"OPENBLAS_CORETYPE": core} for core in KERNELS},
    "no vector instructions": {"NPY_DISABLE_CPU_FEATURES": " ".join(FEATURES)},
    "no fused products": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4", "OPENBLAS_CORETYPE": "Prescott"},
}


def trained(computer: dict[str, str]) -> str:
    settings = {"OPENBLAS_NUM_THREADS": "1"} | computer
    done = subprocess.run(
        [sys.executable, "-c", TRAINING],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="these settings are for x86-64")
def test_a_base_is_the_same_on_every_computer() -> None:
    found = {name: trained(COMPUTERS[name]) for name in some([*COMPUTERS], 2)}
    assert len(set(found.values())) == 1, found


def test_products_are_exact_sums_of_rounded_factors() -> None:
    """In any order; and close to float64."""
    rng = np.random.default_rng(0)
    for rows, inner, columns in ((1, 1, 1), (7, 5, 3), (40, 4000, 9), (64, 600, 64)):
        a = (rng.normal(size=(rows, inner)) * 10.0 ** rng.integers(-3, 3)).astype(np.float32)
        b = rng.normal(size=(inner, columns)).astype(np.float32)
        got, order = deterministic_math.product(a, b), rng.permutation(inner)
        assert got.dtype == np.float32 and np.array_equal(got, deterministic_math.product(a[:, order], b[order]))
        wide = a.astype(np.float64) @ b.astype(np.float64)
        scale = np.abs(a).max() * np.abs(b).max() * inner
        assert np.abs(got - wide).max() <= 2.0**-19 * scale
    assert not deterministic_math.product(np.zeros((2, 3), np.float32), np.ones((3, 2), np.float32)).any()
    halves = np.array([[3, -5]]) / 2
    assert deterministic_math.product(halves, halves.T).tolist() == [[8.5]], "float64 is left alone"


def test_functions_are_near_enough() -> None:
    x = np.linspace(-90, 80, 100001)
    assert np.abs(deterministic_math.exp(x) / np.exp(x) - 1).max() < 2e-14
    assert deterministic_math.exp(np.array([0, -1000, 1], np.float32)).tolist() == [1, 0, np.float32(np.e)]
    turns = np.linspace(0, 1, 101)
    assert np.abs([deterministic_math.cosine(t) - np.cos(np.pi * t) for t in turns]).max() < 1e-15
    z = deterministic_math.normal(np.random.default_rng(0), (200000,), 2.0)
    assert z.dtype == np.float32 and abs(z.mean()) < 0.02 and abs(z.std() - 2) < 0.02
    assert 0.97 < np.quantile(z, 0.8413) / 2 < 1.05 and np.abs(z).max() < 2 * 3.47
