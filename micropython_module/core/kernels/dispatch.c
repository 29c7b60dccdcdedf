// Dispatches ops to kernels: the only place that selects by kind, and between reference, packed and
// SIMD kernels.
// SPDX-License-Identifier: MIT

#include "kernels/dispatch.h"

#include "kernels/packed/extras.h"
#include "kernels/packed/packed.h"
#include "kernels/reference/reference.h"
#include "training/block.h"

bool edgelora_op_is_packed(
    const edgelora_shape_t *g, uint32_t rank, bool backward, uint32_t room, bool plain) {
    uint32_t size = plain ? 0 : edgelora_packed_scratch(g, rank, backward);
    return size && size <= room;
}

uint32_t edgelora_op_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward, bool plain) {
    uint32_t packed = plain ? 0 : edgelora_packed_scratch(g, rank, backward);
    uint32_t reference = edgelora_reference_scratch(g, rank, backward);
    return packed > reference ? packed : reference;
}

// Whether an op can have this branch. Only asserts call it, which clang would warn about.
__attribute__((unused)) static bool branch_fits(
    const edgelora_shape_t *g, const edgelora_branch_t *branch) {
    return !branch->rank ||
        (g->is_matrix && branch->rank <= EDGELORA_MAX_RANK && branch->a && branch->b);
}

// Is this an add of two tensors of the same shape, without subtraction?
static bool is_plain_sum(const edgelora_shape_t *g) {
    return is_flat(g) && g->multiplier[0] >= 0 && g->multiplier[1] >= 0;
}

// Do an op's vector kernels have their memory?
static inline bool runs_simd(const edgelora_simd_t *simd, bool packed) {
    return simd && (packed || simd->work_size);
}

static bool simd_forward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_pass_t *pass) {
    const edgelora_simd_t *simd = pass->simd;
    switch (g->op->kind) {
        case EDGELORA_DENSE:
        case EDGELORA_CONV:
        case EDGELORA_PROJECT:
            return simd->matrix_forward(g, branch, pass);
        case EDGELORA_DEPTHWISE:
            return simd->depthwise_forward(g, pass->x, pass->y, pass->work);
        case EDGELORA_AVERAGE_POOL:
        case EDGELORA_MAX_POOL:
        case EDGELORA_MEAN:
            return simd->pool_forward && simd->pool_forward(g, pass->x, pass->y);
        case EDGELORA_ADD:
            if (simd->add_forward && is_plain_sum(g)) {
                simd->add_forward(g, pass->x, pass->x2, pass->y);
                return true;
            }
            return false;
        case EDGELORA_MULTIPLY:
            if (simd->multiply_forward && is_flat(g)) {
                simd->multiply_forward(g, pass->x, pass->x2, pass->y);
                return true;
            }
            return false;
        case EDGELORA_NORM:
            if (simd->norm_forward) {
                simd->norm_forward(g, pass);
                return true;
            }
            return false;
        case EDGELORA_ROTATE:
            return simd->rotate_forward && simd->rotate_forward(g, pass);
        case EDGELORA_ATTEND:
            return simd->attend_forward && simd->attend_forward(g, pass);
        default:
            return false;
    }
}

static bool simd_backward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, uint32_t k, int8_t *dx, int32_t *exponent) {
    const edgelora_simd_t *simd = error->simd;
    switch (g->op->kind) {
        case EDGELORA_DENSE:
        case EDGELORA_CONV:
        case EDGELORA_PROJECT:
            return simd->matrix_backward(g, branch, error, dx, exponent);
        case EDGELORA_DEPTHWISE:
            return simd->depthwise_backward(g, error, dx, exponent);
        case EDGELORA_ADD:
            if (simd->add_backward && is_plain_sum(g)) {
                *exponent = simd->add_backward(g, error, k, dx);
                return true;
            }
            return false;
        case EDGELORA_MULTIPLY:
            if (simd->multiply_backward && is_flat(g)) {
                *exponent = simd->multiply_backward(g, error, k, dx);
                return true;
            }
            return false;
        case EDGELORA_LOOKUP:
            if (simd->lookup_backward) {
                *exponent = simd->lookup_backward(g, error, dx);
                return true;
            }
            return false;
        case EDGELORA_NORM:
            if (simd->norm_backward) {
                *exponent = simd->norm_backward(g, error, dx);
                return true;
            }
            return false;
        case EDGELORA_ROTATE:
            return simd->rotate_backward && simd->rotate_backward(g, error, dx, exponent);
        default:
            return false;
    }
}

