"""Reports of runs: records, figures, pages."""
