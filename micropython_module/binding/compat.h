// Differences between the firmware module and the native module.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_COMPAT_H
#define EDGELORA_COMPAT_H

#if MICROPY_ENABLE_DYNRUNTIME

#include "py/dynruntime.h"
#include "py/objlist.h"

#define edgelora_raise(text) mp_raise_ValueError(text)
#define edgelora_free(p, size) m_free(p)
#define mp_obj_new_closure(f, count, args) mp_fun_table.new_closure(f, count, args)

// The value of a key in a dict, or MP_OBJ_NULL.
static inline mp_obj_t edgelora_get(mp_obj_t dict, mp_obj_t key) {
    return mp_binary_op(MP_BINARY_OP_IN, key, dict) == mp_const_true
        ? mp_obj_subscr(dict, key, MP_OBJ_SENTINEL)
        : MP_OBJ_NULL;
}

// Creates `_core` in native modules: a class whose attributes are the functions of a list (in
// firmware it is a module). A dictionary of the final size takes less heap than one that grows, and
// one function less code than a call per attribute.
#define EDGELORA_ONE(name, obj) +1
#define EDGELORA_STORE(name, obj) edgelora_store(core[2], name, &obj);
#define EDGELORA_STORE_CORE(core_name, type_name, LIST) \
    mp_obj_t core[3] = { \
        MP_OBJ_NEW_QSTR(core_name), mp_const_empty_tuple, mp_obj_new_dict(0 LIST(EDGELORA_ONE))}; \
    LIST(EDGELORA_STORE) \
    mp_store_global(core_name, mp_call_function_n_kw(mp_load_global(type_name), 3, 0, core));

static
    __attribute__((noinline)) void edgelora_store(mp_obj_t dict, qstr name, const void *function) {
    mp_obj_dict_store(dict, MP_OBJ_NEW_QSTR(name), MP_OBJ_FROM_PTR(function));
}

// On ESP32, code is in memory that only supports word reads. Constants are in other memory, unless
// they are linked into the code: then texts can't be read, and the exception only has the status
// name.
#ifdef __XTENSA__
#define EDGELORA_CHECK_CONSTANTS(text, name) \
    if ((uintptr_t)(text) - (uintptr_t)mpy_init + (1u << 18) < 1u << 19) { \
        const mp_obj_type_t *import_error = MP_OBJ_TO_PTR(mp_load_global(MP_QSTR_ImportError)); \
        mp_raise_type_arg(import_error, MP_OBJ_NEW_QSTR(name)); \
    }
#else
#define EDGELORA_CHECK_CONSTANTS(text, name)
#endif

#else

#include "py/binary.h"
#include "py/obj.h"
#include "py/objlist.h"
#include "py/runtime.h"

#define edgelora_raise(text) mp_raise_msg_varg(&mp_type_ValueError, MP_ERROR_TEXT("%s"), text)
#if MICROPY_MALLOC_USES_ALLOCATED_SIZE
#define edgelora_free(p, size) m_free(p, size)
#else
#define edgelora_free(p, size) m_free(p)
#endif

static inline mp_obj_t edgelora_get(mp_obj_t dict, mp_obj_t key) {
    mp_map_elem_t *found = mp_map_lookup(mp_obj_dict_get_map(dict), key, MP_MAP_LOOKUP);
    return found ? found->value : MP_OBJ_NULL;
}

#endif

#endif
