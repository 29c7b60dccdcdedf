# The Python modules of every EdgeLoRA firmware.
package("edgelora", base_path="../micropython_module/python")
