# Runs before main.py, as MicroPython's own _boot.py does.
import edgelora_flash

edgelora_flash.mount()
del edgelora_flash
