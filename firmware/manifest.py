# The Python that every EdgeLoRA firmware carries.
freeze("../micropython_module", "edgelora.py")
freeze("device")
