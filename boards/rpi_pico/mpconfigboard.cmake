# Raspberry Pi Pico (RP2040, 2 MB of flash) with a ROMFS partition for models.
set(PICO_BOARD "pico")
set(PICO_PLATFORM "rp2040")
