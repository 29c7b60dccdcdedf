# The Python that every EdgeLoRA firmware carries.
freeze("../micropython_module", ("edgelora.py", "edgelora_store.py"))
freeze("device")
