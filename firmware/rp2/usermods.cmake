# The user C modules of the rp2 firmware.
include(${CMAKE_CURRENT_LIST_DIR}/../../micropython_module/usermod/micropython.cmake)

add_library(usermod_edgelora_stdin INTERFACE)
target_sources(usermod_edgelora_stdin INTERFACE ${CMAKE_CURRENT_LIST_DIR}/edgelora_stdin.c)
target_link_libraries(usermod INTERFACE usermod_edgelora_stdin)
