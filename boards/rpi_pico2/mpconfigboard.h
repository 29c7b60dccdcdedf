// Flash, from the start: program (1024 KB), ROMFS with the model (1024 KB), filesystem and adapters
// (2048 KB).
#define MICROPY_HW_BOARD_NAME "Raspberry Pi Pico 2 (EdgeLoRA)"
#define MICROPY_HW_FLASH_STORAGE_BYTES (2048 * 1024)
#define MICROPY_HW_ROMFS_BYTES (1024 * 1024)
