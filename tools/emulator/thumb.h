/* Runs what an ARMv6-M core does in ROM, flash and RAM, for the emulator's loop (patch.py), and
 * what MicroPython asks for all the time: barriers, masks of interrupts, the chip's divider,
 * spinlocks, timer and core number.
 *
 * Ends before an instruction that needs more (another peripheral, an exception, a special
 * register), which is left to the emulator's own core, as are a few that no compiler makes; and
 * behind one that lets a pending interrupt in or may wake the other core. Cycles are those that the
 * emulator counts. Sources: ARMv6-M Architecture Reference Manual (ARM DDI 0419), A6.7; RP2040
 * Datasheet, 2.3.1 and 4.6.
 */
#ifndef THUMB_H
#define THUMB_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "bus.h"
#include "xip.h"

#define THUMB_FLASH 0x10000000u
#define THUMB_RAM 0x20000000u
#define THUMB_SIO 0xD0000000u     /* the core's number */
#define THUMB_LOCKED 0xD000005Cu  /* a bit for each spinlock */
#define THUMB_DIVIDER \
    0xD0000060u /* unsigned dividend and divisor, signed ones, quotient, remainder, state */
#define THUMB_LOCKS 0xD0000100u   /* 32 of them: read to take one, written to free it */
#define THUMB_TIMER 0x40054024u   /* microseconds, the high word first */
#define THUMB_SP 13
#define THUMB_LR 14
#define THUMB_PC 15

/* State of the core's own divider, words of the emulator's. */
enum { THUMB_DIVIDEND, THUMB_DIVISOR, THUMB_QUOTIENT, THUMB_REMAINDER, THUMB_DIVIDER_STATE };
/* The timer counts from `epoch` what `then` and the cycles since `counted`, `scale` times as long,
 * add up to: ns. */
enum { THUMB_THEN, THUMB_COUNTED, THUMB_SCALE, THUMB_EPOCH };

/* What a run keeps at hand. */
typedef struct {
    uint32_t *r; /* r0 to r15; between runs r15 is where the next instruction is */
    uint32_t pc; /* in a run */
    int n, z, c, v;
    uint8_t *rom, *flash, *ram;
    uint32_t rom_size, flash_size, ram_size; /* bytes, each at least 64 */
    int masked;                              /* PRIMASK */
    int event;                               /* of SEV, for WFE */
    int unmasked; /* whether this run let in an interrupt that is pending */
    int64_t cycles; /* of this run */
    xip_t *xip;     /* its stalls are in `cycles` */
    bus_core_t *bus; /* NULL: no other core is awake */
    int64_t began;   /* the chip's cycle in which this run begins */
} thumb_core_t;

/* What it seldom needs besides. */
typedef struct {
    uint32_t number; /* of the core */
    uint32_t *divider,
        *locks; /* its own words; a bit for each spinlock that is taken, by any core */
    const double *timer;
    double now, cycle; /* nanoseconds where a run begins, and those of a cycle, as the emulator
                          counts them */
    uint32_t ipsr; /* the exception that is handled */
    int pending; /* whether an interrupt may wait for PRIMASK */
    int64_t divider_cycles; /* of this run: they pass beside the others */
} thumb_chip_t;

typedef struct {
    thumb_core_t core;
    thumb_chip_t chip;
} thumb_t;

/* All in one function: flags are then in the host's registers. */
#define THUMB_INLINE static inline __attribute__((always_inline))

/* Notes accesses to memory, one a cycle from this run's cycle `at` on, the last of which stalled.
 */
THUMB_INLINE void thumb_note(
    const thumb_core_t *t, uint32_t address, uint32_t words, int64_t at, int64_t stalled) {
    if (t->bus == NULL) {
        return;
    }
    for (uint32_t i = 0; i < words; ++i) {
        bus_note(t->bus, t->began + at + i, address + 4 * i, i + 1 < words ? 0 : (uint32_t)stalled);
    }
}

