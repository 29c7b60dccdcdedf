// Training: loss, backward pass, updates.
// SPDX-License-Identifier: MIT

#include "session/classes.h"
#include "session/infer.h"
#include "training/block.h"
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

// The exponents of the errors of an op's output, by groups of positions.
static int16_t *error_exponents(edgelora_session_t *s, uint32_t tensor) {
    const edgelora_tensor_t *t = model_tensor(session_model(s), tensor);
    edgelora_op_state_t *l = &session_ops(s)[tensor - 1];
    uint32_t positions = (uint32_t)t->height * t->width;
    bool one = group_count(session_model(s), positions) == 1;
    return one ? &l->exponent
               : (int16_t *)arena_at(s, l->at[EDGELORA_ERROR] + align4(positions * t->channels));
}

// The backward step of an op, or of some of its positions.
typedef struct {
    edgelora_session_t *s;
    edgelora_lora_t *lora;
    edgelora_branch_t branch;
    edgelora_shape_t g;
    edgelora_error_t error;
    edgelora_split_t split;
    const int8_t *t; // s8 [positions, rank], of the forward pass
    int8_t *t_error; // s8 [positions, rank]: room for t's errors
    int8_t *spare;   // room for a new error where there is an earlier one
    uint32_t from;   // the first position of a group; 0 of all
    bool is_group;
    bool trains_a, passes; // to layers below
    bool first[3];         // by input: nothing has arrived there before this op
} step_t;

// Adds errors dx, s8 [rows, channels], of an input to those there, e. first: dx is e
EDGELORA_RAM static void add_rows(step_t *step, uint32_t tensor, int8_t *e, const int8_t *dx,
    uint32_t rows, int32_t exponent, bool first) {
    edgelora_session_t *s = step->s;
    const edgelora_tensor_t *t = model_tensor(session_model(s), tensor);
    edgelora_op_state_t *below = &session_ops(s)[tensor - 1];
    uint32_t group = group_rows(session_model(s), (uint32_t)t->height * t->width);
    int16_t *x = error_exponents(s, tensor) + step->from / group;
    for (uint32_t count; rows; rows -= count, ++x) {
        count = rows < group ? rows : group;
        uint32_t size = count * t->channels;
        if (!any_s8(dx, size)) {
            *x = first ? (int16_t)EDGELORA_NO_ERROR : *x;
        } else if (first || *x == EDGELORA_NO_ERROR) {
            if (!first) {
                copy_bytes(e, dx, size);
            }
            *x = (int16_t)exponent;
            below->arrived = true;
        } else {
            *x = (int16_t)edgelora_split_error_add(
                &step->split, e, size, *x, dx, exponent, step->g.rounds, step->error.simd);
        }
        e += size;
        dx += size;
    }
}

// Computes the error of input k and adds it to the error accumulated there.
EDGELORA_RAM static void propagate_error(step_t *step, uint32_t k) {
    edgelora_session_t *s = step->s;
    const edgelora_shape_t *g = &step->g;
    uint32_t tensor = op_input(g->op, k);
    if (!input_requires_grad(s, tensor)) {
        return;
    }
    const edgelora_tensor_t *t = model_tensor(session_model(s), tensor);
    uint32_t rows = step->is_group ? g->positions : (uint32_t)t->height * t->width,
             at = step->from * t->channels;
    int8_t *e = (int8_t *)op_buffer(s, &session_ops(s)[tensor - 1], EDGELORA_ERROR) + at,
           *dx = step->first[k] ? e : step->spare;
    int32_t exponent = 0;
    if (step->error.e || step->error.carry) {
        exponent = edgelora_split_backward(&step->split, g, &step->branch, &step->error, k, dx);
    } else if (step->first[k]) {
        for (uint32_t i = 0; i < rows * t->channels; ++i) {
            e[i] = 0;
        }
    } else {
        return;
    }
    add_rows(step, tensor, e, dx, rows, exponent, step->first[k]);
}

