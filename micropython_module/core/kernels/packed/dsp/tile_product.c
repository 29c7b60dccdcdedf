// Rows of weights times a tile: two rows and four positions at a time, 11 instructions per 16
// products.
// SPDX-License-Identifier: MIT
//
//   words of two rows:  | first E | second E | first O | second O |  of each group
//   words of one row:   | E | O |

#include "kernels/packed/dsp/dsp.h"

#ifdef EDGELORA_DSP

// Initial values of a quad's sums.
enum { BEGIN_START, BEGIN_ACC, BEGIN_SHIFTED };

// Copied to the assembly's stack frame.
typedef struct {
    int32_t start[8];      // BEGIN_START: of both rows, four times each
    const uint32_t *words;
    uint32_t first;        // groups that the first turn of four skips; then their bytes of code
    const uint32_t *end;   // of words
    uint32_t skip;         // bytes from the end of the data read of a quad to the next one
    int32_t *acc, *next;   // rows of sums
    int32_t *acc_end;
    int32_t shift;         // BEGIN_SHIFTED: acc >> shift
    uint32_t begin;
    const uint32_t *x;
} tile_frame_t;

// Sets up the stack frame; r12: code that initializes a quad's sums.
#define PRODUCTS_START(group_code) \
    "sub sp, #" AT(tile_frame_t) "\n" \
    "ldmia r0!, {r1-r9}\n" \
    "mov r12, sp\n" \
    "stmia r12!, {r1-r9}\n" \
    "ldmia r0!, {r1-r9}\n" \
    "stmia r12!, {r1-r9}\n" \
    "mov r0, r9\n" \
    "movs r2, #" group_code "\n" \
    "mul r1, r1, r2\n" \
    "adr r2, 2f\n" \
    "add r1, r1, r2\n" \
    "orr r1, r1, #1\n" \
    "str r1, " SLOT(tile_frame_t.first) "\n" \
    "adr r1, 3f\n" \
    "cmp r8, #0\n" \
    "beq 1f\n" \
    "adr r1, 4f\n" \
    "cmp r8, #1\n" \
    "beq 1f\n" \
    "adr r1, 5f\n" \
    "1:\n" \
    "orr r1, r1, #1\n" \
    "str r1, " SLOT(tile_frame_t.begin) "\n" \
    "bx r1\n"

#define TWO_DOTS(x, first, second) DOT2("r2", x, first) DOT2("r3", x, second)

// r0: x, r1: words, r2, r3: a word of each row, r4-r7, r8-r11: sums of both, r12, lr: x of two
// positions
NAKED static void two_rows_products(const tile_frame_t *p) {
    OFFSETS(tile_frame_t, first, begin, words, acc, shift, end, skip, acc_end)
    __asm volatile(
        ".syntax unified\n" SAVE PRODUCTS_START("88")
        ".balign 4\n"
        "3:\n"                  // from start
        "ldmia sp, {r4-r11}\n"
        "6:\n"
        "ldr r1, " SLOT(tile_frame_t.words) "\n"
        "ldr pc, " SLOT(tile_frame_t.first) "\n"
        ".balign 4\n"
        "4:\n"                  // from acc
        "ldrd r12, lr, " SLOT(tile_frame_t.acc) "\n"
        "ldmia r12, {r4-r7}\n"
        "ldmia lr, {r8-r11}\n"
        "b 6b\n"
        ".balign 4\n"
        "5:\n"                  // from acc, shifted
        "ldrd r12, lr, " SLOT(tile_frame_t.acc) "\n"
        "ldmia r12, {r4-r7}\n"
        "ldmia lr, {r8-r11}\n"
        "ldr r12, " SLOT(tile_frame_t.shift) "\n"
        ".irp sum, r4,r5,r6,r7,r8,r9,r10,r11\n"
        "asr \\sum, \\sum, r12\n"
        ".endr\n"
        "b 6b\n"
        ".balign 4\n"
        "2:\n"
        ".rept 8\n"
        "ldrd r2, r3, [r1], #8\n"
        "ldrd r12, lr, [r0], #8\n" TWO_DOTS("r12", "r4", "r8") TWO_DOTS("lr", "r5", "r9")
        "ldrd r12, lr, [r0], #8\n" TWO_DOTS("r12", "r6", "r10") TWO_DOTS("lr", "r7", "r11")
        ".endr\n"
        "ldr r2, " SLOT(tile_frame_t.end) "\n"
        "cmp r1, r2\n"
        "bne 2b\n"
        "ldrd r2, r3, " SLOT(tile_frame_t.acc) "\n"
        "stmia r2!, {r4-r7}\n"
        "stmia r3!, {r8-r11}\n"
        "strd r2, r3, " SLOT(tile_frame_t.acc) "\n"
        "ldr r3, " SLOT(tile_frame_t.skip) "\n"
        "add r0, r0, r3\n"
        "ldr r3, " SLOT(tile_frame_t.acc_end) "\n"
        "cmp r2, r3\n"
        "beq 1f\n"
        "ldr pc, " SLOT(tile_frame_t.begin) "\n"
        "1:\n"
        "add sp, #" AT(tile_frame_t) "\n" RESTORE);
}

