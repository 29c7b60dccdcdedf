// Training: loss, backward pass, updates.
// SPDX-License-Identifier: MIT

#include "session/classes.h"
#include "session/infer.h"
#include "training/training.h"

EDGELORA_RAM static bool any_s8(const int8_t *e, uint32_t n) {
    while (n--) {
        if (e[n]) {
            return true;
        }
    }
    return false;
}

// Errors of earlier frames that a history op holds, or NULL.
static edgelora_carry_t *op_carry(edgelora_session_t *s, const edgelora_op_state_t *l) {
    return op_state_has(l, EDGELORA_OP_LASTS) ? op_buffer(s, l, EDGELORA_CARRY) : 0;
}

static bool carries(edgelora_session_t *s, const edgelora_op_state_t *l) {
    const edgelora_carry_t *carry = op_carry(s, l);
    return carry && carry->bits;
}

// Does the op that writes this tensor run backward?
static bool input_requires_grad(edgelora_session_t *s, uint32_t tensor) {
    return tensor && session_ops(s)[tensor - 1].requires_grad;
}

// Computes the error of input k and adds it to the error accumulated there. spare: s8 [input],
// holds the new error if there is an earlier one. Returns whether it is the first.
EDGELORA_RAM static bool propagate_error(edgelora_session_t *s, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, uint32_t k, int8_t *spare) {
    uint32_t tensor = k ? g->op->input2 : g->op->input,
             size = tensor_size(session_model(s), tensor);
    if (!input_requires_grad(s, tensor)) {
        return false;
    }
    edgelora_op_state_t *below = &session_ops(s)[tensor - 1];
    int8_t *e = op_buffer(s, below, EDGELORA_ERROR), *dx = below->arrived ? spare : e;
    edgelora_split_t split = session_split(s);
    int32_t exponent = edgelora_split_backward(&split, g, branch, error, k, dx);
    if (!any_s8(dx, size)) {
        return false;
    }
    if (below->arrived) {
        below->exponent = (int16_t)edgelora_split_error_add(
            &split, e, size, below->exponent, dx, exponent, g->rounds, error->simd);
        return false;
    }
    below->arrived = true;
    below->exponent = (int16_t)exponent;
    return true;
}

// Passes on the errors of an attend's inputs, which nothing else reads; returns how many.
static uint32_t attend_backward(
    edgelora_session_t *s, const edgelora_shape_t *g, const edgelora_error_t *error) {
    edgelora_op_state_t *below[3];
    int8_t *dx[3];
    int32_t exponent[3] = {0};
    uint32_t first = 0;
    for (uint32_t k = 0; k < 3; ++k) {
        uint32_t tensor = op_input(g->op, k);
        below[k] = input_requires_grad(s, tensor) ? &session_ops(s)[tensor - 1] : 0;
        dx[k] = below[k] ? op_buffer(s, below[k], EDGELORA_ERROR) : 0;
    }
    edgelora_split_t split = session_split(s);
    edgelora_split_attend_backward(&split, g, error, dx, exponent);
    for (uint32_t k = 0; k < 3; ++k) {
        if (below[k]) {
            below[k]->exponent = (int16_t)exponent[k];
            below[k]->arrived = any_s8(dx[k], tensor_size(session_model(s), op_input(g->op, k)));
            first += below[k]->arrived;
        }
    }
    return first;
}

