set(STOCK_BOARD ESP32_GENERIC_S2)
include(${CMAKE_CURRENT_LIST_DIR}/../../firmware/esp32/board.cmake)