/* Where `size` bytes that can be written lie, or NULL; the address has to be a multiple of `align`.
 */
THUMB_INLINE uint8_t *thumb_writable(
    const thumb_core_t *t, uint32_t address, uint32_t size, uint32_t align) {
    const uint32_t at = address - THUMB_RAM;
    return at <= t->ram_size - size && (address & (align - 1)) == 0 ? t->ram + at : NULL;
}

/* Where `size` bytes that can be read lie, or NULL. Reads of flash stall. */
THUMB_INLINE const uint8_t *thumb_readable(
    thumb_core_t *t, uint32_t address, uint32_t size, uint32_t align) {
    uint32_t at = address - THUMB_RAM;
    if ((address & (align - 1)) != 0) {
        return NULL;
    }
    if (at <= t->ram_size - size) {
        return t->ram + at;
    }
    at = address - THUMB_FLASH;
    if (at <= t->flash_size - size) {
        for (uint32_t word = at & ~3u; word < at + size; word += 4) {
            t->cycles += xip_stall(t->xip, word);
        }
        return t->flash + at;
    }
    return address <= t->rom_size - size ? t->rom + address : NULL;
}

/* Little-endian, as the host is. */
THUMB_INLINE uint32_t thumb_word(const uint8_t *p) {
    uint32_t value;
    memcpy(&value, p, 4);
    return value;
}

THUMB_INLINE uint32_t thumb_half(const uint8_t *p) {
    uint16_t value;
    memcpy(&value, p, 2);
    return value;
}

THUMB_INLINE uint32_t thumb_flags(thumb_core_t *t, uint32_t result) {
    t->n = result >> 31;
    t->z = result == 0;
    return result;
}

/* a + b + carry with all flags; a - b is a + ~b + 1. */
THUMB_INLINE uint32_t thumb_add(thumb_core_t *t, uint32_t a, uint32_t b, uint32_t carry) {
    const uint64_t sum = (uint64_t)a + b + carry;
    const uint32_t result = (uint32_t)sum;
    t->c = (int)(sum >> 32);
    t->v = (int)((~(a ^ b) & (a ^ result)) >> 31);
    return thumb_flags(t, result);
}

/* A shift by `by`, up to 255; 0 leaves the carry. */
THUMB_INLINE uint32_t thumb_lsl(thumb_core_t *t, uint32_t value, uint32_t by) {
    if (by != 0) {
        t->c = by <= 32 ? value >> (32 - by) & 1 : 0;
        value = by < 32 ? value << by : 0;
    }
    return thumb_flags(t, value);
}

THUMB_INLINE uint32_t thumb_lsr(thumb_core_t *t, uint32_t value, uint32_t by) {
    if (by != 0) {
        t->c = by <= 32 ? value >> (by - 1) & 1 : 0;
        value = by < 32 ? value >> by : 0;
    }
    return thumb_flags(t, value);
}

THUMB_INLINE uint32_t thumb_asr(thumb_core_t *t, uint32_t value, uint32_t by) {
    if (by != 0) {
        const int64_t wide = (int32_t)value;
        by = by < 32 ? by : 32;
        t->c = (int)(wide >> (by - 1) & 1);
        value = (uint32_t)(wide >> by);
    }
    return thumb_flags(t, value);
}

THUMB_INLINE uint32_t thumb_ror(thumb_core_t *t, uint32_t value, uint32_t by) {
    if (by != 0) {
        const uint32_t turn = by & 31;
        value = turn == 0 ? value : value >> turn | value << (32 - turn);
        t->c = value >> 31;
    }
    return thumb_flags(t, value);
}

