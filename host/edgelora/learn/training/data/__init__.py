"""A run's base, samples and what is checked of them."""
