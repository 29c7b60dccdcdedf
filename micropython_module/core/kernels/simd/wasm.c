// The kernels for WebAssembly's vectors.
// SPDX-License-Identifier: MIT

#include "kernels/simd/simd.h"

#ifdef EDGELORA_WASM

#include "kernels/simd/lanes_wasm.h"

#include "kernels/simd/engine.h"

#endif