// Streams hold two bytes a value.
static inline const int16_t *as_stream(const void *bytes) {
    return bytes;
}

static inline int16_t *to_stream(void *bytes) {
    return bytes;
}

// What the ops' records call: an op's packed kernels or its reference kernels.

static inline void matrix_forward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_pass_t *pass, const int8_t *x, int8_t *y) {
    if (pass->packed) {
        edgelora_matrix_forward_packed_s8(g, branch, x, y, pass->t, pass->scratch);
    } else {
        edgelora_matrix_forward_s8(g, branch, x, y, pass->t, pass->scratch);
    }
}

static inline int32_t matrix_backward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *dx) {
    return (error->packed ? edgelora_matrix_backward_packed_s8 : edgelora_matrix_backward_s8)(
        g, branch, error, dx);
}

static inline void depthwise_forward(
    const edgelora_shape_t *g, const edgelora_pass_t *pass, const int8_t *x, int8_t *y) {
    if (!pass->packed) {
        edgelora_depthwise_forward_s8(g, x, y);
    } else if (!edgelora_depthwise_strips_s8(g, x, y, pass->scratch)) {
        edgelora_depthwise_forward_packed_s8(g, x, y, pass->scratch);
    }
}

static inline void pool_forward(
    const edgelora_shape_t *g, const edgelora_pass_t *pass, const int8_t *x, int8_t *y) {
    if (pass->packed) {
        edgelora_pool_forward_packed_s8(g, x, y, pass->scratch);
    } else {
        edgelora_pool_forward_s8(g, x, y);
    }
}

static inline int32_t pool_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    return (error->packed ? edgelora_pool_backward_packed_s8 : edgelora_pool_backward_s8)(
        g, error, dx);
}

static inline void pair_forward(const edgelora_shape_t *g, const edgelora_pass_t *pass,
    const int8_t *x, const int8_t *x2, int8_t *y) {
    if (pass->packed) {
        edgelora_multiply_forward_packed_s8(g, x, x2, y, pass->scratch);
    } else {
        edgelora_pair_forward_s8(g, x, x2, y);
    }
}

static inline void widen_forward(const edgelora_shape_t *g, const edgelora_pass_t *pass,
    const int8_t *x, const int16_t *h, int16_t *y) {
    if (!pass->packed || !edgelora_widen_forward_packed_s16(g, x, h, y, pass->scratch)) {
        edgelora_widen_forward_s16(g, x, h, y);
    }
}

// The error of an op whose output's elements are its input's, in order, or scaled before.
static inline int32_t copy_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    edgelora_copy_s8(dx, error->e, g->positions * g->out_c);
    return error->exponent;
}

#define NO_FORWARD (void)0
#define NO_BACKWARD error->exponent

EDGELORA_HOT void edgelora_op_forward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_pass_t *pass) {
    EDGELORA_ASSERT(pass->x || (g->traits & EDGELORA_NO_INPUT));
    EDGELORA_ASSERT(pass->x2 || op_inputs(g->op) < 2);
    EDGELORA_ASSERT(pass->x3 || op_inputs(g->op) < 3);
    EDGELORA_ASSERT(pass->y || g->op->kind == EDGELORA_CONSTANT);
    EDGELORA_ASSERT(branch_fits(g, branch));
    EDGELORA_ASSERT(is_aligned(pass->scratch));
    const int8_t *x = pass->x, *x2 = pass->x2;
    int8_t *y = pass->y;
    if (runs_simd(pass->simd, pass->packed) && simd_forward(g, branch, pass)) {
        return;
    }
    switch (g->op->kind) {
#define OP(name, number, build, traits, shapes, arrays, forward, backward) \
    case number: \
        if (EDGELORA_##build) { \
            forward; \
        } \
        break;
#include "edgelora_ops.h"
#undef OP
    }
}

EDGELORA_HOT void edgelora_op_mask(const edgelora_shape_t *g, const int8_t *y, uint8_t *mask,
    bool plain, const edgelora_simd_t *simd) {
    int32_t low = g->op->flags & EDGELORA_MASK_LOW ? g->op->act_min : -129;
    int32_t high = g->op->flags & EDGELORA_MASK_HIGH ? g->op->act_max : 128;
    (simd ? simd->mask
            : plain ? edgelora_mask_s8
                    : edgelora_mask_packed_s8)(y, g->positions * g->out_c, low, high, mask);
}

