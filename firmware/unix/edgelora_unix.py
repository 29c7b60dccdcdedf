# Makes desktop MicroPython look like a board: its own root folder, the model at /rom, the agent on the terminal.
import os
import sys
import vfs


def run(root, rom):
    try:
        with open(rom, "rb") as file:
            image = file.read()
    except OSError:
        image = b""
    vfs.umount("/")
    vfs.mount(vfs.VfsPosix(root), "/")
    os.chdir("/")
    if image:
        vfs.mount(vfs.VfsRom(image), "/rom")
    sys.path[:] = [".frozen", "/lib", "/"]
    import edgelora_agent

    edgelora_agent.run()
