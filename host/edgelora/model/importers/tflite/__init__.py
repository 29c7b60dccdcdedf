"""Imports, merges and writes INT8 `.tflite` files."""
