"""Training on a board behind a link."""