THUMB_INLINE bool thumb_holds(const thumb_core_t *t, uint32_t condition) {
    bool holds;
    switch (condition >> 1) {
        case 0:
            holds = t->z;
            break;
        case 1:
            holds = t->c;
            break;
        case 2:
            holds = t->n;
            break;
        case 3:
            holds = t->v;
            break;
        case 4:
            holds = t->c && !t->z;
            break;
        case 5:
            holds = t->n == t->v;
            break;
        default:
            holds = t->n == t->v && !t->z;
            break;
    }
    return holds != (condition & 1);
}

/* One of the 16 operations on two low registers (0100 00xx xx). */
THUMB_INLINE void thumb_data(thumb_core_t *t, uint32_t op) {
    uint32_t *d = &t->r[op & 7];
    const uint32_t m = t->r[op >> 3 & 7];
    switch (op >> 6 & 15) {
        case 0:
            *d = thumb_flags(t, *d & m);
            break;
        case 1:
            *d = thumb_flags(t, *d ^ m);
            break;
        case 2:
            *d = thumb_lsl(t, *d, m & 255);
            break;
        case 3:
            *d = thumb_lsr(t, *d, m & 255);
            break;
        case 4:
            *d = thumb_asr(t, *d, m & 255);
            break;
        case 5:
            *d = thumb_add(t, *d, m, (uint32_t)t->c);
            break;
        case 6:
            *d = thumb_add(t, *d, ~m, (uint32_t)t->c);
            break;
        case 7:
            *d = thumb_ror(t, *d, m & 255);
            break;
        case 8:
            thumb_flags(t, *d & m);
            break;
        case 9:
            *d = thumb_add(t, 0, ~m, 1);
            break;
        case 10:
            thumb_add(t, *d, ~m, 1);
            break;
        case 11:
            thumb_add(t, *d, m, 0);
            break;
        case 12:
            *d = thumb_flags(t, *d | m);
            break;
        case 13:
            *d = thumb_flags(t, *d * m);
            break;
        case 14:
            *d = thumb_flags(t, *d & ~m);
            break;
        default:
            *d = thumb_flags(t, ~m);
            break;
    }
}

/* LDR and STR of the divider: cycles, or 0 (a division by 0, a result that is set). */
static int thumb_divider(thumb_chip_t *chip, bool load, uint32_t *value, uint32_t at) {
    static const uint8_t words[7] = {
        THUMB_DIVIDEND, THUMB_DIVISOR, THUMB_DIVIDEND, THUMB_DIVISOR, THUMB_QUOTIENT,
        THUMB_REMAINDER, THUMB_DIVIDER_STATE};
    uint32_t *state = chip->divider;
    if (at >= sizeof words) {
        return 0;
    }
    const uint32_t word = words[at];
    if (load) {
        *value = state[word];
        if (word == THUMB_QUOTIENT) {
            state[THUMB_DIVIDER_STATE] &= ~2u; /* no longer dirty */
        }
        return 1;
    }
    if (at >= 4 || (word == THUMB_DIVISOR ? *value : state[THUMB_DIVISOR]) == 0) {
        return 0;
    }
    state[word] = *value;
    const uint32_t dividend = state[THUMB_DIVIDEND], divisor = state[THUMB_DIVISOR];
    if (at < 2) {
        state[THUMB_QUOTIENT] = dividend / divisor;
        state[THUMB_REMAINDER] = dividend % divisor;
    } else {
        const int64_t wide = (int32_t)dividend, by = (int32_t)divisor;
        state[THUMB_QUOTIENT] = (uint32_t)(wide / by);
        state[THUMB_REMAINDER] = (uint32_t)(wide % by);
    }
    state[THUMB_DIVIDER_STATE] = 3; /* ready, dirty */
    chip->divider_cycles += 8;
    return 1;
}

/* The timer's count, in the emulator's own steps: another order of them could be another
 * microsecond. */
static uint64_t thumb_micros(const thumb_chip_t *chip, int64_t cycles) {
    const double *timer = chip->timer, now = chip->now + (double)cycles * chip->cycle;
    const double nanos = timer[THUMB_THEN] + (now - timer[THUMB_COUNTED]) * timer[THUMB_SCALE];
    return (uint64_t)((nanos - timer[THUMB_EPOCH]) / 1000);
}

