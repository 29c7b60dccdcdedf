"""Boards that learn together: averaging, privacy, roster, secure sums, members, gateway."""
