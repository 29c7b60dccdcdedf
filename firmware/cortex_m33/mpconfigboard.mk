# MicroPython's QEMU port on an emulated Cortex-M33 with FPU and DSP instructions, the core of an RP2350.
QEMU_ARCH = arm
QEMU_MACHINE = mps2-an505
CFLAGS += -mthumb -mcpu=cortex-m33 -mfpu=fpv5-sp-d16 -mfloat-abi=hard -DMICROPY_HW_MCU_NAME='"Cortex-M33"' -DBOARD_UART=0x50200000
SRC_BOARD_O = shared/runtime/gchelper_native.o shared/runtime/gchelper_thumb2.o
AFLAGS += -mcpu=cortex-m33
MPY_CROSS_FLAGS += -march=armv7emsp
MICROPY_HEAP_SIZE = 1048576
MICROPY_FLOAT_IMPL = float

SRC_C += board.c
vpath board.c $(BOARD_DIR)

# The memory sizes of MicroPython's MPS2 boards, at this board's addresses.
LDSCRIPT = $(BUILD)/an505.ld
$(LDSCRIPT): mcu/arm/mps2.ld
	@mkdir -p $(@D)
	@sed 's/ORIGIN = 0x00000000/ORIGIN = 0x10000000/' $< > $@
