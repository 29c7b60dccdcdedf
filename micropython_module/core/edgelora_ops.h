// The ops (SPEC.md, section 2): one record each, of all that the core and the host know by op.
// SPDX-License-Identifier: MIT
//
// Define OP(name, number, build, traits, shapes, arrays, forward, backward), then include
// this file; it has no guard. A new op without fast kernels needs a record, a reference kernel and
// the host's `simulate.py`.
//
// number    in files
// build     the builds that have it: ALWAYS, RECURRENT, ATTENTION
// traits    of graph.h, without their prefix; T1 to T6 for as many of them
// shapes    op, in, in2, in3, out, ops: what tensors and fields it allows, beside its traits
// arrays    file, op, in, out: what its arrays in the file must hold
// forward   g, branch, pass, x, x2, y
// backward  g, branch, error, k, dx: the error of input k; its value is the exponent of that error

OP(DENSE, 1, ALWAYS, T5(IS_MATRIX, HAS_WEIGHTS, WHOLE_INPUT, HAS_RANGE, SCALES),
    one_position(out) && matrix_fits(op, in, out), matrix_ok(file, op, in, out),
    matrix_forward(g, branch, pass, x, y), matrix_backward(g, branch, error, dx))
OP(CONV, 2, ALWAYS, T6(IS_MATRIX, HAS_WEIGHTS, HAS_WINDOW, HAS_RANGE, SCALES, BY_ROWS),
    matrix_fits(op, in, out), matrix_ok(file, op, in, out), matrix_forward(g, branch, pass, x, y),
    matrix_backward(g, branch, error, dx))
OP(AVERAGE_POOL, 3, ALWAYS, T3(HAS_WINDOW, HAS_RANGE, SAME_GRID), pool_fits(op, in, out), true,
    pool_forward(g, pass, x, y), pool_backward(g, error, dx))
OP(MEAN, 4, ALWAYS, T3(WHOLE_INPUT, HAS_RANGE, SCALES),
    in->channels == out->channels && one_position(out), requantization_ok(file, op, 1),
    pool_forward(g, pass, x, y), pool_backward(g, error, dx))
OP(DEPTHWISE, 5, ALWAYS, T4(HAS_WEIGHTS, HAS_WINDOW, HAS_RANGE, SCALES),
    depthwise_fits(op, in, out), depthwise_ok(file, op, out), depthwise_forward(g, pass, x, y),
    (error->packed ? edgelora_depthwise_backward_packed_s8 : edgelora_depthwise_backward_s8)(
        g, error, dx))
OP(MAX_POOL, 6, ALWAYS, T4(HAS_WINDOW, HAS_RANGE, READS_INPUT, SAME_GRID), pool_fits(op, in, out),
    true, pool_forward(g, pass, x, y), edgelora_pool_backward_s8(g, error, dx))
OP(ADD, 7, ALWAYS, T4(TWO_INPUTS, REPEATS, HAS_RANGE, BY_ROWS), pair_fits(in, in2, out),
    add_ok(file, op), pair_forward(g, pass, x, x2, y), edgelora_pair_backward_s8(g, error, k, dx))
OP(CONCATENATE, 8, ALWAYS, T4(TWO_INPUTS, HAS_AXIS, COPIES, SAME_GRID),
    concatenate_fits(op, in, in2, out), true, edgelora_concatenate_forward_s8(g, x, x2, y),
    (edgelora_concatenate_backward_s8(g, error->e, k, dx), error->exponent))
OP(PAD, 9, ALWAYS, T2(COPIES, SAME_GRID), pad_fits(op, in, out), true,
    edgelora_pad_forward_s8(g, x, y), (edgelora_pad_backward_s8(g, error->e, dx), error->exponent))
OP(RESHAPE, 10, ALWAYS, T2(COPIES, SAME_GRID), elements(in) == elements(out), true,
    edgelora_copy_s8(y, x, g->positions * g->out_c), copy_backward(g, error, dx))
OP(LOOKUP, 11, ALWAYS, T2(READS_INPUT, BY_ROWS), same_shape(in, out), lookup_ok(file, op),
    edgelora_lookup_forward_s8(g, x, y), edgelora_lookup_backward_s8(g, error, dx))
OP(SOFTMAX, 12, ALWAYS, T1(READS_OUTPUT), same_shape(in, out) && softmax_fits(in, out),
    softmax_ok(file, op), edgelora_softmax_forward_s8(g, x, y),
    edgelora_softmax_backward_s8(g, error, dx))
OP(HISTORY, 13, ALWAYS, T3(KEEPS, COPIES, SAME_GRID), elements(in) < elements(out),
    history_ok(file, op, in, out), edgelora_history_forward_s8(g, x, y),
    edgelora_history_backward_s8(g, error, dx))
OP(SLICE, 14, ALWAYS, T3(HAS_AXIS, COPIES, SAME_GRID), slice_fits(op, in, out), true,
    edgelora_slice_forward_s8(g, x, y),
    (edgelora_slice_backward_s8(g, error->e, dx), error->exponent))
OP(CONSTANT, 15, ALWAYS, T1(NO_INPUT), true,
    array_in_file(file->size, op->weights, elements(out), 1u + out->wide), NO_FORWARD, NO_BACKWARD)
