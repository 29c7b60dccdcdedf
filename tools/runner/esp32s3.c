// An ESP32-S3's vector unit (PIE) and long multiplication on an emulated core without them: Linux
// reports each such instruction as illegal, and the handler here carries it out.
// SPDX-License-Identifier: MIT
//
// The table below is written from the chip's Technical Reference Manual, like the one in
// kernels/simd/pie.h that the kernels are assembled from; neither is made from the other, so that
// an error in either shows.

#ifdef ESP32_S3

#include "calls.h"

long xtensa_syscall(long number, ...);
// The handler, which keeps SAR, as QEMU does not; and what returns from it
void edgelora_trap(int signal, void *info, uint32_t *context);
void edgelora_restore(void);
void edgelora_illegal(uint32_t *context, uint32_t sar);

enum { RT_SIGRETURN = 225, RT_SIGACTION = 226, EXIT = 118, WRITE = 13 };
enum { SIGILL = 4, SA_SIGINFO = 4, SA_RESTORER = 0x04000000 };

__asm(".text\n"
      ".balign 4\n"
      ".global edgelora_trap\n"
      "edgelora_trap:\n"
      "entry a1, 32\n"
      "rsr a5, sar\n"
      "or a10, a4, a4\n"
      "or a11, a5, a5\n"
      "movi a8, edgelora_illegal\n"
      "callx8 a8\n"
      "wsr a5, sar\n"
      "retw\n"
      ".balign 4\n"
      ".global edgelora_restore\n"
      "edgelora_restore:\n"
      "movi a2, 225\n"
      "syscall\n");

typedef union {
    int8_t s8[16];
    uint32_t u32[4];
} vector_t;

// The unit's state. sum: of 20 bits, sign-extended.
static struct {
    vector_t q[8];
    int32_t qacc[16];
    int64_t accx;
    uint32_t first_byte;
} unit;

// Registers of the program, where the kernel keeps them for a handler.
typedef struct {
    uint32_t pc, ps, lbeg, lend, lcount, sar, acclo, acchi, a[16];
} registers_t;

enum { CONTEXT_WORDS = 5 }; // of a ucontext, before them

typedef enum {
    VLD_128_IP,
    VST_128_IP,
    LD_128_USAR_IP,
    VLDBC_8_IP,
    VLDBC_32_IP,
    SRC_Q,
    XORQ,
    ZERO_ACCX,
    ZERO_QACC,
    VMULAS_S8_ACCX,
    VMULAS_S8_QACC,
    VMULAS_S8_ACCX_LD_IP,
    VMULAS_S8_QACC_LD_IP,
    RUR_ACCX_0,
    ST_QACC_L_L_128_IP,
    ST_QACC_L_H_32_IP,
    ST_QACC_H_L_128_IP,
    ST_QACC_H_H_32_IP,
    MULSH,
    // of every core: what stands between them in loops
    ADD,
    ADDI,
    ADDX2,
    BNEZ,
    EXTUI,
    L32I,
    MAX,
    MIN,
    MINU,
    MOVLTZ,
    MULL,
    OR,
    S32I,
    S8I,
    SRA,
} name_t;

// An instruction: the bits that are always the same, and those of its operands, lowest first.
typedef struct {
    uint32_t mask, match;
    const char *operands[5];
} form_t;

#define Q "\17\24\25"                         // bits 15, 20, 21
#define X "\10\11\12"                         // 8, 9, 10
#define Y "\13\14\16"                         // 11, 12, 14
#define A "\4\5\6\7"                          // 4 to 7
#define S "\10\11\12\13" // 8 to 11
#define R "\14\15\16\17" // 12 to 15
#define IMMEDIATE "\20\21\22\23\24\25\26\27" // 16 to 23
#define STEP_8 "\10\11\12\13\14\15\16\26"     // 8 to 14, 22
#define STEP_7 "\10\11\12\13\14\15\16"        // 8 to 14
#define STEP_6 "\10\11\12\13\32\33"           // 8 to 11, 26, 27
#define BIT_0 "\40"                           // 32 stands for bit 0