/* LDR and STR of peripherals, `cycles` into a run: cycles, or 0. */
static int thumb_peripheral(
    thumb_chip_t *chip, int64_t cycles, bool load, uint32_t *value, uint32_t address) {
    const uint32_t lock = (address - THUMB_LOCKS) / 4, bit = 1u << (lock & 31);
    uint32_t *taken = chip->locks;
    if ((address & 3) != 0) {
        return 0;
    }
    if (load && address - THUMB_TIMER <= 4) {
        const uint64_t micros = thumb_micros(chip, cycles);
        *value = (uint32_t)(address == THUMB_TIMER ? micros >> 32 : micros);
        return 4;
    }
    if (address >= THUMB_LOCKS && lock < 32) {
        if (load) {
            *value = *taken & bit ? 0 : bit;
        }
        *taken = load ? *taken | bit : *taken & ~bit;
        return 1;
    }
    if (load && (address == THUMB_SIO || address == THUMB_LOCKED)) {
        *value = address == THUMB_SIO ? chip->number : *taken;
        return 1;
    }
    return address < THUMB_DIVIDER
        ? 0
        : thumb_divider(chip, load, value, (address - THUMB_DIVIDER) / 4);
}

/* Between a register and memory, cycles or 0: `kind` is STR, STRH, STRB, LDRSB, LDR, LDRH, LDRB,
 * LDRSH, as in 0101. */
THUMB_INLINE int thumb_memory(
    thumb_core_t *t, thumb_chip_t *chip, uint32_t kind, uint32_t *value, uint32_t address) {
    static const uint8_t sizes[8] = {4, 2, 1, 1, 4, 2, 1, 2};
    const uint32_t size = sizes[kind];
    if (kind < 3) {
        uint8_t *p = thumb_writable(t, address, size, size);
        if (p == NULL) {
            uint32_t word = *value;
            return kind == 0 ? thumb_peripheral(chip, t->cycles, false, &word, address) : 0;
        }
        thumb_note(t, address, 1, t->cycles, 0);
        memcpy(p, value, size);
        return 2;
    }
    const int64_t at = t->cycles;
    const uint8_t *p = thumb_readable(t, address, size, size);
    if (p == NULL) {
        uint32_t word;
        const int cycles = kind == 4 ? thumb_peripheral(chip, t->cycles, true, &word, address) : 0;
        if (cycles != 0) {
            *value = word;
        }
        return cycles;
    }
    thumb_note(t, address, 1, at, t->cycles - at);
    switch (kind) {
        case 3:
            *value = (uint32_t)(int32_t)(int8_t)*p;
            break;
        case 4:
            *value = thumb_word(p);
            break;
        case 5:
            *value = thumb_half(p);
            break;
        case 6:
            *value = *p;
            break;
        default:
            *value = (uint32_t)(int32_t)(int16_t)thumb_half(p);
            break;
    }
    return 2;
}

/* The low registers of `list` from or to memory on from `address`, and one more register unless
 * NULL. Bytes, or 0. */
THUMB_INLINE uint32_t thumb_load(thumb_core_t *t, uint32_t list, uint32_t address, uint32_t *more) {
    const uint32_t size = 4 * ((uint32_t)__builtin_popcount(list) + (more != NULL));
    const int64_t at = t->cycles;
    const uint8_t *p = thumb_readable(t, address, size, 4);
    if (p == NULL) {
        return 0;
    }
    thumb_note(t, address, size / 4, at, t->cycles - at);
    for (; list != 0; list &= list - 1, p += 4) {
        t->r[__builtin_ctz(list)] = thumb_word(p);
    }
    if (more != NULL) {
        *more = thumb_word(p);
    }
    return size;
}

