"""Training on the host twin."""
