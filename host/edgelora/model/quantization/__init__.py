"""From float to INT8, networks and adapters."""
