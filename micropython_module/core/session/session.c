// A session's passes: inference, training, features.
// SPDX-License-Identifier: MIT

#include "session/session.h"
#include "training/block.h"

edgelora_session_t *edgelora_session(void *arena, uint32_t arena_size) {
    edgelora_session_t *s = arena;
    bool ok = ((uintptr_t)arena & 7) == 0 && arena_size >= sizeof(*s) && s->self.p == arena &&
        s->magic == 0x454C5332 && s->arena_size == arena_size &&
        (!s->stamp || s->stamp == edgelora_model_stamp(s->model.p, s->model_size));
    return ok ? s : 0;
}

// What a pass starts from: the network's input or, instead, a sample's features.
typedef struct {
    const int8_t *x, *features; // of one frame
} source_t;

// Whose weights an op runs with, and where its output goes.
typedef enum {
    INFERENCE, // the adapter in use
    TRAINING,  // the training adapter, keeping what the backward pass needs
    RECOMPUTING,     // the training adapter, for the backward pass
} purpose_t;

// Where a tensor lies that an op has in the file; NULL: in the arena.
static const int8_t *constant_at(const edgelora_session_t *s, uint32_t tensor) {
    const edgelora_op_t *op = tensor ? model_op(session_model(s), tensor - 1) : 0;
    return op && op->kind == EDGELORA_CONSTANT ? model_at(session_model(s), op->weights) : 0;
}

// Is this tensor one that the ops below the lowest adapter hand to those above?
static bool is_feature(const edgelora_session_t *s, uint32_t tensor) {
    if (constant_at(s, tensor)) {
        return false;
    }
    for (uint32_t i = s->lowest; tensor <= s->lowest && i < s->op_count; ++i) {
        if (op_reads(model_op(session_model(s), i), tensor)) {
            return true;
        }
    }
    return false;
}

// Features before this tensor's.
static uint32_t feature_offset(const edgelora_session_t *s, uint32_t tensor) {
    uint32_t offset = 0;
    for (uint32_t i = 0; i < tensor; ++i) {
        offset += is_feature(s, i) ? tensor_size(session_model(s), i) : 0;
    }
    return offset;
}

// Where an op's output is. A history's in training is another one: a stream goes on, whatever is
// learned meanwhile.
static uint32_t output_at(const edgelora_layer_t *l, purpose_t purpose) {
    bool other = purpose == RECOMPUTING || (purpose == TRAINING && layer_has(l, EDGELORA_OP_LASTS));
    return l->at[other && l->at[EDGELORA_RECOMPUTED] ? EDGELORA_RECOMPUTED : EDGELORA_OUTPUT];
}

// The values of a tensor; RECOMPUTING: in the backward pass.
static const int8_t *tensor_at(
    edgelora_session_t *s, const source_t *source, uint32_t tensor, purpose_t purpose) {
    const int8_t *constant = constant_at(s, tensor);
    if (constant) {
        return constant;
    }
    if (source->features && tensor <= s->lowest) {
        return source->features + feature_offset(s, tensor);
    }
    if (!tensor) {
        return source->x;
    }
    return arena_at(s, output_at(&session_layers(s)[tensor - 1], purpose));
}

// The training adapter's part in an op.
static edgelora_branch_t own_branch(edgelora_session_t *s, const edgelora_lora_t *l) {
    return l && l->rank ? lora_own(s, l) : no_branch;
}

// The part of the adapter in use, which may have been merged into the weights.
static edgelora_branch_t used_branch(const edgelora_lora_t *l, edgelora_shape_t *g) {
    if (l && l->merged) {
        g->weights = lora_merged_weights(l);
        g->bias = lora_merged_bias(l);
    }
    return l && l->used_rank ? lora_used(l) : no_branch;
}

// Fast kernels for an op with the adapter in use?
static bool is_packed_used(
    const edgelora_session_t *s, edgelora_layer_t *l, const edgelora_shape_t *g, uint32_t rank) {
    if (!layer_has(l, EDGELORA_OP_USED_CHOSEN)) {
        bool fast = edgelora_op_is_packed(g, rank, false, s->scratch_size, s->plain);
        l->flags = (uint8_t)((l->flags & ~EDGELORA_OP_PACKED_USED) | EDGELORA_OP_USED_CHOSEN |
            (fast ? EDGELORA_OP_PACKED_USED : 0));
    }
    return layer_has(l, EDGELORA_OP_PACKED_USED);
}

