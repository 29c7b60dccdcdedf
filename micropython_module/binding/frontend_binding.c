// The MicroPython binding of the front ends, a separate module: parses arguments, calls the core.
// SPDX-License-Identifier: MIT

#include "compat.h"
#include "signal/frontend.h"

static void need(bool met, const char *text) {
    if (!met) {
        edgelora_raise(text);
    }
}

static mp_int_t number(mp_obj_t obj) {
    mp_int_t v = mp_obj_get_int_truncated(obj);
    need(v >= 0 && v <= 65535, EDGELORA_TEXT_FRONTEND);
    return v;
}

// A buffer of `size` bytes. words: it must hold 16-bit values at an even address.
static void *values(mp_obj_t obj, uint32_t size, bool words, int flags) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(obj, &info, flags);
    bool bytes = info.typecode == 'b' || info.typecode == 'B' ||
        info.typecode == BYTEARRAY_TYPECODE;
    bool fits = bytes ||
        (words && (info.typecode == 'h' || (info.typecode == 'H' && flags == MP_BUFFER_WRITE)));
    fits = fits && mp_obj_get_type(obj) != &mp_type_str && info.len == size &&
        !(words && (uintptr_t)info.buf & 1);
    need(fits, EDGELORA_TEXT_SAMPLES);
    return info.buf;
}

static mp_buffer_info_t state_of(mp_obj_t obj) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(obj, &info, MP_BUFFER_RW);
    return info;
}

static edgelora_audio_t *audio(mp_obj_t obj) {
    mp_buffer_info_t info = state_of(obj);
    edgelora_audio_t *found = edgelora_audio(info.buf, info.len);
    need(found != NULL, EDGELORA_TEXT_FRONTEND);
    return found;
}

static edgelora_spectral_t *spectral(mp_obj_t obj) {
    mp_buffer_info_t info = state_of(obj);
    edgelora_spectral_t *found = edgelora_spectral(info.buf, info.len);
    need(found != NULL, EDGELORA_TEXT_FRONTEND);
    return found;
}

// core_audio_state_size() -> bytes
static mp_obj_t core_audio_state_size(void) {
    return MP_OBJ_NEW_SMALL_INT(edgelora_audio_state_size());
}
static MP_DEFINE_CONST_FUN_OBJ_0(core_audio_state_size_obj, core_audio_state_size);

// core_audio_begin(state, kind, bits of the scale, zero point)
static mp_obj_t core_audio_begin(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t info = state_of(args[0]);
    uint32_t scale = (uint32_t)mp_obj_get_int_truncated(args[2]);
    int8_t zero_point = (int8_t)mp_obj_get_int_truncated(args[3]);
    need(edgelora_audio_begin(info.buf, info.len, (uint32_t)number(args[1]), scale, zero_point) ==
            EDGELORA_OK,
        EDGELORA_TEXT_FRONTEND);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_audio_begin_obj, 4, 4, core_audio_begin);

// core_audio_reset(state)
static mp_obj_t core_audio_reset(mp_obj_t state) {
    edgelora_audio_reset(audio(state));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_audio_reset_obj, core_audio_reset);

// core_audio_step(state, samples, out) -> whether out was written
static mp_obj_t core_audio_step(mp_obj_t state, mp_obj_t samples, mp_obj_t out) {
    edgelora_audio_t *a = audio(state);
    const int16_t *from = values(samples, 2 * EDGELORA_AUDIO_STEP, true, MP_BUFFER_READ);
    void *to = values(out, edgelora_audio_output_size(a),
        a->quantizer.kind == EDGELORA_FEATURES_RAW, MP_BUFFER_WRITE);
    return edgelora_audio_step(a, from, to) ? mp_const_true : mp_const_false;
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_audio_step_obj, core_audio_step);

// core_spectral_state_size() -> bytes
static mp_obj_t core_spectral_state_size(void) {
    return MP_OBJ_NEW_SMALL_INT(edgelora_spectral_state_size());
}
static MP_DEFINE_CONST_FUN_OBJ_0(core_spectral_state_size_obj, core_spectral_state_size);

// core_spectral_begin(state, channels, channel, frames, kind, bits of the scale, zero point)
static mp_obj_t core_spectral_begin(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t info = state_of(args[0]);
    uint32_t channels = (uint32_t)number(args[1]), channel = (uint32_t)number(args[2]),
             frames = (uint32_t)number(args[3]);
    uint32_t kind = (uint32_t)number(args[4]), scale = (uint32_t)mp_obj_get_int_truncated(args[5]);
    int8_t zero_point = (int8_t)mp_obj_get_int_truncated(args[6]);
    edgelora_status_t status = edgelora_spectral_begin(
        info.buf, info.len, channels, channel, frames, kind, scale, zero_point);
    need(status == EDGELORA_OK, EDGELORA_TEXT_FRONTEND);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_spectral_begin_obj, 7, 7, core_spectral_begin);

// core_spectral_reset(state)
static mp_obj_t core_spectral_reset(mp_obj_t state) {
    edgelora_spectral_reset(spectral(state));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_spectral_reset_obj, core_spectral_reset);

// core_spectral_step(state, samples, out) -> whether out was written
static mp_obj_t core_spectral_step(mp_obj_t state, mp_obj_t samples, mp_obj_t out) {
    edgelora_spectral_t *s = spectral(state);
    const int16_t *from = values(samples, edgelora_spectral_input_size(s), true, MP_BUFFER_READ);
    void *to = values(out, edgelora_spectral_output_size(s),
        s->quantizer.kind == EDGELORA_FEATURES_RAW, MP_BUFFER_WRITE);
    return edgelora_spectral_step(s, from, to) ? mp_const_true : mp_const_false;
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_spectral_step_obj, core_spectral_step);

// Names are written in full, so that MicroPython's build finds the qstrs.
#define FRONTEND_FUNCTIONS(X) \
    X(MP_QSTR_audio_state_size, core_audio_state_size_obj) \
    X(MP_QSTR_audio_begin, core_audio_begin_obj) \
    X(MP_QSTR_audio_reset, core_audio_reset_obj) \
    X(MP_QSTR_audio_step, core_audio_step_obj) \
    X(MP_QSTR_spectral_state_size, core_spectral_state_size_obj) \
    X(MP_QSTR_spectral_begin, core_spectral_begin_obj) \
    X(MP_QSTR_spectral_reset, core_spectral_reset_obj) \
    X(MP_QSTR_spectral_step, core_spectral_step_obj)

#if MICROPY_ENABLE_DYNRUNTIME

mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args) {
    MP_DYNRUNTIME_INIT_ENTRY
    EDGELORA_CHECK_CONSTANTS(EDGELORA_TEXT_SAMPLES, MP_QSTR_constants_in_instruction_memory)
    EDGELORA_STORE_CORE(MP_QSTR__core, MP_QSTR_type, FRONTEND_FUNCTIONS)
    MP_DYNRUNTIME_INIT_EXIT
}

#else

static const mp_rom_map_elem_t frontend_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__edgelora_frontend)},
#define FRONTEND_ENTRY(name, obj) {MP_ROM_QSTR(name), MP_ROM_PTR(&obj)},
    FRONTEND_FUNCTIONS(FRONTEND_ENTRY)};
static MP_DEFINE_CONST_DICT(frontend_globals, frontend_globals_table);

const mp_obj_module_t edgelora_frontend_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&frontend_globals,
};

MP_REGISTER_MODULE(MP_QSTR__edgelora_frontend, edgelora_frontend_module);

#endif
