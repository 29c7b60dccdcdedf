// Rows of weights times a tile, directly to outputs: two rows and four positions at a time, 11
// instructions per 16 products, 7 per output. Sums stay in registers.
// SPDX-License-Identifier: MIT

#include "kernels/packed/dsp/dsp.h"
#include "kernels/packed/extras.h"

#ifdef EDGELORA_DSP

// Copied to the assembly's stack frame, after the initial sums of a pair of rows (four times the
// first row's bias, four times the second's) and its words: | first E | second E | first O | second
// O |.
typedef struct {
    uint32_t first;            // bytes of code for the groups that the first turn of four skips
    uint32_t words;            // bytes
    const uint32_t *x, *x_end; // quads
    int8_t *y;
    uint32_t step;
    const int32_t *bias, *multiplier;
    const int8_t *shift;
    uint32_t last;             // bytes of code for the positions that the last quad skips
    const uint32_t *weights;
    uint32_t row_bytes;        // of weights
    int32_t odd_zero_point;    // 2 * zero point + 1
    const int8_t *shift_end;
    uint32_t last_at;          // bytes of y from the last quad's first position to its last one
} outputs_t;

typedef struct {
    int32_t starts[8];
    uint32_t words[64];
    outputs_t o;
    int32_t rounding[2][3]; // of each row: multiplier, n, (2 * zero point + 1) * 2^(n - 1)
    int8_t *at;             // y of the quad
} outputs_frame_t;

enum { GROUP_CODE = 88, POSITION_CODE = 12 }; // bytes

#define TWO_DOTS(x, first, second) DOT2("r2", x, first) DOT2("r3", x, second)
#define OUTPUT(sum) \
    "lsl.w " sum ", " sum ", #1\n" \
    "add lr, r3, " sum ", asr #31\n" \
    "smmlar " sum ", " sum ", r1, lr\n" \
    "asr.w " sum ", " sum ", r2\n" \
    "ssat " sum ", #8, " sum "\n"
#define ROUNDING \
    "ldrsb r3, [r12], #1\n" \
    "mvn r4, r3\n"          /* n - 1 */ \
    "rsb r3, r3, #0\n" \
    "lsl r4, r5, r4\n"
#define LAST_POSITION(first, second) \
    "strb.w " first ", [r1]\n" \
    "strb.w " second ", [r1, #1]\n" \
    "sub.w r1, r1, r2\n"

