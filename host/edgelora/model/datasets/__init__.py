"""Labelled data by name."""
