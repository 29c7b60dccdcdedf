"""Data sets: recordings, files, generators."""