EDGELORA_HOT static void op_forward(
    edgelora_session_t *s, const source_t *source, uint32_t i, purpose_t purpose) {
    edgelora_layer_t *l = &session_layers(s)[i];
    const edgelora_lora_t *lora = layer_lora(s, l);
    edgelora_shape_t g;
    edgelora_shape_into(&g, session_model(s), i);
    g.bounded = layer_has(l, EDGELORA_OP_BOUNDED);
    edgelora_branch_t branch = purpose == INFERENCE ? used_branch(lora, &g) : own_branch(s, lora);
    edgelora_pass_t pass; // field by field: an initializer would be cleared first
    pass.x = tensor_at(s, source, g.op->input, purpose);
    pass.x2 = g.traits & EDGELORA_TWO_INPUTS ? tensor_at(s, source, g.op->input2, purpose) : 0;
    pass.y = arena_at(s, output_at(l, purpose));
    pass.t = purpose == TRAINING ? layer_buffer(s, l, EDGELORA_T) : 0;
    pass.scratch = arena_at(s, s->scratch);
    pass.packed = purpose == INFERENCE ? is_packed_used(s, l, &g, branch.rank)
                                       : layer_has(l, EDGELORA_OP_PACKED_FORWARD);
    pass.wide = edgelora_wide(s->wide);
    pass.work = wide_work(s);
    edgelora_op_forward(&g, &branch, &pass);
    if (purpose == TRAINING && l->at[EDGELORA_MASK]) {
        edgelora_op_mask(&g, pass.y, layer_buffer(s, l, EDGELORA_MASK), s->plain, pass.wide);
    }
}

static void forward(
    edgelora_session_t *s, const source_t *source, uint32_t from, uint32_t to, purpose_t purpose) {
    for (uint32_t i = from; i < to; ++i) {
        op_forward(s, source, i, purpose);
    }
}

const int8_t *edgelora_output(edgelora_session_t *s) {
    return arena_at(s, session_layers(s)[s->op_count - 1].at[EDGELORA_OUTPUT]);
}

// The class that the last output says: the largest, or whether a single one that says yes or no
// says yes.
static int32_t best_output(edgelora_session_t *s) {
    const edgelora_model_t *model = session_model(s);
    const int8_t *y = edgelora_output(s);
    uint32_t n = edgelora_output_size(model), best = 0;
    if (n == 1 && model->loss == EDGELORA_BINARY_CROSS_ENTROPY) {
        return y[0] > (s->trained < s->op_count ? 0 : model_tensor(model, s->op_count)->zero_point);
    }
    for (uint32_t i = 1; i < n; ++i) {
        best = y[i] > y[best] ? i : best;
    }
    return (int32_t)best;
}

// The tensor that the last layer reads, and its values.
static uint32_t head_tensor(const edgelora_session_t *s) {
    return model_op(session_model(s), s->op_count - 1u)->input;
}

static const int8_t *head_input(edgelora_session_t *s, const source_t *source, purpose_t purpose) {
    return tensor_at(s, source, head_tensor(s), purpose);
}

// The class that an inference which has run says, of those that the adapter in use adds too.
static int32_t decide(edgelora_session_t *s, const source_t *source) {
    return s->classes.p ? edgelora_classes_decide(s, head_input(s, source, INFERENCE))
                        : best_output(s);
}

int32_t edgelora_infer(edgelora_session_t *s, const int8_t *x) {
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t source = {x, 0};
    forward(s, &source, 0, s->op_count, INFERENCE);
    return edgelora_leave(s, decide(s, &source));
}

edgelora_status_t edgelora_forward_range(
    edgelora_session_t *s, const int8_t *x, uint32_t from, uint32_t to) {
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t source = {x, 0};
    forward(s, &source, from, to < s->op_count ? to : s->op_count, INFERENCE);
    return edgelora_leave(s, EDGELORA_OK);
}

