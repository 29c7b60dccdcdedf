# EdgeLoRA as a user C module: ../core, ../crypto and ../binding become part of the firmware.
get_filename_component(EDGELORA_DIR ${CMAKE_CURRENT_LIST_DIR}/.. ABSOLUTE)
file(GLOB_RECURSE EDGELORA_CORE CONFIGURE_DEPENDS ${EDGELORA_DIR}/core/*.c)
file(GLOB EDGELORA_OTHER CONFIGURE_DEPENDS ${EDGELORA_DIR}/crypto/*.c ${EDGELORA_DIR}/binding/*.c)

add_library(usermod_edgelora INTERFACE)
target_sources(usermod_edgelora INTERFACE ${EDGELORA_CORE} ${EDGELORA_OTHER})
target_include_directories(usermod_edgelora INTERFACE ${EDGELORA_DIR}/core ${EDGELORA_DIR}/crypto ${EDGELORA_DIR}/binding)
target_link_libraries(usermod INTERFACE usermod_edgelora)

# Functions marked EDGELORA_HOT or EDGELORA_RAM run from RAM on RP2040: reading code through the flash
# cache stalls the core at each miss. What runs once an op or once a session is compiled for size, as
# RAM and flash are short.
set(EDGELORA_SMALL kernels/split.c session/arena.c session/infer.c session/train.c training/loss.c graph.c
    session/plan.c formats/model.c kernels/packed/attend.c kernels/packed/attend_backward.c)
list(TRANSFORM EDGELORA_SMALL PREPEND ${EDGELORA_DIR}/core/)
set_source_files_properties(${EDGELORA_CORE} PROPERTIES COMPILE_OPTIONS "-O3")
set_source_files_properties(${EDGELORA_SMALL} PROPERTIES COMPILE_OPTIONS "-Os")
if(PICO_RP2040)
    target_compile_definitions(usermod_edgelora INTERFACE EDGELORA_READS_AHEAD)
    target_sources(usermod_edgelora INTERFACE ${CMAKE_CURRENT_LIST_DIR}/flash_rp2040.c)
endif()
if(PICO_PLATFORM)
    # Model(cores=2)
    target_sources(usermod_edgelora INTERFACE ${CMAKE_CURRENT_LIST_DIR}/rp2_second_core.c)
    target_include_directories(usermod_edgelora INTERFACE ${CMAKE_CURRENT_LIST_DIR})
    target_compile_definitions(usermod_edgelora INTERFACE EDGELORA_SECOND_CORE=1)
    set_property(SOURCE ${EDGELORA_CORE} ${EDGELORA_OTHER} APPEND PROPERTY COMPILE_DEFINITIONS
        "EDGELORA_HOT=__attribute__((section(\".time_critical.edgelora\")))"
        "EDGELORA_RAM=__attribute__((section(\".time_critical.edgelora\")))")
endif()
