"""Coverage-guided fuzzing of `edgelora import`: whatever the bytes, a sound model or a TfliteError, and soon.

Needs atheris (`pip install atheris`) and the host twin. Seeds are `.tflite` files, small ones; all arguments are
libFuzzer's: `python tools/fuzz_tflite.py -max_total_time=600 -timeout=10 CORPUS_FOLDER SEED_FOLDER`.
"""

from __future__ import annotations

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["edgelora.importers.tflite"]):
    from edgelora import formats, twin
    from edgelora.importers.tflite import convert, flatbuffer

warnings.simplefilter("error")


def one_input(data: bytes) -> None:
    """Imports one file."""
    try:
        model = convert.import_tflite(data)
    except flatbuffer.TfliteError:
        return
    twin.check_model(formats.pack_model(model))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