// Runs the backward step of one op. arrived: in this frame; else only a history's carry is passed
// on. Returns the number of ops that have received their first error.
EDGELORA_RAM static uint32_t op_backward(
    edgelora_session_t *s, const source_t *source, uint32_t i, bool arrived) {
    const edgelora_op_state_t *l = &session_ops(s)[i];
    edgelora_lora_t *lora = op_lora(s, l);
    edgelora_shape_t g;
    session_shape_into(&g, s, i);
    edgelora_branch_t branch = lora_own(s, lora);
    edgelora_carry_t *carry = op_carry(s, l);
    int8_t *e = op_buffer(s, l, EDGELORA_ERROR), *work = op_buffer(s, l, EDGELORA_WORK);
    bool some = arrived && any_s8(e, g.positions * g.out_c);
    uint32_t inputs = op_inputs(g.op), first = 0;
    bool trains_a = branch.rank && s->mode == EDGELORA_TRAINABLE_A;
    edgelora_error_t error = {
        .e = some ? e : 0,
        .exponent = l->exponent,
        .carry = carry,
        .scratch = arena_at(s, s->scratch),
        .packed = op_state_has(l, EDGELORA_OP_PACKED_BACKWARD),
        .simd = edgelora_simd_kernels(s->simd),
        .work = simd_work(s)};
    if (!some && !carries(s, l)) { // all contributions cancel out
        return 0;
    }
    edgelora_split_t split = session_split(s);
    if (!carry && l->at[EDGELORA_MASK]) {
        edgelora_split_mask_backward(&split, &g, e, kept_mask(s, l, &g, source->age), error.simd);
    }
    if (branch.rank) {
        int32_t *gradient = arena_at(s, matrix_gradient(&lora->matrix_b));
        int32_t shift = edgelora_gradient_open(&lora->matrix_b, gradient, error.exponent);
        edgelora_split_b_gradient(&split, &g, branch.rank, &error,
            kept_t(s, l, &g, branch.rank, source->age), gradient, shift);
    }
    bool passes = input_requires_grad(s, g.op->input), has_u = branch.rank && (trains_a || passes);
    int8_t *spare = work + (has_u ? align4(g.positions * branch.rank) : 0);
    if ((g.traits & EDGELORA_ADDS) && inputs > 1) { // the stream's error, before it is scaled
        first = propagate_error(s, &g, &branch, &error, 1, spare);
        inputs = 1;
    }
    for (uint32_t k = 1; k < inputs; ++k) {
        passes |= input_requires_grad(s, op_input(g.op, k));
    }
    if (!trains_a && !passes) {
        return first;
    }
    if (g.traits & EDGELORA_SCALES) {
        error.exponent = edgelora_split_requantize_backward(
            &split, &g, e, error.exponent, error.simd);
    }
    if (branch.rank) {
        error.t_error = work;
        error.t_exponent = edgelora_split_branch_backward(&split, &g, &branch, &error, work);
    }
    uint32_t reads = EDGELORA_READS_INPUT | EDGELORA_READS_OTHER | EDGELORA_THREE_INPUTS;
    if (trains_a || (g.traits & reads)) {
        error.x = edgelora_tensor_at(s, source, g.op->input, RECOMPUTING);
        error.x2 = inputs > 1 ? edgelora_tensor_at(s, source, g.op->input2, RECOMPUTING) : 0;
        error.x3 = inputs > 2 ? edgelora_tensor_at(s, source, op_number(g.op), RECOMPUTING) : 0;
    }
    if (g.traits & EDGELORA_READS_OUTPUT) {
        error.y = edgelora_tensor_at(s, source, i + 1, RECOMPUTING);
    }
    if (trains_a) {
        int32_t *gradient = arena_at(s, matrix_gradient(&lora->matrix_a));
        int32_t shift = edgelora_gradient_open(&lora->matrix_a, gradient, error.t_exponent);
        edgelora_split_a_gradient(&split, &g, branch.rank, &error, gradient, shift);
    }
    if (g.traits & EDGELORA_THREE_INPUTS) {
        return attend_backward(s, &g, &error);
    }
    for (uint32_t k = 0; k < inputs; ++k) {
        first += propagate_error(s, &g, &branch, &error, k, spare);
    }
    return first;
}

// Runs the backward pass of a frame from the last op down, until no error is left. under_way:
// number of ops that one has arrived at; histories may carry others.
EDGELORA_RAM static void backward(
    edgelora_session_t *s, const source_t *source, uint32_t under_way) {
    edgelora_op_state_t *ops = session_ops(s);
    for (uint32_t i = s->lowest; i < s->trained; ++i) {
        under_way += carries(s, &ops[i]);
    }
    for (uint32_t i = s->trained; under_way && i-- > s->lowest;) {
        uint32_t from = source->features ? s->lowest : 0;
        for (uint32_t k = from; k <= i; ++k) {
            if (ops[k].recomputed_for == i) {
                edgelora_recompute(s, source, k);
            }
        }
        bool arrived = ops[i].arrived, carried = carries(s, &ops[i]);
        if (arrived || carried) {
            under_way += op_backward(s, source, i, arrived) - arrived - carried;
            ops[i].arrived = false;
        }
    }
}

