"""The serial link to a board."""
