#include "boards/ESP32_GENERIC_S2/mpconfigboard.h"
#define MICROPY_VFS_ROM (1)
