# MicroPython's own board STOCK_BOARD with a ROMFS partition for models. Included by boards/*/mpconfigboard.cmake.
include(${CMAKE_SOURCE_DIR}/boards/${STOCK_BOARD}/mpconfigboard.cmake)
list(APPEND SDKCONFIG_DEFAULTS ${CMAKE_CURRENT_LIST_DIR}/sdkconfig.romfs)
