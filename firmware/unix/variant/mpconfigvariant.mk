# Desktop MicroPython without the parts that need libraries of the system.
MICROPY_PY_BTREE = 0
MICROPY_PY_FFI = 0
MICROPY_PY_SSL = 0
MICROPY_VFS_LFS1 = 0
FROZEN_MANIFEST ?= $(VARIANT_DIR)/manifest.py
SRC_C += $(VARIANT_DIR)/edgelora_stdin.c
SRC_C += $(VARIANT_DIR)/edgelora_interrupt.c
LDFLAGS_EXTRA += -Wl,--wrap=mp_hal_set_interrupt_char
