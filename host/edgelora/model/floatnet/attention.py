"""Normalization, rotation and attention of transformers, forward and backward, on activations [N, H, W, channels].

A row is a position; what reads several of them takes them in the order of height and width. Sources: J. Ba et al.,
"Layer Normalization", 2016, arXiv:1607.06450; B. Zhang and R. Sennrich, RMSNorm, 2019, arXiv:1910.07467; J. Su et al.,
rotary positions, 2021, arXiv:2104.09864; J. Ainslie et al., grouped keys, 2023, arXiv:2305.13245.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from . import deterministic_math
from .deterministic_math import product

Array = NDArray[np.floating]
EPSILON = 1e-5  # added to a row's mean square


def norm(x: Array, gain: Array, bias: Array | None, centred: bool, epsilon: float = EPSILON) -> Array:
    """LayerNorm of each row, or RMSNorm if it is not `centred`, times gain [channels], plus bias [channels]."""
    out = _normalized(x, centred, epsilon)[0] * gain
    return out if bias is None else np.asarray(out + bias)


def norm_backward(
    x: Array, gain: Array, d_out: Array, centred: bool, epsilon: float = EPSILON
) -> tuple[Array, Array, Array]:
    """Gradients (dx, d_gain, d_bias) of `norm`."""
    unit, scale = _normalized(x, centred, epsilon)
    part = d_out * gain
    dx = part - unit * (part * unit).mean(-1, keepdims=True)
    if centred:
        dx -= part.mean(-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    return dx * scale, (d_out * unit).sum(axis=rows), d_out.sum(axis=rows)


def _normalized(x: Array, centred: bool, epsilon: float) -> tuple[Array, Array]:
    """Rows of mean square 1, and what they were multiplied by, [..., 1]."""
    if centred:
        x = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + x.dtype.type(epsilon))
    return x * scale, scale


def rotation(angles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Cosine and sine [rows, half, 2] of angles [rows, half] in radians, by which row t turns pair i."""
    turns = angles / math.pi
    return np.stack([_cosines(turns), _cosines(turns - 0.5)], -1).astype(np.float32)


def _cosines(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """cos(pi * turns)."""
    folded = np.abs(np.remainder(turns + 1, 2) - 1)
    return np.array([deterministic_math.cosine(float(turn)) for turn in folded.flat]).reshape(turns.shape)


def rotated(x: Array, table: Array, back: bool = False) -> Array:
    """Channels i and half + i of each head turned by a row's angle, `table` [rows, half, 2]; back: the other way."""
    half = table.shape[1]
    pairs = x.reshape(len(x), len(table), -1, 2, half)
    a, b = pairs[..., 0, :], pairs[..., 1, :]
    cosine, sine = table[:, None, :, 0], -table[:, None, :, 1] if back else table[:, None, :, 1]
    return np.stack([a * cosine - b * sine, b * cosine + a * sine], axis=-2).reshape(x.shape)


def attend(q: Array, k: Array, v: Array, heads: tuple[int, int], causal: bool) -> Array:
    """softmax(q k^T / sqrt(channels of a head)) v for each head, as large as q.

    heads: of q, and of k and v, each of which serves as many neighbouring heads of q. causal: a row sees itself and
    the rows before it.
    """
    keys, shared = heads[1], heads[0] // heads[1]
    shares = _shares(_split(q, keys, shared), _split(k, keys), causal)
    return _joined(product(shares, _split(v, keys)), shared, q.shape)


def attend_backward(
    q: Array, k: Array, v: Array, d_out: Array, heads: tuple[int, int], causal: bool
) -> tuple[Array, Array, Array]:
    """Gradients (dq, dk, dv) of `attend`; the softmax is computed again."""
    keys, shared = heads[1], heads[0] // heads[1]
    queries, k_heads, v_heads = _split(q, keys, shared), _split(k, keys), _split(v, keys)
    errors, shares = _split(d_out, keys, shared), _shares(queries, k_heads, causal)
    d_shares = product(errors, v_heads.swapaxes(2, 3))
    d_scores = shares * (d_shares - (shares * d_shares).sum(-1, keepdims=True))
    d_scores *= _temperature(queries)
    return (
        _joined(product(d_scores, k_heads), shared, q.shape),
        _joined(product(d_scores.swapaxes(2, 3), queries), 1, k.shape),
        _joined(product(shares.swapaxes(2, 3), errors), 1, v.shape),
    )


def _shares(queries: Array, keys: Array, causal: bool) -> Array:
    """What each row of a head takes of each row, [N, heads of k, rows of q, rows of k]."""
    scores = product(queries, keys.swapaxes(2, 3)) * _temperature(queries)
    if causal:
        row, other = np.arange(scores.shape[2]) % scores.shape[3], np.arange(scores.shape[3])
        scores = np.where(other > row[:, None], scores.dtype.type(-np.inf), scores)
    e = deterministic_math.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def _temperature(queries: Array) -> np.floating:
    return queries.dtype.type(1 / math.sqrt(queries.shape[3]))


def _split(x: Array, keys: int, shared: int = 1) -> Array:
    """[N, keys, shared * rows, channels of a head]: heads that share a key lie one below the other."""
    rows, size = x.shape[1] * x.shape[2], x.shape[3] // (keys * shared)
    heads = x.reshape(len(x), rows, keys, shared, size)
    return heads.transpose(0, 2, 3, 1, 4).reshape(len(x), keys, shared * rows, size)


def _joined(heads: Array, shared: int, shape: tuple[int, ...]) -> Array:
    """The inverse of `_split`."""
    n, keys, rows, size = heads.shape
    parts = heads.reshape(n, keys, shared, rows // shared, size)
    return parts.transpose(0, 3, 1, 2, 4).reshape(shape)
