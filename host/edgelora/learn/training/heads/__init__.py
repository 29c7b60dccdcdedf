"""Rows beside the last layer: a person's own, added classes, and when an answer counts."""
