// Lays a session out in its arena. Buffers of one pass share memory when their lifetimes allow.
// SPDX-License-Identifier: MIT

#include <stddef.h>

#include "session/arena.h"
#include "training/training.h"

// Arenas have the same layout on all machines.
typedef char sizes_are_right[sizeof(edgelora_session_t) == 96 &&
            sizeof(edgelora_op_state_t) == 32 && sizeof(edgelora_lora_t) == 56 &&
            sizeof(edgelora_span_t) == 12
        ? 1
        : -1];

typedef struct {
    const void *model;
    const edgelora_config_t *config;
    edgelora_span_t *spans; // [n, EDGELORA_PLANNED]
    uint32_t n, lowest, trained;
    bool through_time; // errors pass to earlier frames
    bool keeps_frames; // of the session
    bool decodes;      // of config
    uint32_t ops_end; // offset after the session, its op states and their low-rank parts
    uint32_t scratch, scratch_size; // of a core, in a forward pass
    uint32_t forward_end; // of all cores' scratch in a forward pass
} plan_t;

static edgelora_status_t config_check(const void *model, const edgelora_config_t *config) {
    const edgelora_model_t *m = model;
    if (config->mode > EDGELORA_TRAINABLE_A || config->micro_batch < 1 || config->cores > 2 ||
        config->momentum > EDGELORA_MAX_MOMENTUM || config->threshold > EDGELORA_MAX_THRESHOLD) {
        return EDGELORA_ERR_CONFIG;
    }
    if (!config->frames || config->frames > EDGELORA_MAX_FRAMES ||
        (config->frames > 1 && !remembering_ops(model, m->op_count))) {
        return EDGELORA_ERR_CONFIG;
    }
    // elements of all tensors, < 2^27: sizes of samples and of their features stay within 2^31
    uint32_t values = 0;
    for (uint32_t i = 0; i <= m->op_count; ++i) {
        values += tensor_bytes(model, i);
    }
    if (config->frames > (1u << 31) / values) {
        return EDGELORA_ERR_CONFIG;
    }
    bool any = false;
    for (uint32_t i = 0; i < m->op_count; ++i) {
        uint32_t rank = config->ranks[i];
        if (!rank) {
            continue;
        }
        any = true;
        edgelora_shape_t g = edgelora_shape(model, i);
        if (!edgelora_rank_fits(m, g.op, rank)) {
            return EDGELORA_ERR_RANK;
        }
    }
    return any || config->mode == EDGELORA_INFER ? EDGELORA_OK : EDGELORA_ERR_MODE;
}

// Does each row, a position, of an op's output depend on the same row of its inputs alone, but for
// attention, which reads earlier ones?
static bool goes_by_rows(const void *model, uint32_t i) {
    edgelora_shape_t g = edgelora_shape(model, i);
    const edgelora_op_t *op = g.op;
    const edgelora_tensor_t *ids = model_tensor(model, 0);
    bool has_all = g.out_h == ids->height && g.out_w == ids->width,
         same = has_all && g.in_h == g.out_h && g.in_w == g.out_w;
    switch (op->kind) {
        case EDGELORA_ATTEND:
            return same && (op->flags & EDGELORA_CAUSAL);
        case EDGELORA_CONSTANT:
            return has_all;
        case EDGELORA_SOFTMAX:
            return same;
        default:
            return same && edgelora_goes_by_rows(&g);
    }
}

static edgelora_status_t decode_check(const void *model, const edgelora_config_t *config) {
    const edgelora_model_t *m = model;
    // other losses have one output of all rows
    bool ok = config->frames == 1 && m->loss == EDGELORA_CROSS_ENTROPY, embeds = false;
    for (uint32_t i = 0; i < m->op_count; ++i) {
        ok = ok && goes_by_rows(model, i);
        embeds = embeds || model_op(model, i)->kind == EDGELORA_EMBED;
    }
    return ok && embeds ? EDGELORA_OK : EDGELORA_ERR_DECODE;
}

// Plans decoding as inference; returns whether it is.
static bool takes_rows(edgelora_config_t *config) {
    bool decodes = config->mode == EDGELORA_DECODE;
    config->mode = decodes ? EDGELORA_INFER : config->mode;
    return decodes;
}

static edgelora_span_t span(uint32_t size, uint32_t birth, uint32_t death) {
    uint32_t words = align4(size) / 4;
    EDGELORA_ASSERT(words <= 0x1FFFFF && birth <= 0x7FF && death <= UINT16_MAX);
    return (edgelora_span_t){
        .words = words & 0x1FFFFF, .birth = birth & 0x7FF, .death = (uint16_t)death};
}

