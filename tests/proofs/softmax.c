// Softmax's integers stay within 32 bits, for any table that a checked model may have.
// SPDX-License-Identifier: MIT

#include "kernels/reference/softmax.c"

#include "proof.h"

enum { CHANNELS = 3 };

void edgelora_block_append(edgelora_block_t *block, const int32_t *values, uint32_t count) {
    (void)block, (void)values, (void)count;
}

// The bit length of the sum of exponentials keeps shifts in range; CBMC checks the shifts.
void prove_sum(void) {
    uint32_t n = nondet_u32(), sum = 0;
    ASSUME(n >= 1 && n <= 1024);
    int32_t first = nondet_s32(), rest = nondet_s32();
    ASSUME(first >= 1 << 30 && rest >= 0);
    sum = (uint32_t)round_divide(first, 12) + (n - 1) * (uint32_t)round_divide(rest, 12);
    PROVE(sum >= 1u << 18 && sum <= 1024u << 19);
    int headroom = 32 - bit_length(sum);
    PROVE(headroom >= 2 && headroom <= 13);
    PROVE((sum << headroom) >= 0x80000000u);
    int shift = 12 - headroom + 31 - 8;
    PROVE(shift >= 22 && shift <= 33);
}

// The backward step's values are within 32 bits before they are scaled to a block.
void prove_backward_bounds(void) {
    int32_t y = nondet_s32(), e = nondet_s32(), sum = nondet_s32(), scale = nondet_s32();
    ASSUME(y >= -128 && y <= 127 && e >= -127 && e <= 127 && scale >= 64 && scale <= 127);
    ASSUME(sum >= -127 * (256 + 512) && sum <= 127 * (256 + 512));
    int32_t v = trunc_shift((y + 128) * (256 * e - sum), 8) * scale;
    PROVE(v > -(1 << 24) && v < 1 << 24);
}
