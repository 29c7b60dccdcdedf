// Flash, from the start: program (688 KB), ROMFS with the model (344 KB), filesystem and adapters
// (1016 KB).
#define MICROPY_HW_BOARD_NAME "Raspberry Pi Pico (EdgeLoRA)"
#define MICROPY_HW_FLASH_STORAGE_BYTES (1016 * 1024)
#define MICROPY_HW_ROMFS_BYTES (344 * 1024)
