# MicroPython's QEMU port on an emulated Cortex-M55 with Helium, the core of an STM32N6 and of Alif's Ensemble E3.
QEMU_ARCH = arm
QEMU_MACHINE = mps3-an547
CFLAGS += -mthumb -mcpu=cortex-m55 -mfloat-abi=hard -DMICROPY_HW_MCU_NAME='"Cortex-M55"' -DBOARD_UART=0x59303000
SRC_BOARD_O = shared/runtime/gchelper_native.o shared/runtime/gchelper_thumb2.o
AFLAGS += -march=armv8.1-m.main
MPY_CROSS_FLAGS += -march=armv7emsp
MICROPY_HEAP_SIZE = 1048576
MICROPY_FLOAT_IMPL = float

SRC_C += board.c
vpath board.c $(BOARD_DIR)/../cortex_m33

# The vectors are at 0, in another memory than the rest.
LDSCRIPT = $(BUILD)/an547.ld
$(LDSCRIPT): mcu/arm/mps2.ld
	@mkdir -p $(@D)
	@sed -e 's/RAM : ORIGIN = 0x00000000/ITCM : ORIGIN = 0, LENGTH = 512K\n    RAM : ORIGIN = 0x70000000/' \
	    -e 's/^    \.text : {/    .vectors : { KEEP(*(.isr_vector)) } > ITCM\n&/' $< > $@
