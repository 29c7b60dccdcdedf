"""Shared basics of all packages: errors, text, resources, progress, worker processes."""
