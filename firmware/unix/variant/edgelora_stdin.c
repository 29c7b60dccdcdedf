// Bulk input from the terminal.
// SPDX-License-Identifier: MIT
//
// MicroPython's read of many bytes only returns when all have arrived, and Ctrl-C does not
// interrupt it. This one returns available bytes.

#include <errno.h>
#include <unistd.h>

#include "py/obj.h"
#include "py/runtime.h"

// readinto(buffer, start, end) -> the position reached. Waits for at least one byte; OSError if the
// input has ended.
static mp_obj_t edgelora_stdin_readinto(mp_obj_t buffer, mp_obj_t start_in, mp_obj_t end_in) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(buffer, &info, MP_BUFFER_WRITE);
    mp_int_t pos = mp_obj_get_int(start_in), end = mp_obj_get_int(end_in);
    if (pos < 0 || pos > end || (size_t)end > info.len) {
        mp_raise_ValueError(MP_ERROR_TEXT("start and end must lie in the buffer"));
    }
    ssize_t n = read(STDIN_FILENO, (uint8_t *)info.buf + pos, (size_t)(end - pos));
    const int error = n < 0 ? errno : n == 0 && pos < end ? EIO : 0;
    mp_handle_pending(true);
    if (error != 0 && error != EINTR) {
        mp_raise_OSError(error);
    }
    return MP_OBJ_NEW_SMALL_INT(pos + MAX(n, 0));
}
static MP_DEFINE_CONST_FUN_OBJ_3(edgelora_stdin_readinto_obj, edgelora_stdin_readinto);

static const mp_rom_map_elem_t edgelora_stdin_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__edgelora_stdin)},
    {MP_ROM_QSTR(MP_QSTR_readinto), MP_ROM_PTR(&edgelora_stdin_readinto_obj)},
};
static MP_DEFINE_CONST_DICT(edgelora_stdin_globals, edgelora_stdin_globals_table);

const mp_obj_module_t edgelora_stdin_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&edgelora_stdin_globals,
};

MP_REGISTER_MODULE(MP_QSTR__edgelora_stdin, edgelora_stdin_module);