THUMB_INLINE uint32_t thumb_store(
    thumb_core_t *t, uint32_t list, uint32_t address, const uint32_t *more) {
    const uint32_t size = 4 * ((uint32_t)__builtin_popcount(list) + (more != NULL));
    uint8_t *p = thumb_writable(t, address, size, 4);
    if (p == NULL) {
        return 0;
    }
    thumb_note(t, address, size / 4, t->cycles, 0);
    for (; list != 0; list &= list - 1, p += 4) {
        memcpy(p, &t->r[__builtin_ctz(list)], 4);
    }
    if (more != NULL) {
        memcpy(p, more, 4);
    }
    return size;
}

/* ADD, CMP, MOV of any registers, BX, BLX (0100 01): cycles, or 0. `next` is the address after this
 * instruction. */
THUMB_INLINE int thumb_special(thumb_core_t *t, uint32_t op, uint32_t next) {
    const uint32_t m = op >> 3 & 15, d = (op >> 4 & 8) | (op & 7);
    const uint32_t value = m == THUMB_PC ? next + 2 : t->r[m];
    uint32_t result = value;
    switch (op >> 8 & 3) {
        case 0:
            result += d == THUMB_PC ? next + 2 : t->r[d];
            break;
        case 1:
            if (m == THUMB_PC || d == THUMB_PC) {
                return 0;
            }
            thumb_add(t, t->r[d], ~value, 1);
            return 1;
        case 2:
            break;
        default:
            /* 0xFxxxxxxx is the end of an exception. */
            if ((op & 7) != 0 || m == THUMB_PC || value >> 28 == 15) {
                return 0;
            }
            if (op & 0x80) {
                t->r[THUMB_LR] = next | 1;
            }
            t->pc = value & ~1u;
            return 2;
    }
    if (d == THUMB_PC) {
        t->pc = result & ~1u;
        return 2;
    }
    t->r[d] = d == THUMB_SP ? result & ~3u : result;
    return 1;
}

THUMB_INLINE void thumb_mask(thumb_core_t *t, int masked, int pending) {
    t->unmasked = t->masked && !masked && pending;
    t->masked = masked;
}

/* Extension, bytes turned round, PUSH, POP, SP plus or minus, CPS, SEV (1011): cycles, or 0. */
THUMB_INLINE int thumb_various(thumb_core_t *t, uint32_t op, int pending) {
    uint32_t *d = &t->r[op & 7], *sp = &t->r[THUMB_SP], size, pc, *more;
    const uint32_t m = t->r[op >> 3 & 7];
    switch (op >> 8 & 15) {
        case 0x0:
            *sp = (*sp + (op & 0x80 ? 0u - ((op & 0x7F) << 2) : (op & 0x7F) << 2)) & ~3u;
            return 1;
        case 0x2:
            switch (op >> 6 & 3) {
                case 0:
                    *d = (uint32_t)(int32_t)(int16_t)m;
                    break;
                case 1:
                    *d = (uint32_t)(int32_t)(int8_t)m;
                    break;
                case 2:
                    *d = m & 0xFFFF;
                    break;
                default:
                    *d = m & 0xFF;
                    break;
            }
            return 1;
        case 0x4:
        case 0x5:
            if ((op & 0x1FF) == 0) {
                return 0;
            }
            size = 4 * (uint32_t)__builtin_popcount(op & 0x1FF);
            if (thumb_store(t, op & 0xFF, *sp - size, op & 0x100 ? &t->r[THUMB_LR] : NULL) == 0) {
                return 0;
            }
            *sp = (*sp - size) & ~3u;
            return 1 + __builtin_popcount(op & 0xFF);
        case 0x6:
            if ((op & 0xEF) != 0x62) {
                return 0;
            }
            thumb_mask(t, op >> 4 & 1, pending);
            return 1;
        case 0xA: {
            const uint32_t swapped = __builtin_bswap32(m), halves = swapped >> 16 | swapped << 16;
            if ((op >> 6 & 3) == 2) {
                return 0;
            }
            *d = (op >> 6 & 3) == 0  ? swapped
                : (op >> 6 & 3) == 1 ? halves
                                     : (uint32_t)(int32_t)(int16_t)halves;
            return 1;
        }
        case 0xC:
        case 0xD:
            more = op & 0x100 ? &pc : NULL;
            if (more != NULL) {
                const uint8_t *p = thumb_readable(
                    t, *sp + 4 * (uint32_t)__builtin_popcount(op & 0xFF), 4, 4);
                if (p == NULL || p[3] >> 4 == 15) {
                    return 0;
                }
            }
            size = (op & 0x1FF) == 0 ? 0 : thumb_load(t, op & 0xFF, *sp, more);
            if (size == 0) {
                return 0;
            }
            *sp = (*sp + size) & ~3u;
            if (more != NULL) {
                t->pc = pc & ~1u;
            }
            return 1 + __builtin_popcount(op & 0xFF) + (more != NULL ? 2 : 0);
        case 0xF:
            if (op != 0xBF40) {
                return 0;
            }
            t->event = 1;
            return 1;
        default:
            return 0;
    }
}

