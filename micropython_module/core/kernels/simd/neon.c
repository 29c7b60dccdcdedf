// The kernels for NEON.
// SPDX-License-Identifier: MIT

#include "kernels/simd/simd.h"

#ifdef EDGELORA_NEON

#include "kernels/simd/lanes_neon.h"

#include "kernels/simd/engine.h"

#endif
