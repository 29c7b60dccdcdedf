/* Reads flash by DMA, from the serial interface itself and from the cache's stream, and erases and
 * programs it: what a Pico's program in RAM sees. */
#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define XIP(offset) REGISTER(0x14000000u + (offset))
#define SSI(offset) REGISTER(0x18000000u + (offset))
#define DMA(offset) REGISTER(0x50000000u + (offset))
#define MICROS REGISTER(0x40054028u)
enum { FLUSH = 0x4, STAT = 0x8, STREAM_ADDR = 0x14, STREAM_CTR = 0x18, AUX = 0x50400000 };
enum {
    CTRLR0 = 0x0,
    CTRLR1 = 0x4,
    SSIENR = 0x8,
    BAUDR = 0x14,
    DMACR = 0x4C,
    DR0 = 0x60,
    SPI_CTRLR0 = 0xF4
};
enum { READ_ADDR = 0x0, WRITE_ADDR = 0x4, COUNT = 0x8, CTRL = 0xC };
enum { FROM_STREAM = 37, FROM_SSI = 39 };
enum {
    ENABLE = 1,
    WORDS_SIZE = 2 << 2,
    INCREMENT_WRITE = 1 << 5,
    SWAP_BYTES = 1 << 22,
    BUSY = 1 << 24
};
enum { WORDS = 1024, FROM = 0x3000 };

typedef struct {
    uint32_t differ[2]; /* words of each DMA that are not the flash's */
    uint32_t micros[2];
    uint32_t done;
} results_t;

static volatile results_t results;
static uint32_t buffer[WORDS];

static void start(uint32_t source, uint32_t pace, uint32_t more) {
    DMA(READ_ADDR) = source;
    DMA(WRITE_ADDR) = (uint32_t)buffer;
    DMA(COUNT) = WORDS;
    DMA(CTRL) = ENABLE | WORDS_SIZE | INCREMENT_WRITE | pace << 15 | more;
}

static uint32_t finish(uint32_t then) {
    while (DMA(CTRL) & BUSY) {
    }
    return MICROS - then;
}

static uint32_t differing(void) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < WORDS; ++i) {
        count += buffer[i] != REGISTER(0x13000000u + FROM + 4 * i);
        buffer[i] = 0;
    }
    return count;
}

static void configure(uint32_t frames, uint32_t dma) {
    SSI(SSIENR) = 0;
    SSI(CTRLR1) = frames - 1;
    SSI(DMACR) = dma;
    SSI(SSIENR) = 1;
}

void _start(void) {
    SSI(BAUDR) = 2;
    SSI(CTRLR0) = 2u << 21 | 31u << 16 | 3u << 8;
    SSI(SPI_CTRLR0) = 0xA0u << 24 | 4u << 11 | 8u << 2 | 2u;
    configure(WORDS, 3);
    uint32_t then = MICROS;
    start(0x18000000u + DR0, FROM_SSI, SWAP_BYTES);
    SSI(DR0) = FROM << 8 | 0xA0;
    results.micros[0] = finish(then);
    configure(1, 0);
    results.differ[0] = differing();
    then = MICROS;
    XIP(STREAM_ADDR) = 0x10000000u + FROM;
    XIP(STREAM_CTR) = WORDS;
    start(AUX, FROM_STREAM, 0);
    results.micros[1] = finish(then);
    results.differ[1] = differing();
    results.done = 1;
    for (;;) {
    }
}
