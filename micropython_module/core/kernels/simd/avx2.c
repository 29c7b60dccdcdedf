// The kernels for AVX2.
// SPDX-License-Identifier: MIT

#include "kernels/simd/simd.h"

#ifdef EDGELORA_X86

#include "kernels/simd/target.h"
EDGELORA_TARGET_BEGIN("avx2")

#include "kernels/simd/lanes_avx2.h"

#include "kernels/simd/engine.h"

EDGELORA_TARGET_END

#endif
