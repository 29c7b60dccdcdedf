// Comes first in a native module's single source, which gcc compiles as a whole program: mpy_ld.py
// calls mpy_init from outside.
// SPDX-License-Identifier: MIT
#include "py/dynruntime.h"
mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args)
    __attribute__((externally_visible));
