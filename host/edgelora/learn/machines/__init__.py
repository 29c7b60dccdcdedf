"""One machine's normal operation, learned and monitored."""
