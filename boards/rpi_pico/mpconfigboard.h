// Flash, from the start: program (688 KB), ROMFS with the model (336 KB), filesystem and adapters
// (1024 KB).
#define MICROPY_HW_BOARD_NAME "Raspberry Pi Pico (EdgeLoRA)"
#define MICROPY_HW_FLASH_STORAGE_BYTES (1024 * 1024)
#define MICROPY_HW_ROMFS_BYTES (336 * 1024)
