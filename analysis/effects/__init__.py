"""What each factor does to each metric."""
