include("$(MPY_DIR)/extmod/asyncio")
include("../../manifest.py")
freeze("..", ("edgelora_flash.py", "edgelora_unix.py"))
