"""Benchmarks: a module for each `edgelora bench`."""
