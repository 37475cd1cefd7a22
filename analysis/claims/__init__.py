"""Claims that were written down, what the runs say to each, and the verdicts."""
