set(STOCK_BOARD ESP32_GENERIC_S3)
include(${CMAKE_CURRENT_LIST_DIR}/../../firmware/esp32/board.cmake)
