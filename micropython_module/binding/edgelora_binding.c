// The MicroPython binding: parses arguments, calls the core, turns a status into an exception.
// SPDX-License-Identifier: MIT

#include <string.h>

#include "compat.h"
#include "crypto.h"
#include "edgelora.h"
#include "fixed.h"
#ifdef EDGELORA_READS_AHEAD
#include "kernels/packed/read_ahead.h"
#endif
#ifdef EDGELORA_SECOND_CORE
#include "rp2_second_core.h"
#endif

EDGELORA_RAM static void check(int32_t status) {
    if (status < 0) {
        edgelora_raise(edgelora_status_text((edgelora_status_t)status));
    }
}

// A buffer of bytes or int8. Refuses others, as characters of a str or floats would silently be
// read as int8.
EDGELORA_RAM static mp_buffer_info_t buffer(mp_obj_t obj, int flags) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(obj, &info, flags);
    bool bytes = info.typecode == 'b' || info.typecode == 'B' ||
        info.typecode == BYTEARRAY_TYPECODE;
    check(bytes && mp_obj_get_type(obj) != &mp_type_str ? EDGELORA_OK : EDGELORA_ERR_TYPE);
    return info;
}

// An int, or -1 if it exceeds MicroPython's small ints, which have at least 31 bits. TypeError
// for anything else.
EDGELORA_RAM static mp_int_t integer(mp_obj_t obj) {
    mp_int_t v = mp_obj_get_int_truncated(obj);
    return mp_obj_is_small_int(obj) || obj == mp_const_true || obj == mp_const_false ? v : -1;
}

EDGELORA_RAM static edgelora_session_t *session(mp_obj_t arena) {
    mp_buffer_info_t info = buffer(arena, MP_BUFFER_RW);
    edgelora_session_t *s = edgelora_session(info.buf, info.len);
    check(s ? EDGELORA_OK : EDGELORA_ERR_ARENA);
    return s;
}

// The session for a call that computes: with its second core, if it uses one.
EDGELORA_RAM static edgelora_session_t *computing(mp_obj_t arena) {
    edgelora_session_t *s = session(arena);
#ifdef EDGELORA_SECOND_CORE
    void *stack = edgelora_second_stack(s);
    check(!stack || edgelora_second_core_begin(stack) ? EDGELORA_OK : EDGELORA_ERR_THREAD);
#endif
    return s;
}

static const edgelora_model_t *checked_model(mp_obj_t obj) {
    mp_buffer_info_t info = buffer(obj, MP_BUFFER_READ);
    check(edgelora_model_check(info.buf, info.len));
    return info.buf;
}

// The bytes of a buffer; raises an error unless it has this size.
EDGELORA_RAM static void *sized(mp_obj_t obj, uint32_t size, int flags) {
    mp_buffer_info_t info = buffer(obj, flags);
    check(info.len == size ? EDGELORA_OK : EDGELORA_ERR_SIZE);
    return info.buf;
}

// x: the input of a session's model
static const int8_t *input(edgelora_session_t *s, mp_obj_t obj) {
    return sized(obj, edgelora_input_size(s->model.p), MP_BUFFER_READ);
}

static const int8_t *sample(edgelora_session_t *s, mp_obj_t obj) {
    return sized(obj, s->frames * edgelora_input_size(s->model.p), MP_BUFFER_READ);
}

static const int8_t *features(edgelora_session_t *s, mp_obj_t obj) {
    return sized(obj, edgelora_feature_size(s), MP_BUFFER_READ);
}

// core_model_check(model) -> (ops, input size, output size, target size, offset of labels, size of
// labels)
static mp_obj_t core_model_check(mp_obj_t model_in) {
    const edgelora_model_t *m = checked_model(model_in);
    mp_obj_t items[6] = {
        MP_OBJ_NEW_SMALL_INT(m->op_count),
        MP_OBJ_NEW_SMALL_INT(edgelora_input_size(m)),
        MP_OBJ_NEW_SMALL_INT(edgelora_output_size(m)),
        MP_OBJ_NEW_SMALL_INT(edgelora_target_size(m)),
        MP_OBJ_NEW_SMALL_INT(m->labels),
        MP_OBJ_NEW_SMALL_INT(m->labels_size),
    };
    return mp_obj_new_tuple(6, items);
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_model_check_obj, core_model_check);

EDGELORA_RAM static mp_int_t in_range(mp_obj_t obj, mp_int_t high) {
    mp_int_t v = integer(obj);
    check(v >= 0 && v <= high ? EDGELORA_OK : EDGELORA_ERR_CONFIG);
    return v;
}

