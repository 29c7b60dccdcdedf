# Makes desktop MicroPython look like a board: a littlefs in a flash image of limited size, the model
# at /rom, the agent on the terminal.
import sys

import edgelora_flash
import vfs

BLOCKS = 256  # 1 MB


def run(flash_path, rom_path):
    try:
        with open(rom_path, "rb") as file:
            image = file.read()
    except OSError:
        image = b""
    flash = edgelora_flash.FileFlash(flash_path, BLOCKS)
    edgelora_flash.store()
    vfs.umount("/")
    try:
        vfs.mount(vfs.VfsLfs2(flash), "/")
    except OSError:
        vfs.VfsLfs2.mkfs(flash)
        vfs.mount(vfs.VfsLfs2(flash), "/")
    if image:
        vfs.mount(vfs.VfsRom(image), "/rom")
    sys.path[:] = [".frozen", "/lib", "/"]
    from edgelora.agent import run as serve

    serve()
