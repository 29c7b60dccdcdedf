# The Python that every EdgeLoRA firmware carries.
freeze("../micropython_module", ("edgelora.py", "edgelora_store.py", "edgelora_training.py", "edgelora_update.py"))
freeze("device")
