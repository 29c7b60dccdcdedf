// The kernels for AVX-512 with VNNI.
// SPDX-License-Identifier: MIT

#include "kernels/simd/simd.h"

#ifdef EDGELORA_X86

#include "kernels/simd/target.h"
EDGELORA_TARGET_BEGIN("avx2,avx512f,avx512bw,avx512vl,avx512vnni")

#include "kernels/simd/lanes_vnni.h"

#include "kernels/simd/engine.h"

EDGELORA_TARGET_END

#endif
