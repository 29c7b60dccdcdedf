# EdgeLoRA as a user C module, for ports built with make: USER_C_MODULES names the folder above this one.
EDGELORA_DIR := $(USER_C_MODULES)
EDGELORA_SRC := $(wildcard $(addprefix $(EDGELORA_DIR)/,core/*.c crypto/*.c binding/*.c))

SRC_USERMOD_C += $(EDGELORA_SRC)
CFLAGS_USERMOD += $(addprefix -I$(EDGELORA_DIR)/,core crypto binding)
