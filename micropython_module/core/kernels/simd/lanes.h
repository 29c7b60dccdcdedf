// The vector lanes that engine.h is compiled for: those that were included before. For a header
// that is compiled alone, as editors do, this processor's.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_LANES

#include "kernels/simd/simd.h"

#if defined(EDGELORA_X86)
#include "kernels/simd/lanes_avx2.h"
#elif defined(EDGELORA_NEON)
#include "kernels/simd/lanes_neon.h"
#elif defined(EDGELORA_HELIUM)
#include "kernels/simd/lanes_helium.h"
#elif defined(EDGELORA_WASM)
#include "kernels/simd/lanes_wasm.h"
#endif

#endif
