"""What is left of a run: records, figures, pages."""
