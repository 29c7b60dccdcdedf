// What differs between the firmware module and the native module.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_COMPAT_H
#define EDGELORA_COMPAT_H

#if MICROPY_ENABLE_DYNRUNTIME

#include "py/dynruntime.h"

#define edgelora_raise(text) mp_raise_ValueError(text)
#define edgelora_free(p, size) m_free(p)

// Makes `_core`, which the firmware has as a module: a class whose attributes are the functions of
// a list. A dictionary that is made for all of them takes less of the heap than one that grows, and
// a function less code than as many calls in place.
#define EDGELORA_ONE(name, obj) +1
#define EDGELORA_STORE(name, obj) edgelora_store(core[2], name, &obj);
#define EDGELORA_STORE_CORE(core_name, type_name, LIST) \
    mp_obj_t core[3] = { \
        MP_OBJ_NEW_QSTR(core_name), mp_const_empty_tuple, mp_obj_new_dict(0 LIST(EDGELORA_ONE))}; \
    LIST(EDGELORA_STORE) \
    mp_store_global(core_name, mp_call_function_n_kw(mp_load_global(type_name), 3, 0, core));

static __attribute__((noinline)) void edgelora_store(
    mp_obj_t dict, qstr name, const void *function) {
    mp_obj_dict_store(dict, MP_OBJ_NEW_QSTR(name), MP_OBJ_FROM_PTR(function));
}

// An ESP32's code is in memory that reads whole words only. Constants are elsewhere, unless they
// were linked in among the code: then no text can be read, and a name is all that the exception can
// say.
#ifdef __XTENSA__
#define EDGELORA_CHECK_CONSTANTS(text, name) \
    if ((uintptr_t)(text) - (uintptr_t)mpy_init + (1u << 17) < 1u << 18) { \
        const mp_obj_type_t *import_error = MP_OBJ_TO_PTR(mp_load_global(MP_QSTR_ImportError)); \
        mp_raise_type_arg(import_error, MP_OBJ_NEW_QSTR(name)); \
    }
#else
#define EDGELORA_CHECK_CONSTANTS(text, name)
#endif

#else

#include "py/binary.h"
#include "py/obj.h"
#include "py/runtime.h"

#define edgelora_raise(text) mp_raise_msg_varg(&mp_type_ValueError, MP_ERROR_TEXT("%s"), text)
#if MICROPY_MALLOC_USES_ALLOCATED_SIZE
#define edgelora_free(p, size) m_free(p, size)
#else
#define edgelora_free(p, size) m_free(p)
#endif

#endif

#endif
