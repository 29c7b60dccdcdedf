// Errors of 1x1 convolutions of which most are 0: position by position, as in a dense layer.
// SPDX-License-Identifier: MIT

#include "kernels/packed/extras.h"
#include "kernels/packed/internal.h"

#ifdef EDGELORA_M0PLUS

enum { SPARSE_STEP = 8 }; // positions, of which one is looked at

EDGELORA_KERNEL bool edgelora_are_sparse(
    const edgelora_shape_t *g, const int8_t *e, uint32_t least) {
    uint32_t zeros = 0, all = 0;
    for (uint32_t p = 0; p < g->positions; p += SPARSE_STEP) {
        const int8_t *v = e + p * g->out_c;
        all += g->out_c;
        for (const int8_t *end = v + g->out_c; v != end; ++v) {
            zeros += !*v;
        }
    }
    return 8 * zeros >= least * all;
}

EDGELORA_KERNEL bool edgelora_parts_of_a(
    edgelora_parts_t *parts, const edgelora_branch_t *branch, uint32_t inputs) {
    const uint32_t *a = (const uint32_t *)(const void *)branch->a;
    uint32_t end = 0, rank = branch->rank;
    parts->a = branch->a;
    parts->rank = rank;
    parts->inputs = inputs;
    for (uint32_t j = 0; j < rank; ++j) {
        uint32_t before = end;
        for (uint32_t group = 0; group < inputs / 4; ++group) {
            if (!*a++) {
                continue;
            }
            if (group < before) {
                return false;
            }
            end = group + 1;
        }
        parts->end[j] = (uint16_t)(j + 1 < rank ? 4 * end : inputs);
    }
    return rank > 0;
}

EDGELORA_KERNEL void edgelora_add_parts_s32(const edgelora_parts_t *parts, uint32_t from,
    uint32_t count, int32_t shift, const int8_t *t, int32_t *acc) {
    const int8_t *a = parts->a;
    uint32_t i = from, to = from + count;
    for (uint32_t j = 0; j < parts->rank; ++j, a += parts->inputs) {
        uint32_t end = at_most(parts->end[j], to);
        if (i < end) {
            edgelora_add_scaled_s32(acc, end - i, shift, a + i, 1, t[j]);
            acc += end - i;
            i = end;
        }
    }
}

#endif
