"""`tools/peers.py` counts other libraries' kernels by the functions that they declare.

The libraries here are stand-ins with CMSIS-NN's and ESP-NN's interfaces, whose kernels do a step for each product, or
for 16.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fresh import slow

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from cores import MPS2_CORTEX_M33, MPS3_CORTEX_M55, Machine  # noqa: E402
from peers import COUNTED, cmsis_nn, esp_nn, lacking  # noqa: E402

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


ESP_TYPES = """
#pragma once
#include <stdint.h>
typedef struct { int32_t width, height, channels, extra; } data_dims_t;
typedef struct { int32_t width, height; } data_2d_t;
typedef struct { int32_t min, max; } act_params_t;
typedef struct { int32_t *shift, *mult; } quant_data_t;
typedef struct {
    int32_t in_offset, out_offset;
    data_2d_t stride, padding, dilation;
    act_params_t activation;
} conv_params_t;
typedef struct {
    int32_t in_offset, out_offset, ch_mult;
    data_2d_t stride, padding, dilation;
    act_params_t activation;
} dw_conv_params_t;
#define KERNEL(name, params) \\
    void name(const data_dims_t *in, const int8_t *, const data_dims_t *filter, const int8_t *, const int32_t *, \\
        const data_dims_t *out, int8_t *, const params *, const quant_data_t *)
#define SIZE(name, params) \\
    int name(const data_dims_t *, const data_dims_t *, const data_dims_t *, const params *)
#define DENSE(name) \\
    void name(const int8_t *, int32_t, const uint16_t inputs, const int8_t *, int32_t, const int32_t *, int8_t *, \\
        const uint16_t outputs, int32_t, int32_t, int32_t, int32_t, int32_t)
"""
ESP_HEADER = """
#include "esp_nn_defs.h"
KERNEL(esp_nn_conv_s8_KIND, conv_params_t);
KERNEL(esp_nn_depthwise_conv_s8_KIND, dw_conv_params_t);
DENSE(esp_nn_fully_connected_s8_KIND);
SIZE(esp_nn_get_conv_scratch_size_KIND, conv_params_t);
SIZE(esp_nn_get_depthwise_conv_scratch_size_KIND, dw_conv_params_t);
void esp_nn_set_conv_scratch_buf_KIND(const void *);
void esp_nn_set_depthwise_conv_scratch_buf_KIND(const void *);
"""
ESP_SOURCE = """
#include <HEADER>
static void steps(int32_t n) {
    for (n /= PRODUCTS; n > 0; --n) {
        __asm volatile(STEP);
    }
}
KERNEL(esp_nn_conv_s8_KIND, conv_params_t) {
    steps(out->height * out->width * out->channels * filter->height * filter->width * in->channels);
}
KERNEL(esp_nn_depthwise_conv_s8_KIND, dw_conv_params_t) {
    steps(out->height * out->width * out->channels * filter->height * filter->width);
}
DENSE(esp_nn_fully_connected_s8_KIND) {
    steps(inputs * outputs);
}
SIZE(esp_nn_get_conv_scratch_size_KIND, conv_params_t) {
    return 1024;
}
SIZE(esp_nn_get_depthwise_conv_scratch_size_KIND, dw_conv_params_t) {
    return 1024;
}
void esp_nn_set_conv_scratch_buf_KIND(const void *buffer) {
}
void esp_nn_set_depthwise_conv_scratch_buf_KIND(const void *buffer) {
}
"""
ESP_STEPS = {"ansi": (1, '""'), "esp32s3": (16, '".byte 0xc4, 0x08, 0x1a"')}  # ee.vmulas.s8.accx q0, q1


def esp_checkout(folder: Path, step: str | None = None) -> None:
    """step: another than a product of vectors."""
    headers = {"ansi": "esp_nn_ansi_headers.h", "esp32s3": "esp_nn_esp32s3.h"}
    files = {"include/esp_nn_defs.h": ESP_TYPES}
    for kind, (products, code) in ESP_STEPS.items():
        source = ESP_SOURCE.replace("HEADER", headers[kind]).replace("PRODUCTS", str(products))
        source = source.replace("STEP", step if step and kind == "esp32s3" else code)
        files[f"src/convolution/kernels_{kind}.c"] = source.replace("KIND", kind)
        files[f"include/{headers[kind]}"] = ESP_HEADER.replace("KIND", kind)
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize("kind", ESP_STEPS)
@slow
def test_kernels_for_an_esp32s3_are_counted(kind: str, tmp_path: Path) -> None:
    esp_checkout(tmp_path)
    for shape, run in zip(COUNTED, esp_nn(tmp_path, kind), strict=True):
        steps = shape.macs / ESP_STEPS[kind][0]
        assert steps < run.instructions < 8 * steps + 200, shape
        assert run.instructions < run.cycles < 2 * run.instructions, shape


def test_what_the_handler_lacks_is_named_and_ends_the_count(tmp_path: Path) -> None:
    esp_checkout(tmp_path, '".byte 0x84, 0x5f, 0xdd"')  # ee.zero.q q1
    (tmp_path / "src/convolution/kernel_esp32s3.S").write_text("  EE.ZERO.Q q1\n  ee.zero.accx\n  mv.qr q0, q1\n")
    assert lacking(tmp_path) == ["ee.zero.q", "mv.qr"]
    (tmp_path / "src/convolution/kernel_esp32s3.S").unlink()
    with pytest.raises(RuntimeError, match="ended after 0 of"):
        esp_nn(tmp_path, "esp32s3")


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
    with pytest.raises(ValueError, match="no checkout of ESP-NN"):
        esp_nn(tmp_path, "ansi")
