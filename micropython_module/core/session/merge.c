// Merges the adapter in use into an op's weights.
// SPDX-License-Identifier: MIT

#include "session/arena.h"

uint32_t edgelora_merge_size(edgelora_session_t *s, uint32_t op) {
    if (op >= s->op_count || !session_lora(s, op)) {
        return 0;
    }
    edgelora_shape_t g = edgelora_shape(session_model(s), op);
    return merged_size(&g);
}

// The file of the adapter in use; NULL: there is none, as the one in training is in the arena.
static const edgelora_adapter_t *file_in_use(edgelora_session_t *s) {
    const uint8_t *first = 0; // weights of the file
    uint32_t head = sizeof(edgelora_adapter_t);
    for (uint32_t i = s->op_count; i-- > 0;) {
        const edgelora_lora_t *l = session_lora(s, i);
        if (l && l->merged) {
            return l->b.p;
        }
        if (l && l->used_rank) {
            first = outside(s, l->a.p, 1) ? l->a.p : l->b.p;
            head += (uint32_t)sizeof(edgelora_adapter_layer_t);
        }
    }
    const void *file = first && outside(s, first, 1) ? first - head : 0;
    return file;
}

// Is a buffer apart from the adapter in use, what `edgelora_save` reads, and merged weights?
static bool is_free(edgelora_session_t *s, const void *buffer, uint32_t size) {
    const edgelora_adapter_t *file = file_in_use(s);
    bool is_apart = writable(s, buffer, size) &&
        apart(buffer, size, s->records.p, s->records_size) &&
        (!file || apart(buffer, size, file, file->file_size));
    for (uint32_t i = 0; i < s->op_count; ++i) {
        const edgelora_lora_t *l = session_lora(s, i);
        is_apart = is_apart &&
            (!l || !l->merged || apart(buffer, size, l->a.p, edgelora_merge_size(s, i)));
    }
    return is_apart;
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
    if (!is_free(s, buffer, merged_size(&g))) {
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
    lora_use_merged(l, buffer, file_in_use(s));
    session_ops(s)[op].flags &= 63u & ~(uint32_t)EDGELORA_OP_USED_CHOSEN;
    return EDGELORA_OK;
}

edgelora_status_t edgelora_merge(edgelora_session_t *s, uint32_t op, void *buffer) {
    return edgelora_enter(s) ? edgelora_leave(s, merge(s, op, buffer)) : EDGELORA_ERR_BUSY;
}
