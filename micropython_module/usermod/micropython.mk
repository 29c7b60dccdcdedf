# EdgeLoRA as a user C module, for ports built with make: USER_C_MODULES names the folder above this one.
EDGELORA_DIR := $(USER_C_MODULES)
EDGELORA_FOLDERS := $(addprefix $(EDGELORA_DIR)/,core crypto binding)

SRC_USERMOD_C += $(sort $(shell find $(EDGELORA_FOLDERS) -name "*.c"))
CFLAGS_USERMOD += $(addprefix -I,$(EDGELORA_FOLDERS)) -DEDGELORA_NO_SIMD # computers' threads have small stacks
