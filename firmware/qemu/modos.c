// os.urandom, from the hart's entropy source: the seed register of RISC-V's Zkr.
// SPDX-License-Identifier: MIT

#include "py/mperrno.h"
#include "py/runtime.h"

#define SEED_STATE(seed) ((seed) >> 30)
#define SEED_READY 2
#define SEED_DEAD 3

// -> 16 bits of noise, by polling
static uint16_t noise(void) {
    for (;;) {
        uint32_t seed;
        __asm volatile("csrrw %0, 0x015, x0" : "=r"(seed));
        if (SEED_STATE(seed) == SEED_READY) {
            return (uint16_t)seed;
        }
        if (SEED_STATE(seed) == SEED_DEAD) {
            mp_raise_OSError(MP_EIO);
        }
    }
}

static mp_obj_t mp_os_urandom(mp_obj_t count) {
    vstr_t bytes;
    mp_int_t size = mp_obj_get_int(count);
    if (size < 0) {
        mp_raise_ValueError(NULL);
    }
    vstr_init_len(&bytes, (size_t)size);
    for (size_t i = 0; i < bytes.len; i += 2) {
        uint16_t two = noise();
        bytes.buf[i] = (char)two;
        if (i + 1 < bytes.len) {
            bytes.buf[i + 1] = (char)(two >> 8);
        }
    }
    return mp_obj_new_bytes_from_vstr(&bytes);
}
static MP_DEFINE_CONST_FUN_OBJ_1(mp_os_urandom_obj, mp_os_urandom);
