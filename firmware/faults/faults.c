// The module `faults`: makes the n-th allocation, flash operation or jump of the bytecode fail. For
// tests only.
// SPDX-License-Identifier: MIT
//
//     faults.arm(kind, n, forever)   the n-th (from 0) fails, and all that follow if forever;
//                                    counting begins
//     faults.disarm()                what was counted, or -1 - that if something failed
//     faults.Flash(blocks)           NOR flash as a block device; its memory is outside of the heap
//
// kind: ALLOCATION (MemoryError), FLASH (OSError EIO; reads, writes and erases), INTERRUPT
// (KeyboardInterrupt).

#include <stdlib.h>
#include <string.h>

#include "py/gc.h"
#include "py/mperrno.h"
#include "py/runtime.h"

enum { NONE, ALLOCATION, FLASH, INTERRUPT };
enum { BLOCK = 4096 };

static struct {
    int kind;
    bool forever, failed, listing;
    mp_int_t at, counted;
} faults;

// Counts an event and returns whether it fails.
static bool fails(int kind) {
    if (faults.kind != kind || (kind == FLASH && faults.listing)) {
        return false;
    }
    mp_int_t n = faults.counted++;
    bool failing = n == faults.at || (faults.forever && n > faults.at);
    faults.failed |= failing;
    return failing;
}

void *__real_gc_alloc(size_t size, unsigned int flags);
void *__wrap_gc_alloc(size_t size, unsigned int flags);
void *__real_gc_realloc(void *at, size_t size, bool allow_move);
void *__wrap_gc_realloc(void *at, size_t size, bool allow_move);

void *__wrap_gc_alloc(size_t size, unsigned int flags) {
    return fails(ALLOCATION) ? NULL : __real_gc_alloc(size, flags);
}

// Shrinking a block does not count as an allocation.
void *__wrap_gc_realloc(void *at, size_t size, bool allow_move) {
    bool grows = size > (at ? gc_nbytes(at) : 0);
    return grows && fails(ALLOCATION) ? NULL : __real_gc_realloc(at, size, allow_move);
}

// Never fails: os.ilistdir of MicroPython 1.25 uses memory it does not own if a folder can't be
// read.
int __real_lfs2_dir_open(void *lfs, void *dir, const char *path);
int __wrap_lfs2_dir_open(void *lfs, void *dir, const char *path);
int __real_lfs2_dir_read(void *lfs, void *dir, void *info);
int __wrap_lfs2_dir_read(void *lfs, void *dir, void *info);

int __wrap_lfs2_dir_open(void *lfs, void *dir, const char *path) {
    faults.listing = true;
    int status = __real_lfs2_dir_open(lfs, dir, path);
    faults.listing = false;
    return status;
}

int __wrap_lfs2_dir_read(void *lfs, void *dir, void *info) {
    faults.listing = true;
    int status = __real_lfs2_dir_read(lfs, dir, info);
    faults.listing = false;
    return status;
}

// Files of a littlefs that has lost power are closed when they are collected; after an error its
// list of open files is corrupt.
static const void *mounted;
int __real_lfs2_mount(void *lfs, const void *config);
int __wrap_lfs2_mount(void *lfs, const void *config);
int __real_lfs2_file_close(void *lfs, void *file);
int __wrap_lfs2_file_close(void *lfs, void *file);
int __real_lfs2_dir_close(void *lfs, void *dir);
int __wrap_lfs2_dir_close(void *lfs, void *dir);

int __wrap_lfs2_mount(void *lfs, const void *config) {
    mounted = lfs;
    return __real_lfs2_mount(lfs, config);
}

int __wrap_lfs2_file_close(void *lfs, void *file) {
    return lfs == mounted ? __real_lfs2_file_close(lfs, file) : 0;
}

int __wrap_lfs2_dir_close(void *lfs, void *dir) {
    return lfs == mounted ? __real_lfs2_dir_close(lfs, dir) : 0;
}

void edgelora_faults_jump(void) {
    if (fails(INTERRUPT)) {
        mp_sched_keyboard_interrupt();
    }
}

