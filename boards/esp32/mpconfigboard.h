#include "boards/ESP32_GENERIC/mpconfigboard.h"
#define MICROPY_VFS_ROM (1)
