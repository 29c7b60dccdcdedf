"""What every storey uses: errors, text, resources, progress, worker processes."""
