"""Wake words that learn their owner."""
