// Errors of a convolution's inputs, window by window: what an output position reads gets the sum of
// the kernel's rows, each times one error, as in a dense layer. Rows whose error is 0 are left out.
// SPDX-License-Identifier: MIT

#include "kernels/packed/extras.h"
#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

#include "kernels/packed/internal.h"

enum { MOST_GROUPS = 2, PUT_AT_ONCE = 64 }; // of a position's t; inputs whose errors are stored

// Parts of the scratch memory, in words: s32 [in_h, in_w, in_c] from 0 on.
typedef struct {
    uint32_t list;    // of weighted rows
    uint32_t columns; // E and O of A's columns: [K, groups, 2]
    uint32_t groups;  // of t
    uint32_t bytes;   // of all
} windows_t;

static windows_t windows_layout(const edgelora_shape_t *g, uint32_t rank) {
    windows_t l = {.list = (uint32_t)g->in_h * g->in_w * g->in_c, .groups = rank / 4};
    l.columns = l.list + at_most(2 * (g->out_c + 2u), EDGELORA_LIST_BYTES / 4);
    l.bytes = 4 * (l.columns + 2 * l.groups * g->inputs);
    return l;
}

// The part of a window that lies in one row of the input, of its kernel's elements from `from` on.
typedef struct {
    int32_t *acc;
    uint32_t from, count;
} strip_t;

// The part of the window at (oy, ox) in row ky of the kernel; count: 0 if it is padding alone.
EDGELORA_KERNEL static strip_t window_row(
    const edgelora_shape_t *g, int32_t *acc, uint32_t oy, uint32_t ox, uint32_t ky) {
    const edgelora_op_t *op = g->op;
    int32_t y = (int32_t)(oy * op->stride_h + ky * op->dilation_h) - op->pad_top,
            x = (int32_t)(ox * op->stride_w) - op->pad_left, end = x + g->kernel_w,
            first = x < 0 ? 0 : x;
    end = end < g->in_w ? end : g->in_w;
    if (y < 0 || y >= g->in_h || first >= end) {
        return (strip_t){acc, 0, 0};
    }
    uint32_t channels = g->in_c;
    return (strip_t){acc + ((uint32_t)(y * g->in_w + first)) * channels,
        (ky * g->kernel_w + (uint32_t)(first - x)) * channels, (uint32_t)(end - first) * channels};
}

// acc, of all inputs, += A^T t or W^T e
EDGELORA_HOT static void add_windows(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, const windows_t *l, bool of_t, int32_t *acc) {
    uint32_t *columns = (uint32_t *)acc + l->columns, t[4 * MOST_GROUPS];
    const int8_t *t_error = error->t_error;
    edgelora_weighted_rows_t e = {g->weights, error->e, g->out_c, EDGELORA_OFFSET};
    for (uint32_t c = 0; c < g->inputs && of_t; c += 4) {
        edgelora_unpack_columns_s8(columns + 2 * l->groups * c, 8 * l->groups,
            (const uint8_t *)branch->a + c, g->inputs, l->groups, (uint32_t)EDGELORA_SIGNED);
    }
    for (uint32_t oy = 0; oy < g->out_h; ++oy) {
        for (uint32_t ox = 0; ox < g->out_w; ++ox, e.values += e.count, t_error += branch->rank) {
            if (of_t) {
                edgelora_pack_row_s8(t, t_error, l->groups);
            }
            for (uint32_t ky = 0; ky < g->kernel_h; ++ky) {
                strip_t s = window_row(g, acc, oy, ox, ky);
                if (s.count && of_t) {
                    edgelora_add_dots_s32(
                        s.acc, columns + 2 * l->groups * s.from, s.count, t, l->groups);
                } else if (s.count) {
                    edgelora_add_weighted_rows(&e, g->inputs, s.from, s.count, s.acc,
                        (edgelora_row_t *)(void *)(acc + l->list));
                }
            }
        }
    }
}

EDGELORA_KERNEL static void truncate(int32_t *acc, uint32_t count, int32_t shift) {
    int32_t mask = shift_mask(shift);
#pragma GCC unroll 4
    for (const int32_t *end = acc + count; acc != end; ++acc) {
        *acc = trunc_mask(*acc, shift, mask);
    }
}

EDGELORA_HOT bool edgelora_windows_backward_s8(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, bool t_first, int32_t cut,
    uint32_t room, int8_t *dx, int32_t *shift) {
    uint32_t rank = branch->rank;
    windows_t l = windows_layout(g, rank);
    if ((g->in_c | rank) & 3 || rank > 4 * MOST_GROUPS || g->op->dilation_w != 1 ||
        !is_aligned(branch->a) || l.bytes > room ||
        !edgelora_are_sparse(g, error->e, 3)) {
        return false;
    }
    int32_t *acc = error->scratch;
    clear_fours(acc, l.list);
    if (t_first || rank) {
        add_windows(g, branch, error, &l, t_first, acc);
        if (cut) {
            truncate(acc, l.list, cut);
        }
        t_first = !t_first;
    }
    add_windows(g, branch, error, &l, t_first, acc);
    edgelora_columns_t block = {.q = dx, .step = 1, .rounds = g->rounds};
    edgelora_cursor_t at = {0, 0, l.list};
    for (uint32_t count; at.x < l.list; at.x += count) {
        count = at_most(l.list - at.x, PUT_AT_ONCE);
        edgelora_columns_put(&block, &at, 0, 1, count, count, acc + at.x);
    }
    *shift = block.shift;
    return true;
}

#define DOT_GROUP(e, o) \
    "ldmia r0!, {r2, r3}\n" \
    DOT2("r2", e, "r1") DOT2("r3", o, "r1")
#define COLUMN(dots) \
    "mov r2, r8\n" \
    "ldr r1, [r2]\n" dots \
    "mov r2, r8\n" \
    "stmia r2!, {r1}\n" \
    "mov r8, r2\n"
#define COLUMNS_OF(dots) \
    "1:\n" COLUMN(dots) COLUMN(dots) COLUMN(dots) COLUMN(dots) \
    "cmp r8, r9\n" \
    "bne 1b\n"

// 25 cycles for 8 products, 16 for 4. r0: columns, r1: sum, r4-r7: t, r8: acc, r9: its end
NAKED void edgelora_add_dots_s32(int32_t *acc, const uint32_t *columns, uint32_t count,
    const uint32_t *t, uint32_t groups) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n"
        "mov r5, r9\n"
        "push {r4, r5}\n"
        "mov r8, r0\n"
        "lsls r2, r2, #2\n"
        "adds r2, r2, r0\n"
        "mov r9, r2\n"
        "movs r0, r1\n"
        "ldmia r3!, {r4, r5}\n"
        "ldr r2, [sp, #28]\n"  // groups, above 7 registers
        "cmp r2, #1\n"
        "beq 2f\n"
        "ldmia r3!, {r6, r7}\n" COLUMNS_OF(DOT_GROUP("r4", "r5") DOT_GROUP("r6", "r7"))
        "b 3f\n"
        "2:\n" COLUMNS_OF(DOT_GROUP("r4", "r5"))
        "3:\n"
        "pop {r4, r5}\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "pop {r4-r7, pc}\n");
}

#endif
