"""Training of adapters, on the host twin and on boards."""
