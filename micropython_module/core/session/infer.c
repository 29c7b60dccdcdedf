// Inference: forward passes, classes and their probabilities, features.
// SPDX-License-Identifier: MIT

#include "session/infer.h"
#include "kernels/attention.h"
#include "session/classes.h"
#include "training/training.h"

enum { CHOICES = 131074 }; // the stream of draws of symbols

// The branch of the adapter in use; if it was merged, sets g to the merged weights instead.
static edgelora_branch_t used_branch(const edgelora_lora_t *l, edgelora_shape_t *g) {
    if (l && l->merged) {
        g->bias = merged_bias(g, l->a.p);
        g->weights = l->a.p;
    }
    return l && l->used_rank ? lora_used(l) : (edgelora_branch_t){0};
}

// Does this op run with fast kernels and the adapter in use?
static bool is_packed_used(
    const edgelora_session_t *s, edgelora_op_state_t *l, const edgelora_shape_t *g, uint32_t rank) {
    if (!op_state_has(l, EDGELORA_OP_USED_CHOSEN)) {
        bool fast = edgelora_op_is_packed(g, rank, false, s->scratch_size, s->plain);
        l->flags = ((l->flags & ~(uint32_t)EDGELORA_OP_PACKED_USED) | EDGELORA_OP_USED_CHOSEN |
                       (fast ? EDGELORA_OP_PACKED_USED : 0)) &
            63;
    }
    return op_state_has(l, EDGELORA_OP_PACKED_USED);
}

EDGELORA_HOT static void op_forward(
    edgelora_session_t *s, const source_t *source, uint32_t i, purpose_t purpose) {
    edgelora_op_state_t *l = &session_ops(s)[i];
    const edgelora_lora_t *lora = op_lora(s, l);
    edgelora_shape_t g;
    session_shape_into(&g, s, i);
    edgelora_branch_t branch = purpose == INFERENCE ? used_branch(lora, &g) : lora_own(s, lora);
    edgelora_pass_t pass; // field by field: an initializer would clear it first
    pass.x = edgelora_tensor_at(s, source, g.op->input, purpose);
    uint32_t inputs = op_inputs(g.op);
    pass.x2 = inputs > 1 ? edgelora_tensor_at(s, source, g.op->input2, purpose) : 0;
    pass.x3 = inputs > 2 ? edgelora_tensor_at(s, source, op_number(g.op), purpose) : 0;
    pass.y = arena_at(s, output_at(l, purpose));
    pass.t = purpose == TRAINING && branch.rank ? kept_t(s, l, &g, branch.rank, source->age) : 0;
    pass.scratch = arena_at(s, s->scratch);
    pass.packed = purpose == INFERENCE ? is_packed_used(s, l, &g, branch.rank)
                                       : op_state_has(l, EDGELORA_OP_PACKED_FORWARD);
    pass.simd = edgelora_simd_kernels(s->simd);
    pass.work = simd_work(s);
    const edgelora_rooms_t *rooms = purpose == RECOMPUTING ? session_rooms(s) : 0;
    edgelora_split_t split = session_split(s, rooms ? rooms[i].again : s->scratch_size);
    edgelora_split_forward(&split, &g, &branch, &pass);
    if (purpose == TRAINING && l->at[EDGELORA_MASK] && !op_state_has(l, EDGELORA_OP_LASTS)) {
        edgelora_split_mask(&split, &g, pass.y, kept_mask(s, l, &g, source->age), pass.simd);
    }
}

static uint32_t row_bytes(const void *model, uint32_t tensor) {
    const edgelora_tensor_t *t = model_tensor(model, tensor);
    return (uint32_t)t->channels << t->wide;
}

// The next row of input k of an op; of keys and values the first, as all up to the next are read.
// Only these and constants have more rows than one.
static const int8_t *next_input(
    edgelora_session_t *s, const source_t *source, const edgelora_op_t *op, uint32_t k) {
    const void *model = session_model(s);
    uint32_t tensor = op_input(op, k);
    bool constant = tensor && model_op(model, tensor - 1)->kind == EDGELORA_CONSTANT,
         all = k && op->kind == EDGELORA_ATTEND;
    return edgelora_tensor_at(s, source, tensor, INFERENCE) +
        (constant && !all ? s->pending * row_bytes(model, tensor) : 0);
}

