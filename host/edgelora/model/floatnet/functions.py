"""Functions of one real value that lookups train through, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .deterministic_math import Array, logistic


@dataclass(frozen=True)
class Smooth:
    """A function and its derivative, of arrays."""

    name: str
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]

    def __call__(self, x: Array) -> Array:
        return self.value(x)


def _silu_slope(x: Array) -> Array:
    gate = logistic(x)
    return gate * (1 + x * (1 - gate))


GELU_LINEAR, GELU_CUBIC = 1.5957691216057308, 0.0713548162726003  # sqrt(8 / pi), and 0.044715 of it


def _gelu(x: Array) -> Array:
    return x * logistic(x * (GELU_LINEAR + GELU_CUBIC * x * x))


def _gelu_slope(x: Array) -> Array:
    gate = logistic(x * (GELU_LINEAR + GELU_CUBIC * x * x))
    return gate * (1 + x * (1 - gate) * (GELU_LINEAR + 3 * GELU_CUBIC * x * x))


SILU = Smooth("silu", lambda x: x * logistic(x), _silu_slope)
GELU = Smooth("gelu", _gelu, _gelu_slope)  # by a logistic function of a cubic, within 5e-4 of that by erf
FUNCTIONS = {function.name: function for function in (SILU, GELU)}