static const form_t forms[] = {
    [VLD_128_IP] = {0x8F000F, 0x830004, {Q, A, STEP_8}},
    [VST_128_IP] = {0x8F000F, 0x8A0004, {Q, A, STEP_8}},
    [LD_128_USAR_IP] = {0x8F000F, 0x810004, {Q, A, STEP_8}},
    [VLDBC_8_IP] = {0xCF000F, 0xC50004, {Q, A, STEP_7}},
    [VLDBC_32_IP] = {0xCF000F, 0x820004, {Q, A, STEP_7}},
    [SRC_Q] = {0xCF0F8F, 0xCC0304, {"\4\5\6", "\14\15\16", Q}},
    [XORQ] = {0xCF730F, 0xCD3104, {Q, "\4\6\7", "\5\12\13"}},
    [ZERO_ACCX] = {0xFFFFFF, 0x250804, {0}},
    [ZERO_QACC] = {0xFFFFFF, 0x250844, {0}},
    [VMULAS_S8_ACCX] = {0xFFA0FF, 0x1A00C4, {X, Y}},
    [VMULAS_S8_QACC] = {0xFFA0FF, 0x1A20C4, {X, Y}},
    [VMULAS_S8_ACCX_LD_IP] =
        {0xF077000E, 0xF002000E, {"\23\30\31", A, STEP_6, "\16\17" BIT_0, "\27\14\15"}},
    [VMULAS_S8_QACC_LD_IP] =
        {0xF077000E, 0xF003000E, {"\23\30\31", A, STEP_6, "\16\17" BIT_0, "\27\14\15"}},
    [RUR_ACCX_0] = {0xFF0FFF, 0xE30000, {R}},
    [ST_QACC_L_L_128_IP] = {0xBF800F, 0x0C0004, {A, STEP_8}},
    [ST_QACC_L_H_32_IP] = {0xBF800F, 0x1D0004, {A, STEP_8}},
    [ST_QACC_H_L_128_IP] = {0xBF800F, 0x0D0004, {A, STEP_8}},
    [ST_QACC_H_H_32_IP] = {0xBF800F, 0x120004, {A, STEP_8}},
    [MULSH] = {0xFF000F, 0xB20000, {R, S, A}},
    [ADD] = {0xFF000F, 0x800000, {R, S, A}},
    [ADDI] = {0x00F00F, 0x00C002, {A, S, IMMEDIATE}},
    [ADDX2] = {0xFF000F, 0x900000, {R, S, A}},
    [BNEZ] = {0x0000FF, 0x000056, {S, "\14\15\16\17" IMMEDIATE}},
    [EXTUI] = {0x0E000F, 0x040000, {R, A, S "\20", "\24\25\26\27"}},
    [L32I] = {0x00F00F, 0x002002, {A, S, IMMEDIATE}},
    [MAX] = {0xFF000F, 0x530000, {R, S, A}},
    [MIN] = {0xFF000F, 0x430000, {R, S, A}},
    [MINU] = {0xFF000F, 0x630000, {R, S, A}},
    [MOVLTZ] = {0xFF000F, 0xA30000, {R, S, A}},
    [MULL] = {0xFF000F, 0x820000, {R, S, A}},
    [OR] = {0xFF000F, 0x200000, {R, S, A}},
    [S32I] = {0x00F00F, 0x006002, {A, S, IMMEDIATE}},
    [S8I] = {0x00F00F, 0x004002, {A, S, IMMEDIATE}},
    [SRA] = {0xFF0F0F, 0xB10000, {R, A}},
};
enum { FORMS = sizeof(forms) / sizeof(*forms) };

static uint32_t operand(uint32_t word, const char *bits) {
    uint32_t value = 0;
    for (uint32_t k = 0; bits[k]; ++k) {
        value |= (word >> (bits[k] & 31) & 1) << k;
    }
    return value;
}

static int32_t extended(uint32_t value, uint32_t bits) {
    return (int32_t)(value << (32 - bits)) >> (32 - bits);
}

static int64_t saturated(int64_t v, int32_t bits) {
    int64_t most = ((int64_t)1 << (bits - 1)) - 1;
    return v > most ? most : v < -most - 1 ? -most - 1 : v;
}

static void load(vector_t *q, uint32_t address) {
    *q = *(const vector_t *)(address & ~15u);
}

static void spread(vector_t *q, uint32_t word) {
    for (uint32_t i = 0; i < 4; ++i) {
        q->u32[i] = word;
    }
}

static void dot(const vector_t *x, const vector_t *y) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < 16; ++i) {
        sum += x->s8[i] * y->s8[i];
    }
    unit.accx = saturated(unit.accx + sum, 40);
}

