"""Human voices: prompts of telephone exchanges, in five languages, from Debian's packages.

`asterisk-core-sounds-LANGUAGE-g722` has 131 minutes in all, one speaker a language, at 16 kHz; libspandsp decodes them.
"""

from __future__ import annotations

import ctypes as C
import ctypes.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError, MissingPackage

SOUNDS = Path("/usr/share/asterisk/sounds")
PROMPTS = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
BITS_A_SECOND = 64000  # 8 bits for two samples


def load_prompts(language: str) -> Iterator[tuple[str, NDArray[np.int16]]]:
    """Each prompt of a language in `PROMPTS`: its name and its samples, int16 [n] of 16 kHz, in order of names."""
    if language not in PROMPTS:
        raise InputError(f"prompts in {language!r}: choose one of {', '.join(PROMPTS)}")
    folder, library = SOUNDS / PROMPTS[language], ctypes.util.find_library("spandsp")
    if not folder.is_dir() or library is None:
        what = "libspandsp2t64" if library is None else f"asterisk-core-sounds-{language}-g722"
        raise MissingPackage(
            f"the package {what} is not installed, for human voices: `make prompts`, or apt-get install"
        )
    decoder = _decoder(library)
    for path in sorted(folder.rglob("*.g722")):
        yield path.relative_to(folder).with_suffix("").as_posix(), _decoded(decoder, path.read_bytes())


def _decoder(library: str) -> C.CDLL:
    lib = C.CDLL(library)
    lib.g722_decode_init.restype = C.c_void_p
    lib.g722_decode_init.argtypes = [C.c_void_p, C.c_int, C.c_int]
    lib.g722_decode.argtypes = [C.c_void_p, C.c_void_p, C.c_char_p, C.c_int]
    lib.g722_decode_free.argtypes = [C.c_void_p]
    return lib


def _decoded(lib: C.CDLL, data: bytes) -> NDArray[np.int16]:
    samples = np.zeros(2 * len(data), np.int16)
    state = lib.g722_decode_init(None, BITS_A_SECOND, 0)
    try:
        count = lib.g722_decode(state, samples.ctypes.data, data, len(data))
    finally:
        lib.g722_decode_free(state)
    return samples[:count]
