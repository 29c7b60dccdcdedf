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
    weight_change,
    weight_scales,
)
from .autoencoder import quantize_autoencoder
from .calibrate import set_adapter_shifts
from .fidelity import Fidelity
from .merging import Distance, Freedom, MergedLayer, Merging, merge
from .quantize import CALIBRATION_LIMIT, HEAD_ROOM, Quantized, original_path, quantize, quantize_on
from .report import QuantReport, compare, logits_note, report
from .simulate import simulate
from .spread import RIDGE, spread

__all__ = [
    "AdapterFit",
    "CALIBRATION_LIMIT",
    "Distance",
    "Fidelity",
    "Freedom",
    "HEAD_ROOM",
    "Matrix",
    "MergedLayer",
    "Merging",
    "QuantReport",
    "Quantized",
    "RIDGE",
    "UNIT_A",
    "compare",
    "fit_adapter",
    "fit_layer",
    "fitting_t_shift",
    "logits_note",
    "merge",
    "op_inputs",
    "op_patches",
    "original_path",
    "quantize",
    "quantize_autoencoder",
    "quantize_on",
    "report",
    "round_b",
    "set_adapter_shifts",
    "simulate",
    "spread",
    "weight_change",
    "weight_scales",
]