// r0: x, r1: words, r2, r3: a word of each row, r4-r7, r8-r11: sums of both, r12, lr: x of two
// positions
NAKED static void pairs_of_rows(const outputs_t *o) {
    OFFSETS(outputs_frame_t, o, words, o.words, o.first, o.last, o.weights, o.shift,
        o.odd_zero_point, o.bias, rounding, o.x, o.y, at, o.x_end, o.last_at, o.shift_end)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(outputs_frame_t) "\n"
        "ldmia r0!, {r1-r7}\n"
        "add r12, sp, #" AT(outputs_frame_t.o) "\n"
        "stmia r12!, {r1-r7}\n"
        "ldmia r0!, {r1-r8}\n"
        "stmia r12!, {r1-r8}\n"
        "add r1, sp, #" AT(outputs_frame_t.words) "\n"
        "ldr r2, " SLOT(outputs_frame_t.o.words) "\n"
        "add r2, r2, r1\n"
        "str r2, " SLOT(outputs_frame_t.o.words) "\n"
        "adr r1, 3f\n"
        "ldr r2, " SLOT(outputs_frame_t.o.first) "\n"
        "add r1, r1, r2\n"
        "orr r1, r1, #1\n"
        "str r1, " SLOT(outputs_frame_t.o.first) "\n"
        "adr r1, 6f\n"
        "ldr r2, " SLOT(outputs_frame_t.o.last) "\n"
        "add r1, r1, r2\n"
        "orr r1, r1, #1\n"
        "str r1, " SLOT(outputs_frame_t.o.last) "\n"
        "1:\n"                  // a pair: words
        "ldrd r1, r3, " SLOT(outputs_frame_t.o.weights) "\n"
        "add r2, r1, r3\n"
        "add r3, r1, r3\n"
        "add r12, sp, #" AT(outputs_frame_t.words) "\n"
        "mov lr, #0xFF80FF80\n"
        "2:\n"
        "ldr r4, [r1], #4\n"
        "ldr r5, [r2], #4\n"
        "uxtab16 r6, lr, r4\n"
        "uxtab16 r7, lr, r5\n"
        "uxtab16 r8, lr, r4, ror #8\n"
        "uxtab16 r9, lr, r5, ror #8\n"
        "stmia r12!, {r6-r9}\n"
        "cmp r1, r3\n"
        "bne 2b\n"
        "str r2, " SLOT(outputs_frame_t.o.weights) "\n"
        "ldr r12, " SLOT(outputs_frame_t.o.shift) "\n" // rounding
        "ldr r5, " SLOT(outputs_frame_t.o.odd_zero_point) "\n"
        "ldr r1, " SLOT(outputs_frame_t.o.bias + 4) "\n"
        "ldrd r2, r6, [r1], #8\n"
        "str r1, " SLOT(outputs_frame_t.o.bias + 4) "\n"
        "add r1, sp, #" AT(outputs_frame_t.rounding) "\n"
        ROUNDING
        "stmia r1!, {r2-r4}\n"
        "mov r2, r6\n" ROUNDING
        "stmia r1!, {r2-r4}\n"
        "str r12, " SLOT(outputs_frame_t.o.shift) "\n"
        "ldr r1, " SLOT(outputs_frame_t.o.bias) "\n" // bias
        "ldrd r4, r8, [r1], #8\n"
        "str r1, " SLOT(outputs_frame_t.o.bias) "\n"
        "mov r5, r4\n"
        "mov r6, r4\n"
        "mov r7, r4\n"
        "mov r9, r8\n"
        "mov r10, r8\n"
        "mov r11, r8\n"
        "stmia sp, {r4-r11}\n"
        "ldr r0, " SLOT(outputs_frame_t.o.x) "\n"
        "ldr r1, " SLOT(outputs_frame_t.o.y) "\n"
        "str r1, " SLOT(outputs_frame_t.at) "\n"
        "add r1, r1, #2\n"
        "str r1, " SLOT(outputs_frame_t.o.y) "\n"
        "b 5f\n"
        ".balign 4\n"
        "3:\n"
        ".rept 8\n"
        "ldrd r2, r3, [r1], #8\n"
        "ldrd r12, lr, [r0], #8\n" TWO_DOTS("r12", "r4", "r8") TWO_DOTS("lr", "r5", "r9")
        "ldrd r12, lr, [r0], #8\n" TWO_DOTS("r12", "r6", "r10") TWO_DOTS("lr", "r7", "r11")
        ".endr\n"
        "ldr r2, " SLOT(outputs_frame_t.o.words) "\n"
        "cmp r1, r2\n"
        "bne 3b\n"
        "add r12, sp, #" AT(outputs_frame_t.rounding) "\n"
        "ldmia r12!, {r1-r3}\n" OUTPUT("r4") OUTPUT("r5") OUTPUT("r6") OUTPUT("r7")
        "ldmia r12!, {r1-r3}\n" OUTPUT("r8") OUTPUT("r9") OUTPUT("r10") OUTPUT("r11")
        "ldr r1, " SLOT(outputs_frame_t.at) "\n"
        "ldr r2, " SLOT(outputs_frame_t.o.y + 4) "\n"
        "ldr r3, " SLOT(outputs_frame_t.o.x_end) "\n"
        "add r12, r2, r2, lsl #1\n"
        "cmp r0, r3\n"
        "beq 4f\n"
        "strb r4, [r1]\n"
        "strb r5, [r1, r2]\n"
        "strb r6, [r1, r2, lsl #1]\n"
        "strb r7, [r1, r12]\n"
        "add r1, r1, #1\n"
        "strb r8, [r1]\n"
        "strb r9, [r1, r2]\n"
        "strb r10, [r1, r2, lsl #1]\n"
        "strb r11, [r1, r12]\n"
        "add r1, r1, r12\n"
        "add r1, r1, r2\n"
        "sub r1, r1, #1\n"
        "str r1, " SLOT(outputs_frame_t.at) "\n"
        "5:\n"
        "ldmia sp, {r4-r11}\n"
        "add r1, sp, #" AT(outputs_frame_t.words) "\n"
        "ldr pc, " SLOT(outputs_frame_t.o.first) "\n"
        "4:\n"                  // the last quad
        "ldr r3, " SLOT(outputs_frame_t.o.last_at) "\n"
        "add r1, r1, r3\n"
        "ldr pc, " SLOT(outputs_frame_t.o.last) "\n"
        ".balign 4\n"
        "6:\n" LAST_POSITION("r7", "r11") LAST_POSITION("r6", "r10") LAST_POSITION("r5", "r9")
        LAST_POSITION("r4", "r8")
        "ldr r1, " SLOT(outputs_frame_t.o.shift) "\n"
        "ldr r2, " SLOT(outputs_frame_t.o.shift_end) "\n"
        "cmp r1, r2\n"
        "bne 1b\n"
        "add sp, #" AT(outputs_frame_t) "\n" RESTORE);
}

bool edgelora_gives_tile_outputs(const edgelora_shape_t *g) {
    bool fits = g->bounded && (g->inputs + 3) / 4 <= EDGELORA_CHUNK;
    for (uint32_t o = 0; fits && o < g->out_c; ++o) {
        fits = rounds_at_once(g->shift[o]);
    }
    return fits;
}

EDGELORA_HOT void edgelora_tile_outputs_s8(const edgelora_shape_t *g, uint32_t o, uint32_t rows,
    const void *weights, const uint32_t *x, uint32_t count, int8_t *y) {
    uint32_t groups = (g->inputs + 3) / 4, left_out = -count & 3;
    pairs_of_rows(&(outputs_t){
        .first = GROUP_CODE * (-groups & 3),
        .words = 16 * groups,
        .x = x,
        .x_end = x + EDGELORA_GROUP_WORDS * groups * ((count + 3) / 4),
        .y = y + o,
        .step = g->out_c,
        .bias = g->bias + o,
        .multiplier = g->multiplier + o,
        .shift = g->shift + o,
        .last = POSITION_CODE * left_out,
        .weights = weights,
        .row_bytes = 4 * groups,
        .odd_zero_point = 2 * g->zp_out + 1,
        .shift_end = g->shift + o + rows,
        .last_at = (3 - left_out) * g->out_c});
}

#endif
