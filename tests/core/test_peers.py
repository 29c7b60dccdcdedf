"""`tools/peers.py` counts another library's kernels by the wrappers that it declares.

The library here is a stand-in with CMSIS-NN's interface, whose kernels do as many steps as they have products.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from cores import MPS2_CORTEX_M33, MPS3_CORTEX_M55, Machine  # noqa: E402
from peers import COUNTED, cmsis_nn  # noqa: E402

HEADER = """
#include <stdint.h>
typedef enum { ARM_CMSIS_NN_SUCCESS = 0, ARM_CMSIS_NN_ARG_ERROR = -1 } arm_cmsis_nn_status;
typedef struct { int32_t w, h; } cmsis_nn_tile;
typedef struct { void *buf; int32_t size; } cmsis_nn_context;
typedef struct { int32_t n, h, w, c; } cmsis_nn_dims;
typedef struct { int32_t *multiplier, *shift; } cmsis_nn_per_channel_quant_params;
typedef struct { int32_t multiplier, shift; } cmsis_nn_per_tensor_quant_params;
typedef struct { int32_t min, max; } cmsis_nn_activation;
typedef struct {
    int32_t input_offset, output_offset;
    cmsis_nn_tile stride, padding, dilation;
    cmsis_nn_activation activation;
} cmsis_nn_conv_params;
typedef struct {
    int32_t input_offset, output_offset, ch_mult;
    cmsis_nn_tile stride, padding, dilation;
    cmsis_nn_activation activation;
} cmsis_nn_dw_conv_params;
typedef struct {
    int32_t input_offset, filter_offset, output_offset;
    cmsis_nn_activation activation;
} cmsis_nn_fc_params;
#define KERNEL(name, params, scales) \\
    arm_cmsis_nn_status name(const cmsis_nn_context *, const params *, const scales *, \\
        const cmsis_nn_dims *in, const int8_t *, const cmsis_nn_dims *filter, const int8_t *, \\
        const cmsis_nn_dims *, const int32_t *, const cmsis_nn_dims *out, int8_t *)
KERNEL(arm_convolve_wrapper_s8, cmsis_nn_conv_params, cmsis_nn_per_channel_quant_params);
KERNEL(arm_depthwise_conv_wrapper_s8, cmsis_nn_dw_conv_params, cmsis_nn_per_channel_quant_params);
KERNEL(arm_fully_connected_s8, cmsis_nn_fc_params, cmsis_nn_per_tensor_quant_params);
"""
SOURCE = """
#include <arm_nnfunctions.h>
static arm_cmsis_nn_status steps(int32_t n) {
    while (n--) {
        __asm volatile("");
    }
    return ARM_CMSIS_NN_SUCCESS;
}
KERNEL(arm_convolve_wrapper_s8, cmsis_nn_conv_params, cmsis_nn_per_channel_quant_params) {
    return steps(out->h * out->w * out->c * filter->h * filter->w * in->c);
}
KERNEL(arm_depthwise_conv_wrapper_s8, cmsis_nn_dw_conv_params, cmsis_nn_per_channel_quant_params) {
    return in->h == 7 ? ARM_CMSIS_NN_ARG_ERROR : steps(out->h * out->w * out->c * filter->h * filter->w);
}
KERNEL(arm_fully_connected_s8, cmsis_nn_fc_params, cmsis_nn_per_tensor_quant_params) {
    return steps(filter->n * filter->c);
}
"""


@pytest.mark.parametrize("machine", [MPS2_CORTEX_M33, MPS3_CORTEX_M55], ids=lambda machine: machine.name)
def test_kernels_of_another_library_are_counted(machine: Machine, tmp_path: Path) -> None:
    for name, text in (
        ("Include/arm_nnfunctions.h", HEADER),
        ("Source/ConvolutionFunctions/kernels.c", SOURCE),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    for shape, count in zip(COUNTED, cmsis_nn(tmp_path, machine), strict=True):
        refused = shape.kind == "depthwise" and shape.size[0] == 7
        assert count == -1 if refused else shape.macs < count < 8 * shape.macs, shape


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkout of CMSIS-NN"):
        cmsis_nn(tmp_path, MPS2_CORTEX_M33)
