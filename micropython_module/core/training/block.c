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

EDGELORA_HOT void edgelora_block_grow(edgelora_block_t *block, uint32_t bits) {
    int32_t more = edgelora_block_more(bits);
    if (more) {
        edgelora_block_shift(block->q, block->count, more, block->shift, block->rounds);
        block->shift += more;
    }
}

EDGELORA_HOT void edgelora_block_put(
    edgelora_block_t *block, uint32_t at, const int32_t *v, uint32_t n) {
    EDGELORA_ASSERT(block->q && block->shift >= 0);
    for (;;) { // with rounding, a value can just exceed 127 after the shift that its size asks for
        bool rounds = block->rounds;
        uint32_t bits = edgelora_block_store(block->q + at, 1, v, n, block->shift,
            rounds ? edgelora_block_offset(at, block->shift, 0) : 0,
            rounds ? edgelora_block_offset(at + 1, block->shift, 0) : 0);
        if (bits < 128) {
            return;
        }
        edgelora_block_grow(block, bits);
    }
}

EDGELORA_HOT void edgelora_block_append(edgelora_block_t *block, const int32_t *v, uint32_t n) {
    edgelora_block_put(block, block->count, v, n);
    block->count += n;
}

// Sums a + trunc_shift(b, shift), four in a word; |a|, |b| <= 127
typedef struct {
    const uint32_t *a, *b;
    uint32_t *to, words;
    uint32_t shift; // 0..7
    bool rounds;
} word_sums_t;

// a + trunc_shift(b, shift) + 128 + (128 >> shift) of bytes 0 and 2 of two words.
static inline uint32_t sum_lanes(uint32_t a, uint32_t b, uint32_t shift, uint32_t mask) {
    const uint32_t each = 0x00010001;
    a = (a ^ 0x00800080u) & 0x00FF00FFu;
    b = (b ^ 0x00800080u) & 0x00FF00FFu;
    b += (~b >> 7 & each) * mask;
    return a + (b >> shift & (0xFFu >> shift) * each);
}

// Writes sums in units of 1; returns the number of words before the first with a sum that needs
// more than 7 bits.
EDGELORA_HOT __attribute__((noinline)) static uint32_t add_error_words(const word_sums_t *s) {
    const uint32_t *a = s->a, *b = s->b, each = 0x00010001;
    uint32_t *to = s->to, shift = s->shift, mask = (1u << shift) - 1,
             up = (128 - (128u >> shift)) * each; // up: to 256 more than a sum
    for (const uint32_t *end = a + s->words; a != end; ++to) {
        uint32_t x = *a++, y = *b++, even = sum_lanes(x, y, shift, mask) + up,
                 odd = sum_lanes(x >> 8, y >> 8, shift, mask) + up;
        // 9 bits: from 129 to 383
        uint32_t ok = (even + 383 * each) & (odd + 383 * each) & (895 * each - even) &
            (895 * each - odd);
        if ((ok & 512 * each) != 512 * each) {
            return (uint32_t)(to - s->to);
        }
        *to = (even & 0x00FF00FFu) | (odd & 0x00FF00FFu) << 8;
    }
    return s->words;
}

// Writes sums in units of 2: halves toward 0 or, of odd places where they are rounded, away from 0.
EDGELORA_HOT __attribute__((noinline)) static void add_error_words_halved(const word_sums_t *s) {
    const uint32_t *a = s->a, *b = s->b, each = 0x00010001;
    uint32_t *to = s->to, shift = s->shift, mask = (1u << shift) - 1,
             up = (128 - (128u >> shift)) * each, away = s->rounds ? each : 0;
    for (const uint32_t *end = a + s->words; a != end; ++to) {
        uint32_t x = *a++, y = *b++, even = sum_lanes(x, y, shift, mask) + up,
                 odd = sum_lanes(x >> 8, y >> 8, shift, mask) + up;
        even += ~even >> 8 & each; // 1 of negative ones
        odd += (~odd >> 8 & each) ^ away;
        *to = ((even >> 1 & 0x00FF00FFu) | (odd >> 1 & 0x00FF00FFu) << 8) ^ 0x80808080u;
    }
}

// Appends the sums of whole words, all of which fit a shift by 1.
EDGELORA_HOT static void append_word_sums(edgelora_block_t *block, word_sums_t s) {
    uint32_t done = add_error_words(&s), words = s.words;
    if (done < words) {
        s.a += done;
        s.b += done;
        s.to += done;
        s.words -= done;
        block->count = 4 * done;
        edgelora_block_grow(block, 128);
        add_error_words_halved(&s);
    }
    block->count = 4 * words;
}

// v, s32 [n], = a + trunc_shift(b, shift), s8 [n]
EDGELORA_HOT __attribute__((noinline)) static void sums_s32(
    int32_t *v, const int8_t *a, const int8_t *b, uint32_t n, int32_t shift) {
    for (const int32_t *end = v + n; v != end; ++v) {
        *v = *a++ + trunc_shift(*b++, shift);
    }
}

EDGELORA_HOT int32_t edgelora_error_add_s8(int8_t *e, uint32_t count, int32_t exponent,
    const int8_t *more, int32_t more_exponent, bool rounds) {
    EDGELORA_ASSERT(e != more);
    int32_t apart = exponent - more_exponent, shift = (int32_t)abs_u32(apart), v[EDGELORA_PIECE];
    const int8_t *a = apart < 0 ? more : e, *b = apart < 0 ? e : more;
    edgelora_block_t block = {e, 0, 0, rounds}; // in place: each piece is read before it is written
    if (is_aligned(e) && is_aligned(more) && shift < 8) {
        const void *from[] = {a, b};
        append_word_sums(&block,
            (word_sums_t){
                from[0], from[1], (uint32_t *)(void *)e, count / 4, (uint32_t)shift, rounds});
    }
    while (block.count < count) {
        uint32_t n = piece_of(count - block.count, EDGELORA_PIECE);
        sums_s32(v, a + block.count, b + block.count, n, shift);
        edgelora_block_append(&block, v, n);
    }
    return (apart < 0 ? more_exponent : exponent) + block.shift;
}