/* One instruction, with `next` the address after it, where r15 stands already: cycles, or 0 and
 * nothing is changed. */
THUMB_INLINE int thumb_step(thumb_core_t *t, thumb_chip_t *chip, uint32_t op, uint32_t next) {
    uint32_t *r = t->r, *d = &r[op & 7], *d8 = &r[op >> 8 & 7];
    const uint32_t m = r[op >> 3 & 7], imm5 = op >> 6 & 31, imm8 = op & 0xFF;
    uint32_t size;
    switch (op >> 11) {
        case 0x00:
            *d = thumb_lsl(t, m, imm5);
            return 1;
        case 0x01:
            *d = thumb_lsr(t, m, imm5 ? imm5 : 32);
            return 1;
        case 0x02:
            *d = thumb_asr(t, m, imm5 ? imm5 : 32);
            return 1;
        case 0x03: {
            const uint32_t other = op & 0x400 ? op >> 6 & 7 : r[op >> 6 & 7];
            *d = op & 0x200 ? thumb_add(t, m, ~other, 1) : thumb_add(t, m, other, 0);
            return 1;
        }
        case 0x04:
            *d8 = thumb_flags(t, imm8);
            return 1;
        case 0x05:
            thumb_add(t, *d8, ~imm8, 1);
            return 1;
        case 0x06:
            *d8 = thumb_add(t, *d8, imm8, 0);
            return 1;
        case 0x07:
            *d8 = thumb_add(t, *d8, ~imm8, 1);
            return 1;
        case 0x08:
            if (op & 0x400) {
                return thumb_special(t, op, next);
            }
            thumb_data(t, op);
            return 1;
        case 0x09:
            return thumb_memory(t, chip, 4, d8, ((next + 2) & ~3u) + 4 * imm8);
        case 0x0A:
        case 0x0B:
            return thumb_memory(t, chip, op >> 9 & 7, d, m + r[op >> 6 & 7]);
        case 0x0C:
            return thumb_memory(t, chip, 0, d, m + 4 * imm5);
        case 0x0D:
            return thumb_memory(t, chip, 4, d, m + 4 * imm5);
        case 0x0E:
            return thumb_memory(t, chip, 2, d, m + imm5);
        case 0x0F:
            return thumb_memory(t, chip, 6, d, m + imm5);
        case 0x10:
            return thumb_memory(t, chip, 1, d, m + 2 * imm5);
        case 0x11:
            return thumb_memory(t, chip, 5, d, m + 2 * imm5);
        case 0x12:
            return thumb_memory(t, chip, 0, d8, r[THUMB_SP] + 4 * imm8);
        case 0x13:
            return thumb_memory(t, chip, 4, d8, r[THUMB_SP] + 4 * imm8);
        case 0x14:
            *d8 = ((next + 2) & ~3u) + 4 * imm8;
            return 1;
        case 0x15:
            *d8 = r[THUMB_SP] + 4 * imm8;
            return 1;
        case 0x16:
        case 0x17:
            return thumb_various(t, op, chip->pending);
        case 0x18:
        case 0x19: {
            const uint32_t address = *d8, base = 1u << (op >> 8 & 7);
            const bool load = (op & 0x800) != 0;
            if (imm8 == 0 || (!load && imm8 & base)) {
                return 0;
            }
            size = load ? thumb_load(t, imm8, address, NULL) : thumb_store(t, imm8, address, NULL);
            if (size == 0) {
                return 0;
            }
            if (!(imm8 & base)) {
                *d8 = address + size;
            }
            return 1 + (int)(size / 4);
        }
        case 0x1A:
        case 0x1B:
            if ((op >> 8 & 15) >= 14) {
                return 0;
            }
            if (!thumb_holds(t, op >> 8 & 15)) {
                return 1;
            }
            t->pc = next + 2 + 2 * (uint32_t)(int32_t)(int8_t)imm8;
            return 2;
        case 0x1C:
            t->pc = next + 2 + (uint32_t)((int32_t)(op << 21) >> 20);
            return 2;
        default:
            return 0;
    }
}

