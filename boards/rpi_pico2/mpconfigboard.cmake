# MicroPython's RPI_PICO2, on its Arm cores, with a ROMFS partition for models.
include(${MICROPY_PORT_DIR}/boards/RPI_PICO2/mpconfigboard.cmake)
set(PICO_PLATFORM "rp2350-arm-s")
set(GEN_PINS_BOARD_CSV ${MICROPY_PORT_DIR}/boards/RPI_PICO2/pins.csv)
set(GEN_PINS_CSV_ARG --board-csv ${GEN_PINS_BOARD_CSV})
