/* Counts hits and misses of the flash cache, and times reads, as a program on a Pico would: from
 * RAM, by the chip's own counters and timer. */
#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define XIP(offset) REGISTER(0x14000000u + (offset))
#define SSI(offset) REGISTER(0x18000000u + (offset))
#define MICROS REGISTER(0x40054028u)
enum { CTRL = 0x0, FLUSH = 0x4, STAT = 0x8, CTR_HIT = 0xC, CTR_ACC = 0x10 };
enum { CTRLR0 = 0x0, CTRLR1 = 0x4, SSIENR = 0x8, BAUDR = 0x14, SPI_CTRLR0 = 0xF4 };
enum {
    CACHED = 0x10000000,
    NO_ALLOCATE = 0x11000000,
    NO_LOOKUP = 0x12000000,
    UNCACHED = 0x13000000
};
enum { WORDS = 4096 };

typedef struct {
    uint32_t counts[24]; /* hits, accesses after each step */
    uint32_t micros[4];
    uint32_t done;
} results_t;

static volatile results_t results;
static uint32_t step;

static void read(uint32_t address) {
    (void)REGISTER(address);
    results.counts[step++] = XIP(CTR_HIT);
    results.counts[step++] = XIP(CTR_ACC);
}

static uint32_t timed(uint32_t from) {
    const uint32_t then = MICROS;
    for (uint32_t at = from; at != from + 4 * WORDS; at += 4) {
        (void)REGISTER(at);
    }
    return MICROS - then;
}

/* What boot2 does for a W25Q080: quad reads in continuous mode, a clock of half the system's. */
static void start_quad_reads(void) {
    SSI(SSIENR) = 0;
    SSI(BAUDR) = 2;
    SSI(CTRLR0) = 2u << 21 | 31u << 16 | 3u << 8;
    SSI(CTRLR1) = 0;
    SSI(SPI_CTRLR0) = 0xA0u << 24 | 4u << 11 | 8u << 2 | 2u;
    SSI(SSIENR) = 1;
}

static void flush(void) {
    XIP(FLUSH) = 1;
    while (!(XIP(STAT) & 2)) {
    }
    XIP(CTR_HIT) = XIP(CTR_ACC) = 1;
}

void _start(void) {
    start_quad_reads();
    flush();
    read(CACHED);          /* misses */
    read(CACHED);          /* hits */
    read(CACHED + 4);      /* the other half of the line misses */
    read(CACHED + 0x2000); /* a second tag of the set: the other way */
    read(CACHED);          /* hits, and is the newest */
    read(CACHED + 0x4000); /* a third takes the place of the second */
    read(CACHED);          /* hits */
    read(CACHED + 0x2000); /* misses */
    REGISTER(CACHED) = 0;  /* a write drops the line */
    read(CACHED);          /* misses */
    read(NO_ALLOCATE + 8); /* misses, */
    read(CACHED + 8);      /* and has left nothing */
    read(UNCACHED + 8);    /* does not look */
    flush();
    results.micros[0] = timed(CACHED); /* 16 KB: all miss, */
    results.micros[1] = timed(CACHED); /* then all hit */
    results.micros[2] = timed(UNCACHED);
    XIP(CTRL) = 0;
    results.micros[3] = timed(CACHED); /* the cache is off */
    results.done = 1;
    for (;;) {
    }
}
