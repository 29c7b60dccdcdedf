"""Plans: ranks, memory, time, for a board and a budget."""
