"""The device's own formats, code and files on this computer."""
