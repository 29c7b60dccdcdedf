"""Fixtures shared by the tests."""

import signal

import numpy as np
import pytest

from edgelora import formats, kws, quantize
from edgelora.pretrain import ds_cnn

# Where a shell runs the suite in the background it is ignored, which children inherit; tests interrupt some.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def keyword_elm() -> bytes:
    """The keyword network with random weights, quantized on noise."""
    x = np.random.default_rng(0).normal(size=(32, 49, 10, 1)).astype(np.float32)
    net = quantize.balanced(ds_cnn((49, 10, 1), len(kws.LABELS), 0, kws.LABELS), x)
    return formats.pack_model(quantize.quantize(net, x))
