"""INT8 `.tflite` files."""
