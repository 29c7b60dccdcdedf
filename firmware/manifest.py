# The Python that every EdgeLoRA firmware carries.
package("edgelora", base_path="../micropython_module/python")
