"""Signed updates: keys, releases, a test server."""
