# EdgeLoRA in a port's own firmware, for boards with a Cortex-M55: docs/guides/cortex-m55.md.
include("$(PORT_DIR)/boards/manifest.py")
include("../manifest.py")