static void products(const vector_t *x, const vector_t *y) {
    const int32_t most = (1 << 19) - 1;
    for (uint32_t i = 0; i < 16; ++i) {
        int32_t sum = unit.qacc[i] + x->s8[i] * y->s8[i];
        unit.qacc[i] = sum > most ? most : sum < -most - 1 ? -most - 1 : sum;
    }
}

// Word `at` of the five that hold eight sums
static uint32_t word_of_sums(const int32_t *sums, uint32_t at) {
    uint32_t word = 0;
    for (uint32_t i = 0; i < 8; ++i) {
        int32_t shift = (int32_t)(20 * i) - (int32_t)(32 * at);
        uint32_t sum = (uint32_t)sums[i] & 0xFFFFF;
        word |= shift <= -20 || shift >= 32 ? 0 : shift < 0 ? sum >> -shift : sum << shift;
    }
    return word;
}

static void store_sums(uint32_t address, const int32_t *sums, uint32_t first, uint32_t words) {
    uint32_t *to = (uint32_t *)(address & ~(4 * words - 1));
    for (uint32_t i = 0; i < words; ++i) {
        to[i] = word_of_sums(sums, first + i);
    }
}

static void carry_out_one(name_t name, const uint32_t *o, registers_t *r) {
    vector_t *q = unit.q, low, high;
    uint32_t *a = r->a;
    switch (name) {
        case LD_128_USAR_IP:
            unit.first_byte = a[o[1]] & 15;
            // fall through
        case VLD_128_IP:
            load(&q[o[0]], a[o[1]]);
            a[o[1]] += (uint32_t)extended(o[2], 8) * 16;
            break;
        case VST_128_IP:
            *(vector_t *)(a[o[1]] & ~15u) = q[o[0]];
            a[o[1]] += (uint32_t)extended(o[2], 8) * 16;
            break;
        case VLDBC_8_IP:
            spread(&q[o[0]], *(const uint8_t *)a[o[1]] * 0x01010101u);
            a[o[1]] += o[2];
            break;
        case VLDBC_32_IP:
            spread(&q[o[0]], *(const uint32_t *)(a[o[1]] & ~3u));
            a[o[1]] += o[2] * 4;
            break;
        case SRC_Q:
            low = q[o[1]];
            high = q[o[2]];
            for (uint32_t i = 0; i < 16; ++i) {
                uint32_t at = i + unit.first_byte;
                q[o[0]].s8[i] = at < 16 ? low.s8[at] : high.s8[at - 16];
            }
            break;
        case XORQ:
            for (uint32_t i = 0; i < 4; ++i) {
                q[o[0]].u32[i] = q[o[1]].u32[i] ^ q[o[2]].u32[i];
            }
            break;
        case ZERO_ACCX:
            unit.accx = 0;
            break;
        case ZERO_QACC:
            for (uint32_t i = 0; i < 16; ++i) {
                unit.qacc[i] = 0;
            }
            break;
        case VMULAS_S8_ACCX:
            dot(&q[o[0]], &q[o[1]]);
            break;
        case VMULAS_S8_QACC:
            products(&q[o[0]], &q[o[1]]);
            break;
        case VMULAS_S8_ACCX_LD_IP:
        case VMULAS_S8_QACC_LD_IP:
            (name == VMULAS_S8_ACCX_LD_IP ? dot : products)(&q[o[3]], &q[o[4]]);
            load(&q[o[0]], a[o[1]]);
            a[o[1]] += (uint32_t)extended(o[2], 6) * 16;
            break;
        case RUR_ACCX_0:
            a[o[0]] = (uint32_t)unit.accx;
            break;
        case ST_QACC_L_L_128_IP:
        case ST_QACC_H_L_128_IP:
            store_sums(a[o[0]], unit.qacc + (name == ST_QACC_H_L_128_IP ? 8 : 0), 0, 4);
            a[o[0]] += (uint32_t)extended(o[1], 8) * 16;
            break;
        case ST_QACC_L_H_32_IP:
        case ST_QACC_H_H_32_IP:
            store_sums(a[o[0]], unit.qacc + (name == ST_QACC_H_H_32_IP ? 8 : 0), 4, 1);
            a[o[0]] += (uint32_t)extended(o[1], 8) * 4;
            break;
        case MULSH:
            a[o[0]] = (uint32_t)(((int64_t)(int32_t)a[o[1]] * (int32_t)a[o[2]]) >> 32);
            break;
        case ADD:
            a[o[0]] = a[o[1]] + a[o[2]];
            break;
        case ADDI:
            a[o[0]] = a[o[1]] + (uint32_t)extended(o[2], 8);
            break;
        case ADDX2:
            a[o[0]] = 2 * a[o[1]] + a[o[2]];
            break;
        case BNEZ: // from the fourth byte on; `step` adds the first three
            r->pc += a[o[0]] ? (uint32_t)extended(o[1], 12) + 1 : 0;
            break;
        case EXTUI:
            a[o[0]] = a[o[1]] >> o[2] & ((2u << o[3]) - 1);
            break;
        case L32I:
            a[o[0]] = *(const uint32_t *)(a[o[1]] + 4 * o[2]);
            break;
        case MAX:
        case MIN:
            a[o[0]] = ((int32_t)a[o[1]] < (int32_t)a[o[2]]) == (name == MIN) ? a[o[1]] : a[o[2]];
            break;
        case MINU:
            a[o[0]] = a[o[1]] < a[o[2]] ? a[o[1]] : a[o[2]];
            break;
        case MOVLTZ:
            a[o[0]] = (int32_t)a[o[2]] < 0 ? a[o[1]] : a[o[0]];
            break;
        case MULL:
            a[o[0]] = a[o[1]] * a[o[2]];
            break;
        case OR:
            a[o[0]] = a[o[1]] | a[o[2]];
            break;
        case S32I:
            *(uint32_t *)(a[o[1]] + 4 * o[2]) = a[o[0]];
            break;
        case S8I:
            *(uint8_t *)(a[o[1]] + o[2]) = (uint8_t)a[o[0]];
            break;
        case SRA:
            a[o[0]] = (uint32_t)((int32_t)a[o[1]] >> r->sar);
            break;
    }
}

