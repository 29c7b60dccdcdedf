# MicroPython's RPI_PICO_W with a ROMFS partition for models. Its radio needs the cyw43-driver and lwip submodules of
# MicroPython's own repository, which Debian's source package leaves out: the image then has no WiFi and no LED.
set(STOCK_BOARD RPI_PICO)
if(EXISTS ${MICROPY_DIR}/lib/cyw43-driver/src/cyw43.h AND EXISTS ${MICROPY_DIR}/lib/lwip/src)
    set(STOCK_BOARD RPI_PICO_W)
    set(MICROPY_PY_LWIP ON)
    set(MICROPY_PY_NETWORK_CYW43 ON)
endif()
string(REPLACE RPI_PICO pico PICO_BOARD ${STOCK_BOARD})
string(TOLOWER ${PICO_BOARD} PICO_BOARD)
set(PICO_PLATFORM "rp2040")
set(GEN_PINS_BOARD_CSV ${MICROPY_PORT_DIR}/boards/${STOCK_BOARD}/pins.csv)
set(GEN_PINS_CSV_ARG --board-csv ${GEN_PINS_BOARD_CSV})
