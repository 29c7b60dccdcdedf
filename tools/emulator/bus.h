/* What the cores of an RP2040 wait for each other at the ports of its crossbar.
 *
 * A port takes one access a cycle; a read that misses the flash cache holds its port until it is
 * filled. If both cores want a port in the same cycle, the one that it did not serve last goes
 * first. Words lie in SRAM0 to SRAM3 in turn. Source: RP2040 Datasheet, 2.1.1 and 2.6.2.
 *
 * The cores run one after the other, in short quanta. While both are awake each notes the port that
 * it wants in each cycle, and `bus_serve` then goes through both, cycle by cycle.
 */
#ifndef BUS_H
#define BUS_H

#include <stdint.h>
#include <string.h>

#define BUS_SLOTS 4096u /* of a ring, far more than the cycles of a quantum */

/* Of a slot: a port, or none; BUS_HELD: of an earlier access. */
enum { BUS_NONE, BUS_SRAM0, BUS_SRAM4 = 5, BUS_XIP = 7, BUS_ROM, BUS_PORTS, BUS_HELD = 16 };

typedef struct {
    int64_t waited;   /* cycles; the slots are those of the chip's cycles without them */
    uint32_t fetched; /* the word of code that was fetched last */
    uint8_t slots[BUS_SLOTS];
} bus_core_t;

/* The emulator's own memory. */
typedef struct {
    bus_core_t cores[2];
    int64_t until;           /* the chip's cycle up to which both were served */
    uint8_t last[BUS_PORTS]; /* the core that a port served last */
} bus_t;

static inline uint8_t bus_port(uint32_t address) {
    switch (address >> 28) {
        case 0:
            return BUS_ROM;
        case 1:
            return BUS_XIP;
        default:
            return (uint8_t)(address >= 0x20040000u ? BUS_SRAM4 + (address >> 12 & 1)
                                                    : BUS_SRAM0 + (address >> 2 & 3));
    }
}

/* An access in a cycle of the chip, which stalls for `held` more. */
static inline void bus_note(bus_core_t *core, int64_t cycle, uint32_t address, uint32_t held) {
    const uint8_t port = bus_port(address);
    cycle -= core->waited;
    core->slots[(uint64_t)cycle % BUS_SLOTS] = port;
    for (; held != 0; --held) {
        core->slots[(uint64_t)(cycle + held) % BUS_SLOTS] = port | BUS_HELD;
    }
}

/* Serves both cores up to the chip's cycle `until`. waits: the cycles that each has waited. */
static void bus_serve(bus_t *b, int64_t until, long long waits[2]) {
    bus_core_t *first = &b->cores[0], *second = &b->cores[1];
    const int64_t before[2] = {first->waited, second->waited};
    if (until - b->until > BUS_SLOTS / 2) { /* one of them was asleep */
        memset(first->slots, BUS_NONE, sizeof first->slots);
        memset(second->slots, BUS_NONE, sizeof second->slots);
        b->until = until;
    }
    for (; b->until < until; ++b->until) {
        uint8_t *slot0 = &first->slots[(uint64_t)(b->until - first->waited) % BUS_SLOTS],
                *slot1 = &second->slots[(uint64_t)(b->until - second->waited) % BUS_SLOTS];
        const uint32_t port0 = *slot0 % BUS_HELD, port1 = *slot1 % BUS_HELD;
        int served0 = 1, served1 = 1;
        if (port0 == port1 && port0 != BUS_NONE) {
            served0 = *slot0 >= BUS_HELD || (*slot1 < BUS_HELD && b->last[port0] == 1);
            served1 = !served0;
        }
        if (served0) {
            b->last[port0] = 0;
            *slot0 = BUS_NONE;
        }
        if (served1) {
            b->last[port1] = 1;
            *slot1 = BUS_NONE;
        }
        first->waited += !served0;
        second->waited += !served1;
    }
    waits[0] = first->waited - before[0];
    waits[1] = second->waited - before[1];
}

#endif
