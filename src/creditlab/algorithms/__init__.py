"""Learning rules: credit assignment, and nothing else (see `base`)."""
