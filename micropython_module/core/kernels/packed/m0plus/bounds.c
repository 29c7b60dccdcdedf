// Decides which ops have accumulators that fit 22 bits.
// SPDX-License-Identifier: MIT

#include "kernels/packed/extras.h"
#include "kernels/packed/internal.h"

#ifdef EDGELORA_M0PLUS

enum { MAX_PRODUCT = 127 * 128 };

EDGELORA_KERNEL uint32_t edgelora_largest_branch_sum(
    const edgelora_shape_t *g, const edgelora_branch_t *branch) {
    uint32_t largest = 0;
    const int8_t *b = branch->b;
    for (const int8_t *end = b + (uint32_t)g->out_c * branch->rank; b != end;) {
        uint32_t sum = 0;
        for (uint32_t j = branch->rank; j; --j) {
            sum += abs_u32(*b++);
        }
        largest = sum > largest ? sum : largest;
    }
    return 127 * largest;
}

EDGELORA_HOT bool edgelora_fits_22_bits(const edgelora_shape_t *g, uint32_t branch_sum) {
    // per output
    uint32_t inputs = g->is_matrix ? g->inputs : (uint32_t)g->kernel_h * g->kernel_w;
    uint32_t sum = inputs * MAX_PRODUCT;
    return edgelora_biases_within(g, (int32_t)(EDGELORA_22_BITS - 1 - sum - branch_sum));
}

#endif
