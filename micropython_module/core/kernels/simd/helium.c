// The kernels for Helium.
// SPDX-License-Identifier: MIT

#include "kernels/simd/simd.h"

#ifdef EDGELORA_HELIUM

#include "kernels/simd/lanes_helium.h"

#include "kernels/simd/engine.h"

#endif
