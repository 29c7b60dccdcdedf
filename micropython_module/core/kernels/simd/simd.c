// Detects which vector kernels the processor supports.
// SPDX-License-Identifier: MIT

#include "kernels/simd/simd.h"

#ifdef EDGELORA_X86

#include <cpuid.h>

enum { AVX2 = 1, VNNI = 2 };

static uint32_t states_saved(void) { // register states that the operating system saves
    uint32_t low, high;
    __asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

uint32_t edgelora_simd_level(bool told) {
    (void)told;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) {
        return 0;
    }
    uint32_t saved = states_saved();
    if ((saved & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) {
        return 0;
    }
#ifndef EDGELORA_NO_VNNI
    uint32_t needed = bit_AVX512F | bit_AVX512BW | bit_AVX512VL;
    if ((saved & 0xE0) == 0xE0 && (b & needed) == needed && (c & bit_AVX512VNNI)) {
        return VNNI;
    }
#endif
    return AVX2;
}

const edgelora_simd_t *edgelora_simd_kernels(uint32_t level) {
    return level == VNNI ? &edgelora_vnni : level == AVX2 ? &edgelora_avx2 : 0;
}

#elif defined(EDGELORA_ONLY_SIMD)

uint32_t edgelora_simd_level(bool told) {
#ifdef EDGELORA_PIE // no register that programs may read tells the chips apart
    return told;
#else
    (void)told;
    return 1;
#endif
}

const edgelora_simd_t *edgelora_simd_kernels(uint32_t level) {
    return level ? &EDGELORA_ONLY_SIMD : 0;
}

#else

uint32_t edgelora_simd_level(bool told) {
    (void)told;
    return 0;
}

const edgelora_simd_t *edgelora_simd_kernels(uint32_t level) {
    (void)level;
    return 0;
}

#endif
