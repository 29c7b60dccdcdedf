// Configuration of this MicroPython: the language and the modules that the device tests need.
// SPDX-License-Identifier: MIT

#include <alloca.h>
#include <stdint.h>

#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_CORE_FEATURES)

#define MICROPY_EMIT_XTENSAWIN (1) // loads native modules
#define MICROPY_PERSISTENT_CODE_LOAD (1)
#define MICROPY_ENABLE_GC (1)
#define MICROPY_NLR_SETJMP (1)
#define MICROPY_ENABLE_EXTERNAL_IMPORT (1)
#define MICROPY_ENABLE_SOURCE_LINE (1)
#define MICROPY_ERROR_REPORTING (MICROPY_ERROR_REPORTING_NORMAL)
#define MICROPY_LONGINT_IMPL (MICROPY_LONGINT_IMPL_MPZ)
#define MICROPY_READER_VFS (1)
#define MICROPY_VFS (1)
#define MICROPY_VFS_ROM (1)
#define MICROPY_VFS_ROM_IOCTL (1)
#define MICROPY_PY_BUILTINS_MEMORYVIEW (1)
#define MICROPY_PY_BUILTINS_SLICE_ATTRS (1)
#define MICROPY_PY_BUILTINS_STR_UNICODE (1)
#define MICROPY_PY_IO (1)
#define MICROPY_PY_JSON (1)
#define MICROPY_PY_OS (1)
#define MICROPY_PY_VFS (1)
#define MICROPY_PY_SYS_PATH_ARGV_DEFAULTS (1)

// As on an ESP32, code runs from separate memory, from 0x40000000 on, not from the heap.
void *xtensa_commit_code(void *code, size_t size, void *relocations);
#define MP_PLAT_COMMIT_EXEC(code, size, relocations) xtensa_commit_code(code, size, relocations)

typedef intptr_t mp_int_t;
typedef uintptr_t mp_uint_t;
typedef long mp_off_t;

#define MP_STATE_PORT MP_STATE_VM
#define MICROPY_HW_BOARD_NAME "qemu-xtensa"
#ifndef MICROPY_HW_MCU_NAME
#define MICROPY_HW_MCU_NAME "dc233c"
#endif