// Passes on the errors of an attend's inputs, which nothing else reads.
static void attend_backward(step_t *step) {
    edgelora_session_t *s = step->s;
    int8_t *dx[3];
    int16_t *exponents[3];
    for (uint32_t k = 0; k < 3; ++k) {
        uint32_t tensor = op_input(step->g.op, k);
        bool is_wanted = input_requires_grad(s, tensor);
        dx[k] = is_wanted ? op_buffer(s, &session_ops(s)[tensor - 1], EDGELORA_ERROR) : 0;
        exponents[k] = is_wanted ? error_exponents(s, tensor) : 0;
    }
    edgelora_split_attend_backward(&step->split, &step->g, &step->error, dx, exponents);
    for (uint32_t k = 0; k < 3; ++k) {
        uint32_t tensor = op_input(step->g.op, k),
                 channels = model_tensor(session_model(s), tensor)->channels,
                 group = group_rows(session_model(s), step->g.positions);
        for (uint32_t from = 0; dx[k] && from < step->g.positions; from += group) {
            uint32_t left = step->g.positions - from;
            if (any_s8(dx[k] + from * channels, (left < group ? left : group) * channels)) {
                session_ops(s)[tensor - 1].arrived = true;
            } else {
                exponents[k][from / group] = EDGELORA_NO_ERROR;
            }
        }
    }
}

EDGELORA_RAM static void step_back(step_t *step) {
    edgelora_session_t *s = step->s;
    const edgelora_shape_t *g = &step->g;
    edgelora_error_t *error = &step->error;
    const edgelora_branch_t *branch = &step->branch;
    const edgelora_split_t *split = &step->split;
    uint32_t inputs = op_inputs(g->op);
    bool is_nothing = !error->e && !error->carry;
    if (branch->rank && !is_nothing) {
        edgelora_matrix_t *b = &step->lora->matrix_b;
        int32_t *gradient = arena_at(s, matrix_gradient(b));
        int32_t shift = edgelora_gradient_open(b, gradient, error->exponent);
        edgelora_split_b_gradient(split, g, branch->rank, error, step->t, gradient, shift);
    }
    if ((g->traits & EDGELORA_ADDS) && inputs > 1) { // the stream's error, before it is scaled
        propagate_error(step, 1);
        inputs = 1;
    }
    if (!step->trains_a && !step->passes) {
        return;
    }
    if ((g->traits & EDGELORA_SCALES) && !is_nothing) {
        error->exponent = edgelora_split_requantize_backward(
            split, g, (int8_t *)(uintptr_t)error->e, error->exponent, error->simd);
    }
    if (branch->rank && !is_nothing) {
        error->t_error = step->t_error;
        error->t_exponent = edgelora_split_branch_backward(split, g, branch, error, step->t_error);
    }
    if (step->trains_a && !is_nothing) {
        edgelora_matrix_t *a = &step->lora->matrix_a;
        int32_t *gradient = arena_at(s, matrix_gradient(a));
        int32_t shift = edgelora_gradient_open(a, gradient, error->t_exponent);
        edgelora_split_a_gradient(split, g, branch->rank, error, gradient, shift);
    }
    if (g->traits & EDGELORA_THREE_INPUTS) {
        attend_backward(step);
        return;
    }
    for (uint32_t k = 0; k < inputs; ++k) {
        propagate_error(step, k);
    }
}

static int32_t largest_exponent(const int16_t *exponents, uint32_t groups) {
    int32_t top = EDGELORA_NO_ERROR;
    for (uint32_t i = 0; i < groups; ++i) {
        top = exponents[i] > top ? exponents[i] : top;
    }
    return top;
}

// Shifts all groups of errors e, s8 [positions, channels], to exponent `top`.
static void join_groups(
    int8_t *e, uint32_t positions, uint32_t channels, const int16_t *exponents, int32_t top) {
    for (uint32_t i = 0; i * EDGELORA_GROUP < positions; ++i) {
        uint32_t first = i * EDGELORA_GROUP, left = positions - first,
                 rows = left < EDGELORA_GROUP ? left : EDGELORA_GROUP;
        int32_t more = top - exponents[i];
        edgelora_block_shift(e + first * channels, rows * channels, more < 31 ? more : 31, 0, true);
    }
}

