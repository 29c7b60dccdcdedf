"""Imports networks and adapters from other frameworks."""
