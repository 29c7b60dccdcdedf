// Decides which ops have accumulators that fit 22 bits.
// SPDX-License-Identifier: MIT

#include "kernels/packed/extras.h"
#include "kernels/packed/internal.h"

#ifdef EDGELORA_M0PLUS

enum { MAX_PRODUCT = 127 * 128 };

// Sum of the magnitudes of `words` words of s8.
static uint32_t sum_of_magnitudes(const uint32_t *word, uint32_t words) {
    const uint32_t each = 0x01010101, lower = 0x00FF00FF;
    uint32_t halves = 0;
    for (const uint32_t *end = word + words; word != end; ++word) {
        uint32_t sign = *word >> 7 & each, magnitudes = (*word ^ sign * 255) + sign;
        halves += (magnitudes & lower) + (magnitudes >> 8 & lower);
    }
    return (halves & 0xFFFF) + (halves >> 16);
}

EDGELORA_KERNEL uint32_t edgelora_largest_branch_sum(
    const edgelora_shape_t *g, const edgelora_branch_t *branch) {
    const int8_t *b = branch->b;
    uint32_t largest = 0, words = branch->rank & 3 || !is_aligned(b) ? 0 : branch->rank / 4;
    for (const int8_t *end = b + (uint32_t)g->out_c * branch->rank; b != end; b += 4 * words) {
        uint32_t sum = sum_of_magnitudes((const uint32_t *)(const void *)b, words);
        for (uint32_t j = branch->rank; j && !words; --j) {
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