/* Instructions of two halves, the second at `next`: BL, barriers, PRIMASK, and which exception is
 * handled. */
THUMB_INLINE int thumb_wide(thumb_core_t *t, thumb_chip_t *chip, uint32_t op, uint32_t next) {
    enum { IPSR = 5, PRIMASK = 16 };
    const uint8_t *p = thumb_readable(t, next, 2, 2);
    const uint32_t op2 = p == NULL ? 0 : thumb_half(p), s = op >> 10 & 1, special = op2 & 0xFF;
    if (op >> 11 == 0x1E && (op2 & 0xD000) == 0xD000) {
        const uint32_t i1 = 1 ^ s ^ (op2 >> 13 & 1), i2 = 1 ^ s ^ (op2 >> 11 & 1);
        const uint32_t offset = (s ? 0xFF000000u : 0) | i1 << 23 | i2 << 22 | (op & 0x3FF) << 12 |
            (op2 & 0x7FF) << 1;
        t->r[THUMB_LR] = (next + 2) | 1;
        t->pc = next + 2 + offset;
        return 3;
    }
    if (op == 0xF3BF && op2 >> 4 >= 0x8F4 && op2 >> 4 <= 0x8F6) {
        /* memory is always in order here */
    } else if (op == 0xF3EF && (op2 >> 8 & 15) < THUMB_SP && op2 >> 12 == 8 &&
        (special == IPSR || special == PRIMASK)) {
        t->r[op2 >> 8 & 15] = special == IPSR ? chip->ipsr : (uint32_t)t->masked;
    } else if (op >> 4 == 0xF38 && (op & 15) < THUMB_SP && op2 == (0x8800 | PRIMASK)) {
        thumb_mask(t, t->r[op & 15] & 1, chip->pending);
    } else {
        return 0;
    }
    t->pc = next + 2;
    return 3;
}

#define THUMB_RUNS thumb_run_alone
#define THUMB_BUS NULL
#include "thumb_run.h"
#undef THUMB_RUNS
#undef THUMB_BUS
#define THUMB_RUNS thumb_run_beside
#define THUMB_BUS whole->core.bus
#include "thumb_run.h"

/* At most `most` instructions, until `limit` cycles or more are over, or an interrupt is let in.
 * Returns how many. The loop is there twice, as a core that runs alone need note no access.
 */
static long thumb_run(thumb_t *t, long most, int64_t limit) {
    return t->core.bus == NULL ? thumb_run_alone(t, most, limit) : thumb_run_beside(t, most, limit);
}

#endif
