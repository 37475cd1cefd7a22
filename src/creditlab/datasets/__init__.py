"""Data, whole in memory as integers (see `base`)."""