// Arguments from args on: ranks, mode, micro_batch, momentum, threshold, recompute or None,
// plain, frames, cores.
enum { CONFIG_ARGS = 9 };
static edgelora_config_t config(const edgelora_model_t *m, const mp_obj_t *args) {
    mp_buffer_info_t ranks = buffer(args[0], MP_BUFFER_READ);
    check(ranks.len == m->op_count ? EDGELORA_OK : EDGELORA_ERR_RANK);
    edgelora_config_t c = {
        .ranks = ranks.buf,
        .mode = (uint8_t)in_range(args[1], 255),
        .micro_batch = (uint8_t)in_range(args[2], 255),
        .momentum = (uint8_t)in_range(args[3], 255),
        .threshold = (uint16_t)in_range(args[4], 65535),
        .plain = mp_obj_is_true(args[6]),
        .frames = (uint16_t)in_range(args[7], 65535),
        .cores = (uint8_t)in_range(args[8], 2),
    };
#ifndef EDGELORA_SECOND_CORE
    check(c.cores < 2 ? EDGELORA_OK : EDGELORA_ERR_CORES);
#endif
    if (args[5] != mp_const_none) {
        mp_buffer_info_t recompute = buffer(args[5], MP_BUFFER_READ);
        check(recompute.len == m->op_count ? EDGELORA_OK : EDGELORA_ERR_CONFIG);
        c.recompute = recompute.buf;
    }
    return c;
}