static uint32_t carried_out; // instructions

void start_counting(void) {
    carried_out = 0;
}

int32_t counted(void) {
    return (int32_t)carried_out;
}

// A decoded instruction; size 0: none of these.
typedef struct {
    uint32_t word, size, operands[5];
    name_t name;
} decoded_t;

static void decode(decoded_t *d, uint32_t word, uint32_t wide) {
    d->word = word;
    d->size = 0;
    for (uint32_t name = 0; name < FORMS; ++name) {
        const form_t *form = &forms[name];
        if ((word & form->mask) != form->match || wide != form->mask >> 31) {
            continue;
        }
        for (uint32_t k = 0; k < 5 && form->operands[k]; ++k) {
            d->operands[k] = operand(word, form->operands[k]);
        }
        d->name = (name_t)name;
        d->size = 3 + wide;
        return;
    }
}

// Carries out the instruction at pc; false: it is none of these.
static bool step(registers_t *r) {
    static decoded_t known[256];
    const uint8_t *p = (const uint8_t *)r->pc;
    uint32_t wide = (p[0] & 15) >= 14, word = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
    word |= wide ? (uint32_t)p[3] << 24 : 0;
    decoded_t *d = &known[word * 0x9E3779B1u >> 24];
    if (d->word != word) {
        decode(d, word, wide);
    }
    if (d->size) {
        carry_out_one(d->name, d->operands, r);
        r->pc += d->size;
    }
    return d->size != 0;
}

// Instructions that a signal carries out: also those that follow, as each signal takes a while.
#ifndef AT_ONCE
#define AT_ONCE UINT32_MAX
#endif

void edgelora_illegal(uint32_t *context, uint32_t sar) {
    registers_t *r = (registers_t *)(void *)(context + CONTEXT_WORDS);
    uint32_t before = carried_out;
    r->sar = sar;
    for (uint32_t left = AT_ONCE; left && step(r); --left) {
        ++carried_out;
        if (r->pc == r->lend && r->lcount) {
            --r->lcount;
            r->pc = r->lbeg;
        }
    }
    if (carried_out == before) { // a loop may lead back to where it was
        static const char message[] = "an illegal instruction\n";
        xtensa_syscall(WRITE, 2, message, sizeof(message) - 1);
        xtensa_syscall(EXIT, 1);
    }
}

void emulate_vectors(void) {
    static const struct {
        void (*handler)(int, void *, uint32_t *);
        uint32_t flags;
        void (*restorer)(void);
        uint32_t mask[2];
    } action = {edgelora_trap, SA_SIGINFO | SA_RESTORER, edgelora_restore, {0, 0}};
    if (xtensa_syscall(RT_SIGACTION, SIGILL, &action, 0, sizeof(action.mask))) {
        xtensa_syscall(EXIT, 1);
    }
}

#endif
