"""Boards: profiles, firmware, flashing, what is plugged in."""
