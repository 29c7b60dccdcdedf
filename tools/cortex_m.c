// The core on an emulated Cortex-M without an operating system: carries out the calls that cortex_m.py has written to a file and
// writes their answers to another one, by semihosting. SPDX-License-Identifier: MIT

#include <string.h>

#include "edgelora.h"

// The calls that cortex_m.py can make, in its order
enum { OPEN, BEGIN, LOAD, USE, TRAIN, FLUSH, SAVE, INFER, COUNT };

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT = 0x18 };
enum { ENDED_WELL = 0x20026, NO_ROOM = 0x20024 };

static uint64_t calls[0x100000 / 8], answers[0x80000 / 8], arena[0x40000 / 8];

static uint32_t semihost(uint32_t what, const void *arguments) {
    register uint32_t r0 __asm("r0") = what;
    register const void *r1 __asm("r1") = arguments;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uint32_t open_file(const char *name, uint32_t mode) {
    const uint32_t arguments[3] = {(uint32_t)name, mode, strlen(name)};
    return semihost(SYS_OPEN, arguments);
}

static const uint32_t *at = (const uint32_t *)calls;
static uint8_t *to = (uint8_t *)answers;

static uint32_t word(void) {
    return *at++;
}

typedef struct {
    const void *data;
    uint32_t size;
} blob_t;

// Bytes, padded to 4; NULL if there are none
static blob_t blob(void) {
    blob_t b = {at + 1, *at};
    at += 1 + (b.size + 3) / 4;
    b.data = b.size ? b.data : 0;
    return b;
}

static void answer(const void *data, uint32_t size) {
    if (size + 4 > (uint32_t)((uint8_t *)answers + sizeof answers - to)) {
        semihost(SYS_EXIT, (const void *)NO_ROOM);
    }
    memcpy(to, &size, 4);
    memcpy(to + 4, data, size);
    to += 4 + size;
}

static int32_t open_model(void) {
    blob_t model = blob(), ranks = blob();
    edgelora_config_t config = {.ranks = ranks.data};
    config.mode = (uint8_t)word();
    config.micro_batch = (uint8_t)word();
    config.momentum = (uint8_t)word();
    config.threshold = (uint16_t)word();
    config.frames = (uint16_t)word();
    config.plain = (uint8_t)word();
    int32_t status = edgelora_model_check(model.data, model.size);
    return status < 0 ? status : edgelora_init(arena, sizeof arena, model.data, &config);
}

// Counts instructions: the timer ticks every 50 ns of emulated time, of which an instruction takes 64.
static volatile uint32_t *const TIMER = (volatile uint32_t *)0xE000E010;

static void start_counting(void) {
    TIMER[1] = 0xFFFFFF;
    TIMER[2] = 0;
    TIMER[0] = 5;
}

static int32_t counted(void) {
    uint32_t ticks = 0xFFFFFF - TIMER[2];
    return TIMER[0] & 0x10000 ? -1 : (int32_t)((uint64_t)ticks * 50 / 64);
}

int main(void) {
    uint32_t file = open_file("calls", 1);
    semihost(SYS_READ, (const uint32_t[3]){file, (uint32_t)calls, sizeof calls});
    edgelora_session_t *s = (edgelora_session_t *)arena;
    static uint64_t saved[0x10000 / 8];
    for (uint32_t left = word(); left; --left) {
        int32_t status = 0, loss = 0;
        uint32_t call = word();
        switch (call) {
            case OPEN:
                status = open_model();
                break;
            case BEGIN:
                status = edgelora_begin(s, word());
                break;
            case LOAD:
            case USE: {
                blob_t adapter = blob();
                status = adapter.data ? edgelora_adapter_check(s, adapter.data, adapter.size) : 0;
                status = status ? status : (call == LOAD ? edgelora_load : edgelora_use)(s, adapter.data, adapter.size);
                break;
            }
            case TRAIN: {
                blob_t x = blob(), target = blob();
                uint32_t label = word();
                status = edgelora_train(s, x.data, label, target.data, (uint16_t)word(), &loss);
                status = status ? status : loss;
                break;
            }
            case FLUSH:
                status = edgelora_flush(s, (uint16_t)word());
                break;
            case SAVE: {
                int32_t size = edgelora_save(s, word(), saved, sizeof saved);
                answer(saved, size < 0 ? 0 : (uint32_t)size);
                continue;
            }
            case INFER: {
                status = edgelora_infer(s, blob().data);
                answer(edgelora_output(s), edgelora_output_size(s->model.p));
                continue;
            }
            case COUNT: {
                const void *x = blob().data;
                uint32_t from = word(), end = word();
                start_counting();
                edgelora_forward_range(s, x, from, end);
                status = counted();
                break;
            }
        }
        answer(&status, 4);
    }
    file = open_file("answers", 5);
    semihost(SYS_WRITE, (const uint32_t[3]){file, (uint32_t)answers, (uint32_t)(to - (uint8_t *)answers)});
    semihost(SYS_CLOSE, &file);
    semihost(SYS_EXIT, (const void *)ENDED_WELL);
    return 0;
}

extern const uint8_t stack_end[]; // by the linker's command line

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {stack_end, (const void *)main};
