// Flash, from the start: program (688 KB), ROMFS with the model (336 KB), filesystem and adapters
// (1024 KB).
#define MICROPY_HW_BOARD_NAME "Raspberry Pi Pico (EdgeLoRA)"
#define MICROPY_HW_FLASH_STORAGE_BYTES (1024 * 1024)
#define MICROPY_HW_ROMFS_BYTES (336 * 1024)
// The look-up of names, of which each call has some, in RAM: no other code evicts it from a cache.
#define MICROPY_WRAP_MP_MAP_LOOKUP(f) __attribute__((section(".time_critical.mp_map"))) f
