"""Human voices: prompts of telephone exchanges, from Debian's packages, one speaker each.

`asterisk-core-sounds-LANGUAGE-g722` has 131 minutes in five languages at 16 kHz, `asterisk-prompt-WHO` 65 minutes in
four at 8 kHz; libspandsp decodes them.
"""

from __future__ import annotations

import ctypes as C
import ctypes.util
import wave
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
NARROW = {"de": "de", "es-co": "es_CO_f_Avatar", "fr-armelle": "fr", "it-menardi": "it_IT_f_Menardi"}  # 8 kHz
GSM_FRAME, GSM_SAMPLES = 33, 160
BITS_A_SECOND = 64000  # 8 bits for two samples


def load_prompts(language: str) -> Iterator[tuple[str, NDArray[np.int16]]]:
    """Each prompt of a key of `PROMPTS` or `NARROW`: name and samples, int16 [n] of 16 kHz, in order of names."""
    every = PROMPTS | NARROW
    if language not in every:
        raise InputError(f"prompts in {language!r}: choose one of {', '.join(every)}")
    folder, library = SOUNDS / every[language], ctypes.util.find_library("spandsp")
    if not folder.is_dir() or library is None:
        package = f"asterisk-core-sounds-{language}-g722"
        if language in NARROW:
            package = f"asterisk-prompt-{language}" + "-wav" * (language == "it-menardi")
        what = "libspandsp2t64" if library is None else package
        raise MissingPackage(
            f"the package {what} is not installed, for human voices: `make prompts`, or apt-get install"
        )
    decoder = _decoder(library)
    suffixes = (".g722",) if language in PROMPTS else (".gsm", ".wav")
    for path in sorted(one for one in folder.rglob("*") if one.suffix in suffixes):
        yield path.relative_to(folder).with_suffix("").as_posix(), _samples(decoder, path)


def _samples(decoder: C.CDLL, path: Path) -> NDArray[np.int16]:
    if path.suffix == ".g722":
        return _decoded(decoder, path.read_bytes())
    if path.suffix == ".gsm":
        return _twice_the_rate(_gsm_decoded(decoder, path.read_bytes()))
    with wave.open(str(path)) as file:
        return _twice_the_rate(np.frombuffer(file.readframes(file.getnframes()), "<i2"))


def _twice_the_rate(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """The same sound at 16 kHz instead of 8."""
    spectrum = np.fft.rfft(samples)
    doubled = 2 * np.fft.irfft(spectrum, 2 * len(samples)) if len(samples) else np.zeros(0)
    return np.clip(np.rint(doubled), -32768, 32767).astype(np.int16)


def _decoder(library: str) -> C.CDLL:
    lib = C.CDLL(library)
    for kind in ("g722_decode", "gsm0610"):
        getattr(lib, f"{kind}_init").restype = C.c_void_p
        getattr(lib, f"{kind}_free").argtypes = [C.c_void_p]
    lib.g722_decode_init.argtypes = [C.c_void_p, C.c_int, C.c_int]
    lib.gsm0610_init.argtypes = [C.c_void_p, C.c_int]
    for decode in (lib.g722_decode, lib.gsm0610_decode):
        decode.argtypes = [C.c_void_p, C.c_void_p, C.c_char_p, C.c_int]
    return lib


def _decoded(lib: C.CDLL, data: bytes) -> NDArray[np.int16]:
    samples = np.zeros(2 * len(data), np.int16)
    state = lib.g722_decode_init(None, BITS_A_SECOND, 0)
    try:
        count = lib.g722_decode(state, samples.ctypes.data, data, len(data))
    finally:
        lib.g722_decode_free(state)
    return samples[:count]


def _gsm_decoded(lib: C.CDLL, data: bytes) -> NDArray[np.int16]:
    """Samples at 8 kHz of GSM 06.10 in frames of `GSM_FRAME` bytes."""
    frames = len(data) // GSM_FRAME
    samples = np.zeros((frames + 1) * GSM_SAMPLES, np.int16)
    state = lib.gsm0610_init(None, 2)
    try:
        count = lib.gsm0610_decode(state, samples.ctypes.data, data, frames * GSM_FRAME)
    finally:
        lib.gsm0610_free(state)
    return samples[:count]
