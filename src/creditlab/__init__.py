"""creditlab: sweep learning rules × optimisers × data × architectures × seeds, and say what each does to a network."""

__version__ = "0.1.0"
