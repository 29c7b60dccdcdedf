"""Federated learning of a fleet: averaging, privacy, roster, secure aggregation, members, gateway."""