// Runs the backward pass of all frames before the last, until no history carries an error to one.
static void backward_through_time(edgelora_session_t *s, const sample_t *sample) {
    for (uint32_t age = 1; age < sample->frames; ++age) {
        bool any = false;
        for (uint32_t i = s->lowest; i < s->trained; ++i) {
            any |= carries(s, &session_ops(s)[i]);
        }
        if (!any) {
            return;
        }
        source_t frame = sample_frame(sample, age);
        edgelora_step_back(s, sample, age);
        backward(s, &frame, 0);
    }
}

static void clear_carries(edgelora_session_t *s) {
    for (uint32_t i = s->lowest; i < s->trained; ++i) {
        edgelora_carry_t *carry = op_carry(s, &session_ops(s)[i]);
        if (carry) {
            carry->bits = 0;
        }
    }
}

edgelora_status_t edgelora_backward_range(
    edgelora_session_t *s, const int8_t *x, uint32_t from, uint32_t to) {
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    if (!s->begun) {
        return edgelora_leave(s, training_status(s));
    }
    source_t source = {x, 0, 0};
    edgelora_op_state_t *ops = session_ops(s);
    for (uint32_t i = to < s->trained ? to : s->trained; i-- > from;) {
        if (ops[i].requires_grad) {
            op_backward(s, &source, i, true);
        }
        for (uint32_t k = 0; k < i; ++k) {
            ops[k].arrived = false;
        }
    }
    return edgelora_leave(s, EDGELORA_OK);
}

EDGELORA_RAM static void update(edgelora_session_t *s, uint16_t learning_rate) {
    edgelora_update_t of_a = {
        .stream = stream(s->seed, 0),
        .draws = &s->draws,
        .learning_rate = learning_rate,
        .threshold = s->threshold,
        .shift = 15,
        .momentum = s->momentum,
    };
    edgelora_update_t of_b = of_a;
    of_b.shift = 16;
    of_b.decays = true;
    for (uint32_t i = s->lowest; i < s->op_count; ++i) {
        const edgelora_op_state_t *l = &session_ops(s)[i];
        if (op_rank(s, l)) {
            edgelora_lora_t *lora = op_lora(s, l);
            if (s->mode == EDGELORA_TRAINABLE_A) {
                edgelora_matrix_update((uint8_t *)s, &lora->matrix_a, &of_a);
            }
            edgelora_matrix_update((uint8_t *)s, &lora->matrix_b, &of_b);
        }
    }
    s->updates += 1;
    s->pending = 0;
}

EDGELORA_RAM static edgelora_status_t target_check(
    const edgelora_model_t *model, uint32_t n, uint32_t label, const int8_t *target) {
    if (model->loss == EDGELORA_CROSS_ENTROPY && n == loss_channels(model)) {
        return label < n ? EDGELORA_OK : EDGELORA_ERR_LABEL;
    }
    bool ok = target;
    for (uint32_t i = 0; ok && model->loss == EDGELORA_BINARY_CROSS_ENTROPY && i < n; ++i) {
        ok = target[i] == 0 || target[i] == 1;
    }
    return ok ? EDGELORA_OK : EDGELORA_ERR_LABEL;
}

// The label or target of a sample.
typedef struct {
    uint32_t label;       // cross-entropy
    const int8_t *target; // s8 [n], other losses; cross-entropy of several positions: ids
} answer_t;

// Checks a label or target. classes: classes of the adapter, if any; place: index of the label
// among all classes.
static edgelora_status_t answer_check(const edgelora_model_t *model, uint32_t trained,
    const classes_t *classes, uint32_t place, answer_t answer) {
    return classes->record && place < UINT32_MAX
        ? EDGELORA_OK
        : target_check(model, tensor_size(model, trained), answer.label, answer.target);
}

