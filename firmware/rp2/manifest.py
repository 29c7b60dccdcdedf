# MicroPython's own modules, except the one that mounts the whole storage: a part of it is the adapter store.
freeze("$(PORT_DIR)/modules", ("_boot_fat.py", "rp2.py"))
freeze(".", ("_boot.py", "edgelora_flash.py"))
include("$(MPY_DIR)/extmod/asyncio")
include("../manifest.py")
