// The kernels, on vector lanes (lanes.h).
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_ENGINE_H
#define EDGELORA_ENGINE_H

#include "kernels/simd/attend.h"
#include "kernels/simd/depthwise.h"
#include "kernels/simd/elementwise.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/products.h"

const edgelora_simd_t EDGELORA_TABLE = {
    .work_size = sizeof(any_work_t),
    .matrix_forward = matrix_forward,
    .depthwise_forward = depthwise_forward,
#ifndef NO_POOLS
    .pool_forward = pool_forward,
#endif
    .add_forward = add_forward,
    .multiply_forward = multiply_forward,
    .multiply_backward = multiply_backward,
    .lookup_backward = lookup_backward,
    .norm_forward = norm_forward,
    .norm_backward = norm_backward,
    .rotate_forward = rotate_forward,
    .rotate_backward = rotate_backward,
    .attend_forward = attend_forward,
    .attend_backward = attend_backward,
    .mask = mask_of,
    .mask_backward = mask_backward,
    .b_gradient = b_gradient,
    .a_gradient = a_gradient,
    .requantize_backward = requantize_backward,
    .branch_backward = branch_backward,
    .matrix_backward = matrix_backward,
    .depthwise_backward = depthwise_backward,
    .add_backward = add_backward,
    .error_add = error_add,
};

#endif
