// Flash, from the start: program (1024 KB), ROMFS with the model (256 KB), filesystem and adapters
// (768 KB).
#if MICROPY_PY_NETWORK_CYW43
#include "boards/RPI_PICO_W/mpconfigboard.h"
#undef MICROPY_HW_BOARD_NAME
#undef MICROPY_HW_FLASH_STORAGE_BYTES
#define MICROPY_HW_BOARD_NAME "Raspberry Pi Pico W (EdgeLoRA)"
#else
#define MICROPY_HW_BOARD_NAME "Raspberry Pi Pico W (EdgeLoRA, no WiFi)"
#endif
#define MICROPY_HW_FLASH_STORAGE_BYTES (768 * 1024)
#define MICROPY_HW_ROMFS_BYTES (256 * 1024)
