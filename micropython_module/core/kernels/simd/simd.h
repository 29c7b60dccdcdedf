// Whole ops on processors with vectors: phones, gateways, the host twin, Cortex-M55.
// SPDX-License-Identifier: MIT
//
// Bytes are multiplied in vector lanes, not in pairs of a word, and an op is one matrix product
// with vector code before and after it. So these processors have kernels of whole ops instead of
// the primitives of primitives.h. Results are bit-exact. They use memory after the planned arena,
// whose size is the same on every machine; without it a session runs without them. ESP32-S3's use
// the packed kernels' scratch.
//
// Test: tests/core/test_cores.py. Time: `edgelora bench host`.

#ifndef EDGELORA_SIMD_H
#define EDGELORA_SIMD_H

#include "kernels/attention.h"
#include "kernels/operands.h"
#include "training/block.h"

#if defined(__ARM_FEATURE_MVE) // Cortex-M55, M85: a board has chosen them by its compiler's options
#define EDGELORA_HELIUM
#define EDGELORA_ONLY_SIMD edgelora_helium
#elif defined(EDGELORA_NO_SIMD) || !defined(__GNUC__)
#elif defined(__x86_64__)
#define EDGELORA_X86
#elif defined(__aarch64__) && defined(__ARM_NEON)
#define EDGELORA_NEON
#define EDGELORA_ONLY_SIMD edgelora_neon
#elif defined(__wasm_simd128__)
#define EDGELORA_WASM
#define EDGELORA_ONLY_SIMD edgelora_wasm
#elif defined(__XTENSA_WINDOWED_ABI__) // ESP32, S2 and S3: only the last has vectors
#define EDGELORA_PIE
#define EDGELORA_ONLY_SIMD edgelora_s3
#endif

// Kernels with the semantics of the same names in reference.h. A kernel that returns false does not
// support the shape and has done nothing. Those from pools to sums, and from products to attention,
// may be NULL: none.
typedef struct edgelora_simd {
    // bytes of work memory, at a multiple of 64; 0: they work in the op's scratch, where packed
    // kernels could
    uint32_t work_size;
    bool (*matrix_forward)(
        const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_pass_t *pass);
    bool (*depthwise_forward)(const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *work);
    bool (*pool_forward)(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
    void (*add_forward)(const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y);
    void (*multiply_forward)(
        const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y);
    int32_t (*multiply_backward)(
        const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx);
    int32_t (*lookup_backward)(
        const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);
    void (*norm_forward)(const edgelora_shape_t *g, const edgelora_pass_t *pass);
    int32_t (*norm_backward)(const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);
    bool (*rotate_forward)(const edgelora_shape_t *g, const edgelora_pass_t *pass);
    bool (*rotate_backward)(
        const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx, int32_t *exponent);
    bool (*attend_forward)(const edgelora_shape_t *g, const edgelora_pass_t *pass);
    bool (*attend_backward)(const edgelora_shape_t *g, const edgelora_error_t *error,
        int8_t *const dx[3], int16_t *const exponents[3]);
    void (*mask)(const int8_t *y, uint32_t count, int32_t low, int32_t high, uint8_t *mask);
    void (*mask_backward)(int8_t *e, uint32_t count, const uint8_t *mask);
    bool (*b_gradient)(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
        const int8_t *t, int32_t *gradient, int32_t shift);
    bool (*a_gradient)(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
        int32_t *gradient, int32_t shift);
    int32_t (*requantize_backward)(const edgelora_shape_t *g, int8_t *e, int32_t exponent);
    // exponent: of the written error
    bool (*branch_backward)(const edgelora_shape_t *g, const edgelora_branch_t *branch,
        const edgelora_error_t *error, int8_t *t_error, int32_t *exponent);
    bool (*matrix_backward)(const edgelora_shape_t *g, const edgelora_branch_t *branch,
        const edgelora_error_t *error, int8_t *dx, int32_t *exponent);
    bool (*depthwise_backward)(
        const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx, int32_t *exponent);
    int32_t (*add_backward)(
        const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx);
    int32_t (*error_add)(int8_t *e, uint32_t count, int32_t exponent, const int8_t *more,
        int32_t more_exponent, bool rounds);
} edgelora_simd_t;

// The level of kernels that this processor supports; 0: none. It queries the processor, which is
// slow: call it once per session. told: of config's `vectors`.
uint32_t edgelora_simd_level(bool told);
// The kernels of a level; NULL for level 0.
const edgelora_simd_t *edgelora_simd_kernels(uint32_t level);

extern const edgelora_simd_t edgelora_avx2, edgelora_vnni, edgelora_neon, edgelora_helium,
    edgelora_wasm, edgelora_s3;

#endif
