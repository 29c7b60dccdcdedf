"""From float to INT8, networks and adapters."""

from .adapter_fit import (
    UNIT_A,
    AdapterFit,
    Matrix,
    fit_adapter,
    fit_layer,
    fitting_t_shift,
    op_inputs,
    op_patches,
    round_b,
    weight_scales,
)
from .calibrate import set_adapter_shifts
from .merging import Distance, Freedom, MergedLayer, Merging, merge
from .quantize import CALIBRATION_LIMIT, Quantized, quantize
from .report import QuantReport, compare, report

__all__ = [
    "AdapterFit",
    "CALIBRATION_LIMIT",
    "Distance",
    "Freedom",
    "Matrix",
    "MergedLayer",
    "Merging",
    "QuantReport",
    "Quantized",
    "UNIT_A",
    "compare",
    "fit_adapter",
    "fit_layer",
    "fitting_t_shift",
    "merge",
    "op_inputs",
    "op_patches",
    "quantize",
    "report",
    "round_b",
    "set_adapter_shifts",
    "weight_scales",
]
