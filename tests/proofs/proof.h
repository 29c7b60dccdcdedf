// The vocabulary of proofs: arbitrary values, assumptions on them, and what then holds. Proven by
// CBMC (`make proofs`).
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_PROOF_H
#define EDGELORA_PROOF_H

#include <stdbool.h>
#include <stdint.h>

int32_t nondet_s32(void);
uint32_t nondet_u32(void);
int64_t nondet_s64(void);
uint8_t nondet_u8(void);

#define ASSUME(what) __CPROVER_assume(what)
#define PROVE(what) __CPROVER_assert(what, #what)

#endif