// Runs an op on one row.
static void op_next(edgelora_session_t *s, const int8_t *id, uint32_t i) {
    const void *model = session_model(s);
    edgelora_op_state_t *l = &session_ops(s)[i];
    const edgelora_lora_t *lora = op_lora(s, l);
    edgelora_shape_t g = edgelora_shape(model, i);
    source_t source = {id, 0, 0};
    const int8_t *x[3] = {0, 0, 0};
    uint32_t t = s->pending;
    for (uint32_t k = 0; k < op_inputs(g.op); ++k) {
        x[k] = next_input(s, &source, g.op, k);
    }
    int8_t *y = arena_at(s, output_at(l, INFERENCE));
    if (g.op->kind == EDGELORA_ATTEND) {
        edgelora_split_t split = session_split(s, s->scratch_size);
        edgelora_split_attend_next(&split, &g, x, y, arena_at(s, s->scratch), t);
        return;
    }
    edgelora_shape_rows(&g, t, 1);
    g.bounded = op_state_has(l, EDGELORA_OP_BOUNDED);
    edgelora_branch_t branch = used_branch(lora, &g);
    edgelora_pass_t pass = {
        .x = x[0],
        .x2 = x[1],
        .y = is_cached(model, i + 1) ? y + t * row_bytes(model, i + 1) : y,
        .scratch = arena_at(s, s->scratch),
        .packed = is_packed_used(s, l, &g, branch.rank),
        .simd = edgelora_simd_kernels(s->simd),
        .work = simd_work(s)};
    edgelora_op_forward(&g, &branch, &pass);
}

EDGELORA_RAM static void forward(
    edgelora_session_t *s, const source_t *source, uint32_t from, uint32_t to, purpose_t purpose) {
    for (uint32_t i = from; i < to; ++i) {
        op_forward(s, source, i, purpose);
    }
}

// The class from the last output: index of the largest, or 0 or 1 for a single binary output.
EDGELORA_RAM static int32_t best_output(edgelora_session_t *s) {
    const edgelora_model_t *model = session_model(s);
    const int8_t *y = edgelora_output(s);
    uint32_t n = output_classes(model), best = 0;
    y += s->decodes ? 0 : edgelora_output_size(model) - n; // of the last position
    if (n == 1 && model->loss == EDGELORA_BINARY_CROSS_ENTROPY) {
        return y[0] > (s->trained < s->op_count ? 0 : model_tensor(model, s->op_count)->zero_point);
    }
    for (uint32_t i = 1; i < n; ++i) {
        best = y[i] > y[best] ? i : best;
    }
    return (int32_t)best;
}

EDGELORA_RAM int32_t edgelora_decide(edgelora_session_t *s, const source_t *source) {
    return s->classes.p ? edgelora_classes_decide(s, head_input(s, source, INFERENCE))
                        : best_output(s);
}

