// Error blocks (SPEC.md: block).
// SPDX-License-Identifier: MIT

#include "training/block.h"

// (|v| + offset) >> more of bytes 0 and 2 of a word, with their signs; more: 1..7, offset: less
// than 2^more. A byte plus 128, and a lane's sum, are >= 0 and fit a lane of 16 bits.
static inline uint32_t shift_lanes(uint32_t word, uint32_t more, uint32_t offset) {
    const uint32_t each = 0x00010001;
    uint32_t v = (word ^ 0x00800080u) & 0x00FF00FFu, negative = ~v >> 7 & each;
    v += offset * each + negative * ((1u << more) - 1 - 2 * offset);
    v = v >> more & (0x1FFu >> more) * each;
    return (v + (256 - (128u >> more)) * each) & 0x00FF00FFu;
}

EDGELORA_KERNEL static void shift_words(
    uint32_t *word, uint32_t words, uint32_t more, uint32_t even, uint32_t odd) {
    for (const uint32_t *end = word + words; word != end; ++word) {
        if (*word) { // what is not written yet is 0
            *word = shift_lanes(*word, more, even) | shift_lanes(*word >> 8, more, odd) << 8;
        }
    }
}

void edgelora_block_shift(int8_t *q, uint32_t count, int32_t more, int32_t before, bool rounds) {
    uint32_t even = rounds ? edgelora_block_offset(0, more, before) : 0,
             odd = rounds ? edgelora_block_offset(1, more, before) : 0, i = 0;
    if (is_aligned(q) && more > 0 && more < 8) {
        shift_words((uint32_t *)(void *)q, count / 4, (uint32_t)more, even, odd);
        i = count & ~3u;
    }
    for (; i < count; ++i) {
        if (q[i]) {
            q[i] = with_sign((abs_u32(q[i]) + (i & 1 ? odd : even)) >> more, q[i]);
        }
    }
}

#define STORE_VALUE(offset) \
    { \
        int32_t sign = *v >> 31; \
        uint32_t magnitude = ((uint32_t)((*v++ ^ sign) - sign) + (offset)) >> shift; \
        bits |= magnitude; \
        *q = (int8_t)(((int32_t)magnitude ^ sign) - sign); \
        q += step; \
    }

EDGELORA_KERNEL uint32_t edgelora_block_store(int8_t *q, uint32_t step, const int32_t *v,
    uint32_t n, int32_t shift, uint32_t offset, uint32_t next) {
    uint32_t bits = 0;
    const int32_t *end = v + n;
    if (n & 1) {
        uint32_t now = offset;
        STORE_VALUE(offset)
        offset = next;
        next = now;
    }
    while (v != end) {
        STORE_VALUE(offset)
        STORE_VALUE(next)
    }
    return bits;
}
#undef STORE_VALUE

EDGELORA_HOT void edgelora_block_put(
    edgelora_block_t *block, uint32_t at, const int32_t *v, uint32_t n) {
    EDGELORA_ASSERT(block->q && block->shift >= 0);
    for (;;) { // with rounding, a value can just exceed 127 after the shift that its size asks for
        bool rounds = block->rounds;
        uint32_t bits = edgelora_block_store(block->q + at, 1, v, n, block->shift,
            rounds ? edgelora_block_offset(at, block->shift, 0) : 0,
            rounds ? edgelora_block_offset(at + 1, block->shift, 0) : 0);
        int32_t more = edgelora_block_more(bits);
        if (!more) {
            return;
        }
        edgelora_block_shift(block->q, block->count, more, block->shift, rounds);
        block->shift += more;
    }
}

EDGELORA_HOT void edgelora_block_append(edgelora_block_t *block, const int32_t *v, uint32_t n) {
    edgelora_block_put(block, block->count, v, n);
    block->count += n;
}

EDGELORA_HOT int32_t edgelora_error_add_s8(int8_t *e, uint32_t count, int32_t exponent,
    const int8_t *more, int32_t more_exponent, bool rounds) {
    EDGELORA_ASSERT(e != more);
    int32_t top = exponent > more_exponent ? exponent : more_exponent, v[EDGELORA_PIECE];
    edgelora_block_t block = {e, 0, 0, rounds}; // in place: each piece is read before it is written
    while (block.count < count) {
        uint32_t n = count - block.count < EDGELORA_PIECE ? count - block.count : EDGELORA_PIECE;
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = trunc_shift(e[block.count + i], top - exponent) +
                trunc_shift(more[block.count + i], top - more_exponent);
        }
        edgelora_block_append(&block, v, n);
    }
    return top + block.shift;
}
