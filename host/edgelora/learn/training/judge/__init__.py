"""What judges an adapter: held-out samples, accuracy and errors."""