static mp_obj_t arm(mp_obj_t kind, mp_obj_t n, mp_obj_t forever) {
    faults.forever = mp_obj_is_true(forever);
    faults.at = mp_obj_get_int(n);
    faults.counted = 0;
    faults.failed = false;
    faults.kind = mp_obj_get_int(kind);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_3(arm_obj, arm);

static mp_obj_t disarm(void) {
    faults.kind = NONE;
    return MP_OBJ_NEW_SMALL_INT(faults.failed ? -1 - faults.counted : faults.counted);
}
static MP_DEFINE_CONST_FUN_OBJ_0(disarm_obj, disarm);

// ---- the flash

typedef struct {
    mp_obj_base_t base;
    uint8_t *memory;
    size_t blocks;
} flash_t;

static mp_obj_t flash_make(
    const mp_obj_type_t *type, size_t count, size_t keywords, const mp_obj_t *args) {
    mp_arg_check_num(count, keywords, 1, 1, false);
    flash_t *flash = mp_obj_malloc(flash_t, type);
    flash->blocks = (size_t)mp_obj_get_int(args[0]);
    flash->memory = malloc(flash->blocks * BLOCK);
    memset(flash->memory, 0xFF, flash->blocks * BLOCK);
    return MP_OBJ_FROM_PTR(flash);
}

static uint8_t *place(
    flash_t *flash, size_t count, const mp_obj_t *args, const mp_buffer_info_t *buffer) {
    size_t at = (size_t)mp_obj_get_int(args[1]) * BLOCK +
        (count > 3 ? (size_t)mp_obj_get_int(args[3]) : 0);
    if (!flash->memory) {
        mp_raise_OSError(MP_EIO);
    }
    if (at + buffer->len > flash->blocks * BLOCK) {
        mp_raise_ValueError(MP_ERROR_TEXT("outside of the flash"));
    }
    if (fails(FLASH)) {
        mp_raise_OSError(MP_EIO);
    }
    return flash->memory + at;
}

static mp_obj_t readblocks(size_t count, const mp_obj_t *args) {
    mp_buffer_info_t buffer;
    mp_get_buffer_raise(args[2], &buffer, MP_BUFFER_WRITE);
    memcpy(buffer.buf, place(MP_OBJ_TO_PTR(args[0]), count, args, &buffer), buffer.len);
    return MP_OBJ_NEW_SMALL_INT(0);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(readblocks_obj, 3, 4, readblocks);

// Writes only clear bits. Without an offset, a whole block is erased first, as in MicroPython.
static mp_obj_t writeblocks(size_t count, const mp_obj_t *args) {
    mp_buffer_info_t buffer;
    mp_get_buffer_raise(args[2], &buffer, MP_BUFFER_READ);
    uint8_t *to = place(MP_OBJ_TO_PTR(args[0]), count, args, &buffer);
    for (size_t i = 0; i < buffer.len; ++i) {
        to[i] = count > 3 ? to[i] & ((const uint8_t *)buffer.buf)[i]
                          : ((const uint8_t *)buffer.buf)[i];
    }
    return MP_OBJ_NEW_SMALL_INT(0);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(writeblocks_obj, 3, 4, writeblocks);

static mp_obj_t ioctl(mp_obj_t self, mp_obj_t operation, mp_obj_t arg) {
    flash_t *flash = MP_OBJ_TO_PTR(self);
    switch (mp_obj_get_int(operation)) {
        case 4:
            return MP_OBJ_NEW_SMALL_INT(flash->blocks);
        case 5:
            return MP_OBJ_NEW_SMALL_INT(BLOCK);
        case 6: {
            const mp_obj_t args[] = {self, arg, MP_OBJ_NULL};
            mp_buffer_info_t whole = {.len = BLOCK};
            memset(place(flash, 3, args, &whole), 0xFF, BLOCK);
            return MP_OBJ_NEW_SMALL_INT(0);
        }
        default:
            return MP_OBJ_NEW_SMALL_INT(0);
    }
}
static MP_DEFINE_CONST_FUN_OBJ_3(ioctl_obj, ioctl);

// The contents of the flash.
static mp_obj_t image(mp_obj_t self) {
    flash_t *flash = MP_OBJ_TO_PTR(self);
    return mp_obj_new_bytes(flash->memory, flash->blocks * BLOCK);
}
static MP_DEFINE_CONST_FUN_OBJ_1(image_obj, image);

static mp_obj_t restore(mp_obj_t self, mp_obj_t image) {
    flash_t *flash = MP_OBJ_TO_PTR(self);
    mp_buffer_info_t buffer;
    mp_get_buffer_raise(image, &buffer, MP_BUFFER_READ);
    memcpy(flash->memory, buffer.buf,
        buffer.len < flash->blocks * BLOCK ? buffer.len : flash->blocks * BLOCK);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(restore_obj, restore);

// Turns the power off: objects collected later can't write.
static mp_obj_t off(mp_obj_t self) {
    flash_t *flash = MP_OBJ_TO_PTR(self);
    free(flash->memory);
    flash->memory = NULL;
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(off_obj, off);

static const mp_rom_map_elem_t flash_table[] = {
    {MP_ROM_QSTR(MP_QSTR_readblocks), MP_ROM_PTR(&readblocks_obj)},
    {MP_ROM_QSTR(MP_QSTR_writeblocks), MP_ROM_PTR(&writeblocks_obj)},
    {MP_ROM_QSTR(MP_QSTR_ioctl), MP_ROM_PTR(&ioctl_obj)},
    {MP_ROM_QSTR(MP_QSTR_image), MP_ROM_PTR(&image_obj)},
    {MP_ROM_QSTR(MP_QSTR_restore), MP_ROM_PTR(&restore_obj)},
    {MP_ROM_QSTR(MP_QSTR_off), MP_ROM_PTR(&off_obj)},
};
static MP_DEFINE_CONST_DICT(flash_dict, flash_table);
static MP_DEFINE_CONST_OBJ_TYPE(
    flash_type, MP_QSTR_Flash, MP_TYPE_FLAG_NONE, make_new, flash_make, locals_dict, &flash_dict);

static const mp_rom_map_elem_t globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_faults)},
    {MP_ROM_QSTR(MP_QSTR_arm), MP_ROM_PTR(&arm_obj)},
    {MP_ROM_QSTR(MP_QSTR_disarm), MP_ROM_PTR(&disarm_obj)},
    {MP_ROM_QSTR(MP_QSTR_Flash), MP_ROM_PTR(&flash_type)},
    {MP_ROM_QSTR(MP_QSTR_ALLOCATION), MP_ROM_INT(ALLOCATION)},
    {MP_ROM_QSTR(MP_QSTR_FLASH), MP_ROM_INT(FLASH)},
    {MP_ROM_QSTR(MP_QSTR_INTERRUPT), MP_ROM_INT(INTERRUPT)},
};
static MP_DEFINE_CONST_DICT(globals, globals_table);

const mp_obj_module_t edgelora_faults_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR_faults, edgelora_faults_module);
