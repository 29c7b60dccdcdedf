"""Flashing firmware to boards."""