EDGELORA_HOT void edgelora_op_mask_backward(const edgelora_shape_t *g, int8_t *e,
    const uint8_t *mask, bool plain, const edgelora_simd_t *simd) {
    EDGELORA_ASSERT(is_aligned(e));
    (simd ? simd->mask_backward
            : plain ? edgelora_mask_backward_s8
                    : edgelora_mask_backward_packed_s8)(e, g->positions * g->out_c, mask);
}

EDGELORA_HOT void edgelora_op_b_gradient(const edgelora_shape_t *g, uint32_t rank,
    const edgelora_error_t *error, const int8_t *t, int32_t *gradient, int32_t shift,
    edgelora_range_t of) {
    EDGELORA_ASSERT(g->is_matrix && rank && rank <= EDGELORA_MAX_RANK && t && is_aligned(gradient));
    EDGELORA_ASSERT(of.from % 4 == 0 && of.to <= g->out_c);
    if (runs_simd(error->simd, error->packed) &&
        error->simd->b_gradient(g, rank, error, t, gradient, shift)) {
        return;
    }
    (error->packed ? edgelora_b_gradient_packed_s8 : edgelora_b_gradient_s8)(
        g, rank, error, t, gradient, shift, of);
}

EDGELORA_HOT int32_t edgelora_op_requantize_backward(const edgelora_shape_t *g, int8_t *e,
    int32_t exponent, bool plain, const edgelora_simd_t *simd) {
    EDGELORA_ASSERT(g->traits & EDGELORA_SCALES);
    // a norm's gains have signs: kernels in packed scratch lack them, packed ones if they truncate
    bool norm = g->op->kind == EDGELORA_NORM;
    return (runs_simd(simd, !norm) ? simd->requantize_backward
            : plain || (norm && !g->rounds)
            ? edgelora_requantize_backward_s8
            : edgelora_requantize_backward_packed_s8)(g, e, exponent);
}

EDGELORA_HOT int32_t edgelora_op_branch_backward(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *t_error) {
    EDGELORA_ASSERT(branch->rank && branch_fits(g, branch));
    int32_t exponent;
    if (runs_simd(error->simd, error->packed) &&
        error->simd->branch_backward(g, branch, error, t_error, &exponent)) {
        return exponent;
    }
    return (error->packed ? edgelora_branch_backward_packed_s8 : edgelora_branch_backward_s8)(
        g, branch, error, t_error);
}

EDGELORA_HOT void edgelora_op_a_gradient(const edgelora_shape_t *g, uint32_t rank,
    const edgelora_error_t *error, int32_t *gradient, int32_t shift, edgelora_half_t half) {
    EDGELORA_ASSERT(
        g->is_matrix && rank && rank <= EDGELORA_MAX_RANK && error->x && error->t_error);
    EDGELORA_ASSERT(is_aligned(gradient));
    if (runs_simd(error->simd, error->packed) &&
        error->simd->a_gradient(g, rank, error, gradient, shift)) {
        return;
    }
    if (!error->packed || !edgelora_a_gradient_packed_s8(g, rank, error, gradient, shift, half)) {
        edgelora_a_gradient_s8(g, rank, error, gradient, shift, half);
    }
}

EDGELORA_HOT int32_t edgelora_op_backward(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    EDGELORA_ASSERT(!(g->traits & (EDGELORA_NO_GRADIENT | EDGELORA_THREE_INPUTS)));
    EDGELORA_ASSERT(k < op_inputs(g->op));
    EDGELORA_ASSERT(dx && dx != error->e && branch_fits(g, branch));
    EDGELORA_ASSERT(error->y || !(g->traits & EDGELORA_READS_OUTPUT));
    int32_t exponent;
#if EDGELORA_ATTENTION
    if ((g->traits & EDGELORA_ADDS) && k) {
        return edgelora_stream_backward_s8(g, error, dx);
    }
#endif
    if (runs_simd(error->simd, error->packed) &&
        simd_backward(g, branch, error, k, dx, &exponent)) {
        return exponent;
    }
    switch (g->op->kind) {
#define OP(name, number, build, traits, shapes, arrays, forward, backward) \
    case number: \
        return EDGELORA_##build ? backward : error->exponent;
#include "edgelora_ops.h"
#undef OP
        default:
            return error->exponent;
    }
}