#define FOUR_DOTS(w) \
    DOT2(w, "r8", "r4") DOT2(w, "r9", "r5") DOT2(w, "r10", "r6") DOT2(w, "r11", "r7")

// r0: x, r1: words, r2, r3: E and O, r4-r7: sums, r8-r11: x of four positions
NAKED static void one_row_products(const tile_frame_t *p) {
    OFFSETS(tile_frame_t, first, begin, words, acc, shift, end, skip, acc_end)
    __asm volatile(
        ".syntax unified\n" SAVE PRODUCTS_START("44")
        ".balign 4\n"
        "3:\n"
        "ldmia sp, {r4-r7}\n"
        "6:\n"
        "ldr r1, " SLOT(tile_frame_t.words) "\n"
        "ldr pc, " SLOT(tile_frame_t.first) "\n"
        ".balign 4\n"
        "4:\n"
        "ldr r12, " SLOT(tile_frame_t.acc) "\n"
        "ldmia r12, {r4-r7}\n"
        "b 6b\n"
        ".balign 4\n"
        "5:\n"
        "ldr r12, " SLOT(tile_frame_t.acc) "\n"
        "ldmia r12, {r4-r7}\n"
        "ldr r12, " SLOT(tile_frame_t.shift) "\n"
        ".irp sum, r4,r5,r6,r7\n"
        "asr \\sum, \\sum, r12\n"
        ".endr\n"
        "b 6b\n"
        ".balign 4\n"
        "2:\n"
        ".rept 4\n"
        "ldrd r2, r3, [r1], #8\n"
        "ldmia.w r0!, {r8-r11}\n"
        FOUR_DOTS("r2")
        "ldmia.w r0!, {r8-r11}\n"
        FOUR_DOTS("r3")
        ".endr\n"
        "ldr r2, " SLOT(tile_frame_t.end) "\n"
        "cmp r1, r2\n"
        "bne 2b\n"
        "ldr r2, " SLOT(tile_frame_t.acc) "\n"
        "stmia r2!, {r4-r7}\n"
        "str r2, " SLOT(tile_frame_t.acc) "\n"
        "ldr r3, " SLOT(tile_frame_t.skip) "\n"
        "add r0, r0, r3\n"
        "ldr r3, " SLOT(tile_frame_t.acc_end) "\n"
        "cmp r2, r3\n"
        "beq 1f\n"
        "ldr pc, " SLOT(tile_frame_t.begin) "\n"
        "1:\n"
        "add sp, #" AT(tile_frame_t) "\n" RESTORE);
}

// Unpacks E and O of one row or, interleaved, of two.
static inline void unpack_rows(uint32_t *words, const uint32_t *first, const uint32_t *second,
    uint32_t groups, uint32_t coding, const uint32_t rows) {
    for (const uint32_t *end = words + 2 * rows * groups; words != end; words += 2 * rows) {
        uint32_t a = *first++ ^ coding, b = rows == 2 ? *second++ ^ coding : 0;
        words[0] = evens(a);
        words[rows] = odds(a);
        if (rows == 2) {
            words[1] = evens(b);
            words[3] = odds(b);
        }
    }
}

