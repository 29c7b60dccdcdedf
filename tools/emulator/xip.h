/* The RP2040's flash cache, as cycles that a read of flash stalls. Data always comes from flash.
 *
 * 16 KB in two ways of 1,024 lines of 8 bytes; a miss reads the half line of 4 bytes that is asked
 * for. Sources: RP2040 Datasheet, 2.6.3; how lines are replaced is not documented, and taken as
 * the least recently used.
 */
#ifndef XIP_H
#define XIP_H

#include <stdint.h>

#define XIP_SETS 1024u
#define XIP_ENABLED 1u /* in `control` */

/* Words of the emulator's, which its registers read and write, too (host/edgelora/board/sim/xip.py
 * has the same order). */
typedef struct {
    uint32_t control;        /* register CTRL */
    uint32_t hits, accesses; /* registers CTR_HIT, CTR_ACC: stop at 2^32 - 1 */
    uint32_t miss_cycles;    /* of the system's clock, of one read of 4 bytes */
    uint32_t stalled;        /* cycles of all reads by `xip_read`, modulo 2^32 */
    uint32_t taken;          /* software reads by the serial interface itself */
    uint32_t conflicts;      /* misses meanwhile, which would hang or return anything */
    uint32_t newest[XIP_SETS];   /* the way that was used last */
    uint32_t lines[2][XIP_SETS]; /* tag << 2, and a bit for each half that is valid */
} xip_t;

static inline void xip_count(uint32_t *counter) {
    *counter += *counter != UINT32_MAX;
}

/* Cycles that a read stalls. at: the address less 0x10000000; bits 24 and 25 are the alias: does
 * not allocate, does not look for a hit. */
static inline uint32_t xip_stall(xip_t *x, uint32_t at) {
    const uint32_t set = at >> 3 & (XIP_SETS - 1), half = 1u << (at >> 2 & 1);
    const uint32_t tag = (at & 0xFFFFFF) >> 13 << 2, alias = at >> 24 & 3;
    uint32_t way = (x->lines[1][set] & ~3u) == tag && (x->lines[1][set] & 3) != 0;
    uint32_t *line = &x->lines[way][set];
    const int held = (*line & ~3u) == tag && (*line & 3) != 0;
    xip_count(&x->accesses);
    if ((x->control & XIP_ENABLED) != 0) {
        if (held && (*line & half) != 0 && alias < 2) {
            x->newest[set] = way;
            xip_count(&x->hits);
            return 0;
        }
        if ((alias & 1) == 0) {
            way = held ? way : 1 - x->newest[set];
            line = &x->lines[way][set];
            *line = held ? *line | half : tag | half;
            x->newest[set] = way;
        }
    }
    x->conflicts += x->taken;
    return x->miss_cycles;
}

/* As `xip_stall`, for a master that is not run by thumb.h: adds to `stalled`. */
static inline void xip_read(xip_t *x, uint32_t at) {
    x->stalled += xip_stall(x, at);
}

/* A write to the first alias: the line is no longer valid. */
static inline void xip_invalidate(xip_t *x, uint32_t at) {
    const uint32_t set = at >> 3 & (XIP_SETS - 1), tag = (at & 0xFFFFFF) >> 13 << 2;
    for (int way = 0; way < 2; ++way) {
        if ((x->lines[way][set] & ~3u) == tag) {
            x->lines[way][set] = 0;
        }
    }
}

#endif
