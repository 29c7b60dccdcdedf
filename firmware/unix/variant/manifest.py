include("$(MPY_DIR)/extmod/asyncio")
include("../../manifest.py")
freeze("..", "edgelora_unix.py")
