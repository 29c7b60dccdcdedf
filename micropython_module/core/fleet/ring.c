// The graph of a round: a ring in an order that nobody chose. All of it is public. SPDX-License-Identifier: MIT

#include "fleet/parts.h"

typedef struct {
    edgelora_chacha20_t stream;
    uint32_t block[16];
    uint32_t at;
} words_t;

static uint32_t next_word(words_t *w) {
    if (w->at == 16) {
        edgelora_chacha20_block(&w->stream, w->block);
        w->at = 0;
    }
    return w->block[w->at++];
}

// Uniform in [0, count).
static uint32_t below(words_t *w, uint32_t count) {
    uint32_t over = (0u - count) % count;  // 2^32 mod count
    uint32_t word;
    do {
        word = next_word(w);
    } while (word > UINT32_MAX - over);
    return word % count;
}

static void shuffle(const uint8_t key[32], uint8_t *cohort, uint32_t count) {
    const uint8_t nonce[12] = {0};
    words_t w;
    edgelora_chacha20_begin(&w.stream, key, nonce, 0);
    w.at = 16;
    for (uint32_t i = count - 1; i > 0; --i) {
        uint32_t j = below(&w, i + 1);
        uint32_t last = u16_at(cohort + 2 * i);
        put_u16(cohort + 2 * i, u16_at(cohort + 2 * j));
        put_u16(cohort + 2 * j, last);
    }
}

uint32_t edgelora_ring(const uint8_t key[32], uint8_t *cohort, uint32_t count, uint32_t index, uint32_t k, uint16_t *out) {
    bool all = k >= count - 1;
    uint32_t place = 0, found = 0;
    if (!all) {
        shuffle(key, cohort, count);
    }
    while (u16_at(cohort + 2 * place) != index) {
        ++place;
    }
    for (uint32_t i = 1; all && i < count; ++i) {
        out[found++] = (uint16_t)u16_at(cohort + 2 * ((place + i) % count));
    }
    for (uint32_t i = 1; !all && i <= k / 2; ++i) {
        out[found++] = (uint16_t)u16_at(cohort + 2 * ((place + i) % count));
        out[found++] = (uint16_t)u16_at(cohort + 2 * ((place + count - i) % count));
    }
    return found;
}
