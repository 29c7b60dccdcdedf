// What differs between the firmware module and the native module. SPDX-License-Identifier: MIT

#ifndef EDGELORA_COMPAT_H
#define EDGELORA_COMPAT_H

#if MICROPY_ENABLE_DYNRUNTIME

#include "py/dynruntime.h"

#define edgelora_raise(text) mp_raise_ValueError(text)
#define edgelora_free(p, size) m_free(p)

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
