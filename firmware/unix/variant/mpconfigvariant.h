#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_EXTRA_FEATURES)

#include "variants/mpconfigvariant_common.h"

// Ctrl-C waits for running C code, see edgelora_interrupt.c.
#undef MICROPY_ASYNC_KBD_INTR
#define MICROPY_ASYNC_KBD_INTR (0)

// A wheel carries the program for computers with glibc 2.34 or later. Only the newest fmod needs a
// later one (2.38): unlike older ones, it does not set errno.
#if defined(__GLIBC__) && defined(__x86_64__)
__asm__(".symver fmod, fmod@GLIBC_2.2.5");
#endif
