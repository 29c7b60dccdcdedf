# MicroPython's VIRT_RV32 with what boards have in addition: a clock, Ctrl-C, select, random numbers, a filesystem.
# It contains nothing of EdgeLoRA.
QEMU_ARCH = riscv32
QEMU_MACHINE = virt
LDSCRIPT = mcu/rv32/virt.ld
SRC_BOARD_O += shared/runtime/gchelper_native.o shared/runtime/gchelper_rv32i.o
CFLAGS += -DQEMU_SOC_VIRT -DMICROPY_HW_MCU_NAME='"$(RV32_ARCH)"' -DMP_CONFIGFILE='<$(BOARD_DIR)/mpconfigboard.h>'
CFLAGS_EXTRA += -fno-data-sections -msmall-data-limit=0 # keeps all variables in sections that are cleared at reset
MPY_CROSS_FLAGS += -march=rv32imc

FIRMWARE_DIR := $(BOARD_DIR)/../../firmware/qemu
vpath board.c $(FIRMWARE_DIR)
CFLAGS += -I$(BOARD_DIR)/../..
SRC_C += board.c
comma := ,
LDFLAGS += $(addprefix -Wl$(comma)--wrap=,mp_init uart_rx_chr mp_hal_stdio_poll exit)
MICROPY_VFS_LFS2 = 1
FROZEN_MANIFEST = $(FIRMWARE_DIR)/manifest.py