// Computes loss and error from the output of the last forward pass.
EDGELORA_RAM static int32_t loss_of(
    edgelora_session_t *s, const source_t *last_frame, answer_t answer, purpose_t purpose) {
    const edgelora_model_t *model = session_model(s);
    edgelora_op_state_t *last = &session_ops(s)[s->trained - 1];
    edgelora_loss_input_t input = {
        edgelora_tensor_at(s, last_frame, s->trained, purpose), tensor_size(model, s->trained),
        loss_channels(model), model_tensor(model, s->trained)->zero_point, answer.label,
        answer.target};
    int32_t exponent;
    int32_t loss = edgelora_loss(
        model, &input, arena_at(s, s->scratch), arena_at(s, last->at[EDGELORA_ERROR]), &exponent);
    last->exponent = (int16_t)exponent;
    return loss;
}

// Records and returns whether the loss has written a nonzero error.
static bool arrives(edgelora_session_t *s, edgelora_op_state_t *l, uint32_t tensor) {
    l->arrived = any_s8(arena_at(s, l->at[EDGELORA_ERROR]), tensor_size(session_model(s), tensor));
    return l->arrived;
}

EDGELORA_RAM static edgelora_status_t learn(
    edgelora_session_t *s, source_t first, answer_t answer, uint16_t learning_rate, int32_t *loss) {
    const edgelora_model_t *model = session_model(s);
    const classes_t classes = trained_classes(s);
    uint32_t place = edgelora_class_place(model, &classes, answer.label), under_way = 0;
    edgelora_status_t status = training_status(s);
    if (status == EDGELORA_OK) {
        status = answer_check(model, s->trained, &classes, place, answer);
    }
    if (status != EDGELORA_OK) {
        return status;
    }
    sample_t sample = edgelora_sample(s, first);
    source_t last_frame = sample_frame(&sample, 0);
    edgelora_train_frames(s, &sample);
    clear_carries(s);
    edgelora_op_state_t *ops = session_ops(s), *last = &ops[s->trained - 1];
    if (classes.record) {
        uint32_t tensor = head_tensor(s);
        edgelora_op_state_t *below = input_requires_grad(s, tensor) ? &ops[tensor - 1] : 0;
        const int8_t *x = head_input(s, &last_frame, TRAINING);
        *loss = edgelora_classes_loss(s, &classes, place, x, last, below);
        under_way = below && arrives(s, below, tensor);
    } else {
        *loss = loss_of(s, &last_frame, answer, TRAINING);
    }
    under_way += arrives(s, last, s->trained);
    backward(s, &last_frame, under_way);
    backward_through_time(s, &sample);
    s->samples += 1;
    if (++s->pending >= s->micro_batch) {
        update(s, learning_rate);
    }
    return EDGELORA_OK;
}

EDGELORA_RAM static edgelora_status_t train_sample(
    edgelora_session_t *s, source_t first, answer_t answer, uint16_t learning_rate, int32_t *loss) {
    return edgelora_enter(s) ? edgelora_leave(s, learn(s, first, answer, learning_rate, loss))
                             : EDGELORA_ERR_BUSY;
}

EDGELORA_RAM edgelora_status_t edgelora_train(edgelora_session_t *s, const int8_t *x,
    uint32_t label, const int8_t *target, uint16_t learning_rate, int32_t *loss) {
    return train_sample(s, (source_t){x, 0, 0}, (answer_t){label, target}, learning_rate, loss);
}

EDGELORA_RAM edgelora_status_t edgelora_train_features(edgelora_session_t *s,
    const int8_t *features, uint32_t label, const int8_t *target, uint16_t learning_rate,
    int32_t *loss) {
    if ((uintptr_t)features & edgelora_has_wide_features(s)) {
        return EDGELORA_ERR_ALIGN;
    }
    return train_sample(
        s, (source_t){0, features, 0}, (answer_t){label, target}, learning_rate, loss);
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
    source_t last_frame = edgelora_infer_frames(s, (source_t){x, 0, 0});
    int32_t best = edgelora_decide(s, &last_frame);
    *loss = classes.record
        ? edgelora_logits_loss(model, edgelora_class_logits(s), edgelora_class_count(s), place)
        : loss_of(s, &last_frame, answer, INFERENCE);
    return edgelora_leave(s, best);
}

edgelora_status_t edgelora_flush(edgelora_session_t *s, uint16_t learning_rate) {
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    edgelora_status_t status = training_status(s);
    if (status == EDGELORA_OK && s->pending) {
        update(s, learning_rate);
    }
    return edgelora_leave(s, status);
}
