"""Data sets. Each lies in memory as a whole, as integers (see `base`)."""
