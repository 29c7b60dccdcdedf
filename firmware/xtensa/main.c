// Runs main.py of a ROMFS image: qemu-xtensa -cpu dc233c micropython IMAGE.
// SPDX-License-Identifier: MIT

#include <string.h>

#include "extmod/vfs.h"
#include "py/compile.h"
#include "py/cstack.h"
#include "py/gc.h"
#include "py/mperrno.h"
#include "py/mphal.h"
#include "py/persistentcode.h"
#include "py/runtime.h"

enum { SYS_OPEN = 8, SYS_WRITE = 13, SYS_LSEEK = 15, SYS_MMAP2 = 80, SYS_EXIT = 118 };
enum { READ = 1, WRITE = 2, EXECUTE = 4 }; // memory protection
enum { PRIVATE = 2, ANONYMOUS = 0x800 };     // mapping flags
enum { CODE_SIZE = 192 << 10 };

long xtensa_syscall(long number, ...);
void xtensa_spill(void);
__attribute__((weak)) void emulate_vectors(void); // tools/runner/esp32s3.c, in micropython-s3

static char heap[4 << 20];
static const uint8_t *rom;
static size_t rom_size;
static char *code_memory;
static size_t code_used;

static NORETURN void stop(int status) {
    xtensa_syscall(SYS_EXIT, status);
    for (;;) {
    }
}

static NORETURN void fail(const char *why) {
    mp_hal_stdout_tx_strn(why, strlen(why));
    mp_hal_stdout_tx_strn("\n", 1);
    stop(2);
}

mp_uint_t mp_hal_stdout_tx_strn(const char *text, size_t size) {
    xtensa_syscall(SYS_WRITE, 1, text, size);
    return size;
}

void mp_hal_stdout_tx_strn_cooked(const char *text, size_t size) {
    mp_hal_stdout_tx_strn(text, size);
}

void gc_collect(void) {
    xtensa_spill();
    char *here = (char *)__builtin_frame_address(0) - 16; // holds the caller's a0 to a3
    gc_collect_start();
    gc_collect_root((void **)here, (MP_STATE_THREAD(stack_top) - here) / sizeof(void *));
    gc_collect_end();
}

void *xtensa_commit_code(void *code, size_t size, void *relocations) {
    char *to = code_memory + code_used;
    code_used += (size + 3) & ~3u;
    if (code_used > CODE_SIZE) {
        m_malloc_fail(size);
    }
    if (relocations) {
        mp_native_relocate(relocations, code, (uintptr_t)to);
    }
    return memcpy(to, code, size);
}

mp_obj_t mp_vfs_rom_ioctl(size_t n_args, const mp_obj_t *args) {
    return mp_obj_get_int(args[0]) == MP_VFS_ROM_IOCTL_GET_SEGMENT
        ? mp_obj_new_memoryview('B', rom_size, (void *)rom)
        : MP_OBJ_NEW_SMALL_INT(-MP_EINVAL);
}

void nlr_jump_fail(void *value) {
    fail("an exception that nobody takes");
}

static int run(const char *path) {
    nlr_buf_t nlr;
    if (nlr_push(&nlr) == 0) {
        qstr name = qstr_from_str(path);
        mp_lexer_t *lexer = mp_lexer_new_from_file(name);
        mp_parse_tree_t tree = mp_parse(lexer, MP_PARSE_FILE_INPUT);
        mp_call_function_0(mp_compile(&tree, name, false));
        nlr_pop();
        return 0;
    }
    mp_obj_print_exception(&mp_plat_print, MP_OBJ_FROM_PTR(nlr.ret_val));
    return 1;
}

void xtensa_main(int argc, char **argv) {
    mp_cstack_init_with_sp_here(1 << 20);
    if (emulate_vectors) {
        emulate_vectors();
    }
    long file = argc == 2 ? xtensa_syscall(SYS_OPEN, argv[1], 0, 0) : -1;
    if (file < 0) {
        fail("usage: micropython IMAGE, a ROMFS with main.py");
    }
    rom_size = xtensa_syscall(SYS_LSEEK, file, 0, 2);
    rom = (const uint8_t *)xtensa_syscall(SYS_MMAP2, 0, rom_size, READ, PRIVATE, file);
    code_memory = (char *)xtensa_syscall(
        SYS_MMAP2, 0, CODE_SIZE, READ | WRITE | EXECUTE, PRIVATE | ANONYMOUS, -1);
    gc_init(heap, heap + sizeof(heap));
    mp_init();
    mp_vfs_mount_romfs_protected();
    int status = run("/rom/main.py");
    mp_deinit();
    stop(status);
}