static inline void copy_rows(uint32_t *words, const uint32_t *first, const uint32_t *second,
    uint32_t groups, const uint32_t rows) {
    for (const uint32_t *end = words + 2 * rows * groups; words != end; words += rows) {
        words[0] = *first++;
        if (rows == 2) {
            words[1] = *second++;
        }
    }
}

// Multiplies `n` groups of words, up to `end`; skip: of x.
static inline void quads_products(tile_frame_t *p, uint32_t n, uint32_t *end, uint32_t skip,
    uint32_t begin, const uint32_t *x, const uint32_t rows) {
    p->words = end - 2 * rows * n;
    p->end = end;
    p->first = -n & 3;
    p->skip = skip;
    p->begin = begin;
    p->x = x;
    (rows == 2 ? two_rows_products : one_row_products)(p);
}

// After B t: shifts left and adds the bias.
static inline void shift_left(
    int32_t *acc, uint32_t count, int32_t shift, const int32_t *bias, const uint32_t rows) {
    for (uint32_t r = 0; r < rows; ++r) {
        for (uint32_t k = 0; k < count; ++k, ++acc) {
            *acc = (int32_t)((uint32_t)*acc << shift) + bias[r];
        }
    }
}

// Row r, and the next one if `rows` is 2, a compile-time constant.
static inline __attribute__((always_inline)) void rows_with_quads(
    const edgelora_tile_product_t *row, uint32_t r, const uint32_t rows) {
    uint32_t words[2 * 2 * EDGELORA_CHUNK], *end = words + 2 * rows * row->groups,
             bytes = row->groups * (row->coding == EDGELORA_PAIRS ? 8 : 4) + row->gap;
    const uint32_t *first = (const uint32_t *)(const void *)((const uint8_t *)row->weights +
                       r * bytes),
                   *second = first + bytes / 4;
    tile_frame_t p;
    uint32_t begin = row->add ? BEGIN_ACC : BEGIN_START;
    p.acc = row->acc + r * row->count;
    p.next = p.acc + row->count;
    p.acc_end = p.next;
    p.shift = row->b_shift;
    for (uint32_t k = 0; k < rows && !row->add; ++k) {
        int32_t start = row->bias[r + k];
        if (row->b_groups) { // with a right shift, B t starts from (bias + 1 / 2) * 2^shift
            start = p.shift > 0 ? (int32_t)((uint32_t)(2 * start + 1) << (p.shift - 1)) : 0;
        }
        for (uint32_t i = 0; i < 4; ++i) {
            p.start[4 * k + i] = start;
        }
    }
    if (row->b_groups) {
        const uint32_t *b = row->b + r * 2 * row->b_groups;
        copy_rows(words, b, b + 2 * row->b_groups, row->b_groups, rows);
        quads_products(&p, row->b_groups, words + 2 * rows * row->b_groups,
            32 * row->groups + row->skip, BEGIN_START, row->x, rows);
        begin = p.shift > 0 ? BEGIN_SHIFTED : BEGIN_ACC;
        if (p.shift <= 0) {
            shift_left(p.acc, row->count, -p.shift, row->bias + r, rows);
        }
    }
    if (row->coding == EDGELORA_PAIRS) {
        copy_rows(words, first, second, row->groups, rows);
    } else {
        unpack_rows(words, first, second, row->groups, row->coding, rows);
    }
    quads_products(&p, row->groups, end, 32 * row->b_groups + row->skip, begin,
        row->x + 8 * row->b_groups, rows);
}

EDGELORA_KERNEL static void two_rows(const edgelora_tile_product_t *row, uint32_t r) {
    rows_with_quads(row, r, 2);
}

EDGELORA_KERNEL static void one_row(const edgelora_tile_product_t *row, uint32_t r) {
    rows_with_quads(row, r, 1);
}

EDGELORA_HOT void edgelora_tile_product_s8(const edgelora_tile_product_t *row) {
    uint32_t r = 0;
    if (row->add && row->b_shift) {
        int32_t mask = shift_mask(row->b_shift);
        for (int32_t *acc = row->acc, *end = acc + row->rows * row->count; acc != end; ++acc) {
            *acc = trunc_mask(*acc, row->b_shift, mask);
        }
    }
    for (; r + 2 <= row->rows; r += 2) {
        two_rows(row, r);
    }
    if (r < row->rows) {
        one_row(row, r);
    }
}

#endif
