// Merges the adapter in use into an op's weights.
// SPDX-License-Identifier: MIT

#include "session/arena.h"

uint32_t edgelora_merge_size(edgelora_session_t *s, uint32_t op) {
    if (op >= s->op_count || !session_lora(s, op)) {
        return 0;
    }
    edgelora_shape_t g = edgelora_shape(session_model(s), op);
    return align4(g.out_c * g.inputs) + 4u * g.out_c;
}

static edgelora_status_t merge(edgelora_session_t *s, uint32_t op, void *buffer) {
    edgelora_lora_t *l = op < s->op_count ? session_lora(s, op) : 0;
    if (!l || !l->used_rank) {
        return EDGELORA_ERR_MERGE;
    }
    if ((uintptr_t)buffer & 3) {
        return EDGELORA_ERR_ALIGN;
    }
    edgelora_shape_t g = edgelora_shape(session_model(s), op);
    uint32_t weights_size = g.out_c * g.inputs;
    if (!writable(s, buffer, align4(weights_size) + 4u * g.out_c) ||
        !apart(buffer, align4(weights_size) + 4u * g.out_c, l->a.p, l->used_rank * g.inputs) ||
        !apart(buffer, align4(weights_size) + 4u * g.out_c, l->b.p, l->used_rank * g.out_c)) {
        return EDGELORA_ERR_ALIAS;
    }
    edgelora_branch_t branch = lora_used(l);
    uint8_t *weights = buffer;
    int32_t *bias = (int32_t *)(void *)(weights + align4(g.out_c * g.inputs));
    int shift = branch.t_shift - branch.branch_shift; // -8..39
    shift = shift > 31 ? 31 : shift;                  // |sum| < 2^19: either shift gives 0
    for (uint32_t o = 0; o < g.out_c; ++o) {
        int32_t moved = 0; // sum W' - sum W
        for (uint32_t i = 0; i < g.inputs; ++i) {
            int32_t sum = 0, w = g.weights[o * g.inputs + i];
            for (uint32_t j = 0; j < branch.rank; ++j) {
                sum += branch.b[o * branch.rank + j] * branch.a[j * g.inputs + i];
            }
            int32_t merged = clamp_s32(w + round_shift(sum, shift), 1, 255);
            weights[o * g.inputs + i] = (uint8_t)merged;
            moved += merged - w;
        }
        bias[o] = g.bias[o] - g.zp_in * moved; // |.| < 2^30 + 128 * 254 * 16384
    }
    lora_use_merged(l, weights, bias);
    session_ops(s)[op].flags &= 63u & ~(uint32_t)EDGELORA_OP_USED_CHOSEN;
    return EDGELORA_OK;
}

edgelora_status_t edgelora_merge(edgelora_session_t *s, uint32_t op, void *buffer) {
    return edgelora_enter(s) ? edgelora_leave(s, merge(s, op, buffer)) : EDGELORA_ERR_BUSY;
}
