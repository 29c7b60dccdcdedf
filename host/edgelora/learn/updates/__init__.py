"""Signed updates: keys, releases, a server for trying out."""
