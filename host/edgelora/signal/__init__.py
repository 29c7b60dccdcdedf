"""Features of sound and vibration, as a board computes them: the core's own front ends, on this computer."""

from .front_ends import AudioFrontEnd, SpectralFrontEnd

__all__ = ["AudioFrontEnd", "SpectralFrontEnd"]