static uint32_t max_u32(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t bytes_of(const edgelora_span_t *span) {
    return 4u * span->words;
}

static edgelora_span_t *span_of(const plan_t *p, uint32_t op, uint32_t which) {
    return &p->spans[op * EDGELORA_PLANNED + which];
}

// Does op i run backward? If so, it has an error.
static bool requires_grad(const plan_t *p, uint32_t i) {
    return span_of(p, i, EDGELORA_ERROR)->words;
}

// Does the op that writes this tensor run backward?
static bool tensor_requires_grad(const plan_t *p, uint32_t tensor) {
    return tensor && requires_grad(p, tensor - 1);
}

// The lifetime of op i's recomputed output: from its first to its last read in the backward pass,
// at times of which op j's backward step has 2n - j. death 0: it is not read; next: the op that is
// recomputed with the last read, plus 1, or 0: the backward step's is the last.
static edgelora_span_t *read_span(const plan_t *p, uint32_t i) {
    return span_of(p, i, EDGELORA_RECOMPUTED);
}

// Records that the backward pass reads this tensor at a time. reader: as in read_span
static void read_back(plan_t *p, uint32_t tensor, uint32_t time, uint32_t reader) {
    if (tensor) {
        edgelora_span_t *read = read_span(p, tensor - 1);
        uint32_t first = read->death && read->birth < time ? read->birth : time;
        bool is_last = time > read->death ||
            (time == read->death && read->next && (!reader || reader > read->next));
        uint32_t last = is_last ? time : read->death, last_reader = is_last ? reader : read->next;
        *read = span(0, first, last);
        read->next = (uint16_t)last_reader;
    }
}

// The highest op above `from` that propagates an error to this tensor; 0: none.
static uint32_t highest_source(const plan_t *p, uint32_t tensor, uint32_t from) {
    for (uint32_t j = p->n; j-- > from + 1;) {
        if (requires_grad(p, j) && op_reads(model_op(p->model, j), tensor)) {
            return j;
        }
    }
    return 0;
}

// Does the loss of added classes read this tensor, the last layer's input, and propagate an error
// to it?
static bool meets_loss(const plan_t *p, uint32_t tensor) {
    return p->config->mode != EDGELORA_INFER && edgelora_class_size(p->model) &&
        model_op(p->model, p->n - 1)->input == tensor;
}

// Lifetime of op i's output in the forward pass: up to its last reader. The loss and
// edgelora_output read at time n. A history's output persists; training samples have a second one.
static void output_span(plan_t *p, uint32_t i) {
    bool trains = p->config->mode != EDGELORA_INFER;
    uint32_t death = i + 1 == p->n || (trains && i + 1 == p->trained) || meets_loss(p, i + 1) ? p->n
                                                                                              : i;
    for (uint32_t j = i + 1; j < p->n; ++j) {
        if (op_reads(model_op(p->model, j), i + 1) && j > death) {
            death = j;
        }
    }
    bool cached = p->decodes && is_cached(p->model, i + 1);
    bool lasts = cached || op_has(model_op(p->model, i), EDGELORA_KEEPS),
         in_file = op_has(model_op(p->model, i), EDGELORA_NO_INPUT);
    uint32_t bytes = tensor_bytes(p->model, i + 1);
    if (p->decodes && !cached) {
        bytes /= edgelora_shape(p->model, i).positions;
    }
    *span_of(p, i, EDGELORA_OUTPUT) = span(
        in_file ? 0 : bytes, lasts ? 0 : i, lasts ? 2 * p->n : death);
}

// Records what the backward pass of op i reads. Then, as all readers of op i's output are above it,
// decides whether the output is kept for the backward pass or recomputed, which reads its inputs.
static void backward_reads(plan_t *p, uint32_t i) {
    edgelora_shape_t g = edgelora_shape(p->model, i);
    uint32_t time = 2 * p->n - i;
    if (requires_grad(p, i)) {
        bool trains_a = p->config->mode == EDGELORA_TRAINABLE_A && p->config->ranks[i];
        bool attends = g.traits & EDGELORA_THREE_INPUTS;
        for (uint32_t k = 0; k < op_inputs(g.op); ++k) {
            uint32_t same = op_input(g.op, k), other = k ? g.op->input : g.op->input2;
            if (attends || (trains_a && !k) ||
                ((g.traits & EDGELORA_READS_INPUT) && tensor_requires_grad(p, same))) {
                read_back(p, same, time, 0);
            }
            if ((g.traits & EDGELORA_READS_OTHER) && tensor_requires_grad(p, same)) {
                read_back(p, other, time, 0);
            }
        }
        if ((g.traits & EDGELORA_READS_OUTPUT) && tensor_requires_grad(p, g.op->input)) {
            read_back(p, i + 1, time, 0);
        }
    }
    edgelora_span_t *spans = &p->spans[i * EDGELORA_PLANNED];
    uint32_t first = read_span(p, i)->birth, last = read_span(p, i)->death;
    uint16_t reader = read_span(p, i)->next;
    if (g.traits & EDGELORA_KEEPS) { // kept during all passes of a sample
        spans[EDGELORA_RECOMPUTED] = span(
            p->config->mode != EDGELORA_INFER ? bytes_of(&spans[EDGELORA_OUTPUT]) : 0, 0,
            p->through_time && !p->keeps_frames ? 2 * p->n
                : last > p->n                   ? last
                                                : p->n);
        return;
    }
    if (!last) {
        return;
    }
    if (p->config->recompute && p->config->recompute[i]) {
        spans[EDGELORA_RECOMPUTED] = span(bytes_of(&spans[EDGELORA_OUTPUT]), first, last);
        spans[EDGELORA_RECOMPUTED].next = reader;
        for (uint32_t k = 0; k < op_inputs(g.op); ++k) {
            read_back(p, op_input(g.op, k), first, i + 1);
        }
    } else {
        spans[EDGELORA_OUTPUT].death = (uint16_t)last;
        spans[EDGELORA_OUTPUT].next = reader;
    }
}

// The frames of op i.
static uint16_t *frames_of(const plan_t *p, uint32_t i) {
    return &span_of(p, i, EDGELORA_A)->next;
}

// Sets `frames` of each op: of a sample's last ones, those whose loss its output affects.
static void count_frames(const plan_t *p) {
    for (uint32_t i = 0; i < p->n; ++i) {
        *frames_of(p, i) = 1;
    }
    for (uint32_t i = p->n; i-- > 0;) {
        edgelora_shape_t g = edgelora_shape(p->model, i);
        uint32_t frames = *frames_of(p, i) + (g.traits & EDGELORA_KEEPS ? history_span(&g) - 1 : 0);
        frames = frames < p->config->frames ? frames : p->config->frames;
        for (uint32_t k = 0; k < op_inputs(g.op); ++k) {
            uint32_t tensor = op_input(g.op, k);
            if (tensor && *frames_of(p, tensor - 1) < frames) {
                *frames_of(p, tensor - 1) = (uint16_t)frames;
            }
        }
    }
}

// Bytes of scratch: of each core for its part of an op, and of all for the whole of it or its
// parts.
typedef struct {
    uint32_t part, all;
} scratch_t;

static scratch_t op_scratch(
    const plan_t *p, const edgelora_shape_t *g, uint32_t rank, bool backward) {
    uint32_t whole = align4(edgelora_op_scratch(g, rank, backward, p->config->plain)), part;
    if (!EDGELORA_TWO_CORES || p->config->cores < 2) {
        return (scratch_t){whole, whole};
    }
    part = align4(edgelora_split_scratch(g, rank, backward, p->config->plain));
    // a core's heads, and its part of a gradient, need as much as all; adapters in use may differ
    if (g->is_matrix || g->op->kind == EDGELORA_ATTEND || !backward) {
        part = max_u32(part, whole);
    }
    return (scratch_t){part, max_u32(2 * part, whole)};
}

// That of a backward step, which goes by groups of positions if it can.
static scratch_t back_scratch(const plan_t *p, const edgelora_shape_t *g, uint32_t rank) {
    uint32_t rows = backward_rows(p->model, g), rest = g->positions % rows;
    if (rows == g->positions) {
        return op_scratch(p, g, rank, true);
    }
    scratch_t most = {0, 0};
    for (uint32_t last = 0; last < 2; ++last) {
        edgelora_shape_t group = *g;
        edgelora_shape_rows(&group, 0, last && rest ? rest : rows);
        scratch_t size = op_scratch(p, &group, rank, true);
        most.part = max_u32(most.part, size.part);
        most.all = max_u32(most.all, max_u32(2 * most.part, size.all));
    }
    return most;
}

// Checks the limits of training through all frames.
static edgelora_status_t frames_check(const plan_t *p) {
    for (uint32_t i = 0; i < p->trained; ++i) {
        edgelora_shape_t g = edgelora_shape(p->model, i);
        uint32_t frames = p->through_time ? *frames_of(p, i) : 1;
        uint32_t summed = p->config->ranks[i] ? g.positions * p->config->micro_batch : 1;
        if (summed > EDGELORA_MAX_SUMMED / frames) {
            return EDGELORA_ERR_CONFIG;
        }
        if ((g.traits & EDGELORA_KEEPS) && history_input(&g) > EDGELORA_MAX_LEFT / frames) {
            return EDGELORA_ERR_CONFIG;
        }
    }
    return EDGELORA_OK;
}

// Does the backward pass of op i read inputs or outputs?
static bool reads_back(const plan_t *p, uint32_t i) {
    edgelora_shape_t g = edgelora_shape(p->model, i);
    return (p->config->ranks[i] && p->config->mode == EDGELORA_TRAINABLE_A) ||
        (g.traits &
            (EDGELORA_READS_INPUT | EDGELORA_READS_OTHER | EDGELORA_READS_OUTPUT |
                EDGELORA_THREE_INPUTS));
}

static uint32_t mask_size(const edgelora_shape_t *g) {
    bool masks = g->op->flags & (EDGELORA_MASK_LOW | EDGELORA_MASK_HIGH);
    return masks ? (g->positions * g->out_c + 7) / 8 : 0;
}

// Decides whether t and masks of all frames are kept: if the backward pass reads no more, and if
// they are not larger than what computing the frames again needs, the values that left the
// histories.
static bool can_keep_frames(const plan_t *p) {
    uint32_t left = 0, kept = 0;
    for (uint32_t i = 0; i < p->trained && p->through_time; ++i) {
        edgelora_shape_t g = edgelora_shape(p->model, i);
        uint32_t frames = *frames_of(p, i);
        if ((g.traits & EDGELORA_KEEPS) && g.op->input) {
            left += (frames - 1) * history_input(&g);
        }
        if (requires_grad(p, i) && frames > 1) {
            uint32_t each = align4(g.positions * p->config->ranks[i]) + align4(mask_size(&g));
            if (reads_back(p, i) || each > EDGELORA_MAX_LEFT / frames) {
                return false;
            }
            kept += (frames - 1) * each;
        }
    }
    return p->through_time && kept <= left;
}

// What a history op keeps to go back through the frames of a sample: the values that left it,
// unless they are the network's input, and the errors of frames before.
static void history_spans(plan_t *p, uint32_t i) {
    edgelora_shape_t g = edgelora_shape(p->model, i);
    uint32_t count = history_input(&g), older = g.positions * g.out_c - count;
    if (p->through_time && g.op->input && !p->keeps_frames) {
        *span_of(p, i, EDGELORA_LEFT) = span((*frames_of(p, i) - 1u) * count, 0, 2 * p->n);
    }
    if (p->through_time && requires_grad(p, i)) {
        *span_of(p, i, EDGELORA_CARRY) = span(
            (uint32_t)sizeof(edgelora_carry_t) + 2 * older, 0, 2 * p->n);
    }
}

// Values of an input that an op's backward pass takes at once.
static uint32_t rows_size(
    const void *model, uint32_t tensor, const edgelora_shape_t *g, uint32_t rows) {
    return rows < g->positions ? rows * model_tensor(model, tensor)->channels
                               : tensor_size(model, tensor);
}

static void backward_spans(plan_t *p, uint32_t i) {
    edgelora_span_t *spans = &p->spans[i * EDGELORA_PLANNED];
    edgelora_shape_t g = edgelora_shape(p->model, i);
    uint32_t rank = p->config->ranks[i], back = 2 * p->n - i, highest = highest_source(p, i + 1, i);
    uint32_t t = g.positions * rank, mask = mask_size(&g);
    if (p->keeps_frames) {
        uint32_t frames = *frames_of(p, i);
        spans[EDGELORA_T] = span(frames * align4(t), 0, 2 * p->n);
        spans[EDGELORA_MASK] = span(frames * align4(mask), 0, 2 * p->n);
    } else {
        spans[EDGELORA_T] = span(t, i, back);
        spans[EDGELORA_MASK] = span(mask, i, back);
    }
    bool of_loss = i + 1 == p->trained || meets_loss(p, i + 1);
    spans[EDGELORA_ERROR] = span(
        error_size(p->model, g.positions, g.out_c), of_loss ? p->n : 2 * p->n - highest, back);
    bool requires1 = tensor_requires_grad(p, g.op->input),
         requires2 = op_inputs(g.op) == 2 && tensor_requires_grad(p, g.op->input2);
    bool has_u = rank && (p->config->mode == EDGELORA_TRAINABLE_A || requires1);
    // an error is added to an existing one if an op above reads the same input, this op reads it
    // twice, or the loss has written one
    uint32_t joins = 0, rows = backward_rows(p->model, &g);
    if (requires1 && (highest_source(p, g.op->input, i) || meets_loss(p, g.op->input))) {
        joins = rows_size(p->model, g.op->input, &g, rows);
    }
    if (requires2 && (g.op->input2 == g.op->input || highest_source(p, g.op->input2, i))) {
        uint32_t size2 = rows_size(p->model, g.op->input2, &g, rows);
        joins = size2 > joins ? size2 : joins;
    }
    spans[EDGELORA_WORK] = span((has_u ? align4(rows * rank) : 0) + joins, back, back);
}

// The step at which op i runs backward.
static uint32_t back_step(const plan_t *p, uint32_t i) {
    return span_of(p, i, EDGELORA_SCRATCH_BACK)->birth;
}

// The op for whose backward step the output of op i is recomputed, or EDGELORA_MAX_OPS.
static uint32_t recomputed_for(const plan_t *p, uint32_t i) {
    const edgelora_span_t *again = span_of(p, i, EDGELORA_RECOMPUTED);
    bool is = again->words && again->birth > p->n;
    return is ? 2 * p->n - again->birth : EDGELORA_MAX_OPS;
}

// The shape of op i as it runs in this session.
static edgelora_shape_t shape_of(const plan_t *p, uint32_t i) {
    edgelora_shape_t g = edgelora_shape(p->model, i);
    g.may_read_ahead = reads_weights_once(p->config->mode, p->config->frames);
    return g;
}

// Numbers the steps of the backward pass and sets the scratch of each.
static void schedule(plan_t *p) {
    uint32_t step = p->n;
    for (uint32_t i = p->n; i-- > 0;) {
        for (uint32_t k = 0; k <= i; ++k) {
            if (recomputed_for(p, k) == i) {
                edgelora_shape_t g = shape_of(p, k);
                uint32_t size = op_scratch(p, &g, p->config->ranks[k], false).all;
                ++step;
                *span_of(p, k, EDGELORA_SCRATCH_AGAIN) = span(size, step, step);
            }
        }
        edgelora_shape_t g = shape_of(p, i);
        uint32_t size = requires_grad(p, i) ? back_scratch(p, &g, p->config->ranks[i]).all : 0;
        ++step;
        *span_of(p, i, EDGELORA_SCRATCH_BACK) = span(size, step, step);
    }
}

// The op that runs backward next after this scratch was in use, or EDGELORA_MAX_OPS if it is none.
static uint32_t next_back(const plan_t *p, const edgelora_span_t *again) {
    uint32_t i = p->n;
    while (again->birth && i-- > 0) {
        if (back_step(p, i) > again->birth) {
            return i;
        }
    }
    return EDGELORA_MAX_OPS;
}

// Puts the steps in place of the times of an op's buffers. They are those of backward steps, but
// for what is recomputed, and for what that reads last.
static void times_to_steps(plan_t *p, uint32_t i) {
    for (uint32_t k = 0; k < EDGELORA_SPANS; ++k) {
        edgelora_span_t *s = span_of(p, i, k);
        bool is_output = k == EDGELORA_OUTPUT || k == EDGELORA_RECOMPUTED;
        uint32_t reader = is_output ? s->next : 0, birth = s->birth, death = s->death;
        if (death > p->n) {
            death = reader ? span_of(p, reader - 1, EDGELORA_SCRATCH_AGAIN)->birth
                           : back_step(p, 2 * p->n - death);
        }
        if (birth > p->n) {
            birth = k == EDGELORA_RECOMPUTED ? span_of(p, i, EDGELORA_SCRATCH_AGAIN)->birth
                                             : back_step(p, 2 * p->n - birth);
        }
        *s = span(bytes_of(s), birth, death);
    }
}

static bool goes_first(const edgelora_span_t *a, const edgelora_span_t *b, bool by_birth) {
    return by_birth && a->birth != b->birth ? a->birth < b->birth : a->words > b->words;
}

enum { NO_SPAN = 0xFFFF }; // end of a list of spans, linked by `next`

// Stable bottom-up merge sort of a list by goes_first; returns its first span.
static uint16_t sort(edgelora_span_t *spans, uint16_t first, bool by_birth) {
    for (uint32_t run = 1, runs = 2; runs > 1; run *= 2) {
        uint16_t rest = first, *to = &first;
        for (runs = 0; rest != NO_SPAN; ++runs) {
            uint16_t a = rest, b = rest;
            uint32_t left_a = 0, left_b = run;
            for (; left_a < run && b != NO_SPAN; ++left_a) {
                b = spans[b].next;
            }
            while (left_a || (left_b && b != NO_SPAN)) {
                bool from_b = left_b && b != NO_SPAN &&
                    (!left_a || goes_first(&spans[b], &spans[a], by_birth));
                uint16_t *from = from_b ? &b : &a;
                left_a -= !from_b;
                left_b -= from_b;
                *to = *from;
                to = &spans[*from].next;
                *from = *to;
            }
            rest = b;
        }
        *to = NO_SPAN;
    }
    return first;
}

// Places the buffers of a pass, the largest or the earliest first, each at the lowest offset that
// is free during its lifetime; returns the end. Placed spans form a list by offset, so that one
// scan finds the place of the next. The scratch is the first of it.
static uint32_t place(const plan_t *p, bool by_birth) {
    edgelora_span_t *spans = p->spans;
    EDGELORA_ASSERT(p->n * EDGELORA_PLANNED < NO_SPAN);
    uint32_t end = p->forward_end;
    uint16_t waiting = NO_SPAN, placed = NO_SPAN;
    for (uint32_t i = p->n * EDGELORA_PLANNED; i-- > 0;) {
        bool is_scratch = i % EDGELORA_PLANNED >= EDGELORA_SCRATCH_AGAIN;
        spans[i].offset = is_scratch ? p->scratch : 0;
        if (spans[i].words) {
            uint16_t *list = is_scratch ? &placed : &waiting;
            spans[i].next = *list;
            *list = (uint16_t)i;
            end = max_u32(end, spans[i].offset + bytes_of(&spans[i]));
        }
    }
    waiting = sort(spans, waiting, by_birth);
    while (waiting != NO_SPAN) {
        uint16_t next = waiting, *at = &placed;
        edgelora_span_t *span = &spans[next];
        waiting = span->next;
        span->offset = span->birth <= p->n ? p->forward_end : p->scratch;
        for (uint16_t i = placed; i != NO_SPAN && spans[i].offset < span->offset + bytes_of(span);
            i = spans[i].next) {
            const edgelora_span_t *other = &spans[i];
            if (other->birth <= span->death && span->birth <= other->death &&
                other->offset + bytes_of(other) > span->offset) {
                span->offset = other->offset + bytes_of(other);
            }
        }
        while (*at != NO_SPAN && spans[*at].offset < span->offset) {
            at = &spans[*at].next;
        }
        span->next = *at;
        *at = next;
        end = max_u32(end, span->offset + bytes_of(span));
    }
    return end;
}

static uint32_t lora_size(uint32_t rank) {
    return (uint32_t)(rank ? sizeof(edgelora_lora_t) : offsetof(edgelora_lora_t, matrix_a));
}

// Bytes of the planner's spans.
static uint32_t spans_size(const edgelora_model_t *m) {
    return m->op_count * EDGELORA_PLANNED * (uint32_t)sizeof(edgelora_span_t);
}

// Plans all offsets and returns the arena's size. p: zero, except model, config and spans.
static int32_t plan(plan_t *p) {
    edgelora_status_t status = config_check(p->model, p->config);
    if (status == EDGELORA_OK && p->decodes) {
        status = EDGELORA_ATTENTION ? decode_check(p->model, p->config) : EDGELORA_ERR_DECODE;
    }
    if (status != EDGELORA_OK) {
        return status;
    }
    const uint8_t *ranks = p->config->ranks;
    bool trains = p->config->mode != EDGELORA_INFER;
    p->n = p->lowest = ((const edgelora_model_t *)p->model)->op_count;
    p->trained = trained_ops(p->model);
    p->ops_end = (uint32_t)(sizeof(edgelora_session_t) + p->n * sizeof(edgelora_op_state_t));
    p->scratch_size = trains && ((const edgelora_model_t *)p->model)->loss == EDGELORA_CROSS_ENTROPY
        ? 4 * loss_channels(p->model)
        : 0;
    if (edgelora_class_size(p->model)) { // scores
        p->scratch_size = 4 * (tensor_size(p->model, p->n) + EDGELORA_MAX_ADDED);
    }
    for (uint32_t i = 0; i < p->n; ++i) {
        edgelora_shape_t g = shape_of(p, i);
        p->lowest = ranks[i] && i < p->lowest ? i : p->lowest;
        bool runs_back = trains && i < p->trained && ranks[i];
        for (uint32_t k = 0; trains && i < p->trained && k < op_inputs(g.op); ++k) {
            runs_back |= tensor_requires_grad(p, op_input(g.op, k));
        }
        if (runs_back && (g.traits & EDGELORA_NO_GRADIENT)) {
            return EDGELORA_ERR_RANK;
        }
        p->ops_end += g.is_matrix ? lora_size(ranks[i]) : 0;
        bool attends = p->decodes && g.op->kind == EDGELORA_ATTEND;
        if (p->decodes && !attends) {
            edgelora_shape_rows(&g, 0, 1);
        }
        uint32_t size = attends ? edgelora_op_next_scratch(&g)
                                : op_scratch(p, &g, ranks[i], false).part;
        p->scratch_size = max_u32(size, p->scratch_size);
        for (uint32_t k = 0; k < EDGELORA_PLANNED; ++k) {
            *span_of(p, i, k) = span(0, 0, 0);
        }
        *span_of(p, i, EDGELORA_ERROR) = span(runs_back, 0, 0); // lifetime: backward_spans
        p->through_time |= runs_back && (g.traits & EDGELORA_KEEPS) && p->config->frames > 1;
        output_span(p, i);
    }
    count_frames(p);
    status = trains ? frames_check(p) : EDGELORA_OK;
    if (status != EDGELORA_OK) {
        return status;
    }
    p->keeps_frames = can_keep_frames(p);
    for (uint32_t i = p->n; i-- > 0;) {
        backward_reads(p, i);
        if (requires_grad(p, i)) {
            backward_spans(p, i);
        }
        if (i < p->trained && op_has(model_op(p->model, i), EDGELORA_KEEPS)) {
            history_spans(p, i);
        }
    }
    schedule(p);
    for (uint32_t i = 0; i < p->n; ++i) {
        times_to_steps(p, i);
    }
    bool two_cores = p->config->cores == 2;
    p->scratch = p->ops_end + (two_cores ? second_bytes(p->n) : 0);
    p->scratch_size = align4(p->scratch_size);
    p->forward_end = p->scratch + p->scratch_size * (two_cores ? 2 : 1);
    uint32_t by_birth = place(p, true), end = place(p, false), last = back_step(p, 0);
    if (by_birth < end) {
        end = place(p, true);
    }
    for (uint32_t i = 0; i < p->n; ++i) {
        if (ranks[i]) {
            edgelora_shape_t g = edgelora_shape(p->model, i);
            edgelora_span_t *a = span_of(p, i, EDGELORA_A), *b = a + 1;
            uint16_t frames = *frames_of(p, i);
            *a = span(matrix_size(ranks[i] * g.inputs, p->config->mode == EDGELORA_TRAINABLE_A,
                          p->config->momentum),
                0, last);
            *b = span(
                trains ? matrix_size((uint32_t)ranks[i] * g.out_c, true, p->config->momentum) : 0,
                0, last);
            a->next = frames;
            a->offset = end;
            b->offset = end + bytes_of(a);
            end = b->offset + bytes_of(b);
        }
    }
    // edgelora_init plans within the arena
    uint32_t planner = p->scratch + spans_size(p->model);
    return (int32_t)((max_u32(end, planner) + 7) & ~7u);
}

// Do a model and a config's arrays lie apart from memory that is written?
static bool are_apart(
    const void *model, const edgelora_config_t *config, const void *memory, uint32_t size) {
    const edgelora_model_t *m = model;
    return apart(memory, size, m, m->file_size) &&
        apart(memory, size, config->ranks, m->op_count) &&
        apart(memory, size, config->recompute, config->recompute ? m->op_count : 0);
}

int32_t edgelora_arena_size(
    const void *model, const edgelora_config_t *config, edgelora_span_t *spans) {
    if (!are_apart(model, config, spans, spans_size(model))) {
        return EDGELORA_ERR_ALIAS;
    }
    edgelora_config_t own = *config;
    plan_t p = {.model = model, .config = &own, .spans = spans, .decodes = takes_rows(&own)};
    return plan(&p);
}

static edgelora_matrix_t matrix(const edgelora_span_t *s, uint32_t count, bool trains) {
    return (edgelora_matrix_t){.count = count, .at = s->offset, .trains = trains};
}

// room: bytes of scratch that its backward step has
static uint8_t op_flags(
    const edgelora_session_t *s, const edgelora_shape_t *g, uint32_t rank, uint32_t room) {
    bool bounded = g->traits & EDGELORA_HAS_WEIGHTS;
    for (uint32_t o = 0; bounded && o < g->out_c; ++o) {
        bounded = g->shift[o] <= 0 && g->bias[o] <= 1 << 28 && g->bias[o] >= -(1 << 28);
    }
    rank = g->is_matrix ? rank : 0;
    bool forward = edgelora_op_is_packed(g, rank, false, s->scratch_size, s->plain);
    edgelora_shape_t back = *g;
    edgelora_shape_backward(&back, session_model(s));
    bool backward = edgelora_op_is_packed(&back, rank, true, room, s->plain);
    bool lasts = g->traits & EDGELORA_KEEPS;
    return (uint8_t)((bounded ? EDGELORA_OP_BOUNDED : 0) | (lasts ? EDGELORA_OP_LASTS : 0) |
        (forward ? EDGELORA_OP_PACKED_FORWARD : 0) | (backward ? EDGELORA_OP_PACKED_BACKWARD : 0));
}

uint32_t edgelora_simd_room(void) {
    const edgelora_simd_t *simd = edgelora_simd_kernels(edgelora_simd_level(false));
    return simd ? (simd->work_size + 63 + 64) & ~63u : 0;
}

edgelora_status_t edgelora_use_second(edgelora_session_t *s, const edgelora_second_t *second) {
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    edgelora_ref_t *place = session_second(s);
    if (place) {
        place->p = second;
    }
    return edgelora_leave(s, place || !second ? EDGELORA_OK : EDGELORA_ERR_CORES);
}

void *edgelora_second_stack(const edgelora_session_t *s) {
    const edgelora_ref_t *place = session_second((edgelora_session_t *)(uintptr_t)s);
    return place && place->p ? (uint8_t *)(uintptr_t)s + s->scratch : 0;
}

edgelora_status_t edgelora_init(
    void *arena, uint32_t arena_size, const void *model, const edgelora_config_t *config) {
    uint32_t n = ((const edgelora_model_t *)model)->op_count, planner = spans_size(model);
    if ((uintptr_t)arena & 7) {
        return EDGELORA_ERR_ALIGN;
    }
    if (arena_size < sizeof(edgelora_session_t) + planner) {
        return EDGELORA_ERR_ARENA;
    }
    uint32_t model_size = ((const edgelora_model_t *)model)->file_size;
    if (!are_apart(model, config, arena, arena_size)) {
        return EDGELORA_ERR_ALIAS;
    }
    edgelora_session_t *s = arena;
    s->self.p = 0;
    // used until the op states are written
    edgelora_span_t *spans = (edgelora_span_t *)(void *)((uint8_t *)arena +
        ((arena_size - planner) & ~3u));
    edgelora_config_t own = *config;
    plan_t p = {.model = model, .config = &own, .spans = spans, .decodes = takes_rows(&own)};
    config = &own;
    int32_t size = plan(&p);
    if (size < 0) {
        return (edgelora_status_t)size;
    }
    if ((uint32_t)size > arena_size) {
        return EDGELORA_ERR_ARENA;
    }
    *s = (edgelora_session_t){
        .model = {.p = model},
        .arena_size = arena_size,
        .scratch = p.scratch,
        .scratch_size = p.scratch_size,
        .threshold = config->threshold,
        .op_count = n & 1023,
        .lowest = p.lowest & 1023,
        .trained = p.trained & 1023,
        .decodes = p.decodes,
        .mode = config->mode,
        .micro_batch = config->micro_batch,
        .momentum = config->momentum,
        .plain = config->plain != 0,
        .simd = config->plain || arena_size - (uint32_t)size < edgelora_simd_room()
            ? 0
            : edgelora_simd_level(config->vectors) & 3,
        .keeps_frames = p.keeps_frames,
        .two_cores = config->cores == 2,
        .frames = config->frames,
        .model_size = model_size,
        .stamp = config->fixed ? 0 : edgelora_model_stamp(model, model_size),
    };
    edgelora_op_state_t *ops = session_ops(s);
    edgelora_rooms_t *rooms = session_rooms(s);
    uint32_t lora_at = (uint32_t)(sizeof(*s) + n * sizeof(*ops));
    for (uint32_t i = 0; i < n; ++i, spans += EDGELORA_PLANNED) {
        edgelora_shape_t g = shape_of(&p, i);
        uint32_t back = bytes_of(&spans[EDGELORA_SCRATCH_BACK]);
        ops[i] = (edgelora_op_state_t){
            .requires_grad = spans[EDGELORA_ERROR].words != 0,
            .recomputed_for = next_back(&p, &spans[EDGELORA_SCRATCH_AGAIN]) & 511,
            .flags = op_flags(s, &g, config->ranks[i], back) & 63u,
            .frames = spans[EDGELORA_A].next & (uint32_t)EDGELORA_MAX_FRAMES};
        for (uint32_t k = 0; k < EDGELORA_SPANS; ++k) {
            ops[i].at[k] = spans[k].offset;
        }
        if (rooms) {
            rooms[i].again = bytes_of(&spans[EDGELORA_SCRATCH_AGAIN]) / 2;
            rooms[i].back = back ? back_scratch(&p, &g, config->ranks[i]).part : 0;
        }
        if (g.is_matrix) {
            uint32_t rank = config->ranks[i];
            edgelora_lora_t *l = arena_at(s, lora_at);
            ops[i].lora = (uint16_t)lora_at;
            lora_at += lora_size(rank);
            lora_use(l, &(edgelora_branch_t){0});
            l->rank = (uint8_t)rank;
            l->t_shift = g.op->t_shift;
            l->branch_shift = g.op->branch_shift;
            if (rank) {
                l->matrix_a = matrix(
                    &spans[EDGELORA_A], rank * g.inputs, config->mode == EDGELORA_TRAINABLE_A);
                l->matrix_b = matrix(
                    &spans[EDGELORA_B], rank * g.out_c, config->mode != EDGELORA_INFER);
            }
        }
    }
    if (s->two_cores) {
        session_second(s)->p = 0;
    }
    s->self.p = arena; // from here on the arena is a session
    s->magic = SESSION_MAGIC;
    edgelora_reset(s);
    return EDGELORA_OK;
}
