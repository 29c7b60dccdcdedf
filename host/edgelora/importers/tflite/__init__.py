"""INT8 `.tflite` files."""

from .convert import calibrate, import_tflite, inputs_for_calibration, layer_rows, set_loss
from .file import read_graph
from .graph import Importer

__all__ = ["Importer", "calibrate", "import_tflite", "inputs_for_calibration", "layer_rows", "read_graph", "set_loss"]
