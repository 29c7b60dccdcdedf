"""The device's core on this computer."""
