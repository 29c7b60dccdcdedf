"""Adapters: training, planning, reports, updates."""
