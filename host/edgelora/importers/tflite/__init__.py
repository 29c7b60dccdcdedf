"""INT8 `.tflite` files."""

from typing import TYPE_CHECKING

from ...faces import lazily

if TYPE_CHECKING:
    from .convert import calibrate, import_tflite, inputs_for_calibration, layer_rows, set_loss
    from .file import read_graph
    from .graph import Importer
    from .lstm import LSTM_STATE
    from .merge import Merged, Source, check_suffix, find_source, merge_elm, merge_tflite
    from .write import write_tflite
else:
    __getattr__, __dir__ = lazily(__name__, __file__)

__all__ = [
    "Importer",
    "LSTM_STATE",
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
