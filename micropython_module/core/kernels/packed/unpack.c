// Unpacks rows and columns of weights to pairs; products of rows of any length.
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"

EDGELORA_KERNEL void edgelora_unpack_s8(
    uint32_t *words, const uint8_t *from, uint32_t count, uint32_t step, edgelora_coding_t coding) {
    uint32_t flip = (uint32_t)coding & 0xFF, i = 0;
    for (; step == 1 && i + 4 <= count && is_aligned(from); i += 4, from += 4) {
        uint32_t four = *(const uint32_t *)(const void *)from ^ (uint32_t)coding;
        *words++ = evens(four);
        *words++ = odds(four);
    }
    for (; i < count; i += 4, words += 2) {
        uint32_t v[4];
        for (uint32_t k = 0; k < 4; ++k) {
            v[k] = i + k < count ? (*from ^ flip) - 128 : 0;
            from += step;
        }
        words[0] = pair(v[0], v[2]);
        words[1] = pair(v[1], v[3]);
    }
}

EDGELORA_KERNEL void edgelora_align_rows_u8(uint32_t *words, const uint8_t *from, uint32_t count,
    uint32_t rows, uint32_t lead, edgelora_coding_t coding) {
    const uint32_t rest = 8 * (-(lead + count) & 3), groups = (lead + count + 3) / 4,
                   zeros = ~(0xFFFFFFFFu << 8 * lead), none = 0x80808080u ^ (uint32_t)coding;
    for (; rows; --rows, from += count) {
        const uint32_t right = 8 * (((uintptr_t)from - lead) & 3), left = 32 - right;
        // starts at the word of the first zero, or at the next one if that holds none of the row
        bool before = ((uintptr_t)from & 3) < lead;
        const uint32_t *in = (const uint32_t *)(const void *)(from - ((uintptr_t)from & 3));
        uint32_t *start = words, *end = words + groups, word = before ? 0 : *in++;
        if (right) {
            while (words != end) {
                uint32_t next = *in++;
                *words++ = word >> right | next << left;
                word = next;
            }
        } else {
            for (*words++ = word; words != end;) {
                *words++ = *in++;
            }
        }
        end[-1] = (end[-1] << rest >> rest) | (none & ~(0xFFFFFFFFu >> rest));
        *start = (*start & ~zeros) | (none & zeros);
    }
}

EDGELORA_HOT void edgelora_unpack_taps_s8(uint32_t *words, uint32_t groups, const uint8_t *from,
    uint32_t rows, uint32_t taps, int32_t tap, uint32_t n, uint32_t step,
    edgelora_coding_t coding) {
    uint32_t part = (n + 3) / 4;
    for (uint32_t t = 0; t < taps; ++t, from += tap, words += 2 * part) {
        // groups of 4 columns at once; then the remaining elements
        uint32_t whole = rows == 4 && is_aligned(from) && !(step & 3) ? n / 4 : 0,
                 rest = n - 4 * whole;
        if (whole) {
            edgelora_unpack_columns_s8(words, groups * 8, from, step, whole, (uint32_t)coding);
        }
        for (uint32_t r = 0; r < rows && rest; ++r) {
            edgelora_unpack_s8(
                words + 2 * (r * groups + whole), from + 4 * whole * step + r, rest, step, coding);
        }
    }
}

EDGELORA_HOT void edgelora_tile_product_chunks_s8(
    edgelora_tile_product_t *whole, uint32_t groups, uint32_t stride) {
    if (groups <= EDGELORA_CHUNK) {
        whole->groups = groups;
        whole->skip = stride - EDGELORA_GROUP_BYTES * (groups + whole->b_groups);
        whole->gap = 0;
        edgelora_tile_product_s8(whole);
        return;
    }
    edgelora_tile_product_t part = *whole;
    uint32_t group_bytes = part.coding == EDGELORA_PAIRS ? 8 : 4, row_bytes = group_bytes * groups;
    while (groups) {
        part.groups = groups < EDGELORA_CHUNK ? groups : EDGELORA_CHUNK;
        part.skip = stride - EDGELORA_GROUP_BYTES * (part.groups + part.b_groups);
        part.gap = row_bytes - group_bytes * part.groups;
        edgelora_tile_product_s8(&part);
        groups -= part.groups;
        part.x += EDGELORA_GROUP_WORDS * (part.groups + part.b_groups);
        part.weights = (const uint8_t *)part.weights + group_bytes * part.groups;
        part.add = 1;
        part.b_groups = 0;
        part.b_shift = 0;
    }
}
