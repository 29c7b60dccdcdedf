"""Features of sound and vibration, as a board computes them: the core's own front ends, on this computer."""

from .front_ends import (
    AUDIO_HOP,
    AUDIO_SIZE,
    AUDIO_SPAN,
    AUDIO_UNIT,
    HEARD_AS,
    AudioFrontEnd,
    SpectralFrontEnd,
    audio_signal,
    heard_as,
)

__all__ = [
    "AUDIO_HOP",
    "AUDIO_SIZE",
    "AUDIO_SPAN",
    "AUDIO_UNIT",
    "AudioFrontEnd",
    "HEARD_AS",
    "SpectralFrontEnd",
    "audio_signal",
    "heard_as",
]
