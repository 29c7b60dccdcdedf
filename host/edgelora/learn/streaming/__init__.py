"""From a sensor's stream to samples, decisions and actions."""