OP(MULTIPLY, 16, ALWAYS, T6(TWO_INPUTS, REPEATS, HAS_RANGE, SCALES, READS_OTHER, BY_ROWS),
    pair_fits(in, in2, out), requantization_ok(file, op, 1), pair_forward(g, pass, x, x2, y),
    edgelora_pair_backward_s8(g, error, k, dx))
OP(MINIMUM, 17, ALWAYS, T5(TWO_INPUTS, REPEATS, READS_INPUT, READS_OTHER, SAME_GRID),
    pair_fits(in, in2, out), true, pair_forward(g, pass, x, x2, y),
    edgelora_pair_backward_s8(g, error, k, dx))
OP(MAXIMUM, 18, ALWAYS, T5(TWO_INPUTS, REPEATS, READS_INPUT, READS_OTHER, SAME_GRID),
    pair_fits(in, in2, out), true, pair_forward(g, pass, x, x2, y),
    edgelora_pair_backward_s8(g, error, k, dx))
// slopes are stored in the file: they get no error
OP(PRELU, 19, ALWAYS, T4(TWO_INPUTS, REPEATS, READS_INPUT, READS_OTHER),
    pair_fits(in, in2, out) && op->input2 && ops[op->input2 - 1].kind == EDGELORA_CONSTANT,
    requantization_ok(file, op, 2), pair_forward(g, pass, x, x2, y),
    edgelora_pair_backward_s8(g, error, k, dx))
OP(GATHER, 20, ALWAYS, T2(COPIES, SAME_GRID), gather_fits(op, in, out),
    gather_ok(file, op, in, out), edgelora_gather_forward_s8(g, x, y),
    edgelora_gather_backward_s8(g, error, dx))
OP(LSTM, 21, RECURRENT, T1(NO_GRADIENT), lstm_fits(in, out), lstm_ok(file, op, in, out),
    edgelora_lstm_forward_s8(g, x, y, pass->scratch), NO_BACKWARD)
OP(SVDF_FEATURES, 22, RECURRENT, T2(WHOLE_INPUT, SCALES), svdf_features_fit(in, out),
    svdf_features_ok(file, op, in, out), edgelora_svdf_features_forward_s8(g, x, y),
    edgelora_svdf_features_backward_s8(g, error, dx))
OP(SVDF_TIME, 23, RECURRENT, T1(SCALES), svdf_time_fits(in, out), svdf_time_ok(file, op, in, out),
    edgelora_svdf_time_forward_s8(g, x, y), edgelora_svdf_time_backward_s8(g, error, dx))
OP(EMBED, 24, ATTENTION, T2(ADDS, BY_ROWS), embed_fits(op, in, out), embed_ok(file, op, out),
    edgelora_embed_forward_s16(g, x, as_stream(x2), to_stream(y)), NO_BACKWARD)
OP(PROJECT, 25, ATTENTION, T6(IS_MATRIX, HAS_WEIGHTS, HAS_WINDOW, SCALES, ADDS, BY_ROWS),
    matrix_fits(op, in, out), matrix_ok(file, op, in, out),
    (pass->packed ? edgelora_project_forward_packed_s16 : edgelora_project_forward_s16)(
        g, branch, x, as_stream(x2), to_stream(y), pass->t, pass->scratch),
    matrix_backward(g, branch, error, dx))
OP(WIDEN, 26, ATTENTION, T3(SCALES, ADDS, BY_ROWS), same_shape(in, out),
    requantization_ok(file, op, 1), widen_forward(g, pass, x, as_stream(x2), to_stream(y)),
    copy_backward(g, error, dx))
OP(NORM, 27, ATTENTION, T4(SCALES, READS_STREAM, READS_INPUT, BY_ROWS), same_shape(in, out),
    norm_ok(file, op, in), edgelora_norm_forward_s8(g, as_stream(x), y),
    edgelora_norm_errors_s8(g, error, edgelora_norm_rows_s8(g, error), dx))
OP(ROTATE, 28, ATTENTION, T3(PLACED, SAME_GRID, BY_ROWS), rotate_fits(op, in, out),
    rotate_ok(file, op, in), edgelora_rotate_forward_s8(g, x, y),
    edgelora_rotate_backward_s8(g, error, dx))
OP(ATTEND, 29, ATTENTION, T2(THREE_INPUTS, PLACED), attend_fits(op, in, in2, in3, out),
    attend_ok(file, op),
    edgelora_op_attend_forward(g, pass, (edgelora_range_t){0, g->op->kernel_h}), NO_BACKWARD)
OP(SQUARED_DIFFERENCE, 30, ATTENTION, T4(TWO_INPUTS, REPEATS, READS_INPUT, READS_OTHER),
    pair_fits(in, in2, out), in_s32(file, op->multiplier, 3, 0, INT32_MAX) && add_ok(file, op),
    pair_forward(g, pass, x, x2, y), edgelora_pair_backward_s8(g, error, k, dx))
OP(MATMUL, 31, ATTENTION, T3(TWO_INPUTS, SCALES, READS_OTHER), matmul_fits(in, in2, out),
    requantization_ok(file, op, 1), edgelora_matmul_forward_s8(g, x, x2, y),
    edgelora_matmul_backward_s8(g, error, k, dx))
