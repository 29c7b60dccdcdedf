"""Networks and adapters from other frameworks."""
