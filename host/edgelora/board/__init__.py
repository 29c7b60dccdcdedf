"""Boards: profiles, firmware, flashing, detection, the link, virtual boards."""
