"""INT8 `.tflite` files."""

from .convert import calibrate, import_tflite, inputs_for_calibration, layer_rows, set_loss
from .file import read_graph
from .graph import Importer
from .merge import Merged, Source, check_suffix, find_source, merge_elm, merge_tflite
from .write import write_tflite

__all__ = [
    "Importer",
    "Merged",
    "Source",
    "calibrate",
    "check_suffix",
    "find_source",
    "import_tflite",
    "inputs_for_calibration",
    "layer_rows",
    "merge_elm",
    "merge_tflite",
    "read_graph",
    "set_loss",
    "write_tflite",
]
