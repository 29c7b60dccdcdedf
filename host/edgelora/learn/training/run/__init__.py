"""A whole run: on a board, on the host, for years."""