int32_t edgelora_next(edgelora_session_t *s, uint32_t id) {
    const uint8_t bytes[2] = {id & 255, id >> 8 & 255};
    if (!EDGELORA_ATTENTION || !s->decodes) {
        return EDGELORA_ERR_DECODE;
    }
    if (id >> 8 * model_tensor(session_model(s), 0)->channels) {
        return EDGELORA_ERR_LABEL;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    const edgelora_tensor_t *ids = model_tensor(session_model(s), 0);
    if (s->pending >= (uint32_t)ids->height * ids->width) {
        return edgelora_leave(s, EDGELORA_ERR_FULL);
    }
    for (uint32_t i = 0; i < s->op_count; ++i) {
        op_next(s, (const int8_t *)bytes, i);
    }
    s->pending += 1;
    return edgelora_leave(s, best_output(s));
}

// How often a logit d steps below the largest is drawn; factor: a step in 2^-16 octaves.
static uint32_t chances(uint32_t d, uint32_t factor) {
    uint32_t below = d * factor >> 8;
    return below < 4096 ? edgelora_exponential_15(below) : 0;
}

int32_t edgelora_choose(
    edgelora_session_t *s, uint32_t temperature, uint32_t seed, uint32_t place) {
    if (!EDGELORA_ATTENTION || !s->decodes || !s->pending) {
        return EDGELORA_ERR_DECODE;
    }
    if (!temperature || temperature > 65535) {
        return EDGELORA_ERR_CONFIG;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    const edgelora_model_t *model = session_model(s);
    uint32_t factor = model->logit_scale * 369u / temperature; // logit_scale <= 2^23
    factor = factor < 1u << 23 ? factor : 1u << 23;
    const source_t none = {0, 0, 0};
    const int8_t *q = edgelora_tensor_at(s, &none, s->trained, INFERENCE); // below a last softmax
    int32_t best = -128;
    uint32_t n = output_classes(model), sum = 0, id = 0; // sum < 2^25
    for (uint32_t i = 0; i < n; ++i) {
        best = q[i] > best ? q[i] : best;
    }
    for (uint32_t i = 0; i < n; ++i) {
        sum += chances((uint32_t)(best - q[i]), factor);
    }
    uint32_t left = edgelora_draw(seed, CHOICES, place, sum);
    for (uint32_t chance; (chance = chances((uint32_t)(best - q[id]), factor)) <= left; ++id) {
        left -= chance;
    }
    return edgelora_leave(s, (int32_t)id);
}

int32_t edgelora_back(edgelora_session_t *s, uint32_t count) {
    if (!EDGELORA_ATTENTION || !s->decodes) {
        return EDGELORA_ERR_DECODE;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    s->pending = (uint16_t)(count < s->pending ? s->pending - count : 0);
    return edgelora_leave(s, (int32_t)s->pending);
}

// May a pass read this input of the model?
EDGELORA_RAM static edgelora_status_t input_check(const edgelora_session_t *s, const int8_t *x) {
    return s->decodes                                           ? EDGELORA_ERR_DECODE
        : !outside(s, x, edgelora_input_size(session_model(s))) ? EDGELORA_ERR_ALIAS
                                                                : EDGELORA_OK;
}

EDGELORA_RAM int32_t edgelora_infer(edgelora_session_t *s, const int8_t *x) {
    edgelora_status_t status = input_check(s, x);
    if (status != EDGELORA_OK) {
        return status;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t source = {x, 0, 0};
    forward(s, &source, 0, s->op_count, INFERENCE);
    return edgelora_leave(s, edgelora_decide(s, &source));
}

edgelora_status_t edgelora_forward_range(
    edgelora_session_t *s, const int8_t *x, uint32_t from, uint32_t to) {
    edgelora_status_t status = input_check(s, x);
    if (status != EDGELORA_OK) {
        return status;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t source = {x, 0, 0};
    forward(s, &source, from, to < s->op_count ? to : s->op_count, INFERENCE);
    return edgelora_leave(s, EDGELORA_OK);
}

// Resets the histories of ops [from, to) to their initial contents.
EDGELORA_RAM static void reset(
    edgelora_session_t *s, uint32_t from, uint32_t to, purpose_t purpose) {
    for (uint32_t i = from; i < to; ++i) {
        const edgelora_op_state_t *l = &session_ops(s)[i];
        if (op_state_has(l, EDGELORA_OP_LASTS)) {
            edgelora_shape_t g = edgelora_shape(session_model(s), i);
            edgelora_op_reset(&g, arena_at(s, output_at(l, purpose)));
        }
    }
}

edgelora_status_t edgelora_reset(edgelora_session_t *s) {
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    reset(s, 0, s->op_count, INFERENCE);
    s->pending = s->decodes ? 0 : s->pending;
    return edgelora_leave(s, EDGELORA_OK);
}

// Number of frames that the features cover.
EDGELORA_RAM static uint32_t feature_frames(const edgelora_session_t *s) {
    return remembering_ops(session_model(s), s->op_count) > s->lowest ? s->frames : 1;
}

EDGELORA_RAM sample_t edgelora_sample(const edgelora_session_t *s, source_t first) {
    return first.features
        ? (sample_t){first, feature_frames(s), edgelora_feature_offset(s, s->lowest + 1u), s->lowest}
        : (sample_t){first, s->frames, edgelora_input_size(session_model(s)), 0};
}

EDGELORA_RAM bool edgelora_is_apart(
    const edgelora_session_t *s, const sample_t *sample, const void *out, uint32_t size) {
    const int8_t *x = sample->first.features ? sample->first.features : sample->first.x;
    uint32_t bytes = sample->frames * sample->step;
    return outside(s, x, bytes) && apart(x, bytes, out, size) && writable(s, out, size);
}

EDGELORA_RAM source_t edgelora_infer_frames(edgelora_session_t *s, const sample_t *sample) {
    uint32_t remembering = remembering_ops(session_model(s), s->op_count);
    reset(s, sample->from, s->op_count, INFERENCE);
    for (uint32_t age = sample->frames - 1; age; --age) {
        source_t frame = sample_frame(sample, age);
        forward(s, &frame, sample->from, remembering, INFERENCE);
    }
    source_t last = sample_frame(sample, 0);
    forward(s, &last, sample->from, s->op_count, INFERENCE);
    return last;
}

// Where a history op keeps the values that leave it when the frame of this age arrives; NULL: the
// backward pass does not need them, or finds them in the network's input.
static int8_t *left_at(
    edgelora_session_t *s, const edgelora_shape_t *g, const edgelora_op_state_t *l, uint32_t age) {
    int8_t *left = op_buffer(s, l, EDGELORA_LEFT);
    return left && age + 1 < l->frames ? left + age * history_input(g) : 0;
}

// A history op in training: takes its input, if the loss depends on it.
static void history_forward(
    edgelora_session_t *s, const source_t *frame, uint32_t i, uint32_t age) {
    const edgelora_op_state_t *l = &session_ops(s)[i];
    edgelora_shape_t g = edgelora_shape(session_model(s), i);
    if (age >= l->frames + history_span(&g) - 1) {
        return;
    }
    int8_t *left = left_at(s, &g, l, age);
    if (left) {
        copy_bytes(left, arena_at(s, output_at(l, TRAINING)), history_input(&g));
    }
    op_forward(s, frame, i, TRAINING);
}

EDGELORA_RAM void edgelora_train_frames(edgelora_session_t *s, const sample_t *sample) {
    reset(s, sample->from, s->trained, TRAINING);
    for (uint32_t age = sample->frames; age--;) {
        source_t frame = sample_frame(sample, age);
        for (uint32_t i = sample->from; i < s->trained; ++i) {
            const edgelora_op_state_t *l = &session_ops(s)[i];
            if (op_state_has(l, EDGELORA_OP_LASTS)) {
                history_forward(s, &frame, i, age);
            } else if (age < l->frames) {
                op_forward(s, &frame, i, TRAINING);
            }
        }
    }
}

// The oldest values of a history of the network's input, at the frame of this age.
static void oldest_inputs(
    const edgelora_shape_t *g, const sample_t *sample, uint32_t age, int8_t *y) {
    uint32_t count = history_input(g), size = g->positions * g->out_c;
    // first of the values in all frames, one behind the other; those before are the initial ones
    int32_t first = (int32_t)((sample->frames - age) * count - size);
    for (uint32_t i = 0; i < count; ++i) {
        int32_t at = first + (int32_t)i;
        if (at < 0) {
            y[i] = g->initial ? g->initial[at + (int32_t)(size - count)] : g->zp_out;
        } else {
            source_t frame = sample_frame(sample, sample->frames - 1 - (uint32_t)at / count);
            y[i] = (frame.x ? frame.x : frame.features)[(uint32_t)at % count];
        }
    }
}

void edgelora_step_back(edgelora_session_t *s, const sample_t *sample, uint32_t age) {
    source_t frame = sample_frame(sample, age);
    for (uint32_t i = sample->from; i < s->trained && !s->keeps_frames; ++i) {
        const edgelora_op_state_t *l = &session_ops(s)[i];
        if (age >= l->frames) {
            continue;
        }
        if (!op_state_has(l, EDGELORA_OP_LASTS)) {
            op_forward(s, &frame, i, TRAINING);
            continue;
        }
        edgelora_shape_t g = edgelora_shape(session_model(s), i);
        int8_t *y = arena_at(s, output_at(l, TRAINING)), *left = left_at(s, &g, l, age - 1);
        edgelora_op_back(&g, left ? left : y, y);
        if (!left) {
            oldest_inputs(&g, sample, age, y);
        }
    }
}

void edgelora_recompute(edgelora_session_t *s, const source_t *source, uint32_t op) {
    op_forward(s, source, op, RECOMPUTING);
}

EDGELORA_RAM static int32_t infer_sample(edgelora_session_t *s, source_t first) {
    if (s->decodes) {
        return EDGELORA_ERR_DECODE;
    }
    sample_t sample = edgelora_sample(s, first);
    if (!edgelora_is_apart(s, &sample, 0, 0)) {
        return EDGELORA_ERR_ALIAS;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t last_frame = edgelora_infer_frames(s, &sample);
    return edgelora_leave(s, edgelora_decide(s, &last_frame));
}

int32_t edgelora_infer_sample(edgelora_session_t *s, const int8_t *x) {
    return infer_sample(s, (source_t){x, 0, 0});
}

EDGELORA_RAM int32_t edgelora_infer_features(edgelora_session_t *s, const int8_t *features) {
    if (s->lowest == s->op_count) {
        return EDGELORA_ERR_MODE;
    }
    if ((uintptr_t)features & edgelora_has_wide_features(s)) {
        return EDGELORA_ERR_ALIGN;
    }
    return infer_sample(s, (source_t){0, features, 0});
}

EDGELORA_RAM uint32_t edgelora_feature_size(const edgelora_session_t *s) {
    return feature_frames(s) * edgelora_feature_offset(s, s->lowest + 1u);
}

edgelora_status_t edgelora_features(edgelora_session_t *s, const int8_t *x, int8_t *out) {
    // if false, the pass would overwrite the histories of the stream
    bool of_none = s->mode != EDGELORA_INFER || !remembering_ops(session_model(s), s->lowest);
    if (s->lowest == s->op_count || !of_none || s->decodes) {
        return EDGELORA_ERR_MODE;
    }
    source_t source = {x, 0, 0};
    sample_t sample = edgelora_sample(s, source);
    if (!edgelora_is_apart(s, &sample, out, edgelora_feature_size(s))) {
        return EDGELORA_ERR_ALIAS;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    uint32_t odd = edgelora_has_wide_features(s);
    reset(s, 0, s->lowest, TRAINING);
    for (uint32_t left = s->frames; left;
        --left, source.x += edgelora_input_size(session_model(s))) {
        bool kept = left <= feature_frames(s);
        forward(s, &source, 0, kept ? s->lowest : remembering_ops(session_model(s), s->lowest),
            TRAINING);
        for (uint32_t i = 0; kept && i <= s->lowest; ++i) {
            if (edgelora_is_feature(s, i)) {
                uint32_t size = tensor_bytes(session_model(s), i);
                copy_bytes(out, edgelora_tensor_at(s, &source, i, TRAINING), size);
                out += size;
                if (size & odd) {
                    *out++ = 0;
                }
            }
        }
    }
    return edgelora_leave(s, EDGELORA_OK);
}

edgelora_status_t edgelora_probabilities(edgelora_session_t *s, uint16_t *p) {
    const edgelora_model_t *model = session_model(s);
    const edgelora_tensor_t *t = model_tensor(model, s->op_count);
    uint32_t n = output_classes(model);
    bool logits = trained_ops(model) == s->op_count; // else the last op outputs probabilities
    if (model->loss == EDGELORA_MEAN_SQUARED_ERROR || (!logits && t->zero_point != -128)) {
        return EDGELORA_ERR_OUTPUTS;
    }
    if (!writable(s, p, 2 * edgelora_class_count(s))) {
        return EDGELORA_ERR_ALIAS;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    const int8_t *q = edgelora_output(s) + (s->decodes ? 0 : edgelora_output_size(model) - n);
    if (s->classes.p) {
        edgelora_logits_probable(model, edgelora_class_logits(s), edgelora_class_count(s), 0, p);
    } else if (logits) {
        edgelora_logits_probable(model, q, n, t->zero_point, p);
    }
    for (uint32_t i = 0; i < n && !logits; ++i) { // there are no classes; q + 128 is Q8
        p[i] = (uint16_t)((q[i] + 128) << 7);
    }
    return edgelora_leave(s, EDGELORA_OK);
}

edgelora_status_t edgelora_class_sample(edgelora_session_t *s, const int8_t *x, int32_t *sums) {
    const edgelora_model_t *model = session_model(s);
    uint32_t size = edgelora_class_size(model);
    if (!size) {
        return EDGELORA_ERR_CLASSES;
    }
    if ((uintptr_t)sums & 3) {
        return EDGELORA_ERR_ALIGN;
    }
    sample_t sample = edgelora_sample(s, (source_t){x, 0, 0});
    if (!edgelora_is_apart(s, &sample, sums, 4 * size)) {
        return EDGELORA_ERR_ALIAS;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t last_frame = edgelora_infer_frames(s, &sample);
    const int8_t *input = head_input(s, &last_frame, INFERENCE);
    int32_t zp = model_tensor(model, head_tensor(s))->zero_point;
    for (uint32_t i = 0; i < size; ++i) {
        sums[i] += input[i] - zp;
    }
    return edgelora_leave(s, EDGELORA_OK);
}
