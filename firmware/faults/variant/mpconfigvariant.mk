# Desktop MicroPython in which the n-th allocation, flash operation or jump of the bytecode fails: for tests alone.
UNIX_VARIANT := $(VARIANT_DIR)/../../unix/variant
FROZEN_MANIFEST ?= $(UNIX_VARIANT)/manifest.py
include $(UNIX_VARIANT)/mpconfigvariant.mk
SRC_C := $(subst $(VARIANT_DIR)/,$(UNIX_VARIANT)/,$(SRC_C)) $(VARIANT_DIR)/../faults.c
LDFLAGS += -Wl,--wrap=gc_alloc,--wrap=gc_realloc,--wrap=lfs2_dir_open,--wrap=lfs2_dir_read
LDFLAGS += -Wl,--wrap=lfs2_mount,--wrap=lfs2_file_close,--wrap=lfs2_dir_close