// Runs the backward step of each group of positions, and leaves `step` at the last.
static void groups_back(step_t *step, const int16_t *exponents) {
    edgelora_shape_t *g = &step->g;
    edgelora_error_t *error = &step->error;
    const int8_t *e = error->e;
    uint32_t positions = g->positions, wide = g->traits & EDGELORA_READS_STREAM ? 2 : 1, before = 0;
    step->is_group = true;
    for (step->from = 0; step->from < positions; step->from += EDGELORA_GROUP) {
        uint32_t left = positions - step->from,
                 rows = left < EDGELORA_GROUP ? left : EDGELORA_GROUP;
        edgelora_shape_rows(g, before, rows);
        error->exponent = exponents[step->from / EDGELORA_GROUP];
        error->e = any_s8(e, rows * g->out_c) ? e : 0;
        step_back(step);
        before = rows;
        e += rows * g->out_c;
        step->t += step->t ? rows * step->branch.rank : 0;
        error->x += error->x ? rows * g->in_c * wide : 0;
        error->x2 += error->x2 ? rows * g->out_c : 0;
    }
}

// Runs the backward step of one op. arrived: in this frame; else only a history's carry is passed
// on. Returns the number of ops that have received their first error.
EDGELORA_RAM static uint32_t op_backward(
    edgelora_session_t *s, const source_t *source, uint32_t i, bool arrived) {
    const edgelora_op_state_t *l = &session_ops(s)[i];
    step_t step = {.s = s, .lora = op_lora(s, l)};
    edgelora_shape_t *g = &step.g;
    session_shape_into(g, s, i);
    step.branch = lora_own(s, step.lora);
    uint32_t inputs = op_inputs(g->op), rank = step.branch.rank;
    edgelora_carry_t *carry = op_carry(s, l);
    int8_t *e = op_buffer(s, l, EDGELORA_ERROR), *work = op_buffer(s, l, EDGELORA_WORK);
    bool some = arrived && any_s8(e, g->positions * g->out_c);
    if (!some && !carries(s, l)) { // all contributions cancel out
        return 0;
    }
    const int16_t *exponents = error_exponents(s, i + 1);
    step.error = (edgelora_error_t){
        .e = some ? e : 0,
        .carry = carry,
        .scratch = arena_at(s, s->scratch),
        .packed = op_state_has(l, EDGELORA_OP_PACKED_BACKWARD),
        .simd = edgelora_simd_kernels(s->simd),
        .work = simd_work(s)};
    const edgelora_rooms_t *rooms = session_rooms(s);
    step.split = session_split(s, rooms ? rooms[i].back : 0);
    uint32_t rows = backward_rows(session_model(s), g),
             groups = group_count(session_model(s), g->positions);
    if (!carry && l->at[EDGELORA_MASK]) {
        edgelora_split_mask_backward(
            &step.split, g, e, kept_mask(s, l, g, source->age), step.error.simd);
    }
    step.t = rank ? kept_t(s, l, g, rank, source->age) : 0;
    step.trains_a = rank && s->mode == EDGELORA_TRAINABLE_A;
    for (uint32_t k = 0; k < inputs; ++k) {
        uint32_t tensor = op_input(g->op, k);
        step.first[k] = tensor && !session_ops(s)[tensor - 1].arrived &&
            !(k && tensor == g->op->input);
        step.passes |= input_requires_grad(s, tensor) && !(k && (g->traits & EDGELORA_ADDS));
    }
    bool has_u = rank && (step.trains_a || step.passes);
    step.t_error = work;
    step.spare = work + (has_u ? align4(rows * rank) : 0);
    uint32_t reads = EDGELORA_READS_INPUT | EDGELORA_READS_OTHER | EDGELORA_THREE_INPUTS;
    if (step.trains_a || (step.passes && (g->traits & reads))) {
        step.error.x = edgelora_tensor_at(s, source, g->op->input, RECOMPUTING);
        step.error.x2 = inputs > 1 ? edgelora_tensor_at(s, source, g->op->input2, RECOMPUTING) : 0;
        step.error.x3 = inputs > 2 ? edgelora_tensor_at(s, source, op_number(g->op), RECOMPUTING)
                                   : 0;
    }
    if (step.passes && (g->traits & EDGELORA_READS_OUTPUT)) {
        step.error.y = edgelora_tensor_at(s, source, i + 1, RECOMPUTING);
    }
    if (rows < g->positions) {
        groups_back(&step, exponents);
    } else {
        step.error.exponent = largest_exponent(exponents, groups);
        if (groups > 1 && (g->traits & EDGELORA_THREE_INPUTS)) {
            step.error.groups = exponents;
        } else if (groups > 1) {
            join_groups(e, g->positions, g->out_c, exponents, step.error.exponent);
        }
        step_back(&step);
    }
    uint32_t reached = 0;
    for (uint32_t k = 0; k < inputs; ++k) {
        reached += step.first[k] && session_ops(s)[op_input(g->op, k) - 1].arrived;
    }
    return reached;
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
    edgelora_status_t status = training_status(s);
    if (status == EDGELORA_OK && !outside(s, x, edgelora_input_size(session_model(s)))) {
        status = EDGELORA_ERR_ALIAS;
    }
    if (status != EDGELORA_OK) {
        return edgelora_leave(s, status);
    }
    source_t source = {x, 0, 0};
    edgelora_op_state_t *ops = session_ops(s);
    for (uint32_t i = to < s->trained ? to : s->trained; i-- > from;) {
        if (ops[i].requires_grad) { // of an error's bytes, which may be others' by now
            int16_t *exponents = error_exponents(s, i + 1);
            const edgelora_tensor_t *t = model_tensor(session_model(s), i + 1);
            uint32_t groups = group_count(session_model(s), (uint32_t)t->height * t->width);
            for (uint32_t k = 0; k < groups; ++k) {
                exponents[k] = 0;
            }
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

// Checks a sample, its label or target, and where its loss goes. classes: classes of the adapter,
// if any; place: index of the label among all classes.
EDGELORA_RAM static edgelora_status_t answer_check(const edgelora_session_t *s,
    const sample_t *sample, const classes_t *classes, uint32_t place, answer_t answer,
    const int32_t *loss) {
    const edgelora_model_t *model = session_model(s);
    uint32_t size = answer.target ? edgelora_target_size(model) : 0;
    if (!edgelora_is_apart(s, sample, loss, sizeof(*loss)) || !outside(s, answer.target, size) ||
        !apart(answer.target, size, loss, sizeof(*loss))) {
        return EDGELORA_ERR_ALIAS;
    }
    return classes->record && place < UINT32_MAX
        ? EDGELORA_OK
        : target_check(model, tensor_size(model, s->trained), answer.label, answer.target);
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
    return edgelora_loss(model, &input, arena_at(s, s->scratch),
        arena_at(s, last->at[EDGELORA_ERROR]), error_exponents(s, s->trained));
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
    sample_t sample = edgelora_sample(s, first);
    edgelora_status_t status = training_status(s);
    if (status == EDGELORA_OK) {
        status = answer_check(s, &sample, &classes, place, answer, loss);
    }
    if (status != EDGELORA_OK) {
        return status;
    }
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
    sample_t sample = edgelora_sample(s, (source_t){x, 0, 0});
    uint32_t place = edgelora_class_place(model, &classes, label);
    edgelora_status_t status = answer_check(s, &sample, &classes, place, answer, loss);
    if (status != EDGELORA_OK) {
        return status;
    }
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    source_t last_frame = edgelora_infer_frames(s, &sample);
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
