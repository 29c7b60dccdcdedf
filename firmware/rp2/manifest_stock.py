# The modules of MicroPython's own rp2 images, without the drivers that need micropython-lib.
freeze("$(PORT_DIR)/modules")
include("$(MPY_DIR)/extmod/asyncio")