EDGELORA_HOT int32_t edgelora_op_error_add(int8_t *e, uint32_t count, int32_t exponent,
    const int8_t *more, int32_t more_exponent, bool rounds, const edgelora_simd_t *simd) {
    return (simd && simd->error_add ? simd->error_add : edgelora_error_add_s8)(
        e, count, exponent, more, more_exponent, rounds);
}

uint32_t edgelora_op_next_scratch(const edgelora_shape_t *g) {
    return 4 * align4(g->positions);
}

int32_t edgelora_op_norm_rows(const edgelora_shape_t *g, const edgelora_error_t *error) {
    EDGELORA_ASSERT(g->op->kind == EDGELORA_NORM && error->x);
#if EDGELORA_ATTENTION
    return edgelora_norm_rows_s8(g, error);
#else
    return 0;
#endif
}

int32_t edgelora_op_norm_errors(
    const edgelora_shape_t *g, const edgelora_error_t *error, int32_t top, int8_t *dx) {
    EDGELORA_ASSERT(g->op->kind == EDGELORA_NORM && error->x && dx);
#if EDGELORA_ATTENTION
    return edgelora_norm_errors_s8(g, error, top, dx);
#else
    (void)top;
    return 0;
#endif
}

void edgelora_op_attend_forward(
    const edgelora_shape_t *g, const edgelora_pass_t *pass, edgelora_range_t heads) {
    EDGELORA_ASSERT(g->op->kind == EDGELORA_ATTEND && heads.to <= g->op->kernel_h);
#if EDGELORA_ATTENTION
    const int8_t *const x[3] = {pass->x, pass->x2, pass->x3};
    if (!pass->packed || !edgelora_attend_forward_packed_s8(g, x, pass->y, pass->scratch, heads)) {
        edgelora_attend_forward_s8(g, x, pass->y, pass->scratch, heads);
    }
#else
    (void)pass;
#endif
}

void edgelora_op_attend_next(const edgelora_shape_t *g, const int8_t *const x[3], int8_t *y,
    void *scratch, uint32_t t, bool plain, edgelora_range_t heads) {
    EDGELORA_ASSERT(g->op->kind == EDGELORA_ATTEND && t < g->positions);
#if EDGELORA_ATTENTION
    (!plain && edgelora_attend_next_is_packed(g)
            ? edgelora_attend_next_packed_s8
            : edgelora_attend_next_s8)(g, x, y, scratch, t, heads);
#else
    (void)x, (void)y, (void)scratch, (void)plain, (void)heads;
#endif
}

void edgelora_op_attend_pass(edgelora_attend_part_t *part, bool of_scores) {
#if EDGELORA_ATTENTION
    if (!of_scores) {
        edgelora_attend_clear(part);
    }
    if (!part->error->packed || !edgelora_attend_pass_packed_s8(part, of_scores)) {
        edgelora_attend_pass_s8(part, of_scores);
    }
#else
    (void)part, (void)of_scores;
#endif
}

void edgelora_op_attend_backward(const edgelora_shape_t *g, const edgelora_error_t *error,
    int8_t *const dx[3], int16_t *const exponents[3]) {
    EDGELORA_ASSERT(g->op->kind == EDGELORA_ATTEND && error->x && error->x2 && error->x3);
#if EDGELORA_ATTENTION
    if (runs_simd(error->simd, error->packed) && error->simd->attend_backward &&
        error->simd->attend_backward(g, error, dx, exponents)) {
        return;
    }
    edgelora_attend_part_t all;
    edgelora_attend_open(&all, g, error, dx, (edgelora_range_t){0, g->op->kernel_w});
    edgelora_op_attend_pass(&all, false);
    all.shift = edgelora_attend_shift(all.bits);
    edgelora_op_attend_pass(&all, true);
    edgelora_attend_exponents(g, error, all.shift, all.shifts, exponents);
#else
    (void)dx, (void)exponents;
#endif
}

EDGELORA_HOT void edgelora_op_back(const edgelora_shape_t *g, const int8_t *left, int8_t *y) {
    edgelora_history_back_s8(g, left, y);
}

EDGELORA_HOT void edgelora_op_reset(const edgelora_shape_t *g, int8_t *y) {
    edgelora_history_reset_s8(g, y);
}