// The histories of ops [from, to) hold what a stream begins with.
static void reset(edgelora_session_t *s, uint32_t from, uint32_t to, purpose_t purpose) {
    for (uint32_t i = from; i < to; ++i) {
        const edgelora_layer_t *l = &session_layers(s)[i];
        if (layer_has(l, EDGELORA_OP_LASTS)) {
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
    return edgelora_leave(s, EDGELORA_OK);
}

// Of how many frames the features are.
static uint32_t feature_frames(const edgelora_session_t *s) {
    return remembering_ops(session_model(s), s->op_count) > s->lowest ? s->frames : 1;
}

// Runs ops below `to` on a sample, whose frames before the last only have to reach the histories.
// Returns its last frame.
static source_t forward_sample(
    edgelora_session_t *s, source_t sample, uint32_t to, purpose_t purpose) {
    uint32_t from = sample.features ? s->lowest : 0,
             frames = sample.features ? feature_frames(s) : s->frames;
    uint32_t step = sample.features ? feature_offset(s, s->lowest + 1u)
                                    : edgelora_input_size(session_model(s));
    uint32_t remembering = remembering_ops(session_model(s), to);
    reset(s, from, to, purpose);
    while (--frames) {
        forward(s, &sample, from, remembering, purpose);
        if (sample.features) {
            sample.features += step;
        } else {
            sample.x += step;
        }
    }
    forward(s, &sample, from, to, purpose);
    return sample;
}

static int32_t infer_sample(edgelora_session_t *s, source_t sample) {
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t last_frame = forward_sample(s, sample, s->op_count, INFERENCE);
    return edgelora_leave(s, decide(s, &last_frame));
}

int32_t edgelora_infer_sample(edgelora_session_t *s, const int8_t *x) {
    return infer_sample(s, (source_t){x, 0});
}

int32_t edgelora_infer_features(edgelora_session_t *s, const int8_t *features) {
    return s->lowest == s->op_count ? EDGELORA_ERR_MODE : infer_sample(s, (source_t){0, features});
}

uint32_t edgelora_feature_size(const edgelora_session_t *s) {
    return feature_frames(s) * feature_offset(s, s->lowest + 1u);
}

edgelora_status_t edgelora_features(edgelora_session_t *s, const int8_t *x, int8_t *out) {
    // from the stream
    bool of_none = s->mode != EDGELORA_INFER || !remembering_ops(session_model(s), s->lowest);
    if (s->lowest == s->op_count || !of_none) {
        return EDGELORA_ERR_MODE;
    }
    if (!writable(s, out, edgelora_feature_size(s))) {
        return EDGELORA_ERR_ALIAS;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t source = {x, 0};
    reset(s, 0, s->lowest, TRAINING);
    for (uint32_t left = s->frames; left;
        --left, source.x += edgelora_input_size(session_model(s))) {
        bool kept = left <= feature_frames(s);
        forward(s, &source, 0, kept ? s->lowest : remembering_ops(session_model(s), s->lowest),
            TRAINING);
        for (uint32_t i = 0; kept && i <= s->lowest; ++i) {
            if (is_feature(s, i)) {
                uint32_t size = tensor_size(session_model(s), i);
                copy_bytes(out, tensor_at(s, &source, i, TRAINING), size);
                out += size;
            }
        }
    }
    return edgelora_leave(s, EDGELORA_OK);
}

static bool any_s8(const int8_t *e, uint32_t n) {
    while (n--) {
        if (e[n]) {
            return true;
        }
    }
    return false;
}

// Does the op that writes this tensor run backward?
static bool error_wanted(edgelora_session_t *s, uint32_t tensor) {
    return tensor && session_layers(s)[tensor - 1].needs;
}

// Computes the error of input k and adds it to what has arrived there. spare: s8 [input], for the
// former if something has. Returns whether it is the first.
static bool hand_down(edgelora_session_t *s, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, uint32_t k, int8_t *spare) {
    uint32_t tensor = k ? g->op->input2 : g->op->input,
             size = tensor_size(session_model(s), tensor);
    if (!error_wanted(s, tensor)) {
        return false;
    }
    edgelora_layer_t *below = &session_layers(s)[tensor - 1];
    int8_t *e = layer_buffer(s, below, EDGELORA_ERROR), *dx = below->arrived ? spare : e;
    int32_t exponent = edgelora_op_backward(g, branch, error, k, dx);
    if (!any_s8(dx, size)) {
        return false;
    }
    if (below->arrived) {
        below->exponent = (int16_t)(error->wide ? error->wide->error_add : edgelora_error_add_s8)(
            e, size, below->exponent, dx, exponent);
        return false;
    }
    below->arrived = true;
    below->exponent = (int16_t)exponent;
    return true;
}

// One op's step of the backward pass. Returns how many ops have received their first error.
static uint32_t op_backward(edgelora_session_t *s, const source_t *source, uint32_t i) {
    const edgelora_layer_t *l = &session_layers(s)[i];
    edgelora_lora_t *lora = layer_lora(s, l);
    edgelora_shape_t g;
    edgelora_shape_into(&g, session_model(s), i);
    g.bounded = layer_has(l, EDGELORA_OP_BOUNDED);
    edgelora_branch_t branch = own_branch(s, lora);
    int8_t *e = layer_buffer(s, l, EDGELORA_ERROR), *work = layer_buffer(s, l, EDGELORA_WORK);
    bool two = g.traits & EDGELORA_TWO_INPUTS,
         trains_a = branch.rank && s->mode == EDGELORA_TRAINABLE_A;
    edgelora_error_t error = {
        .e = e,
        .exponent = l->exponent,
        .scratch = arena_at(s, s->scratch),
        .packed = layer_has(l, EDGELORA_OP_PACKED_BACKWARD),
        .wide = edgelora_wide(s->wide),
        .work = wide_work(s)};
    if (!any_s8(e, g.positions * g.out_c)) { // what arrived has cancelled out
        return 0;
    }
    if (l->at[EDGELORA_MASK]) {
        edgelora_op_mask_backward(&g, e, layer_buffer(s, l, EDGELORA_MASK), s->plain, error.wide);
    }
    if (branch.rank) {
        int32_t *gradient = arena_at(s, matrix_gradient(&lora->matrix_b));
        int32_t shift = edgelora_gradient_open(&lora->matrix_b, gradient, error.exponent);
        edgelora_op_b_gradient(
            &g, branch.rank, &error, layer_buffer(s, l, EDGELORA_T), gradient, shift);
    }
    if (!trains_a && !error_wanted(s, g.op->input) && !(two && error_wanted(s, g.op->input2))) {
        return 0;
    }
    if (g.traits & EDGELORA_SCALES) {
        error.exponent = edgelora_op_requantize_backward(
            &g, e, error.exponent, s->plain, error.wide);
    }
    if (branch.rank) {
        error.t_error = work;
        error.t_exponent = edgelora_op_branch_backward(&g, &branch, &error, work);
        work += align4(g.positions * branch.rank);
    }
    if (trains_a || (g.traits & (EDGELORA_READS_INPUT | EDGELORA_READS_OTHER))) {
        error.x = tensor_at(s, source, g.op->input, RECOMPUTING);
        error.x2 = two ? tensor_at(s, source, g.op->input2, RECOMPUTING) : 0;
    }
    if (g.traits & EDGELORA_READS_OUTPUT) {
        error.y = tensor_at(s, source, i + 1, RECOMPUTING);
    }
    if (trains_a) {
        int32_t *gradient = arena_at(s, matrix_gradient(&lora->matrix_a));
        int32_t shift = edgelora_gradient_open(&lora->matrix_a, gradient, error.t_exponent);
        edgelora_op_a_gradient(&g, branch.rank, &error, gradient, shift);
    }
    uint32_t first = hand_down(s, &g, &branch, &error, 0, work);
    return two ? first + hand_down(s, &g, &branch, &error, 1, work) : first;
}

// From the loss's error down, until none is under way. under_way: layers that it has reached.
static void backward(edgelora_session_t *s, const source_t *source, uint32_t under_way) {
    edgelora_layer_t *layers = session_layers(s);
    for (uint32_t i = s->trained; under_way && i-- > s->lowest;) {
        uint32_t from = source->features ? s->lowest : 0;
        for (uint32_t k = from; k <= i; ++k) {
            if (layers[k].recomputed_for == i) {
                op_forward(s, source, k, RECOMPUTING);
            }
        }
        if (layers[i].arrived) {
            under_way += op_backward(s, source, i) - 1;
            layers[i].arrived = false;
        }
    }
}

static edgelora_status_t ready(const edgelora_session_t *s) {
    return s->begun                 ? EDGELORA_OK
        : s->mode == EDGELORA_INFER ? EDGELORA_ERR_MODE
                                    : EDGELORA_ERR_NOT_BEGUN;
}

edgelora_status_t edgelora_backward_range(
    edgelora_session_t *s, const int8_t *x, uint32_t from, uint32_t to) {
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    if (!s->begun) {
        return edgelora_leave(s, ready(s));
    }
    source_t source = {x, 0};
    edgelora_layer_t *layers = session_layers(s);
    for (uint32_t i = to < s->trained ? to : s->trained; i-- > from;) {
        if (layers[i].needs) {
            op_backward(s, &source, i);
        }
        for (uint32_t k = 0; k < i; ++k) {
            layers[k].arrived = false;
        }
    }
    return edgelora_leave(s, EDGELORA_OK);
}

static void update(edgelora_session_t *s, uint16_t learning_rate) {
    edgelora_step_t step_a =
                        {stream(s->seed, 0), &s->draws, learning_rate, s->threshold, 15,
                            s->momentum, false},
                    step_b = step_a;
    step_b.shift = 16;
    step_b.leans = true;
    for (uint32_t i = s->lowest; i < s->op_count; ++i) {
        const edgelora_layer_t *l = &session_layers(s)[i];
        if (layer_rank(s, l)) {
            edgelora_lora_t *lora = layer_lora(s, l);
            if (s->mode == EDGELORA_TRAINABLE_A) {
                edgelora_matrix_update((uint8_t *)s, &lora->matrix_a, &step_a);
            }
            edgelora_matrix_update((uint8_t *)s, &lora->matrix_b, &step_b);
        }
    }
    s->steps += 1;
    s->pending = 0;
}

static edgelora_status_t target_check(
    const edgelora_model_t *model, uint32_t n, uint32_t label, const int8_t *target) {
    if (model->loss == EDGELORA_CROSS_ENTROPY) {
        return label < n ? EDGELORA_OK : EDGELORA_ERR_LABEL;
    }
    bool ok = target;
    for (uint32_t i = 0; ok && model->loss == EDGELORA_BINARY_CROSS_ENTROPY && i < n; ++i) {
        ok = target[i] == 0 || target[i] == 1;
    }
    return ok ? EDGELORA_OK : EDGELORA_ERR_LABEL;
}

// What a sample's output should be.
typedef struct {
    uint32_t label;       // cross-entropy
    const int8_t *target; // s8 [n], the others
} answer_t;

// classes: those that are told apart, if there are any, of which the label is at `place`.
static edgelora_status_t answer_check(const edgelora_model_t *model, uint32_t trained,
    const classes_t *classes, uint32_t place, answer_t answer) {
    return classes->record && place < UINT32_MAX
        ? EDGELORA_OK
        : target_check(model, tensor_size(model, trained), answer.label, answer.target);
}

// The loss of what a forward pass left behind, and its error.
static int32_t loss_of(
    edgelora_session_t *s, const source_t *last_frame, answer_t answer, purpose_t purpose) {
    const edgelora_model_t *model = session_model(s);
    edgelora_layer_t *last = &session_layers(s)[s->trained - 1];
    edgelora_loss_input_t input = {
        tensor_at(s, last_frame, s->trained, purpose), tensor_size(model, s->trained),
        model_tensor(model, s->trained)->zero_point, answer.label, answer.target};
    int32_t exponent;
    int32_t loss = edgelora_loss(
        model, &input, arena_at(s, s->scratch), arena_at(s, last->at[EDGELORA_ERROR]), &exponent);
    last->exponent = (int16_t)exponent;
    return loss;
}

// Has the loss put an error there?
static bool arrives(edgelora_session_t *s, edgelora_layer_t *l, uint32_t tensor) {
    l->arrived = any_s8(arena_at(s, l->at[EDGELORA_ERROR]), tensor_size(session_model(s), tensor));
    return l->arrived;
}

static edgelora_status_t learn(edgelora_session_t *s, source_t sample, answer_t answer,
    uint16_t learning_rate, int32_t *loss) {
    const edgelora_model_t *model = session_model(s);
    const classes_t classes = trained_classes(s);
    uint32_t place = edgelora_class_place(model, &classes, answer.label), under_way = 0;
    edgelora_status_t status = ready(s);
    if (status == EDGELORA_OK) {
        status = answer_check(model, s->trained, &classes, place, answer);
    }
    if (status != EDGELORA_OK) {
        return status;
    }
    source_t last_frame = forward_sample(s, sample, s->trained, TRAINING);
    edgelora_layer_t *layers = session_layers(s), *last = &layers[s->trained - 1];
    if (classes.record) {
        uint32_t tensor = head_tensor(s);
        edgelora_layer_t *below = error_wanted(s, tensor) ? &layers[tensor - 1] : 0;
        const int8_t *x = head_input(s, &last_frame, TRAINING);
        *loss = edgelora_classes_loss(s, &classes, place, x, last, below);
        under_way = below && arrives(s, below, tensor);
    } else {
        *loss = loss_of(s, &last_frame, answer, TRAINING);
    }
    under_way += arrives(s, last, s->trained);
    backward(s, &last_frame, under_way);
    s->samples += 1;
    if (++s->pending >= s->micro_batch) {
        update(s, learning_rate);
    }
    return EDGELORA_OK;
}

static edgelora_status_t train_sample(edgelora_session_t *s, source_t sample, answer_t answer,
    uint16_t learning_rate, int32_t *loss) {
    return edgelora_enter(s) ? edgelora_leave(s, learn(s, sample, answer, learning_rate, loss))
                             : EDGELORA_ERR_BUSY;
}

edgelora_status_t edgelora_train(edgelora_session_t *s, const int8_t *x, uint32_t label,
    const int8_t *target, uint16_t learning_rate, int32_t *loss) {
    return train_sample(s, (source_t){x, 0}, (answer_t){label, target}, learning_rate, loss);
}

edgelora_status_t edgelora_train_features(edgelora_session_t *s, const int8_t *features,
    uint32_t label, const int8_t *target, uint16_t learning_rate, int32_t *loss) {
    return train_sample(s, (source_t){0, features}, (answer_t){label, target}, learning_rate, loss);
}

edgelora_status_t edgelora_probabilities(edgelora_session_t *s, uint16_t *p) {
    const edgelora_model_t *model = session_model(s);
    const edgelora_tensor_t *t = model_tensor(model, s->op_count);
    uint32_t n = edgelora_output_size(model);
    bool logits = trained_ops(model) == s->op_count; // else the last op makes probabilities of them
    if (model->loss == EDGELORA_MEAN_SQUARED_ERROR || (!logits && t->zero_point != -128)) {
        return EDGELORA_ERR_OUTPUTS;
    }
    if (!writable(s, p, 2 * edgelora_class_count(s))) {
        return EDGELORA_ERR_ALIAS;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    const int8_t *q = edgelora_output(s);
    if (s->classes.p) {
        edgelora_logits_probable(model, edgelora_class_logits(s), edgelora_class_count(s), 0, p);
    } else if (logits) {
        edgelora_logits_probable(model, q, n, t->zero_point, p);
    }
    for (uint32_t i = 0; i < n && !logits; ++i) { // no classes then; q + 128 is Q8
        p[i] = (uint16_t)((q[i] + 128) << 7);
    }
    return edgelora_leave(s, EDGELORA_OK);
}

int32_t edgelora_evaluate(
    edgelora_session_t *s, const int8_t *x, uint32_t label, const int8_t *target, int32_t *loss) {
    if (s->mode == EDGELORA_INFER) {
        return EDGELORA_ERR_MODE;
    }
    const edgelora_model_t *model = session_model(s);
    const classes_t classes = used_classes(s);
    answer_t answer = {label, target};
    uint32_t place = edgelora_class_place(model, &classes, label);
    edgelora_status_t status = answer_check(model, s->trained, &classes, place, answer);
    if (status != EDGELORA_OK) {
        return status;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t last_frame = forward_sample(s, (source_t){x, 0}, s->op_count, INFERENCE);
    int32_t best = decide(s, &last_frame);
    *loss = classes.record
        ? edgelora_logits_loss(model, edgelora_class_logits(s), edgelora_class_count(s), place)
        : loss_of(s, &last_frame, answer, INFERENCE);
    return edgelora_leave(s, best);
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
    if (!writable(s, sums, 4 * size)) {
        return EDGELORA_ERR_ALIAS;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t last_frame = forward_sample(s, (source_t){x, 0}, s->op_count, INFERENCE);
    const int8_t *input = head_input(s, &last_frame, INFERENCE);
    int32_t zp = model_tensor(model, head_tensor(s))->zero_point;
    for (uint32_t i = 0; i < size; ++i) {
        sums[i] += input[i] - zp;
    }
    return edgelora_leave(s, EDGELORA_OK);
}

edgelora_status_t edgelora_flush(edgelora_session_t *s, uint16_t learning_rate) {
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    edgelora_status_t status = ready(s);
    if (status == EDGELORA_OK && s->pending) {
        update(s, learning_rate);
    }
    return edgelora_leave(s, status);
}