// core_arena_size(model, *config) -> bytes
static mp_obj_t core_arena_size(size_t n_args, const mp_obj_t *args) {
    const edgelora_model_t *m = checked_model(args[0]);
    edgelora_config_t c = config(m, args + 1);
    size_t scratch_size = m->op_count * EDGELORA_PLANNED * sizeof(edgelora_span_t);
    void *scratch = m_malloc(scratch_size);
    int32_t size = edgelora_arena_size(m, &c, scratch);
    edgelora_free(scratch, scratch_size);
    check(size);
#ifdef __ARM_FEATURE_MVE // a board with vectors has memory for them; other arenas are as small as
                         // can be
    size += (int32_t)edgelora_simd_room();
#endif
    return MP_OBJ_NEW_SMALL_INT(size);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(
    core_arena_size_obj, 1 + CONFIG_ARGS, 1 + CONFIG_ARGS, core_arena_size);

// Does MicroPython say that the chip is an ESP32-S3, with or without a hyphen? ESP32 and S2 run the
// same native module.
static bool is_esp32_s3(void) {
    const char *wanted = "ESP32S3";
#ifdef __XTENSA_WINDOWED_ABI__
    mp_obj_t sys = mp_import_name(MP_QSTR_sys, mp_const_none, MP_OBJ_NEW_SMALL_INT(0));
    mp_obj_t name = mp_load_attr(mp_load_attr(sys, MP_QSTR_implementation), MP_QSTR__machine);
    const char *at = mp_obj_str_get_str(name), *first = wanted;
    for (; *at && *wanted; ++at) {
        if (*at != '-') {
            wanted = *at == *wanted ? wanted + 1 : first + (*at == *first);
        }
    }
#endif
    return !*wanted;
}

// core_init(arena, model, *config)
static mp_obj_t core_init(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t arena = buffer(args[0], MP_BUFFER_RW);
    const edgelora_model_t *m = checked_model(args[1]);
    edgelora_config_t c = config(m, args + 2);
    mp_buffer_info_t changeable;
    c.fixed = !mp_get_buffer(args[1], &changeable, MP_BUFFER_WRITE);
    c.vectors = is_esp32_s3();
    check(edgelora_init(arena.buf, arena.len, m, &c));
#ifdef EDGELORA_SECOND_CORE
    if (c.cores == 2) {
        check(edgelora_use_second(arena.buf, &edgelora_second_core));
    }
#endif
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(
    core_init_obj, 2 + CONFIG_ARGS, 2 + CONFIG_ARGS, core_init);

// Converts a result to an int; raises an error for a status < 0.
static mp_obj_t result(int32_t found) {
    check(found);
    return MP_OBJ_NEW_SMALL_INT(found);
}

// core_infer(arena, x) -> index of the largest output
static mp_obj_t core_infer(mp_obj_t arena, mp_obj_t x) {
    edgelora_session_t *s = computing(arena);
    return result(edgelora_infer(s, input(s, x)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_infer_obj, core_infer);

// core_infer_sample(arena, x) -> class of the last frame
static mp_obj_t core_infer_sample(mp_obj_t arena, mp_obj_t x) {
    edgelora_session_t *s = computing(arena);
    return result(edgelora_infer_sample(s, sample(s, x)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_infer_sample_obj, core_infer_sample);

// core_next(arena, id) -> likeliest next id
static mp_obj_t core_next(mp_obj_t arena, mp_obj_t id) {
    return result(edgelora_next(computing(arena), (uint32_t)in_range(id, 65535)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_next_obj, core_next);

// core_choose(arena, temperature, seed, place) -> id that may follow; temperature: in 1/256
static mp_obj_t core_choose(size_t n_args, const mp_obj_t *args) {
    return result(edgelora_choose(computing(args[0]), (uint32_t)in_range(args[1], 65535),
        (uint32_t)mp_obj_get_int_truncated(args[2]), (uint32_t)mp_obj_get_int_truncated(args[3])));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_choose_obj, 4, 4, core_choose);

// core_reset(arena): the next input begins a stream
static mp_obj_t core_reset(mp_obj_t arena) {
    check(edgelora_reset(session(arena)));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_reset_obj, core_reset);

// core_back(arena, count) -> how many symbols the window has without the last `count`
static mp_obj_t core_back(mp_obj_t arena, mp_obj_t count) {
    return result(edgelora_back(session(arena), (uint32_t)in_range(count, 65535)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_back_obj, core_back);

// core_forward_range(arena, x, from, to): ops [from, to) of an inference
static mp_obj_t core_forward_range(size_t n_args, const mp_obj_t *args) {
    edgelora_session_t *s = computing(args[0]);
    const int8_t *x = input(s, args[1]);
    check(edgelora_forward_range(
        s, x, (uint32_t)in_range(args[2], s->op_count), (uint32_t)in_range(args[3], s->op_count)));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_forward_range_obj, 4, 4, core_forward_range);

// core_backward_range(arena, x, from, to): backward steps of ops [from, to); corrupts the
// training adapter
static mp_obj_t core_backward_range(size_t n_args, const mp_obj_t *args) {
    edgelora_session_t *s = computing(args[0]);
    const int8_t *x = input(s, args[1]);
    check(edgelora_backward_range(
        s, x, (uint32_t)in_range(args[2], s->op_count), (uint32_t)in_range(args[3], s->op_count)));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_backward_range_obj, 4, 4, core_backward_range);

// core_feature_size(arena) -> bytes
static mp_obj_t core_feature_size(mp_obj_t arena) {
    return MP_OBJ_NEW_SMALL_INT(edgelora_feature_size(session(arena)));
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_feature_size_obj, core_feature_size);

// core_features(arena, x, out)
static mp_obj_t core_features(mp_obj_t arena, mp_obj_t x, mp_obj_t out) {
    edgelora_session_t *s = computing(arena);
    int8_t *to = sized(out, edgelora_feature_size(s), MP_BUFFER_WRITE);
    check(edgelora_features(s, sample(s, x), to));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_features_obj, core_features);

// core_infer_features(arena, features) -> index of the largest output
static mp_obj_t core_infer_features(mp_obj_t arena, mp_obj_t f) {
    edgelora_session_t *s = computing(arena);
    return result(edgelora_infer_features(s, features(s, f)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_infer_features_obj, core_infer_features);

// The values of a buffer of 16-bit integers, 'h' or 'H', and their count.
static void *words(mp_obj_t obj, int flags, int typecode, uint32_t *count) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(obj, &info, flags);
    check(info.typecode == typecode ? EDGELORA_OK : EDGELORA_ERR_COUNTS);
    *count = info.len / 2;
    return info.buf;
}

// core_quantize(arena, counts, out) -> number of clipped values
static mp_obj_t core_quantize(mp_obj_t arena, mp_obj_t counts_in, mp_obj_t out) {
    edgelora_session_t *s = session(arena);
    uint32_t count;
    const int16_t *counts = words(counts_in, MP_BUFFER_READ, 'h', &count);
    return result(edgelora_quantize(s->model.p, counts, count, sized(out, count, MP_BUFFER_WRITE)));
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_quantize_obj, core_quantize);

// core_probabilities(arena, out): of the last inference, 1/32768
static mp_obj_t core_probabilities(mp_obj_t arena, mp_obj_t out) {
    edgelora_session_t *s = session(arena);
    uint32_t count;
    uint16_t *p = words(out, MP_BUFFER_WRITE, 'H', &count);
    check(count == edgelora_class_count(s) ? EDGELORA_OK : EDGELORA_ERR_SIZE);
    check(edgelora_probabilities(s, p));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_probabilities_obj, core_probabilities);

// core_turn(out, x, zero, matrix): turns vectors of three axes around a zero point, offset by 128
static mp_obj_t core_turn(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t out = buffer(args[0], MP_BUFFER_WRITE);
    const int8_t *x = sized(args[1], (uint32_t)out.len, MP_BUFFER_READ);
    int32_t zero = (int32_t)in_range(args[2], 255) - 128;
    uint32_t count;
    const int16_t *matrix = words(args[3], MP_BUFFER_READ, 'h', &count);
    check(count == 9 && out.len % 3 == 0 ? EDGELORA_OK : EDGELORA_ERR_SIZE);
    edgelora_turn(out.buf, x, (uint32_t)out.len, zero, matrix);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_turn_obj, 4, 4, core_turn);

// core_take(to, at, from, begin, step, count, width): copies every step-th element of `width` bytes
static mp_obj_t core_take(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t to, from;
    mp_get_buffer_raise(args[0], &to, MP_BUFFER_WRITE);
    mp_get_buffer_raise(args[2], &from, MP_BUFFER_READ);
    uint32_t width = (uint32_t)in_range(args[6], 2), step = (uint32_t)in_range(args[4], 255);
    check(width && step ? EDGELORA_OK : EDGELORA_ERR_SIZE);
    uint32_t room = to.len / width, there = from.len / width,
             at = (uint32_t)in_range(args[1], room), begin = (uint32_t)in_range(args[3], there),
             count = (uint32_t)in_range(args[5], room - at);
    check(!count || (begin < there && count - 1 <= (there - 1 - begin) / step) ? EDGELORA_OK
                                                                               : EDGELORA_ERR_SIZE);
    edgelora_take((uint8_t *)to.buf + at * width, (const uint8_t *)from.buf + begin * width, step,
        count, width);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_take_obj, 7, 7, core_take);

// core_output(arena) -> offset of the logits in the arena
static mp_obj_t core_output(mp_obj_t arena) {
    edgelora_session_t *s = session(arena);
    return MP_OBJ_NEW_SMALL_INT(edgelora_output(s) - (const int8_t *)s);
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_output_obj, core_output);

// core_use(arena, adapter or None)
EDGELORA_RAM static mp_obj_t core_use(mp_obj_t arena, mp_obj_t adapter) {
    edgelora_session_t *s = session(arena);
    mp_buffer_info_t info = {.buf = NULL};
    if (adapter != mp_const_none) {
        info = buffer(adapter, MP_BUFFER_READ);
        check(info.len ? EDGELORA_OK
                       : EDGELORA_ERR_TRUNCATED); // an empty buffer may be NULL: the base alone
    }
    check(edgelora_use(s, info.buf, info.len));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_use_obj, core_use);

// The items of a list with `count` of them or more.
EDGELORA_RAM static mp_obj_t *items(mp_obj_t list_in, size_t count) {
    mp_obj_list_t *list = MP_OBJ_TO_PTR(list_in);
    check(mp_obj_is_exact_type(list_in, &mp_type_list) && list->len >= count ? EDGELORA_OK
                                                                             : EDGELORA_ERR_TYPE);
    return list->items;
}

enum { LAST_SMALL = 0x3FFFFFFF }; // the largest of MicroPython's small ints on all boards
enum { TICK, ARENA, CACHED, FETCH, SWITCH_ITEMS };  // of a store's state
enum { BUFFER, LAST_TICK, NAME, SLOT_ITEMS };       // of a slot: its adapter, its last switch

// core_switch([tick, arena, cached, fetch], name): uses the adapter of the slot cached[name] or,
// if there is none, fetch(name), and counts the switch
EDGELORA_RAM static mp_obj_t core_switch(mp_obj_t state_in, mp_obj_t name) {
    mp_obj_t *state = items(state_in, SWITCH_ITEMS);
    check(mp_obj_is_exact_type(state[CACHED], &mp_type_dict) ? EDGELORA_OK : EDGELORA_ERR_TYPE);
    mp_obj_t found = edgelora_get(state[CACHED], name);
    if (found == MP_OBJ_NULL) {
        found = mp_call_function_n_kw(state[FETCH], 1, 0, &name);
    }
    mp_obj_t *slot = items(found, SLOT_ITEMS);
    core_use(state[ARENA], slot[BUFFER]);
    mp_int_t tick = MP_OBJ_SMALL_INT_VALUE(state[TICK]);
    state[TICK] = slot[LAST_TICK] = MP_OBJ_NEW_SMALL_INT(tick + 1 < LAST_SMALL ? tick + 1 : 1);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_switch_obj, core_switch);

// core_vacate(state, slots, pinned) -> the slot that was used longest ago among those whose adapter
// is not in the list `pinned`, taken from `cached` and, if it is in use, from the session; or None
static mp_obj_t core_vacate(mp_obj_t state_in, mp_obj_t slots_in, mp_obj_t pinned) {
    mp_obj_t *state = items(state_in, SWITCH_ITEMS), *slots = items(slots_in, 0);
    size_t count = ((mp_obj_list_t *)MP_OBJ_TO_PTR(slots_in))->len;
    mp_obj_t found = mp_const_none;
    mp_int_t least = LAST_SMALL;
    for (size_t i = 0; i < count; ++i) {
        mp_obj_t *slot = items(slots[i], SLOT_ITEMS);
        mp_int_t tick = MP_OBJ_SMALL_INT_VALUE(slot[LAST_TICK]);
        if (tick < least && mp_binary_op(MP_BINARY_OP_IN, slot[NAME], pinned) == mp_const_false) {
            least = tick;
            found = slots[i];
        }
    }
    if (found == mp_const_none) {
        return found;
    }
    mp_obj_t *oldest = items(found, SLOT_ITEMS);
    if (oldest[NAME] != mp_const_none) {
        mp_obj_subscr(state[CACHED], oldest[NAME], MP_OBJ_NULL);
        oldest[NAME] = mp_const_none;
    }
    if (oldest[LAST_TICK] == state[TICK]) {
        core_switch(state_in, mp_const_none);
    }
    return found;
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_vacate_obj, core_vacate);

// core_bind(function, first) -> a function that calls it with this first argument
static mp_obj_t core_bind(mp_obj_t function, mp_obj_t first) {
    return mp_obj_new_closure(function, 1, &first);
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_bind_obj, core_bind);

#ifdef EDGELORA_READS_AHEAD
// Copies words of flash past its cache, block by block: interrupts may come between two.
EDGELORA_KERNEL static void read_words(uint32_t *to, const uint32_t *from, uint32_t words) {
    while (words) {
        uint32_t block = words < EDGELORA_AHEAD_BYTES / 4 ? words : EDGELORA_AHEAD_BYTES / 4;
        edgelora_ahead_start(from, to, block);
        edgelora_ahead_wait();
        to += block;
        from += block;
        words -= block;
    }
}
#endif

static void copy(uint8_t *to, const uint8_t *from, size_t size) {
#ifdef EDGELORA_READS_AHEAD
    if (is_aligned(to) && edgelora_ahead_reads(from) && edgelora_ahead_begin()) {
        uint32_t words = size / 4;
        read_words((void *)to, (const void *)from, words);
        edgelora_ahead_end();
        to += 4 * words;
        from += 4 * words;
        size -= 4 * words;
    }
#endif
    memmove(to, from, size);
}

// core_copy(from, at, out): copies the bytes from `at` on
static mp_obj_t core_copy(mp_obj_t from_in, mp_obj_t at_in, mp_obj_t out_in) {
    mp_buffer_info_t from = buffer(from_in, MP_BUFFER_READ), out = buffer(out_in, MP_BUFFER_WRITE);
    mp_int_t at = mp_obj_get_int_truncated(at_in);
    check(at >= 0 && (size_t)at <= from.len && out.len <= from.len - (size_t)at
            ? EDGELORA_OK
            : EDGELORA_ERR_SIZE);
    copy(out.buf, (const uint8_t *)from.buf + at, out.len);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_copy_obj, core_copy);

static edgelora_status_t adapter_status(mp_obj_t arena, mp_obj_t adapter) {
    edgelora_session_t *s = session(arena);
    mp_buffer_info_t info = buffer(adapter, MP_BUFFER_READ);
    return edgelora_adapter_check(s, info.buf, info.len);
}

// core_adapter_fault(arena, adapter) -> what is wrong with the file for the session's model, all of
// which it checks; None: nothing
static mp_obj_t core_adapter_fault(mp_obj_t arena, mp_obj_t adapter) {
    edgelora_status_t status = adapter_status(arena, adapter);
    if (status == EDGELORA_OK) {
        return mp_const_none;
    }
    const char *text = edgelora_status_text(status);
    return mp_obj_new_str(text, strlen(text));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_adapter_fault_obj, core_adapter_fault);

// core_adapter_check(arena, adapter): raises what core_adapter_fault returns
static mp_obj_t core_adapter_check(mp_obj_t arena, mp_obj_t adapter) {
    check(adapter_status(arena, adapter));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_adapter_check_obj, core_adapter_check);

// core_begin(arena, seed)
static mp_obj_t core_begin(mp_obj_t arena, mp_obj_t seed) {
    check(edgelora_begin(session(arena), (uint32_t)mp_obj_get_int_truncated(seed)));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_begin_obj, core_begin);

// core_load(arena, adapter)
static mp_obj_t core_load(mp_obj_t arena, mp_obj_t adapter) {
    edgelora_session_t *s = session(arena);
    mp_buffer_info_t info = buffer(adapter, MP_BUFFER_READ);
    check(edgelora_load(s, info.buf, info.len));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_load_obj, core_load);

static uint16_t learning_rate(mp_obj_t obj) {
    return (uint16_t)in_range(obj, 65535);
}

typedef edgelora_status_t train_function(edgelora_session_t *s, const int8_t *data, uint32_t label,
    const int8_t *target, uint16_t learning_rate, int32_t *loss);

// The target in a buffer; if the model's loss takes an int, returns NULL and sets *label.
EDGELORA_RAM static const int8_t *answer(edgelora_session_t *s, mp_obj_t in, uint32_t *label) {
    *label = 0;
    if (edgelora_target_size(s->model.p)) {
        return sized(in, edgelora_target_size(s->model.p), MP_BUFFER_READ);
    }
    mp_int_t v = integer(in);
    *label = v >= 0 && v <= EDGELORA_MAX_CLASSES ? (uint32_t)v : UINT32_MAX;
    return NULL;
}

// label: an int, or a buffer with the target
EDGELORA_RAM static mp_obj_t train(train_function *function, edgelora_session_t *s,
    const int8_t *data, mp_obj_t label_in, mp_obj_t rate) {
    uint32_t label;
    const int8_t *target = answer(s, label_in, &label);
    int32_t loss;
    check(function(s, data, label, target, learning_rate(rate), &loss));
    return mp_obj_new_int(loss);
}

// core_train(arena, x, label or target, learning_rate) -> loss, 1/4096 nat or 1/16 squared step
static mp_obj_t core_train(size_t n_args, const mp_obj_t *args) {
    edgelora_session_t *s = computing(args[0]);
    return train(edgelora_train, s, sample(s, args[1]), args[2], args[3]);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_train_obj, 4, 4, core_train);

// core_train_features(arena, features, label or target, learning_rate) -> loss
EDGELORA_RAM static mp_obj_t core_train_features(size_t n_args, const mp_obj_t *args) {
    edgelora_session_t *s = computing(args[0]);
    return train(edgelora_train_features, s, features(s, args[1]), args[2], args[3]);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_train_features_obj, 4, 4, core_train_features);

// core_evaluate(arena, x, label or target, loss) -> class; writes the loss to `loss`, 4 bytes
static mp_obj_t core_evaluate(size_t n_args, const mp_obj_t *args) {
    edgelora_session_t *s = computing(args[0]);
    const int8_t *x = sample(s, args[1]);
    uint32_t label;
    const int8_t *target = answer(s, args[2], &label);
    uint8_t *out = (uint8_t *)sized(args[3], 4, MP_BUFFER_WRITE);
    int32_t loss = 0;
    mp_obj_t best = result(edgelora_evaluate(s, x, label, target, &loss));
    for (int i = 0; i < 4; ++i) {
        out[i] = (uint8_t)((uint32_t)loss >> (8 * i));
    }
    return best;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_evaluate_obj, 4, 4, core_evaluate);

// core_merge_size(arena, op) -> bytes, 0 if the op has no weights to merge
static mp_obj_t core_merge_size(mp_obj_t arena, mp_obj_t op) {
    return MP_OBJ_NEW_SMALL_INT(edgelora_merge_size(session(arena), (uint32_t)in_range(op, 255)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_merge_size_obj, core_merge_size);

// core_merge(arena, op, buffer)
static mp_obj_t core_merge(mp_obj_t arena, mp_obj_t op_in, mp_obj_t out) {
    edgelora_session_t *s = session(arena);
    uint32_t op = (uint32_t)in_range(op_in, 255);
    check(edgelora_merge(s, op, sized(out, edgelora_merge_size(s, op), MP_BUFFER_WRITE)));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_merge_obj, core_merge);

// core_blend(arena, out or None, fine, adapter, weight, adapter, weight, ...) -> bytes of the
// sum's file; weights in 1/4096
static mp_obj_t core_blend(size_t n_args, const mp_obj_t *args) {
    edgelora_session_t *s = session(args[0]);
    edgelora_part_t parts[EDGELORA_MAX_PARTS];
    size_t count = (n_args - 3) / 2;
    for (size_t i = 0; i < count; ++i) {
        mp_buffer_info_t info = buffer(args[3 + 2 * i], MP_BUFFER_READ);
        mp_int_t weight = mp_obj_get_int_truncated(args[4 + 2 * i]);
        check(weight >= -32768 && weight <= 32768 ? EDGELORA_OK : EDGELORA_ERR_BLEND);
        parts[i] = (edgelora_part_t){info.buf, info.len, (int32_t)weight};
    }
    mp_buffer_info_t out = {.buf = NULL};
    if (args[1] != mp_const_none) {
        out = buffer(args[1], MP_BUFFER_WRITE);
        check(out.len ? EDGELORA_OK
                      : EDGELORA_ERR_SIZE); // an empty buffer may be NULL, which asks for the size
    }
    return result(edgelora_blend(s, parts, count, mp_obj_is_true(args[2]), out.buf, out.len));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(
    core_blend_obj, 3, 3 + 2 * EDGELORA_MAX_PARTS, core_blend);

// core_class_size(arena) -> inputs of the last layer, or 0
static mp_obj_t core_class_size(mp_obj_t arena) {
    return MP_OBJ_NEW_SMALL_INT(edgelora_class_size(session(arena)->model.p));
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_class_size_obj, core_class_size);

// core_class_count(arena) -> number of classes in inference
static mp_obj_t core_class_count(mp_obj_t arena) {
    return MP_OBJ_NEW_SMALL_INT(edgelora_class_count(session(arena)));
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_class_count_obj, core_class_count);

// core_class_sample(arena, x, sums): adds the last layer's inputs for x to sums, s32 [class
// size]
static mp_obj_t core_class_sample(mp_obj_t arena, mp_obj_t x, mp_obj_t sums) {
    edgelora_session_t *s = computing(arena);
    check(edgelora_class_sample(
        s, sample(s, x), sized(sums, 4 * edgelora_class_size(s->model.p), MP_BUFFER_WRITE)));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_class_sample_obj, core_class_sample);

// core_class_row(arena, sums, n, out): row, bias and count of a class from the sums of n samples,
// which it overwrites
static mp_obj_t core_class_row(size_t n_args, const mp_obj_t *args) {
    edgelora_session_t *s = session(args[0]);
    uint32_t size = edgelora_class_size(s->model.p);
    int32_t *sums = sized(args[1], 4 * size, MP_BUFFER_WRITE);
    edgelora_class_t *out = sized(args[3], sizeof(*out) + ((2 * size + 3) & ~3u), MP_BUFFER_WRITE);
    mp_int_t n = integer(args[2]);
    check(edgelora_class_row(s, sums, n < 0 ? 0 : (uint32_t)n, out));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_class_row_obj, 4, 4, core_class_row);

// core_record(adapter, kind) -> (offset, size) of that record's body in a checked adapter, or None
static mp_obj_t core_record(mp_obj_t adapter, mp_obj_t kind) {
    mp_buffer_info_t info = buffer(adapter, MP_BUFFER_READ);
    const edgelora_record_t *r = edgelora_record(
        info.buf, info.len, (edgelora_record_kind_t)in_range(kind, 255));
    if (!r) {
        return mp_const_none;
    }
    mp_obj_t items[2] = {
        MP_OBJ_NEW_SMALL_INT((const uint8_t *)(r + 1) - (const uint8_t *)info.buf),
        MP_OBJ_NEW_SMALL_INT(r->size)};
    return mp_obj_new_tuple(2, items);
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_record_obj, core_record);

// Bytes, or NULL for None; raises `empty` for an empty buffer, which may be NULL as well
static mp_buffer_info_t buffer_or_none(mp_obj_t obj, int flags, edgelora_status_t empty) {
    mp_buffer_info_t info = {.buf = NULL, .len = 0};
    if (obj != mp_const_none) {
        info = buffer(obj, flags);
        check(info.len ? EDGELORA_OK : empty);
    }
    return info;
}

// core_with_record(arena, adapter or None, kind, body or None, out or None) -> bytes of the new
// adapter file
static mp_obj_t core_with_record(size_t n_args, const mp_obj_t *args) {
    edgelora_session_t *s = session(args[0]);
    mp_buffer_info_t adapter = buffer_or_none(args[1], MP_BUFFER_READ, EDGELORA_ERR_TRUNCATED);
    mp_buffer_info_t body = buffer_or_none(args[3], MP_BUFFER_READ, EDGELORA_ERR_RECORD);
    mp_buffer_info_t out = buffer_or_none(args[4], MP_BUFFER_WRITE, EDGELORA_ERR_SIZE);
    edgelora_record_kind_t kind = (edgelora_record_kind_t)in_range(args[2], 255);
    return result(edgelora_with_record(
        s, adapter.buf, adapter.len, kind, body.buf, body.len, out.buf, out.len));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_with_record_obj, 5, 5, core_with_record);

// core_flush(arena, learning_rate)
static mp_obj_t core_flush(mp_obj_t arena, mp_obj_t rate) {
    check(edgelora_flush(session(arena), learning_rate(rate)));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_flush_obj, core_flush);

// core_adapter_size(arena, state) -> bytes
static mp_obj_t core_adapter_size(mp_obj_t arena, mp_obj_t state) {
    return MP_OBJ_NEW_SMALL_INT(edgelora_adapter_size(session(arena), mp_obj_is_true(state)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_adapter_size_obj, core_adapter_size);

// core_save(arena, state, out) -> bytes
static mp_obj_t core_save(mp_obj_t arena, mp_obj_t state, mp_obj_t out) {
    mp_buffer_info_t info = buffer(out, MP_BUFFER_WRITE);
    return result(edgelora_save(session(arena), mp_obj_is_true(state), info.buf, info.len));
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_save_obj, core_save);

// core_counts(arena) -> (updates, samples, pending)
static mp_obj_t core_counts(mp_obj_t arena) {
    edgelora_session_t *s = session(arena);
    mp_obj_t items[3] = {
        mp_obj_new_int_from_uint(s->updates), mp_obj_new_int_from_uint(s->samples),
        MP_OBJ_NEW_SMALL_INT(s->pending)};
    return mp_obj_new_tuple(3, items);
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_counts_obj, core_counts);

// core_crc32(data, crc) -> CRC-32 continued over data; crc: CRC of the data before it
static mp_obj_t core_crc32(mp_obj_t data, mp_obj_t crc) {
    mp_buffer_info_t info = buffer(data, MP_BUFFER_READ);
    return mp_obj_new_int_from_uint(
        edgelora_crc32((uint32_t)mp_obj_get_int_truncated(crc), info.buf, info.len));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_crc32_obj, core_crc32);

// core_verify(public key, message, signature) -> whether the Ed25519 signature of the message is
// valid for that key
static mp_obj_t core_verify(mp_obj_t key_in, mp_obj_t message_in, mp_obj_t signature_in) {
    mp_buffer_info_t key = buffer(key_in, MP_BUFFER_READ);
    mp_buffer_info_t message = buffer(message_in, MP_BUFFER_READ);
    mp_buffer_info_t signature = buffer(signature_in, MP_BUFFER_READ);
    bool valid = key.len == 32 && signature.len == 64 &&
        edgelora_ed25519_verify(key.buf, message.buf, message.len, signature.buf);
    return valid ? mp_const_true : mp_const_false;
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_verify_obj, core_verify);

// core_order(seed, epoch, count, place) -> the sample at that place of an epoch's order
static mp_obj_t core_order(size_t n_args, const mp_obj_t *args) {
    mp_int_t epoch = in_range(args[1], 65535), count = in_range(args[2], 1 << 24),
             place = in_range(args[3], count - 1);
    return MP_OBJ_NEW_SMALL_INT(edgelora_order((uint32_t)mp_obj_get_int_truncated(args[0]),
        (uint32_t)epoch, (uint32_t)count, (uint32_t)place));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_order_obj, 4, 4, core_order);

// core_draw(seed, stream, n, count) -> a number below count: number n of that stream, scaled
// down
static mp_obj_t core_draw(size_t n_args, const mp_obj_t *args) {
    mp_int_t k = in_range(args[1], 1 << 24), count = in_range(args[3], 0x3FFFFFFF);
    return MP_OBJ_NEW_SMALL_INT(edgelora_draw((uint32_t)mp_obj_get_int_truncated(args[0]),
        (uint32_t)k, (uint32_t)mp_obj_get_int_truncated(args[2]), (uint32_t)count));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_draw_obj, 4, 4, core_draw);

// Every function of `_core`, for both builds. Names are written in full, so that MicroPython's
// build finds the qstrs.
#define EDGELORA_FUNCTIONS(X) \
    X(MP_QSTR_model_check, core_model_check_obj) \
    X(MP_QSTR_arena_size, core_arena_size_obj) \
    X(MP_QSTR_init, core_init_obj) \
    X(MP_QSTR_infer, core_infer_obj) \
    X(MP_QSTR_infer_sample, core_infer_sample_obj) \
    X(MP_QSTR_next, core_next_obj) \
    X(MP_QSTR_choose, core_choose_obj) \
    X(MP_QSTR_reset, core_reset_obj) \
    X(MP_QSTR_back, core_back_obj) \
    X(MP_QSTR_forward_range, core_forward_range_obj) \
    X(MP_QSTR_backward_range, core_backward_range_obj) \
    X(MP_QSTR_feature_size, core_feature_size_obj) \
    X(MP_QSTR_features, core_features_obj) \
    X(MP_QSTR_infer_features, core_infer_features_obj) \
    X(MP_QSTR_output, core_output_obj) \
    X(MP_QSTR_quantize, core_quantize_obj) \
    X(MP_QSTR_probabilities, core_probabilities_obj) \
    X(MP_QSTR_take, core_take_obj) \
    X(MP_QSTR_turn, core_turn_obj) \
    X(MP_QSTR_adapter_fault, core_adapter_fault_obj) \
    X(MP_QSTR_adapter_check, core_adapter_check_obj) \
    X(MP_QSTR_use, core_use_obj) \
    X(MP_QSTR_switch, core_switch_obj) \
    X(MP_QSTR_vacate, core_vacate_obj) \
    X(MP_QSTR_bind, core_bind_obj) \
    X(MP_QSTR_copy, core_copy_obj) \
    X(MP_QSTR_begin, core_begin_obj) \
    X(MP_QSTR_load, core_load_obj) \
    X(MP_QSTR_train, core_train_obj) \
    X(MP_QSTR_train_features, core_train_features_obj) \
    X(MP_QSTR_evaluate, core_evaluate_obj) \
    X(MP_QSTR_merge_size, core_merge_size_obj) \
    X(MP_QSTR_merge, core_merge_obj) \
    X(MP_QSTR_blend, core_blend_obj) \
    X(MP_QSTR_class_size, core_class_size_obj) \
    X(MP_QSTR_class_count, core_class_count_obj) \
    X(MP_QSTR_class_sample, core_class_sample_obj) \
    X(MP_QSTR_class_row, core_class_row_obj) \
    X(MP_QSTR_record, core_record_obj) \
    X(MP_QSTR_with_record, core_with_record_obj) \
    X(MP_QSTR_flush, core_flush_obj) \
    X(MP_QSTR_adapter_size, core_adapter_size_obj) \
    X(MP_QSTR_save, core_save_obj) \
    X(MP_QSTR_counts, core_counts_obj) \
    X(MP_QSTR_crc32, core_crc32_obj) \
    X(MP_QSTR_verify, core_verify_obj) \
    X(MP_QSTR_order, core_order_obj) \
    X(MP_QSTR_draw, core_draw_obj)

#if MICROPY_ENABLE_DYNRUNTIME

#ifdef EDGELORA_HOLD_SIGNALS
bool edgelora_has_signals;

static bool is_linux(void) {
    mp_obj_t sys = mp_import_name(MP_QSTR_sys, mp_const_none, MP_OBJ_NEW_SMALL_INT(0));
    mp_obj_t name = mp_load_attr(sys, MP_QSTR_platform);
    return mp_fun_table.binary_op(MP_BINARY_OP_EQUAL, name, MP_OBJ_NEW_QSTR(MP_QSTR_linux)) ==
        mp_const_true;
}
#endif

mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args) {
    MP_DYNRUNTIME_INIT_ENTRY
    EDGELORA_CHECK_CONSTANTS(
        edgelora_status_text(EDGELORA_OK), MP_QSTR_constants_in_instruction_memory)
#ifdef EDGELORA_HOLD_SIGNALS
    edgelora_has_signals = is_linux();
#endif
    EDGELORA_STORE_CORE(MP_QSTR__core, MP_QSTR_type, EDGELORA_FUNCTIONS)
    MP_DYNRUNTIME_INIT_EXIT
}

#else

static const mp_rom_map_elem_t edgelora_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__edgelora)},
#define EDGELORA_ENTRY(name, obj) {MP_ROM_QSTR(name), MP_ROM_PTR(&obj)},
    EDGELORA_FUNCTIONS(EDGELORA_ENTRY)};
static MP_DEFINE_CONST_DICT(edgelora_globals, edgelora_globals_table);

const mp_obj_module_t edgelora_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&edgelora_globals,
};

MP_REGISTER_MODULE(MP_QSTR__edgelora, edgelora_module);

#endif
